"""Reproduced sources on the terminal and as text: claims beside measurements, then the tables behind them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from mlpprof.machine.blas import blas_line, machine_line, pinned_kernel_warning
from mlpprof.report.numbers import UNKNOWN, digits, encodable
from mlpprof.report.terminal.console import GAP, INDENT
from mlpprof.results.reproduction import Claim, Reproduction, Table

TEXT_WIDTH = 120
VERDICTS = {True: ("holds", "green"), False: ("does not hold", "red"), None: ("not settled", "yellow")}


def print_reproductions(reproductions: Sequence[Reproduction], console: Console) -> None:
    """Print the report of all sources."""
    for i, reproduction in enumerate(reproductions):
        if i:
            console.print()
        console.print(Group(*_sections(reproduction, console.encoding)))
    if reproductions:
        console.print()
        console.print(_machine(reproductions[-1], console.encoding))


def reproductions_text(reproductions: Sequence[Reproduction]) -> str:
    """The same report as text without colours, `TEXT_WIDTH` wide."""
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=TEXT_WIDTH, color_system=None, force_terminal=False, force_jupyter=False, highlight=False
    )
    print_reproductions(reproductions, console)
    return "\n".join(line.rstrip() for line in buffer.getvalue().split("\n"))


def _sections(reproduction: Reproduction, encoding: str) -> Iterator[RenderableType]:
    def words(text: str, style: str = "") -> Text:
        return Text(encodable(text, encoding), style)

    yield Text.assemble((reproduction.name, "bold"), "  ", words(reproduction.title))
    settings = RichTable.grid(padding=(0, GAP, 0, 0))
    for name, text in reproduction.setting:
        settings.add_row(words(name, "dim"), words(text))
    for i, text in enumerate(reproduction.shortened):
        settings.add_row(words("shortened" if i == 0 else "", "yellow"), words(text, "yellow"))
    yield Padding(settings, (1, 0, 1, INDENT))
    yield Padding(_claim_table(reproduction.claims, encoding), (0, 0, 0, INDENT))
    for table in reproduction.tables:
        yield Text.assemble("\n", words(table.title, "bold"), "  ", words(table.caption, "dim"))
        yield Padding(_table(table, encoding), (0, 0, 0, INDENT))
    yield Text("\nWhere the source is silent", style="bold")
    choices = RichTable.grid(padding=(0, 1, 0, 0))
    for choice in reproduction.choices:
        choices.add_row(words("-", "dim"), words(choice))
    yield Padding(choices, (0, 0, 0, INDENT))
    for figure in reproduction.figures:
        yield Text.assemble("\n", words(f"Figure {figure.name}", "bold"), "  ", words(figure.caption, "dim"))


def _claim_table(claims: Sequence[Claim], encoding: str) -> RichTable:
    """What, claimed, measured, ratio to ratio, verdict; beneath each the rule and the note."""
    table = RichTable(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for title, ratio in (("claim", 5), ("claimed", 4), ("measured here", 5)):
        table.add_column(title, ratio=ratio, overflow="fold")
    table.add_column("ratio to ratio", justify="right")
    table.add_column("")
    for claim in claims:
        verdict, style = VERDICTS[claim.holds]
        ratio_text = UNKNOWN if claim.ratio is None else digits(claim.ratio)
        cells = (claim.what, claim.claimed_text, claim.measured_text, ratio_text)
        table.add_row(*(Text(encodable(text, encoding)) for text in cells), Text(verdict, style))
        table.add_row(
            Text(encodable(claim.note, encoding), "dim"), Text(encodable(f"rule: {claim.rule}", encoding), "dim")
        )
        table.add_row()
    return table


def _table(table: Table, encoding: str) -> RichTable:
    shown = RichTable(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for i, column in enumerate(table.columns):
        shown.add_column(Text(encodable(column, encoding)), justify="left" if i == 0 else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(encodable(cell, encoding)) for cell in row))
    return shown


def _machine(reproduction: Reproduction, encoding: str) -> Text:
    lines = [machine_line(reproduction.machine), blas_line(reproduction.machine)]
    warning = pinned_kernel_warning(reproduction.machine)
    return Text(encodable("\n".join([*lines, *([warning] if warning else [])]), encoding), "dim")
