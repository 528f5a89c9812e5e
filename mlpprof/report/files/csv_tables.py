"""Results as CSV: the raw samples of a run, or a row for each comparison, each rung, or each cell of a sweep.

The samples of a run have a row for each step that was timed:

| column | what                                                                                              |
| ------ | ------------------------------------------------------------------------------------------------- |
| batch  | batch size, or empty for a program                                                                |
| pass   | total (without instruments), phases or labels; compare samples of the same pass only              |
| phase  | the phase, or empty for the clock around the whole step                                           |
| layer  | the layer, for a label in a loop over layers                                                      |
| label  | the label of the statement, or the expression of a program; only in the labels pass               |
| round  | counted from 0; the passes of one round ran right after each other                                |
| step   | counted from 0 within the round                                                                   |
| seconds| the time that the step spent there                                                                |

A text that begins as a formula does (=, +, -, @) has an apostrophe before it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from mlpprof.results import BatchResult, Comparison, Ladder, Run, Samples, Verdict
from mlpprof.results.sweep import Sweep

SAMPLE_COLUMNS = ("batch", "pass", "phase", "layer", "label", "round", "step", "seconds")
COMPARISON_COLUMNS = (
    *("old", "new", "workload", "batch", "old_dtype", "new_dtype", "old_s", "new_s"),
    *("ratio", "low", "high", "verdict", "at_least", "processes", "equivalent"),
)
LADDER_COLUMNS = (
    *("workload", "batch", "variant", "parent", "dtype", "step_s"),
    *("over_parent", "over_parent_low", "over_parent_high", "over_root", "over_root_low", "over_root_high", "slow"),
)

SWEEP_COLUMNS = (
    *("machine", "target", "over", "layers", "batch", "dtype", "threads", "state", "step_s", "over_s"),
    *("ratio", "low", "high", "tries", "file", "error"),
)


def samples_csv(run: Run) -> str:
    """Every raw sample of a run, with all its digits."""
    return _text(SAMPLE_COLUMNS, (row for result in run.results for row in _sample_rows(result)))


def _sample_rows(result: BatchResult) -> Iterator[tuple[object, ...]]:
    for where, samples in _series(result):
        for i, row in enumerate(samples.tolist()):
            yield from ((result.batch or None, *where, i, j, seconds) for j, seconds in enumerate(row))


def _series(result: BatchResult) -> Iterator[tuple[tuple[str, str, int | None, str], Samples]]:
    yield ("total", "", None, ""), result.total_s
    yield ("phases", "", None, ""), result.phases_pass_s
    for name, phase in result.phases.items():
        yield ("phases", name, None, ""), phase.step_s
    yield ("labels", "", None, ""), result.labels_pass_s
    for label in result.labels:
        yield ("labels", label.phase, label.layer, label.label), label.step_s


def comparisons_csv(comparisons: Sequence[Comparison]) -> str:
    """A row for each comparison; a cell is empty if there was no claim or no check."""
    return _text(COMPARISON_COLUMNS, map(_comparison_row, comparisons))


def _comparison_row(one: Comparison) -> list[object]:
    race, verdict = one.race, one.verdict
    return [
        *(one.old, one.new, one.workload, one.batch, *race.dtypes, race.step_s(0), race.step_s(1)),
        *(verdict.ratio, verdict.low, verdict.high, verdict.outcome, verdict.at_least, verdict.processes),
        one.equivalent,
    ]


def ladders_csv(ladders: Sequence[Ladder]) -> str:
    """A row for each rung; a cell is empty if there is nothing to compare the rung with."""
    return _text(LADDER_COLUMNS, (row for ladder in ladders for row in _ladder_rows(ladder)))


def _ladder_rows(ladder: Ladder) -> Iterator[list[object]]:
    race = ladder.race
    for rung in ladder.rungs:
        dtype = race.dtypes[race.variants.index(rung.name)]
        yield [
            *(ladder.workload, ladder.batch, rung.name, rung.parent, dtype, rung.step_s),
            *(*_ratio(rung.over_parent), *_ratio(rung.over_root), rung.name in race.slow),
        ]


def sweep_csv(sweep: Sweep) -> str:
    """A row for each cell of a sweep, the cells of a class of machines together."""
    cells = [cell for machine in (*sweep.machines, None) for cell in sweep.on(machine)]
    return _text(SWEEP_COLUMNS, ([getattr(cell, name) for name in SWEEP_COLUMNS] for cell in cells))


def _ratio(verdict: Verdict | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if verdict is None else (verdict.ratio, verdict.low, verdict.high)


def _text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_as_text(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def _as_text(cell: object) -> object:
    """A text that spreadsheets would take for a formula gets an apostrophe before it; names come from anybody."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
