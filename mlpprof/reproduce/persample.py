"""`persample`: a training loop over single samples and its matrix form, on one core and on several."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from mlpprof.compare.entrants import VariantSubject
from mlpprof.errors import counted
from mlpprof.model import Network
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.report.numbers import digits, format_time
from mlpprof.reproduce.laboratory import Laboratory, load
from mlpprof.reproduce.rules import RULE_ABOUT, Stages, about, data_text, digits_source, planned, ratio, shortened
from mlpprof.results.reproduction import Claim, Curve, Figure, Panel, Reproduction, Table
from mlpprof.workloads import resolve

NAME = "persample"
LOOP_S, MATRIX_S = 1.91, 0.08
"""These are the answer's means for a batch of 100."""
DEVIATION_ALLOWED = 1e-6
LEARNABLE = Network((784, 100, 10), loss="squared_error", rate=1.0)
"""The network for the loss by the second: the source's labels are random, so there is nothing to learn from them."""


@dataclass(frozen=True)
class Plan:
    """How much is run; the defaults are a whole run."""

    layers: tuple[int, ...] = planned((1000, 900, 900, 900, 10), "layers")
    processes: int = planned(3, "processes per race")
    blocks: int = planned(8, "blocks per process")
    workers: tuple[int, ...] = planned((1, 2, 4), "numbers of workers")
    parallel_blocks: int = planned(3, "blocks of the race of the parallel forms")
    epochs: int = planned(4, "parallel epochs on the source's data")
    rows: int = planned(5_000, "rows of the digits")
    learning_epochs: int = planned(20, "parallel epochs on the digits")


QUICK = Plan(processes=1, blocks=2, parallel_blocks=1, epochs=1, learning_epochs=6)


