"""Reproduced sources on the terminal and as text: claims beside measurements, then tables, decisions and figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from mlpprof.report.facts import short_machine_facts
from mlpprof.report.numbers import digits, plain
from mlpprof.report.terminal.console import FIGURE, WORDS, heading, indented, listing, pairs, print_trimmed, text_of
from mlpprof.results.reproduction import Claim, Reproduction, Table

TEXT_WIDTH = 120
VERDICTS = {True: ("holds", "green"), False: ("does not hold", "red"), None: ("not settled", "yellow")}


def print_reproductions(reproductions: Sequence[Reproduction], console: Console) -> None:
    """Print the report of all sources."""
    print_trimmed(console, lambda width: _report(reproductions, width))


def reproductions_text(reproductions: Sequence[Reproduction]) -> str:
    """The same report as text without colours, `TEXT_WIDTH` wide."""
    return text_of(partial(print_reproductions, reproductions), TEXT_WIDTH)


def _report(reproductions: Sequence[Reproduction], width: int) -> Iterator[RenderableType]:
    for reproduction in reproductions:
        yield from _sections(reproduction, width)
        yield Text()
    if reproductions:
        yield pairs(short_machine_facts(dict(reproductions[-1].machine)), width)


def _sections(reproduction: Reproduction, width: int) -> Iterator[RenderableType]:
    yield Text.assemble((reproduction.name, "bold"), "  ", plain(reproduction.title))
    yield Text()
    shortened = [("shortened", "warning", text) for text in reproduction.shortened]
    yield indented(pairs([*((name, "", text) for name, text in reproduction.setting), *shortened], width))
    for claim in reproduction.claims:
        yield heading(claim.what)
        yield indented(pairs(_claim(claim), width))
    for table in reproduction.tables:
        yield heading(table.title, table.caption)
        yield indented(_table(table))
    yield heading("Decisions where the source says nothing")
    yield indented(pairs([("-", "", choice) for choice in reproduction.choices], width))
    for figure in reproduction.figures:
        yield heading(f"Figure {figure.name}", figure.caption)


def _claim(claim: Claim) -> list[tuple[str, str, str]]:
    verdict, style = VERDICTS[claim.holds]
    ratio = "" if claim.ratio is None else f" ({digits(claim.ratio)} times the claim)"
    facts = [
        ("claimed", "", claim.claimed_text),
        ("measured", "", f"{claim.measured_text}{ratio}"),
        ("verdict", style, f"{verdict}; rule: {claim.rule}"),
        ("note", "quiet", claim.note),
    ]
    return [fact for fact in facts if fact[2]]


def _table(table: Table) -> RichTable:
    shown = listing((column, FIGURE if i else WORDS) for i, column in enumerate(table.columns))
    for row in table.rows:
        shown.add_row(*map(Text, row))
    return shown
