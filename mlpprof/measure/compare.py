"""`compare` and `ladder` from the outside: processes are started until the verdict is clear.

A process is one replicate: it loads both variants, warms them up, and races them in interleaved blocks. What differs
between processes (memory layout, the core, the neighbours of the moment) is part of the spread that the verdict sees.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpprof.errors import CheckFailed
from mlpprof.machine.blas import worker_environment
from mlpprof.measure.messages import decode_batch_result
from mlpprof.measure.profile import WORKER
from mlpprof.measure.request import Request
from mlpprof.measure.waterfall import waterfall
from mlpprof.process import Progress, Worker
from mlpprof.results import Change, CheckResult, Race, Verdict
from mlpprof.stats import ACROSS_PROCESSES, Decision, NullResult, Procedure, decide, null_bias, replicate_log_ratio

BLOCKS = 8
"""Blocks of one process: enough for a median that single outliers do not move."""
WATERFALL_STEPS = 60
"""Timed steps a pass for the attribution of a difference."""
UNGATED_PROCESSES = 5


@dataclass(frozen=True)
class RaceSettings:
    """How a race is run. budget_s: no new process is started after so many seconds; None for no limit."""

    threads: int | None
    native_blas: bool
    budget_s: float | None = None

    def environment(self) -> dict[str, str]:
        """Of every worker."""
        return worker_environment(os.environ, self.threads, self.native_blas)


class Racer:
    """Runs processes of one race, one after the other, and keeps their turns.

    requests: one for each variant; two of the same variant make an A/A race.
    """

    def __init__(self, requests: Sequence[Request], batch: int, settings: RaceSettings, seed: int = 0) -> None:
        self._requests = tuple(requests)
        self._batch = batch
        self._settings = settings
        self._seed = seed
        self._turns: list[NDArray[np.float64]] = []
        self._opened: dict[str, Any] = {}
        self._dtypes: tuple[str, ...] = ()
        self._names: tuple[str, ...] = ()

    def run(self, progress: Progress) -> NDArray[np.float64]:
        """One more process; its turns (blocks, variants, 2) in seconds a step."""
        with self._worker(progress) as worker:
            answer = worker.call(
                "race",
                progress,
                variants=[request.variant for request in self._requests],
                batch=self._batch,
                blocks=BLOCKS,
                seed=self._seed + len(self._turns),
            )
        self._turns.append(np.array(answer["step_s"]))
        return self._turns[-1]

    def check(self, progress: Progress) -> None:
        """Raise CheckFailed unless every variant is right and all agree on this network and data."""
        with self._worker(progress) as worker:
            for request in dict.fromkeys(self._requests):
                checked = CheckResult(**worker.call("quick_check", progress, variant=request.variant))
                if checked.ok is False:
                    raise CheckFailed(f"{checked.message}; nothing was timed (mlpprof check shows more)")
            first = self._requests[0]
            for request in self._requests[1:]:
                agreed = CheckResult(**worker.call("agreement", progress, variant=request.variant, other=first.variant))
                if not agreed.ok:
                    raise CheckFailed(f"{agreed.message}; nothing was timed")

    def waterfall(self, progress: Progress) -> tuple[Change, ...]:
        """Where the difference between the first and the last variant lies, from instrumented passes."""
        with self._worker(progress) as worker:
            old, new = (
                decode_batch_result(
                    worker.call(
                        "profile", progress, variant=r.variant, batch=self._batch, steps=self._waterfall_steps(i)
                    )
                )
                for i, r in ((0, self._requests[0]), (len(self._requests) - 1, self._requests[-1]))
            )
        race = self.race()
        return waterfall(old, new, race.step_s(0), race.step_s(len(self._requests) - 1))

    def race(self) -> Race:
        """All processes so far."""
        return Race(self._names, self._dtypes, self._batch, tuple(self._turns))

    @property
    def machine(self) -> dict[str, Any]:
        """The machine as the first worker described it."""
        described: dict[str, Any] = self._opened["machine"]
        return described

    @contextmanager
    def _worker(self, progress: Progress) -> Iterator[Worker]:
        with Worker(WORKER, self._settings.environment()) as worker:
            for request in dict.fromkeys(self._requests):
                answer = worker.call("prepare", progress, request=request.to_json())
                if not self._opened:
                    self._opened = answer
                self._remember(request, answer)
            yield worker

    def _remember(self, request: Request, answer: Mapping[str, Any]) -> None:
        if len(self._names) < len(self._requests):
            count = self._requests.count(request)
            self._names += (answer["variant"]["name"],) * count
            self._dtypes += (answer["dtype"],) * count

    def _waterfall_steps(self, i: int) -> int | None:
        """As many steps as a slow variant allows: None lets the worker choose."""
        return WATERFALL_STEPS if self.race().step_s(i) * WATERFALL_STEPS * 3 < 3.0 else None


def log_ratios(race: Race, old: int, new: int) -> NDArray[np.float64]:
    """The replicates of old over new, (processes,): of each process the median of its blocks' mean log ratios.

    A block in which one of the two sat out is no block of this pair.
    """
    replicates = []
    for turns in race.turns_s:
        pair = turns[:, [old, new]]
        pair = pair[~np.isnan(pair).any(axis=(1, 2))]
        replicates.append(replicate_log_ratio(pair[:, 0], pair[:, 1]))
    return np.array(replicates)


def gate(
    racer: Racer,
    at_least: float,
    settings: RaceSettings,
    null: Callable[[], NullResult],
    progress: Progress,
    procedure: Procedure = ACROSS_PROCESSES,
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """Start processes until the claim "old over new is at_least" passes or fails, the looks or the budget run out.

    null: asked only before a FAIL is pronounced; where it is biased, the outcome is inconclusive.
    """
    begun = clock()
    most = procedure.looks[-1]
    decision: Decision | None = None
    for n in range(1, most + 1):
        racer.run(_part(progress, n - 1, most))
        if n not in procedure.looks:
            if _over(settings, clock() - begun, n):
                break
            continue
        decision = decide(log_ratios(racer.race(), 0, 1), at_least, procedure)
        if decision.outcome != "continue" or _over(settings, clock() - begun, n):
            break
    return _verdict(racer, at_least, decision, null, procedure, settings)


def _part(progress: Progress, done: int, of: int) -> Progress:
    def part(what: str, share: float) -> None:
        progress(f"process {done + 1}: {what}", (done + share) / of)

    return part


def _over(settings: RaceSettings, elapsed_s: float, done: int) -> bool:
    """Whether one more process, as long as the ones so far, would go over the budget."""
    return settings.budget_s is not None and elapsed_s * (done + 1) / done > settings.budget_s
