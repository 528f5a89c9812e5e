"""The tables of `stepiii`: its author's figures as the text prints them, beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlpprof.claims import Curve, Figure, Panel, Table
from mlpprof.report.format import digits, format_percent, format_time
from mlpprof.reproduce.rules import ratio
from mlpprof.results import BatchResult, Race

RUNGS = ("naive", "float32", "no_input_delta", "contiguous", "cached", "sliced")
BEFORE = "contiguous"
"""The rung that stands for the author's code before the step; `sliced` is what it became."""

PHASES_S = {
    "ti fetch": (0.00018, ("fetch_batch",)),
    "ta forward": (0.000815, ("forward",)),
    "tb + tc cost, error": (0.000474, ("loss",)),
    "td backward": (0.001095, ("backward",)),
    "tf weights": (0.000198, ("update",)),
}
"""The author's phases at batch 500, means of the two prints, and the phases of ours that they correspond to."""

BACKWARD_S: dict[int, dict[tuple[str, int], float]] = {
    500: {
        **{("t1", 2): 1.28e-4, ("t2", 2): 3.53e-4, ("t3", 2): 1.81e-4, ("t4", 2): 1.02e-4},
        **{("t5", 2): 9.93e-5, ("t6", 2): 2.43e-5},
        **{("t1", 1): 4.32e-4, ("t2", 1): 7.81e-4, ("t3", 1): 5.48e-5, ("t4", 1): 1.24e-4},
        **{("t5", 1): 1.03e-4, ("t6", 1): 1.22e-4, ("t5", 0): 4.29e-4, ("t6", 0): 1.54e-4},
    },
    15_000: {
        **{("t1", 2): 6.04e-4, ("t2", 2): 5.04e-3, ("t3", 2): 2.51e-4, ("t4", 2): 5.61e-4},
        **{("t5", 2): 5.41e-4, ("t6", 2): 2.29e-5},
        **{("t1", 1): 9.75e-4, ("t2", 1): 1.072e-2, ("t3", 1): 5.12e-4, ("t4", 1): 8.90e-4},
        **{("t5", 1): 1.10e-3, ("t6", 1): 9.84e-5, ("t5", 0): 6.99e-3, ("t6", 0): 2.38e-4},
    },
}
"""The author's t1 to t6 in seconds, by his layer number: the median of three prints, the mean of two."""

STATEMENTS = {
    "t1": "bias row",
    "t2": "derivative",
    "t3": "propagate",
    "t4": "multiply",
    "t5": "gradient",
    "t6": "regularize",
}


def backward_label_s(result: BatchResult, symbol: str, author_layer: int) -> float:
    """Our seconds for the author's symbol at his layer; his t5 and t6 at N are our layer N + 1's."""
    layer = author_layer + 1 if symbol in ("t5", "t6") else author_layer
    return sum(
        float(np.median(label.step_s))
        for label in result.labels
        if label.phase == "backward" and label.layer == layer and label.label == STATEMENTS[symbol]
    )


def race_table(race: Race, trained: dict[str, Any], m: int) -> Table:
    """Steps raced, and whole trainings, of every rung."""
    epochs = len(trained["naive"]["epoch_s"])
    rows = []
    for i, name in enumerate(RUNGS):
        to_parent = ratio(race, i - 1, i).text if i else ""
        rows.append(
            (
                name,
                format_time(race.step_s(i)),
                to_parent,
                digits(ratio(race, 0, i).value) + " x" if i else "1",
                format_time(sum(trained[name]["epoch_s"])),
                f"{trained[name]['final_loss']:.4f}",
                f"{trained[name]['last_batch_accuracy']:.3f}",
                "–" if trained[name]["test_accuracy"] is None else f"{trained[name]['test_accuracy']:.4f}",
            )
        )
    return Table(
        title=f"The rungs at batch {m:,}",
        caption=f"steps raced in {len(race.turns_s)} processes; {epochs} epochs trained side by side",
        columns=(
            "rung",
            "step",
            "parent over it",
            "naive over it",
            f"{epochs} epochs",
            "cost",
            "last batch",
            "test",
        ),
        rows=tuple(rows),
    )


def phase_table(result: BatchResult) -> Table:
    """The author's ti to tf beside our phases."""
    author_total = sum(seconds for seconds, _ in PHASES_S.values())
    ours = {name: sum(result.phase_median_s(phase) for phase in phases) for name, (_, phases) in PHASES_S.items()}
    total = sum(ours.values())
    return Table(
        title=f"Phases of {BEFORE} at batch {result.batch:,}",
        caption="the author's table beside ours: time, and share of the step",
        columns=("phase", "author", "share", "here", "share"),
        rows=tuple(
            (
                name,
                format_time(seconds),
                format_percent(seconds / author_total),
                format_time(ours[name]),
                format_percent(ours[name] / total),
            )
            for name, (seconds, _) in PHASES_S.items()
        ),
    )


def backward_table(result: BatchResult, author: dict[tuple[str, int], float]) -> Table:
    """The author's t1 to t6 by layer beside our labels."""
    rows = []
    for symbol, statement in STATEMENTS.items():
        cells = [f"{symbol} {statement}"]
        for layer in (2, 1, 0):
            seconds = author.get((symbol, layer))
            cells += (
                ["–", "–"]
                if seconds is None
                else [format_time(seconds), format_time(backward_label_s(result, symbol, layer))]
            )
        rows.append(tuple(cells))
    return Table(
        title=f"The backward pass of {BEFORE} at batch {result.batch:,}",
        caption="the author's layer numbers N; his time, then ours",
        columns=("", "N = 2", "here", "N = 1", "here", "N = 0", "here"),
        rows=tuple(rows),
    )


def figure(trained: dict[int, dict[str, Any]], epochs: int) -> Figure:
    """Cost and accuracy by epoch."""
    axis = tuple(float(e) for e in range(1, epochs + 1))

    def curves(key: str) -> Sequence[Curve]:
        return [
            Curve(f"{name}, batch {m:,}", axis, tuple(runs[name][key]), dashed=name == "naive")
            for m, runs in trained.items()
            for name in ("naive", "sliced")
            if runs[name][key]
        ]

    return Figure(
        name="stepiii-training",
        caption="Cost and test accuracy by epoch, first and last rung at both batch sizes. The curves of a batch size "
        "lie on each other: the rungs differ in time alone.",
        panels=(
            Panel("cost", "epoch", "mean cost of the epoch's batches", tuple(curves("loss")), log_y=True),
            Panel("accuracy", "epoch", "accuracy on the test set", tuple(curves("test_accuracies"))),
        ),
    )
