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
from collections.abc import Iterator

from mlpprof.results import BatchResult, Run, Samples

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
