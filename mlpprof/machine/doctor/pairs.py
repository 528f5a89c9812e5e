"""What a setting gives: a fresh process with it and a fresh one without take turns, several such pairs, an interval.

A pair's value is the mean log ratio of its blocks (without, with, with, without), in which linear drift cancels; the
gain is the median of the pairs, its interval Student's t over them. When the first pairs show no gain near 3 %, no
more are made: what cannot become advice need not be known well. Nor are there more than the time allows.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from time import perf_counter

import numpy as np
from scipy.special import stdtrit

from mlpprof.machine.blas import worker_environment
from mlpprof.machine.doctor.records import LEAST_GAIN, Gain, Setting
from mlpprof.machine.doctor.worker import SLOW_S
from mlpprof.process import Progress, Worker

WORKER = "mlpprof.machine.doctor.worker"
PAIRS = 5
QUICK_PAIRS = 3
BLOCKS = 2
HOPELESS = 2
"""After so many pairs without one at the least gain, no more follow."""
CONFIDENCE = 0.95

Environment = Mapping[str, str]
Clock = Callable[[], float]

# Spins until its input closes, which happens also when the parent is killed.
NEIGHBOUR = "import sys, threading\ndef spin():\n    while True: pass\n"
NEIGHBOUR += "threading.Thread(target=spin, daemon=True).start()\nsys.stdin.read()\n"


def measure_gains(
    settings: Sequence[Setting],
    environment: Environment,
    most_pairs: int,
    budget_s: float,
    progress: Progress,
    clock: Clock = perf_counter,
) -> list[Gain]:
    """The gain of each setting over an environment, in about budget_s seconds.

    The settings take turns, a pair of processes each, so that none has all of a busy minute. Every setting gets two
    pairs while there is time, and at most most_pairs. Raises whatever `Worker.call` raises.
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
            found[k].append(_pair(setting, environment))
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


def with_change(environment: Environment, change: Sequence[tuple[str, str | None]]) -> dict[str, str]:
    """The environment with variables set, or unset where the value is None."""
    changed = dict(environment)
    for name, value in change:
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = value
    return changed


def _pair(setting: Setting, environment: Environment) -> float:
    """The log ratio of one pair of processes, time without the setting over time with it: mean of its blocks."""
    task = setting.task
    base = worker_environment(environment, task.threads, False)
    without, changed = with_change(base, setting.beside), with_change(base, setting.change)
    with (
        neighbour() if setting.with_neighbour else nullcontext(),
        Worker(WORKER, without) as slow,
        Worker(WORKER, changed) as fast,
    ):
        slowest_s = 0.0
        for worker in (slow, fast):
            found = worker.call(
                "prepare", kind=task.kind, batch=task.batch, variant=task.variant, pause=task.threads != 1
            )
            slowest_s = max(slowest_s, found["fastest_s"])
        logs = []
        blocks = BLOCKS if slowest_s < SLOW_S else 1
        for block in range(blocks):
            order = (slow, fast, fast, slow) if block % 2 == 0 else (fast, slow, slow, fast)
            logs += [(1 if w is slow else -1) * math.log(w.call("turn")["seconds"]) / 2 for w in order]
    return sum(logs) / blocks


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that keeps one core busy for the time of the block."""
    with subprocess.Popen([sys.executable, "-c", NEIGHBOUR], stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield
        finally:
            process.kill()
