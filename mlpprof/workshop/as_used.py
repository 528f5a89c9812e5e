"""How long a training run takes in a fresh process, from loading the file to the last step.

The race measures warm steps. Whoever uses the code also waits while it is loaded and perhaps compiled.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlpprof.allowance import Allowance, allowing
from mlpprof.catalog import own_modules
from mlpprof.compare.entrants import Environment
from mlpprof.machine.blas import worker_environment
from mlpprof.owned import new_folder
from mlpprof.process import Progress, Worker, serve
from mlpprof.profile.prepare import Loader
from mlpprof.profile.request import Request
from mlpprof.results.json import Message
from mlpprof.workloads import Workload
from mlpprof.workshop.result import AsUsed

MODULE = "mlpprof.workshop.as_used"
STEPS = 100
"""The number of steps of a run, which are five epochs of the workshop's data."""
ROUNDS = 2
"""Each version runs in this many fresh processes, in turns. The shortest run counts, because noise only adds time."""
LONGEST_S = 30.0
"""One process may take this many seconds."""


def train(report: Progress, request: Message, batch: int, steps: int) -> float:
    """In a fresh worker: load a variant, train it, and return the seconds that both took, without loading the data."""
    wanted, loader = Request.from_json(request), Loader()
    loader.prepare(replace(wanted, variant="naive"), report)  # loads mlpprof and the data, which are not the learner's
    begun_s = time.perf_counter()
    prepared = loader.prepare(wanted, report)
    X, Y = prepared.subject.X, prepared.subject.Y
    variant = prepared.subject.make()
    random = np.random.default_rng(wanted.seed)
    with own_modules(prepared.entry):
        for step in range(steps):
            report("training in a fresh process", step / steps)
            variant.train_step(X, Y, random.choice(len(X), batch, replace=False))
    return time.perf_counter() - begun_s


def main() -> None:
    """Answer requests until the parent process ends."""
    serve({train.__name__: train})


def run_s(file: Path, trained: Workload, environment: Environment, progress: Progress) -> float:
    """Train the MLP of a file in a fresh process that finds no compiled code; returns seconds.

    Raises what the learner's code makes a worker raise.
    """
    request = Request(str(file.resolve()), trained.network, trained.source)
    compiled = new_folder("compiled")
    variables = worker_environment(os.environ, environment.threads, environment.native_blas)
    try:
        with (
            allowing(Allowance(processor_s=LONGEST_S, wall_s=LONGEST_S)),
            Worker(MODULE, variables | {"NUMBA_CACHE_DIR": compiled}) as worker,
        ):
            found: float = worker.call("train", progress, request=request.to_json(), batch=trained.batch, steps=STEPS)
            return found
    finally:
        shutil.rmtree(compiled, ignore_errors=True)


def measure_as_used(start: Path, mine: Path, run: Callable[[Path], float]) -> AsUsed:
    """Run the start of an exercise and the learner's file in turns. run: trains a file, and returns the seconds."""
    times = [(run(start), run(mine)) for _ in range(ROUNDS)]
    return AsUsed(STEPS, min(slow for slow, _ in times), min(own for _, own in times))
