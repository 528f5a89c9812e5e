"""`mlpprof list`: the ladder as a tree."""

from __future__ import annotations

from collections.abc import Iterator

import click
from rich.table import Table
from rich.text import Text

from mlpprof.catalog import Entry, ladder, third_party
from mlpprof.cli.terminal import output_console, print_json
from mlpprof.report.terminal.console import print_trimmed

SCHEMA = 1


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: name, parent, summary and needed extra of each.")
def command(as_json: bool) -> None:
    """List the variants. Each one adds one idea to the one above it; alternatives are indented."""
    known = ladder() | third_party()
    if as_json:
        print_json(
            {
                "schema": SCHEMA,
                "variants": [
                    {"name": e.name, "parent": e.parent, "summary": e.summary, "extra": e.extra} for e in known.values()
                ],
            }
        )
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column()  # long summaries wrap within their own column
    for root in _children(None, known):
        for entry, depth in _branch(root, known, 0):
            extra = Text("" if entry.extra is None else f"  (extra: {entry.extra})", style="dim")
            table.add_row(Text("  " * depth + entry.name), Text(entry.summary) + extra)
    print_trimmed(output_console(), lambda width: [table])


def _children(parent: str | None, known: dict[str, Entry]) -> list[Entry]:
    """Those that name it as parent; for None, those whose parent is not in the catalog."""
    if parent is not None:
        return [entry for entry in known.values() if entry.parent == parent]
    return [entry for entry in known.values() if entry.parent not in known]


def _height(entry: Entry, known: dict[str, Entry]) -> int:
    return 1 + max((_height(child, known) for child in _children(entry.name, known)), default=0)


def _branch(entry: Entry, known: dict[str, Entry], depth: int) -> Iterator[tuple[Entry, int]]:
    """A variant, its side branches one step to the right, and then the longest way on at the same depth."""
    yield entry, depth
    children = _children(entry.name, known)
    rungs = [child for child in children if child.branch is None]
    main = max(rungs, key=lambda child: _height(child, known), default=None)
    for child in children:
        if child is not main:
            yield from _branch(child, known, depth + 1)
    if main is not None:
        yield from _branch(main, known, depth)
