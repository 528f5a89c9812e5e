"""Record the noise of real training steps: the same variant as A and as B, in fresh processes, one thread each.

There are two conditions. In one, the machine is as it is. In the other, a second process is pinned to the same
processor, and is busy and idle in turn for random times, so that timings fall into two modes.
"""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from mlpprof import catalog
from mlpprof.errors import UsageError
from mlpprof.files import write_atomically
from mlpprof.model import Array
from mlpprof.workloads import DEFAULT_WORKLOAD, WORKLOADS
from reports.verdicts.noise import CONDITIONS, UNDISTURBED

ORDERS = np.array([[True, False, False, True], [False, True, True, False]])
"""The orders ABBA and BAAB; True stands for A."""
VARIANT = "sliced"
SAMPLES = 2000
BATCH = 100
TIMING_S = 0.015
"""The step is repeated until a timing takes at least this long."""
WARMUP_S = 0.3
PROCESSES = 20
BLOCKS = 15
"""A condition has 20 processes of 15 blocks: 1,200 timings of 15 ms or more, in about half a minute."""
SPELL_S = 0.1
"""The second process is busy or idle for exponentially distributed times with this mean."""


def record(path: Path, report: Callable[[str, float], None], processes: int = PROCESSES, blocks: int = BLOCKS) -> None:
    """Write the timings of both conditions to an .npz file.

    timings_s: (conditions, processes, blocks, 4), seconds, float32, in the order of time.
    is_a: (conditions, processes, blocks, 4), which of the four ran instance A; ABBA or BAAB at random.
    Raises UsageError if a process cannot be pinned to a processor.
    """
    if not hasattr(psutil.Process(), "cpu_affinity"):
        raise UsageError("this system cannot pin a process to a processor; record on Linux or Windows")
    processors = psutil.Process().cpu_affinity()
    timings_s = np.empty((len(CONDITIONS), processes, blocks, 4), dtype=np.float32)
    is_a = np.empty(timings_s.shape, dtype=bool)
    context = multiprocessing.get_context("spawn")
    for i, condition in enumerate(CONDITIONS):
        allowed = processors if condition == UNDISTURBED else processors[-1:]
        burning = nullcontext() if condition == UNDISTURBED else _burner(allowed)
        # Every task gets a fresh process, because a replicate is one.
        pool = ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1)
        with burning, pool:
            for j in range(processes):
                report(f"recording: {condition}", (i + j / processes) / len(CONDITIONS))
                timings_s[i, j], is_a[i, j] = pool.submit(_timings, allowed, blocks, seed=j).result()
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, timings_s=timings_s, is_a=is_a)


def _timings(processors: list[int], blocks: int, seed: int) -> tuple[Array, Array]:
    """In a fresh process, time all blocks: seconds (blocks, 4), and which of them were A."""
    psutil.Process().cpu_affinity(processors)
    rng = np.random.default_rng(seed)
    orders = ORDERS[rng.integers(2, size=blocks)]
    network = WORKLOADS[DEFAULT_WORKLOAD].network
    cls = catalog.load(catalog.find(VARIANT))
    X = rng.random((SAMPLES, network.layers[0]), dtype=np.float32)
    Y = np.eye(network.layers[-1], dtype=np.float32)[rng.integers(network.layers[-1], size=SAMPLES)]
    index = rng.permutation(SAMPLES)[:BATCH]
    # The order in which the two are made, and with it their place in memory, is random.
    instances = {a: cls(network, network.initial_parameters(0)) for a in rng.permutation([True, False])}

    def seconds(a: bool, steps: int) -> float:
        train_step = instances[a].train_step
        start = perf_counter()
        for _ in range(steps):
            train_step(X, Y, index)
        return perf_counter() - start

    timings_s = np.empty((blocks, 4))
    with threadpool_limits(1):
        begun = perf_counter()
        fastest_s = math.inf
        while perf_counter() - begun < WARMUP_S:
            fastest_s = min(fastest_s, seconds(True, 1), seconds(False, 1))
        steps = math.ceil(TIMING_S / fastest_s)
        gc.disable()
        for block, order in enumerate(orders):
            timings_s[block] = [seconds(bool(a), steps) for a in order]
    return timings_s, orders


@contextmanager
def _burner(processors: list[int]) -> Iterator[None]:
    """Run a process that shares the processor while the block runs."""
    process = multiprocessing.get_context("spawn").Process(target=_burn, args=(processors, os.getpid()), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _burn(processors: list[int], parent: int) -> None:
    """Be busy and idle in turn, until the process is killed or its parent has ended."""
    psutil.Process().cpu_affinity(processors)
    rng = np.random.default_rng(0)
    while os.getppid() == parent:
        end = perf_counter() + rng.exponential(SPELL_S)
        while perf_counter() < end:
            pass
        time.sleep(rng.exponential(SPELL_S))
