"""Seconds by expression: the hooks of the clocked form, and the times without these hooks.

The hooks cost a few hundred nanoseconds around every expression. That is nothing compared with a matrix product, and
ten times the work of one addition in Python. The extra time of a step under clocks is divided among the executions. An
expression that is mostly hooks then has no time of its own that could be trusted. All such expressions together have
one, and it is divided among them by what they took under clocks.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlpprof.programs.record.hooks import CLOSE, OPEN, POST, PRE
from mlpprof.programs.record.trace import OwnTime, Part, Times

SAMPLES, EXECUTIONS = 50, 100
"""The time of the hooks is the least of so many samples, each with so many executions."""


@dataclass(frozen=True)
class HookTime:
    """Seconds that the hooks take around one expression: between the two readings of the clock, and outside of them."""

    inside_s: float
    outside_s: float


class Clocks:
    """The own time of expressions by site, without the expressions inside; `take` reads and clears it.

    clock: seconds, monotonic. An expression that ends in an exception is left out.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._own: dict[int, list[Any]] = {}  # as OwnTime
        self._open: list[list[Any]] = []  # [site, start, seconds inside, expressions inside]
        pre, post = self._hooks(clock)
        self.hooks: dict[str, Any] = {PRE: pre, POST: post, OPEN: pre, CLOSE: lambda site: post(site, None)}

    def _hooks(self, clock: Callable[[], float]) -> tuple[Callable[[int], int], Callable[[int, Any], Any]]:
        """The hooks as closures: they run around every expression, and attribute look-ups add up."""
        own, opened = self._own, self._open

        def pre(site: int) -> int:
            opened.append([site, clock(), 0.0, 0])
            return site

        def post(site: int, value: Any) -> Any:
            now = clock()
            passed_on, passed = 0.0, 0  # of expressions that an exception has ended
            while opened:
                number, start, inside, inner = opened.pop()
                inside += passed_on
                inner += passed
                passed_on, passed = inside, inner
                if number == site:
                    elapsed = now - start
                    if opened:
                        around = opened[-1]
                        around[2] += elapsed
                        around[3] += 1
                    cell = own.get(site)
                    if cell is None:
                        own[site] = [elapsed - inside, 1, inner]
                    else:
                        cell[0] += elapsed - inside
                        cell[1] += 1
                        cell[2] += inner
                    break
            return value

        return pre, post

    @property
    def executions(self) -> int:
        """Executions of all expressions since the last take."""
        return sum(cell[1] for cell in self._own.values())

    def take(self) -> dict[int, OwnTime]:
        """The own times by site, since the last take."""
        taken = {site: OwnTime(*cell) for site, cell in self._own.items()}
        self._own.clear()
        self._open.clear()
        return taken


@cache
def hook_time() -> HookTime:
    """The time of the hooks on this machine: the least of many samples, because other work only makes it longer."""
    clocks = Clocks(time.perf_counter)
    pre, post = clocks.hooks[PRE], clocks.hooks[POST]
    inside, whole = [], []
    for _ in range(SAMPLES):
        start = time.perf_counter()
        for _ in range(EXECUTIONS):
            post(pre(0), None)
        whole.append((time.perf_counter() - start) / EXECUTIONS)
        inside.append(clocks.take()[0].seconds / EXECUTIONS)
    return HookTime(min(inside), max(0.0, min(whole) - min(inside)))


Key = TypeVar("Key", bound=Hashable)

Sites = dict[int, OwnTime]
Places = NDArray[np.intp]

SLOWER = 3.0
"""Within a program, the hooks may take up to so many times as long as in a tight loop."""

TRUSTED = 1 / 3
"""An expression has a time of its own if at least this share of its time under clocks remains without the hooks."""

FEWEST = 3
"""With so many steps under clocks, an interruption can be distinguished from the time of an expression."""

LEAST = 0.05
"""Expressions that are mostly hooks keep at least this share of their time under clocks."""