def reproduce(data: Path | None, plan: Plan, progress: Progress) -> Reproduction:
    """Race the loop and the matrices, check the doubled gradient, and measure the parallel forms of both."""
    stages = Stages(NAME, 4, progress)
    workload = resolve(NAME, layers=None if plan.layers == Plan().layers else plan.layers)
    laboratory = Laboratory()
    requests = {name: Request(name, workload.network, workload.source) for name in ("per_sample", "naive")}
    race = laboratory.race(
        [VariantSubject(request, workload.batch) for request in requests.values()],
        plan.processes,
        plan.blocks,
        stages.next(),
    )
    with laboratory.prepared(requests, stages.next()) as worker:
        checks = {
            (name, doubled): worker.call("gradient_check", key=name, doubled=doubled)
            for name in requests
            for doubled in (False, True)
        }
    study_plan = {"workers": plan.workers, "batch": workload.batch, "rows": plan.rows}
    with laboratory.worker(threads=max(plan.workers)) as worker:
        load(worker, "naive", requests["naive"])
        study = worker.call(
            "parallel",
            stages.next(),
            key="naive",
            plan=study_plan | {"blocks": plan.parallel_blocks, "epochs": plan.epochs},
        )
        digits_data = digits_source(data)
        learnable = Request("naive", LEARNABLE, digits_data, dtype="float64")
        load(worker, "digits", learnable)
        learning = worker.call(
            "parallel", stages.next(), key="digits", plan=study_plan | {"blocks": 0, "epochs": plan.learning_epochs}
        )
    steps = {(s["form"], s["kind"], s["workers"]): float(np.median(s["step_s"])) for s in study["steps"]}
    measured = ratio(race, 0, 1)
    holds = about(measured.value, LOOP_S / MATRIX_S)
    loop, most = steps["loop", "threads", 1], max(plan.workers)
    network = workload.network
    best_loop = min(steps["loop", kind, most] for kind in ("threads", "processes"))
    claims = (
        Claim(
            what="time of the loop over samples divided by that of the matrix form, for a batch of 100",
            claimed=LOOP_S / MATRIX_S,
            claimed_text=f"about 24 x ({LOOP_S} s to {MATRIX_S} s)",
            measured=measured.value,
            measured_text=f"{measured.text}: {format_time(race.step_s(0))} to {format_time(race.step_s(1))}",
            rule=f"about 24: {RULE_ABOUT}",
            holds=holds,
            note=_agreement(measured.value, LOOP_S / MATRIX_S, holds)
            + f": on one core the loop does {_rate(network, race.step_s(0))} billion operations per second, the "
            f"matrices {_rate(network, race.step_s(1))}, and BLAS on {most} threads makes the matrices "
            f"{digits(steps['batched', 'BLAS threads', 1] / steps['batched', 'BLAS threads', most])} x as fast again.",
        ),
        _doubled_claim(checks),
        Claim(
            what=f"the loop in parallel: time of a batch with 1 worker divided by that with {most}",
            claimed=float(most),
            claimed_text="the loop runs independently, so it can be parallelized",
            measured=loop / best_loop,
            measured_text=f"{digits(loop / best_loop)} x with {most} workers; the matrix form with one is "
            f"{digits(loop / steps['batched', 'threads', 1])} x",
            rule=f"at least 1.5 x with {most} workers",
            holds=loop / best_loop >= 1.5 if most > 1 else None,
            note=f"It can. The gain stays below the {most} cores because every worker writes gradients as large as all "
            "the weights into memory; the matrix form gains more on a single core."
            if loop / best_loop < most
            else "It can, and gains as much as there are cores.",
        ),
        _averaging_claim(learning, most),
    )
    return Reproduction(
        name=NAME,
        title="Code review: a neural network in NumPy, with a loop over the samples of a batch",
        setting=(
            (
                "data",
                f"{data_text(workload.source)} (1,000 random samples); for the loss by the second: "
                f"the first {plan.rows:,} digits, {data_text(digits_data)}",
            ),
            ("network", f"{network.text}, sigmoid, squared error, rate {network.rate:g}, batch {workload.batch}"),
            ("learning", f"{LEARNABLE.text}, rate {LEARNABLE.rate:g}, for the loss by the second"),
        ),
        choices=(
            "Weights start at N(0, 1) / sqrt(fan_in); the source's standard-normal ones saturate every sigmoid.",
            "Only the checked copy has the doubled output gradient; no timed variant has it.",
            "With random labels every method is at the same plateau after one epoch, so the loss by the second is "
            "measured on digits as well.",
            "Every method starts from the same weights. In model averaging each worker keeps its shard; the figure "
            "shows the loss of the average at that moment.",
            "Of unequal workers every second one gets through half the data of the others. Cheng's lambda is 1, since "
            "a network's loss has no strong convexity.",
        ),
        shortened=shortened(plan),
        claims=claims,
        tables=(
            _step_table(steps, plan),
            _training_table(study, "the source's data"),
            _training_table(learning, "digits"),
        ),
        figures=(_figure(learning),),
        machine=laboratory.machine,
    )


def _agreement(measured: float, claimed: float, holds: bool) -> str:
    return "This is as claimed" if holds else f"It is {'less' if measured < claimed else 'more'} here"


def _rate(network: Network, step_s: float) -> str:
    """Billion floating-point operations per second in a step of 100 samples: 6 for each weight and sample."""
    return digits(6 * 100 * network.parameter_count / step_s / 1e9)


def _doubled_claim(checks: dict[tuple[str, bool], dict[str, Any]]) -> Claim:
    wrong = max(checks[name, True]["deviation"] for name in ("per_sample", "naive"))
    right = max(checks[name, False]["deviation"] for name in ("per_sample", "naive"))
    return Claim(
        what="deviation of the published gradient from finite differences",
        claimed=None,
        claimed_text="tested code (the output layer's gradient is added twice)",
        measured=wrong,
        measured_text=f"{wrong:.2g} doubled, {right:.1g} without",
        rule=f"at most {DEVIATION_ALLOWED:g}, loop and matrix form",
        holds=wrong <= DEVIATION_ALLOWED,
        note="The gradient check finds the output layer wrong, in the question's form and in the answer's. Both pass "
        "without the second addition.",
    )


