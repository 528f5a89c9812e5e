"""The examination of `mlpprof doctor`: describe the machine, measure its limits, try the settings that could help.

A setting is tried in pairs of fresh processes, one with it and one without, which take turns. A pair's value is the
mean log ratio of its blocks (without, with, with, without), in which linear drift cancels. The gain is the median of
the pairs, its interval Student's t over them. If the first pairs show no gain near 3 %, there are no more: a setting
that cannot become advice need not be known well.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from scipy.special import stdtrit

from mlpprof.machine.blas import worker_environment
from mlpprof.machine.doctor_worker import NETWORK, SLOW_S
from mlpprof.machine.keys import Json
from mlpprof.machine.limits import DTYPES, Limits, depends_on_threads, measure_again, names_for
from mlpprof.machine.linux import cpu_times_s
from mlpprof.machine.settings import (
    SMALL_BATCH,
    EnvironmentChange,
    Setting,
    not_known,
    notes,
    settings_to_try,
    usable_cpus,
)
from mlpprof.process import Progress, Worker

WORKER = "mlpprof.machine.doctor_worker"
LEAST_GAIN = 1.03
"""A gain below 3 % is not advice."""
CONFIDENCE = 0.95
PAIRS, QUICK_PAIRS = 5, 3
BLOCKS = 2
HOPELESS = 2
"""A setting gets no more pairs if none of its first two reaches the least gain."""

EXAMINATION_S, QUICK_EXAMINATION_S = 50.0, 20.0
"""The examination plans for about this time; a busy machine can make it longer."""
LIMITS_SHARE = 0.3
"""The part of the progress bar that stands for measuring the limits."""
QUICK_BUDGET = 0.4
"""A quick examination measures each limit in this share of the usual time."""

Environment = Mapping[str, str]
Clock = Callable[[], float]

# The neighbour spins until its input closes, which happens also when the parent is killed.
NEIGHBOUR = "import sys, threading\ndef spin():\n    while True: pass\n"
NEIGHBOUR += "threading.Thread(target=spin, daemon=True).start()\nsys.stdin.read()\n"


@dataclass(frozen=True)
class Gain:
    """Time without a setting divided by time with it, above 1 is faster: median of the pairs, 95 % interval."""

    ratio: float
    low: float
    high: float
    pairs: int

    @property
    def is_advice(self) -> bool:
        return self.ratio >= LEAST_GAIN and self.low > 1


@dataclass(frozen=True)
class Tried:
    """A setting and its measured gain."""

    setting: Setting
    gain: Gain


@dataclass(frozen=True)
class Examination:
    """Everything `mlpprof doctor` found. steal_share: CPU time that a hypervisor took during the examination."""

    machine: dict[str, Json]
    limits: Limits
    tried: tuple[Tried, ...]
    not_known: tuple[str, ...]
    notes: tuple[str, ...]
    steal_share: float | None
    quick: bool

    @property
    def advice(self) -> tuple[Tried, ...]:
        helpful = [tried for tried in self.tried if tried.gain.is_advice]
        return tuple(sorted(helpful, key=lambda tried: -tried.gain.ratio))


def examine(progress: Progress, *, quick: bool = False, forget: bool = False) -> Examination:
    """Describe the machine, measure its limits at one and at all threads, and try the settings that could help.

    forget: leave out the limits that were kept before. Takes about `EXAMINATION_S`, or `QUICK_EXAMINATION_S`: a setting
    that takes long gets fewer pairs of processes.
    Raises whatever `Worker.call` raises.
    """
    environment = dict(os.environ)
    begun, before = perf_counter(), cpu_times_s()

    def limits_part(what: str, done: float) -> None:
        progress(what, LIMITS_SHARE * done / 2)

    damaged: list[str] = []

    def measured(names: Sequence[str], threads: int | None) -> tuple[dict[str, Json], Limits]:
        machine, limits = measure_again(
            names,
            environment if threads is None else worker_environment(environment, threads, False),
            limits_part,
            damaged.append,
            share_of_budget=QUICK_BUDGET if quick else 1.0,
            forget=forget and bool(names),
        )
        return machine, {_with_threads(name, threads or 1): limit for name, limit in limits.items()}

    # Products of one precision are enough to show what small shapes lose.
    wanted = dict.fromkeys(name for dtype in DTYPES for name in names_for(NETWORK, dtype, (SMALL_BATCH,)))
    names = [name for name in wanted if not name.startswith("product_float64")]
    _, limits = measured(names, 1)
    machine, _ = measured([], None)
    cpus = usable_cpus(machine)
    if cpus > 1:
        limits |= measured([name for name in names if depends_on_threads(name)], cpus)[1]
    settings = list(settings_to_try(machine, quick=quick))
    left_s = (QUICK_EXAMINATION_S if quick else EXAMINATION_S) - (perf_counter() - begun)

    def settings_part(what: str, done: float) -> None:
        progress(what, LIMITS_SHARE + (1 - LIMITS_SHARE) * done)

    gains = measure_gains(settings, environment, QUICK_PAIRS if quick else PAIRS, max(left_s, 1.0), settings_part)
    tried = tuple(Tried(setting, gain) for setting, gain in zip(settings, gains, strict=True))
    steal = _steal_share(before, cpu_times_s())
    return Examination(
        machine, limits, tried, tuple(not_known(machine)), (*damaged, *notes(machine, steal)), steal, quick
    )


def _with_threads(name: str, threads: int) -> str:
    """'gemm_float32' at 4 threads -> 'gemm_float32_4_threads'; only products depend on threads."""
    if not depends_on_threads(name):
        return name
    return f"{name}_{threads}_thread{'s' if threads > 1 else ''}"


def _steal_share(before: tuple[float | None, float | None], after: tuple[float | None, float | None]) -> float | None:
    """The share of CPU time between two readings that a hypervisor took."""
    if before[0] is None or after[0] is None or before[1] is None or after[1] is None or after[0] <= before[0]:
        return None
    return (after[1] - before[1]) / (after[0] - before[0])


def pair_of_processes(setting: Setting, environment: Environment) -> float:
    """The log ratio of one pair of processes, time without the setting to time with it: the mean of its blocks."""
    task = setting.task
    without = worker_environment(environment, task.threads, False)
    with (
        neighbour() if setting.with_neighbour else nullcontext(),
        Worker(WORKER, without, limit_s=math.inf) as slow,
        Worker(WORKER, with_change(without, setting.change), limit_s=math.inf) as fast,
    ):
        slowest_s = max(
            worker.call("prepare", kind=task.kind, batch=task.batch, pause=task.threads != 1)["fastest_s"]
            for worker in (slow, fast)
        )
        logs = []
        blocks = BLOCKS if slowest_s < SLOW_S else 1
        for block in range(blocks):
            order = (slow, fast, fast, slow) if block % 2 == 0 else (fast, slow, slow, fast)
            logs += [(1 if w is slow else -1) * math.log(w.call("turn")["seconds"]) / 2 for w in order]
    return sum(logs) / blocks


def measure_gains(
    settings: Sequence[Setting],
    environment: Environment,
    most_pairs: int,
    budget_s: float,
    progress: Progress,
    clock: Clock = perf_counter,
    measure_pair: Callable[[Setting, Environment], float] = pair_of_processes,
) -> list[Gain]:
    """The gain of each setting in an environment, in about budget_s seconds.

    The settings take turns, one pair of processes each, so that a busy minute does not fall on one setting alone.
    Every setting gets two pairs while there is time, and at most most_pairs. Raises whatever `Worker.call` raises.
    """
    found: list[list[float]] = [[] for _ in settings]
    cost_s = [0.0] * len(settings)
    begun = clock()
    for i in range(most_pairs):
        for k, setting in enumerate(settings):
            left_s = budget_s - (clock() - begun)
            is_late = left_s < cost_s[k] if i >= 2 else left_s < 0
            if i > 0 and (is_late or _is_hopeless(found[k])):
                continue
            progress(setting.what, min(1.0, 1 - left_s / budget_s))
            start = clock()
            found[k].append(measure_pair(setting, environment))
            cost_s[k] = clock() - start
    return [gain_of(log_ratios) for log_ratios in found]


def _is_hopeless(log_ratios: Sequence[float]) -> bool:
    return len(log_ratios) >= HOPELESS and max(log_ratios) < math.log(LEAST_GAIN)


def gain_of(log_ratios: Sequence[float]) -> Gain:
    """Median and 95 % interval of pairs' log ratios; one pair has no interval."""
    n = len(log_ratios)
    middle = float(np.median(log_ratios))
    if n < 2:
        return Gain(math.exp(middle), 0.0, math.inf, n)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * float(np.std(log_ratios, ddof=1)) / math.sqrt(n)
    mean = float(np.mean(log_ratios))
    low, high = min(mean - half, middle), max(mean + half, middle)
    return Gain(math.exp(middle), math.exp(low), math.exp(min(high, 700.0)), n)


def with_change(environment: Environment, change: EnvironmentChange) -> dict[str, str]:
    """The environment with variables set, or unset where the value is None."""
    removed = {name for name, value in change if value is None}
    kept = {name: value for name, value in environment.items() if name not in removed}
    return kept | {name: value for name, value in change if value is not None}


@contextmanager
def neighbour() -> Iterator[None]:
    """Keep one core busy with another process for the time of the block."""
    with subprocess.Popen([sys.executable, "-c", NEIGHBOUR], stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield
        finally:
            process.kill()
