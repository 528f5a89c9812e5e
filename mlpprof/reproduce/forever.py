"""`forever`: the delta of every weight is computed numerically, in 28 minutes per pass; and what the answer advises."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlpprof.compare.entrants import VariantSubject
from mlpprof.model import Network
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.report.numbers import digits, format_time
from mlpprof.reproduce.laboratory import Laboratory
from mlpprof.reproduce.rules import (
    RULE_AT_LEAST,
    Ratio,
    Stages,
    at_least,
    data_text,
    minutes,
    planned,
    ratio,
    shortened,
)
from mlpprof.results import Race
from mlpprof.results.reproduction import Claim, Curve, Figure, Panel, Reproduction, Table
from mlpprof.workloads import Workload, resolve

NAME = "forever"
PASS_S = 28 * 60.0
WEIGHT_DELTAS = 39**2 * 3 * 10_000
"""The question itself counts this many weight deltas for one pass."""
LAYERS = ((39, 39, 39, 1), (39, 39, 39, 39))
FORMS = ("numeric", "scalar", "per_sample", "sliced")
SCALAR_FORWARD = len(FORMS)
"""The place of the last entrant, after the forms: the forward pass of `scalar` alone."""
SCALAR_SHARE = 10
"""It runs on this many times fewer observations than the others."""
GRADIENT_TOLERANCE = 1e-6
FASTER = 10.0
"""We take the source's "much better" to mean this many times as fast."""


@dataclass(frozen=True)
class Plan:
    """How much is run; the defaults are a whole run."""

    observations: int = planned(10_000, "observations of a timed pass")
    processes: int = planned(1, "processes per race")
    blocks: int = planned(4, "blocks per process")
    batches: tuple[int, ...] = planned((1, 10, 100, 1_000, 10_000), "mini-batch sizes")
    epochs: int = planned(20, "epochs of every mini-batch size")


QUICK = Plan(observations=1_000, blocks=2, epochs=5)


def reproduce(data: Path | None, plan: Plan, progress: Progress) -> Reproduction:
    """Race a pass in every form for both readings of the network, check gradients, and train with mini-batches."""
    stages = Stages(NAME, len(LAYERS) + 1 + len(plan.batches), progress)
    laboratory = Laboratory()
    workload = resolve(NAME)
    networks = [replace(workload.network, layers=layers) for layers in LAYERS]
    races = {network.text: _race(laboratory, workload, network, plan, stages.next()) for network in networks}
    requests = {name: Request(name, networks[0], workload.source) for name in FORMS}
    with laboratory.prepared(requests, stages.next()) as worker:
        deviation = max(worker.call("compare_gradients", key="numeric", other=name) for name in FORMS[1:])
        planted = worker.call("gradient_check", key="per_sample", doubled=True)
    # Plain gradient descent for the mini-batches: with momentum, the sizes would differ in more than the size.
    plain = Request("sliced", replace(workload.network, momentum=0.0), workload.source)
    runs: dict[int, dict[str, Any]] = {}
    for m in plan.batches:
        progress_part = stages.next()
        with laboratory.prepared({"sliced": plain}, progress_part) as worker:
            runs[m] = worker.call(
                "train", progress_part, keys=["sliced"], batch=m, epochs=plan.epochs, each_epoch=False
            )["sliced"]
    first = races[networks[0].text]
    numeric = _numeric_ratio(first, networks[0])
    claims = (
        *(_pass_claim(races[network.text], network, plan) for network in networks),
        Claim(
            what=f"time of a numeric pass divided by that of backpropagation in matrices, {networks[0].text}",
            claimed=FASTER,
            claimed_text="frameworks and matrices perform much better (no number; 10 x is taken for it)",
            measured=numeric.value,
            measured_text=f"{numeric.text}, the numeric pass extrapolated",
            rule=f"at least {FASTER:g}: {RULE_AT_LEAST}",
            holds=at_least(numeric, FASTER),
            note="Most of the factor comes from the method: two forward passes per weight instead of one backward pass "
            f"for all of them. Matrices are {digits(ratio(first, 2, 3).value)} x as fast as the loop over samples, and "
            f"that loop is {digits(ratio(first, 1, 2).value)} x as fast as Python's numbers.",
        ),
        Claim(
            what="deviation of the numeric gradient from backpropagation",
            claimed=None,
            claimed_text="if estimate and backpropagation agree for all weights, the code is likely correct",
            measured=deviation,
            measured_text=f"{deviation:.1g} in the right forms, {planted['deviation']:.2g} with a planted defect",
            rule=f"right forms at most {GRADIENT_TOLERANCE:g}, the defect above it",
            holds=deviation <= GRADIENT_TOLERANCE < planted["deviation"],
            note="The check separates right from wrong by orders of magnitude, so its threshold is not critical.",
        ),
        *_batch_claims(runs),
    )
    return Reproduction(
        name=NAME,
        title="Neural network backpropagation taking forever",
        setting=(
            ("data", f"{data_text(workload.source)}: {plan.observations:,} observations of 39 inputs"),
            ("networks", f"{networks[0].text}, as the answer reads it; {networks[1].text}, as the question counts"),
            ("training", f"sigmoid, squared error, rate {plain.network.rate:g}, plain gradient descent for the figure"),
        ),
        choices=(
            "A pass is one gradient of all observations and one update.",
            "The numeric pass is extrapolated from the time of one weight, which takes two forward passes in matrices. "
            "The weights are drawn at random from all layers, and race with the other forms.",
            "The text does not say how the author computes a weight's delta. The tables show two readings: forward "
            "passes in matrices, and forward passes in Python's numbers.",
            "Loss, rate and the observations themselves (the outputs of a random network) are ours.",
        ),
        shortened=shortened(plan),
        claims=claims,
        tables=(*(_pass_table(races[network.text], network, plan) for network in networks), _batch_table(runs)),
        figures=(_figure(runs),),
        machine=laboratory.machine,
    )