def _averaging_claim(study: dict[str, Any], most: int) -> Claim:
    """Whether an average of the most workers has a lower loss than one worker after the same time."""
    single = _training(study, "averaged at the end", 1, "equal weights")
    averaged = _training(study, "averaged at the end", most, "equal weights")
    synchronous = [_training(study, f"synchronous, {kind}", most, "") for kind in ("threads", "processes")]
    end_s = min(sum(t["epoch_s"]) for t in (single, averaged, *synchronous))
    one, many = (float(np.interp(end_s, _seconds(t), t["loss"])) for t in (single, averaged))
    together = min(float(np.interp(end_s, _seconds(t), t["loss"])) for t in synchronous)
    return Claim(
        what=f"loss of {most} averaged workers divided by that of one after {format_time(end_s)} of training",
        claimed=None,
        claimed_text="there are techniques for parallel SGD (Zinkevich 2010, Cheng 2017)",
        measured=many / one,
        measured_text=f"{many:.4f} averaged, {one:.4f} alone, {together:.4f} synchronous",
        rule="averaging has the lower loss after the same time (below 1)",
        holds=many < one if most > 1 else None,
        note=f"An epoch takes {format_time(np.median(averaged['epoch_s']))} instead of "
        f"{format_time(np.median(single['epoch_s']))}, but each worker makes only 1/{most} of its updates, and an "
        "average of few updates does not replace many updates.",
    )


def _training(study: dict[str, Any], method: str, workers: int, average: str) -> dict[str, Any]:
    return next(
        t for t in study["trainings"] if (t["method"], t["workers"], t["average"]) == (method, workers, average)
    )


def _seconds(training: dict[str, Any]) -> list[float]:
    """The time at every point of the loss, the start included."""
    return [0.0, *accumulate(training["epoch_s"])]


def _step_table(steps: dict[tuple[str, str, int], float], plan: Plan) -> Table:
    kinds = [(form, kind) for form in ("loop", "batched") for kind in ("threads", "processes")]
    kinds.append(("batched", "BLAS threads"))
    base = {form: steps[form, "threads", plan.workers[0]] for form in ("loop", "batched")}
    return Table(
        title="One synchronous step in parallel",
        caption="the batch is split among the workers; in brackets: compared with one thread of the same form",
        columns=("form", *(counted(workers, "worker") for workers in plan.workers)),
        rows=tuple(
            (
                f"{form}, {kind}",
                *(
                    f"{format_time(steps[form, kind, workers])} ({digits(base[form] / steps[form, kind, workers])} x)"
                    for workers in plan.workers
                ),
            )
            for form, kind in kinds
        ),
    )


def _training_table(study: dict[str, Any], where: str) -> Table:
    trainings = study["trainings"]
    alone = next(t for t in trainings if t["method"] == "synchronous, processes" and t["workers"] == 1)
    end_s = min(sum(t["epoch_s"]) for t in trainings)
    return Table(
        title=f"Parallel training on {where}",
        caption=f"loss over all rows, after {len(alone['epoch_s'])} epochs and after {format_time(end_s)}",
        columns=("method", "workers", "epoch", "last loss", f"after {format_time(end_s)}"),
        rows=tuple(
            (
                t["method"] + (f", {t['average']}" if t["average"] else ""),
                str(t["workers"]),
                format_time(float(np.median(t["epoch_s"]))),
                f"{t['loss'][-1]:.4f}",
                f"{np.interp(end_s, _seconds(t), t['loss']):.4f}",
            )
            for t in trainings
        ),
    )


def _figure(study: dict[str, Any]) -> Figure:
    def curves(method: str) -> tuple[Curve, ...]:
        return tuple(
            Curve(
                counted(t["workers"], "worker")
                + (f", {t['average']}" if t["average"] and "unequal" in t["method"] else ""),
                tuple(_seconds(t)),
                tuple(t["loss"]),
                dashed=t["workers"] == 1,
            )
            for t in study["trainings"]
            if t["method"] == method
        )

    return Figure(
        name=f"{NAME}-parallel",
        caption="Loss on digits by second and number of workers. Synchronous workers share every update. Averaged "
        "workers train alone on their shards, and each point is the loss of their average.",
        panels=(
            Panel("synchronous, processes", "second", "loss", curves("synchronous, processes"), log_y=True),
            Panel("averaged at the end", "second", "loss", curves("averaged at the end"), log_y=True),
            Panel("unequal workers", "second", "loss", curves("averaged, unequal workers"), log_y=True),
        ),
    )
