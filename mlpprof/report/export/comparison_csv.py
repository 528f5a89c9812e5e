"""Comparisons and ladders as CSV, a row each; times in seconds. Raw timings are in the JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from mlpprof.results import Comparison, Ladder, Verdict

COMPARISON_COLUMNS = (
    *("old", "new", "workload", "batch", "old_dtype", "new_dtype", "old_s", "new_s"),
    *("ratio", "low", "high", "verdict", "at_least", "processes", "equivalent"),
)
LADDER_COLUMNS = (
    *("workload", "batch", "variant", "parent", "dtype", "step_s"),
    *("over_parent", "over_parent_low", "over_parent_high", "over_root", "over_root_low", "over_root_high", "slow"),
)


def comparisons_csv(comparisons: Sequence[Comparison]) -> str:
    """A row a comparison; empty where there is no claim or no check."""
    return _text(COMPARISON_COLUMNS, map(_comparison_row, comparisons))


def _comparison_row(one: Comparison) -> list[object]:
    race, verdict = one.race, one.verdict
    return [
        *(one.old, one.new, one.workload, one.batch, *race.dtypes, race.step_s(0), race.step_s(1)),
        *(verdict.ratio, verdict.low, verdict.high, verdict.outcome, verdict.at_least, verdict.processes),
        one.equivalent,
    ]


def ladders_csv(ladders: Sequence[Ladder]) -> str:
    """A row a rung; empty where there is nothing to hold it against."""
    return _text(LADDER_COLUMNS, (row for ladder in ladders for row in _ladder_rows(ladder)))


def _ladder_rows(ladder: Ladder) -> Iterator[list[object]]:
    race = ladder.race
    for rung in ladder.rungs:
        dtype = race.dtypes[race.variants.index(rung.name)]
        yield [
            *(ladder.workload, ladder.batch, rung.name, rung.parent, dtype, rung.step_s),
            *(*_ratio(rung.over_parent), *_ratio(rung.over_root), rung.name in race.slow),
        ]


def _ratio(verdict: Verdict | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if verdict is None else (verdict.ratio, verdict.low, verdict.high)


def _text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()
