"""`mlpprof list`: the ladder as a tree."""

from __future__ import annotations

import click
from rich.text import Text
from rich.tree import Tree

from mlpprof.catalog import Entry, ladder, third_party
from mlpprof.cli.terminal import output_console, print_json

SCHEMA = 1


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: name, parent, summary and needed extra of each.")
def command(as_json: bool) -> None:
    """List the variants: each stands below the one that it improves by one idea."""
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
    width = max(len(name) + 3 * _depth(entry, known) for name, entry in known.items())
    tree = Tree(Text("variants, each below the one it improves"), guide_style="dim")
    nodes: dict[str, Tree] = {}
    for name, entry in known.items():
        above = nodes.get(entry.parent or "", tree)
        line = Text(name, style="bold").append(" " * (width - len(name) - 3 * _depth(entry, known) + 2))
        line.append(entry.summary, style="default not bold")
        if entry.extra is not None:
            line.append(f"  (extra: {entry.extra})", style="dim")
        line.no_wrap, line.overflow = True, "ellipsis"
        nodes[name] = above.add(line)
    output_console().print(tree)


def _depth(entry: Entry, known: dict[str, Entry]) -> int:
    parent = known.get(entry.parent or "")
    return 0 if parent is None else 1 + _depth(parent, known)
