"""One replicate of a race: its entrants, ready in their workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpprof.compare.entrants import Entrant, ProgramSubject, all_threads, by_worker, worker_for
from mlpprof.compare.race import FEWEST_BLOCKS, INSTANCE_S, TRIES, TURN_S, Turns, race
from mlpprof.errors import MissingExtra, MlpprofError, UnsupportedNetwork, WorkerDied
from mlpprof.instrument.clocks import Clock
from mlpprof.process import Progress, Worker

StartWorker = Callable[[Sequence[Entrant]], Worker]
"""Starts the worker of entrants that share one."""


@dataclass(frozen=True)
class Loaded:
    """What an entrant is, as its worker reports it; compiles: its first run compiles it."""

    dtype: str
    spans_steps: bool
    compiles: bool


@dataclass(frozen=True)
class FirstRun:
    """How long an entrant's first run took, in which it compiles if it compiles, and the library that it runs on."""

    first_s: float
    engine: str


class EntrantDied(WorkerDied):
    """The worker of an entrant has ended without an answer."""

    def __init__(self, message: str, variant: str) -> None:
        super().__init__(message)
        self.variant = variant


class Replicate:
    """All entrants of one replicate, ready in their workers; a context manager that leaves no process behind.

    shared: folder for the samples, which one worker makes and the others read. absent: why an entrant cannot take part.
    """

    def __init__(self, entrants: Sequence[Entrant], shared: str | None = None, start: StartWorker = worker_for) -> None:
        self.entrants = tuple(entrants)
        self._shared = shared
        self._start = start
        self._opened = ExitStack()
        self._worker_of: dict[int, Worker] = {}
        self.loaded: dict[int, Loaded] = {}
        self.first_runs: dict[int, FirstRun] = {}
        self.absent: dict[int, MlpprofError] = {}

    def __enter__(self) -> Replicate:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def open(self, progress: Progress) -> None:
        """Start the workers and load the entrants, several at a time; those that cannot do the network are absent.

        Raises EntrantDied, and what the code of an entrant raises.
        """
        # Entered first, so that it is left last: when the workers are gone, no thread waits for one any more.
        pool = self._opened.enter_context(ThreadPoolExecutor(max_workers=max(2, all_threads())))
        groups = by_worker(self.entrants)
        for group in groups.copy():
            try:
                worker = self._opened.enter_context(self._start([self.entrants[place] for place in group]))
            except MissingExtra as reason:
                self.absent.update(dict.fromkeys(group, reason))
                groups.remove(group)
            else:
                self._worker_of.update(dict.fromkeys(group, worker))
        progress("loading", 0.0)
        # One worker makes the samples ready, and the others read them; programs have their own, and may load for long.
        programs = all(isinstance(entrant.subject, ProgramSubject) for entrant in self.entrants)
        for some in (groups,) if programs else (groups[:1], groups[1:]):
            for future in [pool.submit(self._load, group) for group in some]:
                future.result()

    def run_first(self, progress: Progress) -> None:
        """Let every entrant run once, one after the other, since the time is reported."""
        for place in sorted(self.loaded):
            progress(f"first run of {self.entrants[place].name}", 0.0)
            try:
                self.first_runs[place] = FirstRun(**self.call(place, "first_run"))
            except UnsupportedNetwork as reason:  # some see only in the first step that they cannot
                self.absent[place] = reason
                del self.loaded[place]

    def call(self, place: int, name: str, progress: Progress | None = None, **arguments: Any) -> Any:
        """Have the worker of an entrant do something; raises EntrantDied."""
        try:
            return self._worker_of[place].call(name, progress, key=place, **arguments)
        except WorkerDied as death:
            entrant = self.entrants[place]
            raise EntrantDied(f"{entrant.name}: {death}", entrant.subject.variant) from death

    def losses(self, place: int, steps: int) -> list[float]:
        """The losses of a fresh instance in its first steps; a slow one makes fewer steps, but two at least."""
        found: list[float] = self.call(place, "losses", steps=steps)["losses"]
        return found

    def race(
        self,
        places: Sequence[int],
        blocks: int,
        seed: int,
        progress: Progress,
        turn_s: float = TURN_S,
        instances: int | None = None,
        rarely: Collection[int] = (),
    ) -> Turns:
        """Race the entrants at these places: within their worker if they share one, else from worker to worker.

        instances: within a worker, they are made anew so many times, and race for so many blocks each time; from worker
        to worker there are as many blocks. None: they race as they are. rarely: places of entrants of one worker that
        take part in few blocks.
        """
        workers = {id(self._worker_of[place]) for place in places}
        if len(workers) > 1:
            programs = all(isinstance(self.entrants[place].subject, ProgramSubject) for place in places)
            left = (lambda: self._left(places)) if programs else None
            steppers = [_Remote(self, place, 1 if instances is None else TRIES) for place in places]
            if instances is None:
                return race(steppers, blocks, seed, progress, turn_s=turn_s, left=left)
            limit_s, fewest = instances * INSTANCE_S, instances * FEWEST_BLOCKS
            return race(
                steppers, instances * blocks, seed, progress, turn_s=turn_s, left=left, limit_s=limit_s, fewest=fewest
            )
        worker = self._worker_of[places[0]]
        renewed: dict[str, Any] = {} if instances is None else {"instances": instances}
        if rarely:
            renewed["rarely"] = [i for i, place in enumerate(places) if place in rarely]
        answer = worker.call("race", progress, keys=list(places), blocks=blocks, seed=seed, turn_s=turn_s, **renewed)
        return np.array(answer["turns_s"])

    def _left(self, places: Sequence[int]) -> float:
        """How many more steps all of these programs can make."""
        known = [self.call(place, "left") for place in places]
        return min((float(left) for left in known if left is not None), default=math.inf)

    def dismiss(self, places: Sequence[int]) -> None:
        """Leave out these entrants, and end the workers that nobody else lives in."""
        for place in places:
            del self.loaded[place]
        staying = {id(self._worker_of[place]) for place in self.loaded}
        for place in places:
            if id(self._worker_of[place]) not in staying:
                self._worker_of[place].close()

    def _load(self, places: Sequence[int]) -> None:
        for place in places:
            subject = self.entrants[place].subject.to_json()
            try:
                self.loaded[place] = Loaded(**self.call(place, "load", subject=subject, shared=self._shared))
            except (MissingExtra, UnsupportedNetwork) as reason:
                self.absent[place] = reason


class _Remote:
    """An entrant in a worker of its own; the clock is the worker's."""

    def __init__(self, replicate: Replicate, place: int, tries: int) -> None:
        self._replicate = replicate
        self._place = place
        self._tries = tries

    def warm_up(self, clock: Clock) -> float:
        """Run until the time settles."""
        return float(self._replicate.call(self._place, "warm_up"))

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a run, while all others sleep."""
        again: dict[str, Any] = {} if self._tries == 1 else {"tries": self._tries}
        return float(self._replicate.call(self._place, "turn", runs=runs, **again))

    def close(self) -> None:
        """The worker ends with the replicate."""
