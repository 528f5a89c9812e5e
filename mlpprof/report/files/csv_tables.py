"""Raw samples as CSV in long form: a row a clocked step, so that any table tool can group them as it likes.

| column | what                                                                                              |
| ------ | ------------------------------------------------------------------------------------------------- |
| batch  | batch size                                                                                        |
| pass   | total (no instruments), phases or labels: compare samples of one pass                             |
| phase  | empty for the clock around the whole step, else the phase                                         |
| layer  | of a label in a loop over layers                                                                  |
| label  | of a statement; only in the labels pass                                                           |
| round  | counted from 0; the passes of one round ran next to each other                                    |
| step   | counted from 0 within the round                                                                   |
| seconds| what the step spent there                                                                         |
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from mlpprof.results import BatchResult, Comparison, Ladder, Run, Samples, Verdict

COLUMNS = ("batch", "pass", "phase", "layer", "label", "round", "step", "seconds")


def samples_csv(run: Run) -> str:
    """Every raw sample of a run, with a header line; numbers as exact as they were measured."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in run.results:
        for (name, phase, layer, label), samples in _series(result):
            for i, row in enumerate(samples.tolist()):
                writer.writerows((result.batch, name, phase, layer, label, i, j, s) for j, s in enumerate(row))
    return buffer.getvalue()


def _series(result: BatchResult) -> Iterator[tuple[tuple[str, str, int | None, str], Samples]]:
    yield ("total", "", None, ""), result.total_s
    yield ("phases", "", None, ""), result.phases_pass_s
    for name, phase in result.phases.items():
        yield ("phases", name, None, ""), phase.step_s
    yield ("labels", "", None, ""), result.labels_pass_s
    for label in result.labels:
        yield ("labels", label.phase, label.layer, label.label), label.step_s


# Comparisons and ladders as CSV, a row each; times in seconds. Raw timings are in the JSON.


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
