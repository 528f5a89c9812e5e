"""The parent's side of the reproductions: workers that are started, asked, and ended whatever happens."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from mlpprof.machine.blas import worker_environment
from mlpprof.process import Progress, Worker
from mlpprof.profile.profile import DEFAULT_THREADS
from mlpprof.profile.request import Request
from mlpprof.results import Race

WORKER = "mlpprof.reproduce.worker"

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Entrant:
    """One contestant of a race: what to run, which part of it, and on how many samples (0: on all).

    call: "step", "whole step", "forward" or "slope", as `worker.Session.race` tells.
    """

    request: Request
    batch: int
    call: str = "step"


@dataclass
class Laboratory:
    """Starts workers in one environment, and remembers the machine as the first of them described it."""

    threads: int | None = DEFAULT_THREADS
    machine: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def worker(self, threads: int | None = None) -> Iterator[Worker]:
        """A worker process, which ends with the block."""
        with Worker(WORKER, worker_environment(os.environ, threads or self.threads, False)) as worker:
            yield worker
            if not self.machine:
                self.machine = worker.call("machine")

    @contextmanager
    def prepared(self, requests: dict[str, Request], progress: Progress) -> Iterator[Worker]:
        """A worker that has loaded the requests under their keys."""
        with self.worker() as worker:
            for key, request in requests.items():
                worker.call("prepare", progress, key=key, request=request.to_json())
            yield worker

    def race(self, entrants: Sequence[Entrant], processes: int, blocks: int, progress: Progress) -> Race:
        """Interleaved blocks of all entrants, in several processes one after the other."""
        turns = []
        names: tuple[str, ...] = ()
        dtypes: tuple[str, ...] = ()
        for process in range(processes):

            def part(what: str, share: float, process: int = process) -> None:
                progress(f"{what} ({process + 1} of {processes})", (process + share) / processes)

            with self.worker() as worker:
                loaded = [
                    worker.call("prepare", part, key=str(i), request=entrant.request.to_json())
                    for i, entrant in enumerate(entrants)
                ]
                calls = [(str(i), entrant.call, entrant.batch) for i, entrant in enumerate(entrants)]
                answer = worker.call("race", part, entrants=calls, blocks=blocks, seed=process)
            turns.append(np.array(answer["step_s"]))
            names = tuple(one["name"] for one in loaded)
            dtypes = tuple(one["dtype"] for one in loaded)
        return Race(names, dtypes, entrants[0].batch, tuple(turns))

    def side_by_side(
        self, tasks: Sequence[Task], work: Callable[[Worker, Task], Result], workers: int, progress: Progress
    ) -> list[Result]:
        """Do tasks in several workers at once, for results that no clock takes part in; in the order of the tasks."""
        done = 0
        with ThreadPoolExecutor(workers) as pool, ExitStack() as stack:
            # Left in reverse order: workers that are ended let the threads that wait for them go.
            idle = [stack.enter_context(self.worker()) for _ in range(workers)]

            def run(task: Task) -> Result:
                nonlocal done
                worker = idle.pop()
                try:
                    return work(worker, task)
                finally:
                    idle.append(worker)
                    done += 1
                    progress(f"{done} of {len(tasks)} trainings", done / len(tasks))

            futures = [pool.submit(run, task) for task in tasks]
            try:
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
