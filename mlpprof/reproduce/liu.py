"""`liu`: neurons as lists of numbers compared with layers as objects with matrices, in 100,000 steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlpprof.compare.entrants import VariantSubject
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.report.numbers import format_time
from mlpprof.reproduce.laboratory import Laboratory
from mlpprof.reproduce.rules import (
    ELSEWHERE,
    RULE_ABOUT,
    RULE_ELSEWHERE,
    Stages,
    about,
    data_text,
    digits_source,
    minutes,
    planned,
    ratio,
    shortened,
)
from mlpprof.results import Race
from mlpprof.results.reproduction import Claim, Reproduction, Table
from mlpprof.workloads import resolve

NAME = "liu"
STEPS = 100_000
SLOW_S, FAST_S = 9 * 3600.0, 65.0
"""The source says roughly 9 hours, and a little more than a minute, which is taken as 65 s."""
VARIANTS = ("scalar", "dense_layers")


@dataclass(frozen=True)
class Plan:
    """How much is run; the defaults are a whole run."""

    steps: int = planned(STEPS, "steps of dense_layers that are run")
    processes: int = planned(3, "processes per race")
    blocks: int = planned(8, "blocks per process")
    mini_batch: int = planned(64, "samples of a mini-batch")


QUICK = Plan(steps=5_000, processes=1, blocks=3)


def reproduce(data: Path | None, plan: Plan, progress: Progress) -> Reproduction:
    """Race both readings of a step; run the fast form for as many steps as the source, and extrapolate the slow one."""
    sizes = {"single samples": 1, f"mini-batches of {plan.mini_batch}": plan.mini_batch}
    stages = Stages(NAME, 2 * len(sizes), progress)
    laboratory = Laboratory()
    source = digits_source(data)
    workload = resolve(NAME, source=source)
    requests = {name: Request(name, workload.network, source) for name in VARIANTS}
    races, series_s = {}, {}
    for reading, m in sizes.items():
        subjects = [VariantSubject(requests[name], m) for name in VARIANTS]
        races[reading] = laboratory.race(subjects, plan.processes, plan.blocks, stages.next())
        progress_part = stages.next()
        with laboratory.prepared({"dense_layers": requests["dense_layers"]}, progress_part) as worker:
            seconds = worker.call("steps", progress_part, key="dense_layers", batch=m, count=plan.steps)
        series_s[reading] = seconds * STEPS / plan.steps
    claims = []
    for reading in sizes:
        claims += _claims(reading, races[reading], series_s[reading], plan)
    network = workload.network
    return Reproduction(
        name=NAME,
        title="Vectorization in fully-connected neural networks",
        setting=(
            ("data", data_text(source)),
            ("network", f"{network.text}, sigmoid, cross-entropy, rate {network.rate:g}"),
        ),
        choices=(
            "The source gives no sizes; ours are in the line above. The smaller a network is, the closer the two forms "
            "are to each other.",
            "The source does not say whether a step is one sample or a batch: both are measured, with batches of "
            f"{plan.mini_batch}.",
            "The time of 100,000 steps of the slow form is that of its raced step times 100,000; those of the fast "
            "form are really run, and their batches are drawn.",
            "Weights start at N(0, 1) / sqrt(fan_in) instead of 0.01 times a normal number.",
        ),
        shortened=shortened(plan),
        claims=tuple(claims),
        tables=(_table(races, series_s, plan),),
        figures=(),
        machine=laboratory.machine,
    )


def _claims(reading: str, race: Race, fast_s: float, plan: Plan) -> list[Claim]:
    measured = ratio(race, 0, 1)
    slow_s = race.step_s(0) * STEPS
    holds = about(measured.value, SLOW_S / FAST_S)
    ran = "run" if plan.steps == STEPS else f"extrapolated from {plan.steps:,}"
    relation = "less" if measured.value < SLOW_S / FAST_S else "more"
    return [
        Claim(
            what=f"step time of the iterative form divided by that of the vectorized one, {reading}",
            claimed=SLOW_S / FAST_S,
            claimed_text="about 500 x (9 hours to a little more than a minute)",
            measured=measured.value,
            measured_text=measured.text,
            rule=f"about 500: {RULE_ABOUT}",
            holds=holds,
            note=f"With {reading} the matrices are as much faster here."
            if holds
            else f"It is {relation} with {reading} of this network. The ratio depends on sizes that the text does not "
            "give, since one call into NumPy costs as much for one product as for hundreds.",
        ),
        Claim(
            what=f"100,000 steps iteratively, {reading}",
            claimed=SLOW_S,
            claimed_text="roughly 9 hours",
            measured=slow_s,
            measured_text=f"{_duration(slow_s)}, extrapolated",
            rule=RULE_ELSEWHERE,
            holds=about(slow_s, SLOW_S, ELSEWHERE),
            note=f"9 hours are {format_time(SLOW_S / STEPS)} per step; ours takes {format_time(race.step_s(0))}.",
        ),
        Claim(
            what=f"100,000 steps vectorized, {reading}",
            claimed=FAST_S,
            claimed_text="a little more than a minute",
            measured=fast_s,
            measured_text=f"{_duration(fast_s)}, {ran}",
            rule=RULE_ELSEWHERE,
            holds=about(fast_s, FAST_S, ELSEWHERE),
            note=f"A minute is {format_time(FAST_S / STEPS)} per step; ours takes {format_time(race.step_s(1))}.",
        ),
    ]


def _duration(seconds: float) -> str:
    return format_time(seconds) if seconds < 120 else minutes(seconds)


def _table(races: dict[str, Race], series_s: dict[str, float], plan: Plan) -> Table:
    rows = []
    for reading, race in races.items():
        ran = "run" if plan.steps == STEPS else "extrapolated"
        slow_s = race.step_s(0)
        rows.append((f"scalar, {reading}", format_time(slow_s), _duration(slow_s * STEPS), "extrapolated"))
        rows.append((f"dense_layers, {reading}", format_time(race.step_s(1)), _duration(series_s[reading]), ran))
    return Table(
        title="100,000 steps",
        caption="the step is from the race; the series includes the drawing of its batches",
        columns=("form", "step", "100,000 steps", ""),
        rows=tuple(rows),
    )
