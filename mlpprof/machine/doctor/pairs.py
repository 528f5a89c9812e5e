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
from contextlib import ExitStack, contextmanager
from time import perf_counter

import numpy as np
from scipy.special import stdtrit

from mlpprof.machine.blas import worker_environment
from mlpprof.machine.doctor.records import LEAST_GAIN, Gain, Setting
from mlpprof.process import Progress, Worker

WORKER = "mlpprof.machine.doctor.worker"
PAIRS = 5
QUICK_PAIRS = 3
BLOCKS = 3
HOPELESS = 2
"""After so many pairs without one at the least gain, no more follow."""
CONFIDENCE = 0.95

Environment = Mapping[str, str]
Clock = Callable[[], float]

# Spins until its input closes, which happens also when the parent is killed.
NEIGHBOUR = "import sys, threading\ndef spin():\n    while True: pass\n"
NEIGHBOUR += "threading.Thread(target=spin, daemon=True).start()\nsys.stdin.read()\n"


def measure_gain(
    setting: Setting, environment: Environment, pairs: int, budget_s: float, progress: Progress, clock: Clock = perf_counter
) -> Gain:
    """The gain of a setting over an environment, from at most so many pairs, and in about budget_s seconds.

    Raises whatever `Worker.call` raises.
    """
    base = worker_environment(environment, setting.task.threads, False)
    without, changed = with_change(base, setting.beside), with_change(base, setting.change)
    found: list[float] = []
    begun = clock()
    with neighbour() if setting.with_neighbour else ExitStack():
        for i in range(pairs):
            progress(setting.what, i / pairs)
            found.append(_pair(setting, without, changed, budget_s / pairs, clock))
            spent_s = clock() - begun
            is_hopeless = i + 1 >= HOPELESS and max(found) < math.log(LEAST_GAIN)
            if is_hopeless or spent_s * (i + 2) / (i + 1) > budget_s:
                break
    return gain_of(found)


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


def _pair(setting: Setting, without: Environment, changed: Environment, budget_s: float, clock: Clock) -> float:
    """The log ratio of one pair of processes, time without the setting over time with it: median of its blocks."""
    task, begun = setting.task, clock()
    with Worker(WORKER, without) as slow, Worker(WORKER, changed) as fast:
        for worker in (slow, fast):
            worker.call("prepare", kind=task.kind, batch=task.batch, variant=task.variant)
        blocks = []
        for block in range(BLOCKS):
            order = (slow, fast, fast, slow) if block % 2 == 0 else (fast, slow, slow, fast)
            seconds: dict[int, list[float]] = {id(slow): [], id(fast): []}
            for worker in order:
                seconds[id(worker)].append(worker.call("turn")["seconds"])
            logs = {key: sum(math.log(s) for s in values) / len(values) for key, values in seconds.items()}
            blocks.append(logs[id(slow)] - logs[id(fast)])
            if clock() - begun > budget_s:
                break
    return float(np.median(blocks))


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that keeps one core busy for the time of the block."""
    with subprocess.Popen([sys.executable, "-c", NEIGHBOUR], stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield
        finally:
            process.kill()