def undisturbed(
    times: Times, step_s: float, place_of: Callable[[int], Key]
) -> tuple[dict[Key, float], dict[Key, float]]:
    """Seconds by expression, in the step and in the loop around it. place_of: the place of a site's expression."""
    inside, around = _medians(times.sites, place_of), _medians(times.around, place_of)
    if times.parts and times.plain_s:
        return _of_parts(times.parts, step_s, place_of), _without(hook_time(), around)
    if not (times.plain_s and times.sites):
        return {place: own.seconds for place, own in inside.items()}, {
            place: own.seconds for place, own in around.items()
        }
    hooks, scale = _disturbance(times, step_s, hook_time())
    in_step = _without(hooks, inside)
    whole_s = sum(in_step.values())
    shrunk = min(scale, step_s / whole_s) if whole_s > 0 else scale
    return (
        {place: shrunk * seconds for place, seconds in in_step.items()},
        {place: scale * seconds for place, seconds in _without(hooks, around).items()},
    )


def _of_parts(parts: list[Part], step_s: float, place_of: Callable[[int], Key]) -> dict[Key, float]:
    """The times of the parts, and of the pauses after them, which did what the parts before and after both did.

    So what happens once, as gathering the batch, does not stand for what was not observed.
    """
    owns = [_medians([part.own], place_of) for part in parts]
    done_s = max(0.0, step_s - sum(part.plain_s for part in parts))
    timed_s, executions = (sum(own[i] for part in owns for own in part.values()) for i in (0, 1))
    hooks, _ = _slower(hook_time(), executions, timed_s - done_s)
    lefts = [_without(hooks, part) for part in owns]
    found: dict[Key, float] = defaultdict(float)
    for number, (part, left) in enumerate(zip(parts, lefts, strict=True)):
        for place, seconds in left.items():
            found[place] += seconds
        for place, share in _common(left, lefts[min(number + 1, len(lefts) - 1)]).items():
            found[place] += share * part.plain_s
    whole_s = sum(found.values())
    return {place: seconds * min(1.0, step_s / whole_s) for place, seconds in found.items()} if whole_s > 0 else {}


def _common(before: dict[Key, float], after: dict[Key, float]) -> dict[Key, float]:
    """The shares that expressions have in both; if they have none in common, in one or the other."""
    first, second = ({place: s / (sum(one.values()) or 1.0) for place, s in one.items()} for one in (before, after))
    both = {place: min(first.get(place, 0.0), second.get(place, 0.0)) for place in first | second}
    if sum(both.values()) <= 0:
        both = {place: first.get(place, 0.0) + second.get(place, 0.0) for place in first | second}
    whole = sum(both.values())
    return {place: share / whole for place, share in both.items()} if whole > 0 else {}


def _slower(hooks: HookTime, executions: float, longer_s: float) -> tuple[HookTime, float]:
    """The time of the hooks if they are why the step took so much longer; and the seconds that this explains."""
    in_loop_s = executions * (hooks.inside_s + hooks.outside_s)
    taken_s = min(max(0.0, longer_s), SLOWER * in_loop_s)
    slower = taken_s / in_loop_s if in_loop_s else 0.0
    return HookTime(slower * hooks.inside_s, slower * hooks.outside_s), taken_s


@dataclass(frozen=True)
class Rounds:
    """Which steps are the samples of a profile. plain, clocked: (rounds, steps), the places of steps in `Times`.

    Rows of the same number ran next to each other.
    """

    plain: Places
    clocked: Places

    @classmethod
    def of(cls, times: Times) -> Rounds:
        """The blocks that have a partner, cut to one length; without such blocks, all steps in one round."""
        blocks = [
            [[place for place, found in enumerate(numbers) if found == block] for block in range(max(numbers) + 1)]
            for numbers in (times.plain_blocks or [-1], times.clocked_blocks or [-1])
        ]
        rounds = [(plain, clocked) for plain, clocked in zip(*blocks, strict=False) if plain and clocked]
        for which in (0, 1):
            length = _length([len(one[which]) for one in rounds])
            rounds = [one for one in rounds if len(one[which]) >= length]
        if not rounds:
            plain, clocked = (np.arange(len(one), dtype=np.intp)[None] for one in (times.plain_s, times.clocked_s))
            return cls(plain, clocked)
        cut = [np.array([one[i][: min(len(x[i]) for x in rounds)] for one in rounds], np.intp) for i in (0, 1)]
        return cls(cut[0], cut[1])


