"""The parent's side of the reproductions: races and workers, started in one environment and ended whatever happens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from mlpprof.compare.entrants import Entrant, Environment, VariantSubject, worker_for
from mlpprof.compare.live_race import ProcessRace
from mlpprof.compare.verdict import add_replicates
from mlpprof.process import Progress, Worker
from mlpprof.profile.request import Request
from mlpprof.profile.variant import DEFAULT_THREADS
from mlpprof.results import Race

WORKER = "mlpprof.reproduce.worker"

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass
class Laboratory:
    """Starts workers, and remembers the machine as the first of them described it."""

    machine: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def worker(self, threads: int = DEFAULT_THREADS) -> Iterator[Worker]:
        """A worker process, which ends with the block."""
        with Environment(threads).worker(module=WORKER, limit_s=math.inf) as worker:
            yield worker
            if not self.machine:
                self.machine = worker.call("machine")

    @contextmanager
    def prepared(self, requests: dict[str, Request], progress: Progress) -> Iterator[Worker]:
        """A worker that has loaded the requests under their keys."""
        with self.worker() as worker:
            for key, request in requests.items():
                load(worker, key, request, progress)
            yield worker

    def race(self, subjects: Sequence[VariantSubject], processes: int, blocks: int, progress: Progress) -> Race:
        """Race all subjects in one process, and in several such processes one after the other."""
        environment = Environment(DEFAULT_THREADS)
        entrants = [[Entrant(subject, environment, "shared")] for subject in subjects]
        live = ProcessRace(entrants, blocks=blocks, start=partial(worker_for, module=WORKER, limit_s=math.inf))
        add_replicates(live, processes, progress)
        self.machine = self.machine or dict(live.described["machine"])
        return live.race()

    def side_by_side(
        self, tasks: Sequence[Task], work: Callable[[Worker, Task], Result], workers: int, progress: Progress
    ) -> list[Result]:
        """Do tasks in several workers at once, for results that are not times; they come in the order of the tasks."""
        done = 0
        with ThreadPoolExecutor(workers) as pool, ExitStack() as stack:
            # The pool is left last: when the workers are gone, no thread waits for one any more.
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


def load(worker: Worker, key: str, request: Request, progress: Progress | None = None) -> None:
    """Have a worker load a variant and its data under a key."""
    worker.call("load", progress, key=key, subject=VariantSubject(request, 0).to_json())