def _race(laboratory: Laboratory, workload: Workload, network: Network, plan: Plan, progress: Progress) -> Race:
    parts = {"numeric": "slope"}
    subjects = [
        VariantSubject(Request(name, network, workload.source), plan.observations, part=parts.get(name, "step"))
        for name in FORMS
    ]
    scalar = Request("scalar", network, workload.source)
    subjects.append(VariantSubject(scalar, plan.observations // SCALAR_SHARE, part="forward"))
    return laboratory.race(subjects, plan.processes, plan.blocks, progress)


def _numeric_ratio(race: Race, network: Network) -> Ratio:
    """The extrapolated numeric pass over a pass in matrices."""
    return ratio(race, FORMS.index("numeric"), FORMS.index("sliced")).times(network.parameter_count)


def _readings_s(race: Race, network: Network, plan: Plan) -> tuple[float, float]:
    """Seconds of the numeric pass over 10,000 observations: forward passes in matrices, and in Python's numbers."""
    scale = Plan().observations / plan.observations
    weights = network.parameter_count
    return scale * weights * race.step_s(0), scale * weights * 2 * SCALAR_SHARE * race.step_s(SCALAR_FORWARD)


def _pass_claim(race: Race, network: Network, plan: Plan) -> Claim:
    in_matrices_s, in_python_s = _readings_s(race, network, plan)
    holds = in_matrices_s <= PASS_S <= in_python_s
    return Claim(
        what=f"one numeric pass over 10,000 observations, {network.text}",
        claimed=PASS_S,
        claimed_text="28 minutes",
        measured=in_matrices_s,
        measured_text=f"{minutes(in_matrices_s)} in matrices, {minutes(in_python_s)} in Python's numbers "
        "(extrapolated)",
        rule="28 minutes lie between the two readings of the author's code",
        holds=holds,
        note=f"28 minutes are {digits(1e6 * PASS_S / WEIGHT_DELTAS)} microseconds for each of the question's "
        "45.6 million weight deltas"
        + (
            ": more than forward passes in matrices take, and less than whole ones in Python's numbers."
            if holds
            else ", which fits neither reading on this machine."
        ),
    )


def _batch_claims(runs: dict[int, dict[str, Any]]) -> tuple[Claim, Claim]:
    smallest, largest = min(runs), max(runs)
    middle = [m for m in runs if smallest < m < largest] or [largest]
    epoch_s = {m: float(np.median(run["epoch_s"])) for m, run in runs.items()}
    best = min(middle, key=lambda m: epoch_s[m])
    end_s = min(sum(run["epoch_s"]) for run in runs.values())
    loss = {m: float(np.interp(end_s, np.cumsum(run["epoch_s"]), run["loss"])) for m, run in runs.items()}
    winner = min(middle, key=lambda m: loss[m])
    ends = min(loss[smallest], loss[largest])
    return (
        Claim(
            what=f"time of an epoch with single samples divided by that with mini-batches of {best:,}",
            claimed=None,
            claimed_text="an update only once every so many examples is more efficient",
            measured=epoch_s[smallest] / epoch_s[best],
            measured_text=f"{digits(epoch_s[smallest] / epoch_s[best])} x",
            rule="above 1",
            holds=epoch_s[smallest] > epoch_s[best],
            note="A step of one sample consists of calls into NumPy and little else; a mini-batch shares them.",
        ),
        Claim(
            what=f"loss of mini-batches of {winner:,} divided by that of the better of 1 and {largest:,}, "
            f"after {format_time(end_s)} each",
            claimed=None,
            claimed_text="mini-batches have benefits for convergence",
            measured=loss[winner] / ends,
            measured_text=f"{loss[winner]:.4f}, compared with {loss[smallest]:.4f} and {loss[largest]:.4f}",
            rule="below 1",
            holds=loss[winner] < ends,
            note="All sizes have the same rate. Single samples make the most updates per epoch and all samples at once "
            "make one; the number of updates per second counts.",
        ),
    )


def _pass_table(race: Race, network: Network, plan: Plan) -> Table:
    in_matrices_s, in_python_s = _readings_s(race, network, plan)
    scale = Plan().observations / plan.observations
    batched_s = scale * race.step_s(FORMS.index("sliced"))
    rows = [
        ("numeric in Python's numbers", minutes(in_python_s), digits(in_python_s / batched_s) + " x", "extrapolated"),
        ("numeric in matrices", minutes(in_matrices_s), digits(in_matrices_s / batched_s) + " x", "extrapolated"),
    ]
    for i, name in enumerate(FORMS[1:], start=1):
        seconds = scale * race.step_s(i)
        how = "measured" if scale == 1 else f"from {plan.observations:,} observations"
        rows.append((name, format_time(seconds), digits(seconds / batched_s) + " x", how))
    return Table(
        title=f"One pass, {network.text}",
        caption=f"{network.parameter_count:,} weights and biases, 10,000 observations",
        columns=("form", "time", "compared with matrices", ""),
        rows=tuple(rows),
    )


def _batch_table(runs: dict[int, dict[str, Any]]) -> Table:
    return Table(
        title="Mini-batches",
        caption=f"variant sliced, {LAYERS[0][0]} inputs, {len(next(iter(runs.values()))['epoch_s'])} epochs each",
        columns=("batch", "epoch", "loss after them", "test accuracy"),
        rows=tuple(
            (
                f"{m:,}",
                format_time(float(np.median(run["epoch_s"]))),
                f"{run['final_loss']:.4f}",
                f"{run['test_accuracy']:.3f}",
            )
            for m, run in runs.items()
        ),
    )


def _figure(runs: dict[int, dict[str, Any]]) -> Figure:
    sizes = tuple(float(m) for m in runs)
    return Figure(
        name=f"{NAME}-batches",
        caption="The time of an epoch by mini-batch size, the loss after the same number of epochs, and the loss of "
        "every size by second.",
        panels=(
            Panel(
                "time",
                "mini-batch size",
                "seconds per epoch",
                (Curve("sliced", sizes, tuple(float(np.median(run["epoch_s"])) for run in runs.values())),),
                log_x=True,
                log_y=True,
            ),
            Panel(
                "loss",
                "mini-batch size",
                "loss after all epochs",
                (Curve("sliced", sizes, tuple(run["final_loss"] for run in runs.values())),),
                log_x=True,
            ),
            Panel(
                "loss by second",
                "second",
                "mean loss of the epoch",
                tuple(
                    Curve(f"batch {m:,}", tuple(np.cumsum(run["epoch_s"]).tolist()), tuple(run["loss"]))
                    for m, run in runs.items()
                ),
                log_x=True,
            ),
        ),
    )
