"""The benchmark as tables: for the terminal, as Markdown, and as plain JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from mlpprof.testing.simulation.benchmark import Naive, Row
from mlpprof.testing.simulation.trials import Rate

COLUMNS = (
    "noise",
    "timings vary by",
    "replicates vary by",
    "false FAIL",
    "missed 10 %",
    "PASS at the claim",
    "no verdict at the claim",
    "FAIL 5 % slower",
    "FAIL 10 % slower",
    "FAIL 20 % slower",
    "no verdict 10 % slower",
    "replicates",
    "1.5 x decided at once",
    "best of 5: false, missed",
    "separate medians: false, missed",
)
BEYOND = "*"
"""Marks a noise that is beyond what the guarantee covers."""


def cells(row: Row) -> list[str]:
    """One row as text, in the order of COLUMNS; guaranteed rates come with their upper 95 % bound."""
    return [
        row.noise + ("" if row.guaranteed else f" {BEYOND}"),
        _percent(row.cv),
        _percent(row.replicate_sd),
        _bounded(row.false_fail),
        _bounded(row.missed),
        _percent(row.claim_passes.value),
        _percent(row.claim_inconclusive.value),
        *(_percent(rate.value) for rate in row.detected.values()),
        _percent(row.slower_inconclusive.value),
        f"{row.replicates:.1f}",
        _percent(row.decided_at_once.value),
        _naive(row.best_of_five),
        _naive(row.separate_medians),
    ]


def rich_table(title: str, rows: Sequence[Row]) -> Table:
    """For the terminal."""
    table = Table(*COLUMNS, title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*cells(row))
    return table


def markdown_table(title: str, rows: Sequence[Row]) -> str:
    """For the documentation."""
    lines = [f"### {title}", "", _line(COLUMNS), _line(["---", *["---:"] * (len(COLUMNS) - 1)])]
    return "\n".join([*lines, *(_line(cells(row)) for row in rows), ""])


def as_json(row: Row) -> dict[str, Any]:
    """A row as plain JSON: every rate with its counts and its 95 % bounds."""

    def plain(value: Any) -> Any:
        if isinstance(value, Rate):
            return {
                "rate": value.value,
                "low": value.low,
                "high": value.high,
                "events": value.events,
                "trials": value.trials,
            }
        if isinstance(value, Naive):
            return {"false_fail": plain(value.false_fail), "missed": plain(value.missed)}
        if isinstance(value, dict):
            return {f"{key:.2f}": plain(item) for key, item in value.items()}
        return value

    return {name: plain(value) for name, value in vars(row).items()} | {"kept": row.kept}


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share < 0.9995 or share == 1 else f"{100 * share:.2f} %"


def _bounded(rate: Rate) -> str:
    return f"{100 * rate.value:.2g} % (at most {100 * rate.high:.2g} %)"


def _naive(naive: Naive | None) -> str:
    return "" if naive is None else f"{_percent(naive.false_fail.value)}, {_percent(naive.missed.value)}"