def _length(lengths: list[int]) -> int:
    """The length of a row with which the most steps are kept: shorter blocks are left out, longer ones are cut."""
    return max(sorted(lengths), key=lambda length: length * sum(one >= length for one in lengths), default=0)


def usual_step_s(times: Times) -> float:
    """The median of the steps that a profile shows, so that every command shows the same step time."""
    plain_s = [times.plain_s[place] for place in Rounds.of(times).plain.ravel()]
    return median(plain_s or times.clocked_s or [0.0])


def calm_step_s(times: Times) -> float:
    """Seconds of a step without clocks and interruptions: the median, at most that of a calm step under clocks."""
    step_s = usual_step_s(times)
    is_sure = times.plain_s and len(times.sites) >= FEWEST
    return min(step_s, _calm_clocked_s(times)) if is_sure else step_s


BUSY = 1.25
"""If steps usually took so many times as long as a calm step, a note reports it."""


def times_as_long(times: Times) -> float | None:
    """How many times as long as a calm step steps usually took, if other programs used the CPU; else None."""
    calm_s = calm_step_s(times)
    longer = usual_step_s(times) / calm_s if calm_s > 0 else 1.0
    return longer if longer > BUSY else None


def _medians(steps: list[Sites], place_of: Callable[[int], Key]) -> dict[Key, OwnTime]:
    """What a step takes by place: the median of the steps that executed it, times the share of the steps that did.

    So a statement that only every thousandth step executes does not look expensive.
    """
    found: dict[Key, list[OwnTime]] = defaultdict(list)
    for step in steps:
        summed: dict[Key, OwnTime] = {}
        for number, own in step.items():
            place = place_of(number)
            summed[place] = summed[place] + own if place in summed else own
        for place, own in summed.items():
            found[place].append(own)
    return {
        place: OwnTime(*(len(owns) / len(steps) * median(column) for column in zip(*owns, strict=True)))
        for place, owns in found.items()
    }


def _without(hooks: HookTime, owns: dict[Key, OwnTime]) -> dict[Key, float]:
    """Seconds without the hooks of the expression itself and of the expressions inside it."""
    left = {
        place: own.seconds - own.executions * hooks.inside_s - own.inner * hooks.outside_s
        for place, own in owns.items()
    }
    unsure = [place for place, own in owns.items() if left[place] < TRUSTED * own.seconds]
    under_clocks = sum(owns[place].seconds for place in unsure)
    together = max(LEAST * under_clocks, sum(left[place] for place in unsure))
    for place in unsure:
        left[place] = together * owns[place].seconds / under_clocks if under_clocks > 0 else 0.0
    return left


def _disturbance(times: Times, step_s: float, hooks: HookTime) -> tuple[HookTime, float]:
    """The time of the hooks in this program, and the factor for what they do not explain."""
    executions = median(sum(own.executions for own in step.values()) for step in times.sites)
    clocked_s = _calm_clocked_s(times)
    slower, taken_s = _slower(hooks, executions, clocked_s - step_s)
    return slower, min(1.0, step_s / (clocked_s - taken_s)) if clocked_s > taken_s else 1.0


def _calm_clocked_s(times: Times) -> float:
    """Seconds of a step under clocks without interruptions, which hit another expression in each step.

    The median of whole steps would contain them: on a busy core, every step of milliseconds is interrupted.
    """
    sites = {number for step in times.sites for number in step}
    timed = sum(_usual([step[number].seconds for step in times.sites if number in step], times) for number in sites)
    outside = (
        whole - sum(own.seconds for own in step.values())
        for whole, step in zip(times.clocked_s, times.sites, strict=True)
    )
    return timed + median(outside)


def _usual(seconds: list[float], times: Times) -> float:
    """Seconds per step of an expression that runs in every step, or now and then."""
    steps = len(times.sites)
    return median(seconds) if len(seconds) == steps else sum(seconds) / steps
