"""What the schedules of `optprop` cost, and the tables and figures of their trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpprof.claims import Curve, Figure, Panel, Table
from mlpprof.report.format import format_change, format_time
from mlpprof.reproduce.rules import Ratio
from mlpprof.workloads import Workload

SCHEDULES = {"sliced": "standard", "layerwise": "cumulative", "layerwise_once": "each layer once"}
"""The variant of every schedule."""
LOSS_LIMITS = (0.1, 0.7)
"""The axis of the source's figure."""


@dataclass(frozen=True)
class Runs:
    """Trainings of one schedule at one rate: losses (seeds, epochs + 1), and accuracies after the last epoch."""

    losses: Any
    train: Sequence[float]
    test: Sequence[float | None]

    @property
    def final(self) -> Any:
        """Loss of every seed after the last epoch."""
        return self.losses[:, -1]


def mean_final(runs: Runs, seeds: int) -> float:
    """Mean over the tuning seeds, infinite where one has diverged."""
    mean = float(np.mean(runs.final[:seeds]))
    return mean if np.isfinite(mean) else np.inf


def operations(layers: Sequence[int], m: int, schedule: str) -> float:
    """Floating-point operations of an epoch: products of matrices and updates; elementwise functions are left out.

    A product with W[l], or for its gradient, is 2 m n_l n_{l-1}; an update with momentum is 4 for each parameter.
    """
    L = len(layers) - 1
    product = [0.0] + [2.0 * m * layers[l] * layers[l - 1] for l in range(1, L + 1)]
    update = [0.0] + [4.0 * layers[l] * (layers[l - 1] + 1) for l in range(1, L + 1)]
    total = sum(product)  # the full forward pass
    for lowest in [1] if schedule == "sliced" else range(L, 0, -1):
        moved = range(lowest, lowest + 1) if schedule == "layerwise_once" else range(lowest, L + 1)
        total += sum(product[l] + update[l] for l in moved)  # gradients and updates
        total += sum(product[l] for l in range(lowest + 1, L + 1))  # delta propagated down
        if lowest > 1:
            total += sum(product[l] for l in range(lowest, L + 1))  # forward again
    return total


def updates(layers: Sequence[int], schedule: str) -> int:
    """Updates of layers in an epoch: L, or L (L + 1) / 2 if cumulative."""
    L = len(layers) - 1
    return L * (L + 1) // 2 if schedule == "layerwise" else L


def epoch_table(epoch_s: dict[str, float], slower: dict[str, Ratio], workload: Workload) -> Table:
    """What an epoch of every schedule updates, computes and takes."""
    layers, m = workload.network.layers, workload.batch
    base = operations(layers, m, "sliced")
    return Table(
        title="An epoch",
        caption="layers updated, floating-point operations (products and updates), time raced",
        columns=("schedule", "updates of layers", "operations", "over standard", "time", "over standard"),
        rows=tuple(
            (
                text,
                str(updates(layers, name)),
                f"{operations(layers, m, name) / 1e6:,.1f} million",
                format_change(operations(layers, m, name) / base),
                format_time(epoch_s[name]),
                "" if name == "sliced" else format_change(slower[name].value),
            )
            for name, text in SCHEDULES.items()
        ),
    )


def training_table(title: str, runs: dict[str, Runs], rates: dict[str, float]) -> Table:
    """Loss and accuracies after the last epoch."""
    epochs = runs["sliced"].losses.shape[1] - 1

    def spread(values: Sequence[float | None]) -> str:
        known = [value for value in values if value is not None]
        return f"{np.mean(known):.2f} ({min(known):.2f} to {max(known):.2f})" if known else "–"

    return Table(
        title=title,
        caption=f"after {epochs:,} epochs, mean over the seeds and range",
        columns=("schedule", "rate", "seeds", "loss", "train accuracy", "test accuracy"),
        rows=tuple(
            (
                text,
                f"{rates[name]:g}",
                str(len(runs[name].final)),
                f"{runs[name].final.mean():.3f} ({runs[name].final.min():.3f} to {runs[name].final.max():.3f})",
                spread(runs[name].train),
                spread(runs[name].test),
            )
            for name, text in SCHEDULES.items()
        ),
    )


def rates_table(trained: dict[tuple[str, float], Runs], seeds: int) -> Table:
    """The final loss at every rate that was tried."""
    rates = sorted({rate for _, rate in trained})
    return Table(
        title="Loss by learning rate",
        caption=f"after the last epoch, mean over {seeds} seeds",
        columns=("schedule", *(f"{rate:g}" for rate in rates)),
        rows=tuple(
            (text, *(f"{mean_final(trained[name, rate], seeds):.3f}" for rate in rates))
            for name, text in SCHEDULES.items()
        ),
    )


def _curves(runs: dict[str, Runs], step: dict[str, float], rates: dict[str, float] | None = None) -> tuple[Curve, ...]:
    """Mean loss and range over the seeds; step: what an epoch is long on the axis."""
    curves = []
    for name, text in SCHEDULES.items():
        losses = runs[name].losses
        every = max(1, losses.shape[1] // 250)  # no screen shows more points
        kept = losses[:, ::every]
        curves.append(
            Curve(
                text if rates is None else f"{text}, rate {rates[name]:g}",
                tuple((np.arange(losses.shape[1])[::every] * step[name]).tolist()),
                tuple(kept.mean(axis=0).tolist()),
                tuple(kept.min(axis=0).tolist()),
                tuple(kept.max(axis=0).tolist()),
                dashed=name == "sliced",
            )
        )
    return tuple(curves)


def source_figure(own: dict[str, Runs]) -> Figure:
    """Loss by epoch, as the source draws it."""
    return Figure(
        name="optprop-epochs",
        caption="The source's figure: training loss by epoch at its learning rate, axis from 0.1 to 0.7; mean over the "
        "seeds, the band holds all of them.",
        panels=(
            Panel("loss by epoch", "epoch", "loss", _curves(own, dict.fromkeys(SCHEDULES, 1.0)), y_limits=LOSS_LIMITS),
        ),
    )


def other_figure(
    own: dict[str, Runs],
    tuned: dict[str, Runs],
    best: dict[str, float],
    epoch_s: dict[str, float],
    workload: Workload,
) -> Figure:
    """Loss by second, by operation, and by update with tuned rates."""
    layers, m = workload.network.layers, workload.batch
    flops = {name: operations(layers, m, name) / 1e9 for name in SCHEDULES}
    by_update = {name: float(updates(layers, name)) for name in SCHEDULES}
    return Figure(
        name="optprop-costs",
        caption="What the source leaves out: the same losses by second and by floating-point operation, and by update "
        "of a layer with a learning rate tuned for each schedule.",
        panels=(
            Panel("by second", "second", "loss", _curves(own, epoch_s), y_limits=LOSS_LIMITS),
            Panel("by operation", "billion operations", "loss", _curves(own, flops), y_limits=LOSS_LIMITS),
            Panel("by update, rates tuned", "updates of layers", "loss", _curves(tuned, by_update, best)),
        ),
    )
