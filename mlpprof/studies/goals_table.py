"""The goals as text: a table a workload, and which goals are reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlpprof.measure.relay import SHARING
from mlpprof.report.format import digits, format_time
from mlpprof.studies.goal_works import BASE, GRAM_OVER_DIRECT, Result
from mlpprof.studies.machine_bound import Rates

WIDTH = max(len(name) for name in SHARING)
HEADER = f"  {'rung':<{WIDTH}} {'step':>9} {'x bound':>8} {'over ' + BASE:>12} {'+-':>6}"


def goals_text(results: Sequence[Result], one: Rates, all_: Rates, cores: int) -> str:
    """All works, below the rates that their bounds come from."""
    lines = [
        "",
        f"limits on 1 core and on {cores} (one process a core), GFLOP/s, GB/s and Gelem/s:",
        *(f"  {name:<18} {digits(one[name]):>7} {digits(all_[name]):>7}" for name in one),
        "",
        "x bound: step over the lower bound on one core, for rungs that work on all cores over that on all of them.",
        f"over {BASE}: paired within processes; +- is the standard error of its mean in percent.",
    ]
    for result in results:
        lines += ["", *_work(result, cores)]
    return "\n".join(lines) + "\n"


def _work(result: Result, cores: int) -> Iterator[str]:
    work = result.work
    yield f"{work.name} ({result.dtype}): bound {format_time(result.bound_s)} on 1 core, " + (
        f"{format_time(result.bound_all_s)} on {cores}"
    )
    yield HEADER
    for name in result.race.variants:
        ratio, error = result.over_base(name)
        spread = "" if name == BASE or error != error else f"{100 * (error - 1):.1f}"
        yield (
            f"  {name:<{WIDTH}} {format_time(result.step_s(name)):>9} {result.times_bound(name):8.2f} "
            f"{'' if name == BASE else digits(ratio):>12} {spread:>6}"
        )
    for name, why in result.refused.items():
        yield f"  {name} did not take part: {why}"
    yield from _goals(result)


def _goals(result: Result) -> Iterator[str]:
    work, names = result.work, result.race.variants
    for where, rungs in (
        ("one process", [name for name in names if name not in (*SHARING, "gram")]),
        ("all cores", [name for name in names if name in SHARING]),
    ):
        if work.goal is not None and rungs:
            best = min(rungs, key=result.times_bound)
            yield f"  goal {work.goal:g} x bound, {where}: {_word(result.times_bound(best) <= work.goal)}, " + (
                f"{best} at {result.times_bound(best):.2f}"
            )
    for name, goal_us in work.goal_us.items():
        if name in names:
            step_us = 1e6 * result.step_s(name)
            yield f"  goal {goal_us:g} us with {name} on the goal's machine: {digits(step_us)} us here"
    if "gram" in names:
        direct = min((name for name in names if name != "gram"), key=result.step_s)
        ratio = result.step_s(direct) / result.step_s("gram")
        yield f"  goal: gram {GRAM_OVER_DIRECT:g} x as fast as the best direct form, {direct}: " + (
            f"{_word(ratio >= GRAM_OVER_DIRECT)}, {digits(ratio)} x"
        )


def _word(reached: bool) -> str:
    return "reached" if reached else "not reached"
