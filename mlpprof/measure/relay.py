"""A race between processes: entrants that cannot share one environment pass a token.

Every entrant lives in a worker of its own, with its own BLAS threads, or shares one with entrants of the same
environment. The blocks are those of a race in one process (ABBA, or any order and its reverse); only that a turn is a
call to the worker whose entrant it is, while all others sleep. One set of processes is one replicate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpprof.errors import MissingExtra, UnsupportedNetwork, WorkerDied
from mlpprof.instrument.phases import Clock
from mlpprof.machine.container import cpu_quota
from mlpprof.machine.cpu import affinity
from mlpprof.measure.race import TURN_S, race
from mlpprof.measure.racers import Environment, Turns
from mlpprof.measure.request import Request
from mlpprof.model.team import WORKERS_VARIABLE
from mlpprof.process import Progress, Worker

RESIDENT = "mlpprof.measure.resident"

ONE_THREAD = Environment(1, native_blas=True)

StartWorker = Callable[["Entrant"], Worker]


def all_threads() -> int:
    """As many threads as this process may run at once: by its affinity and its container's quota."""
    cpus = affinity()
    count = len(cpus) if cpus else os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, count if quota is None else min(count, int(quota)))


SHARING = (
    "threaded",
    "processes",
    "feature_shards",
    "neuron_shards",
    "fused_neuron_shards",
    "compiled_processes",
    "compiled_feature_shards",
)
"""The variants that share a step among workers, whose number is a setting; but for `mpi`, which starts its own."""


def worker_counts() -> list[int]:
    """Numbers of workers that are tried: all processors, and half of them."""
    return list(dict.fromkeys((all_threads(), max(1, all_threads() // 2))))


def with_workers(count: int) -> Environment:
    """For a variant that shares a step among so many workers, each with one BLAS thread."""
    return Environment(1, native_blas=True, variables=((WORKERS_VARIABLE, str(count)),))


@dataclass(frozen=True)
class Entrant:
    """One that takes part: a variant in an environment, with some constants of its file replaced.

    apart: it gets a process of its own, even where others have the same environment.
    """

    request: Request
    environment: Environment = ONE_THREAD
    constants: Mapping[str, int] = field(default_factory=dict)
    apart: bool = True

    @property
    def variant(self) -> str:
        """The variant's name: of a file without folder and ending, unless the request has one."""
        if self.request.name is not None:
            return self.request.name
        file, is_file, _ = self.request.variant.partition(".py")
        return Path(file).name if is_file else file

    @property
    def name(self) -> str:
        """'chunked', or 'chunked ROWS=250, 4 threads', or 'processes, 4 workers', where it is not as it comes."""
        words = [self.variant, *(f"{key}={value}" for key, value in self.constants.items())]
        threads = self.environment.threads
        workers = dict(self.environment.variables).get(WORKERS_VARIABLE)
        return (
            " ".join(words)
            + ("" if threads == 1 else f", {'all' if threads is None else threads} threads")
            + ("" if workers is None else f", {workers} workers")
        )


@dataclass(frozen=True)
class Entered:
    """What an entrant's worker told when it was ready; first_s: its first run, in which it compiles if it compiles."""

    dtype: str
    engine: str
    first_s: float
    spans_steps: bool
    compiles: bool


def start_resident(entrant: Entrant) -> Worker:
    """A worker that keeps this entrant ready, and others of its environment."""
    return entrant.environment.worker([entrant.request.variant], RESIDENT)


class EntrantDied(WorkerDied):
    """The worker of an entrant has ended without an answer."""

    def __init__(self, message: str, variant: str) -> None:
        super().__init__(message)
        self.variant = variant


class RemoteContestant:
    """An entrant of a race, in a worker; the clock is the worker's own."""

    def __init__(self, relay: Relay, place: int) -> None:
        self._relay = relay
        self._place = place

    def warm_up(self, clock: Clock) -> float:
        """Run until the time settles."""
        return float(self._relay.call(self._place, "warm"))

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a run, while all others sleep."""
        return float(self._relay.call(self._place, "turn", runs=runs))


class Relay:
    """All entrants of one replicate, ready in their workers; a context manager that leaves no process behind.

    steps: of the epoch that a run is; None where a run is a single step. shared: folder for the samples, which one
    worker makes and the others read.
    """

    def __init__(
        self,
        entrants: Sequence[Entrant],
        batch: int,
        steps: int | None = None,
        shared: str | None = None,
        start: StartWorker = start_resident,
    ) -> None:
        self.entrants = tuple(entrants)
        self._batch = batch
        self._steps = steps
        self._shared = shared
        self._start = start
        self._opened = ExitStack()
        self._worker_of: dict[int, Worker] = {}
        self.entered: dict[int, Entered] = {}
        self.absent: dict[int, str] = {}

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def open(self, progress: Progress) -> None:
        """Start the workers and let everybody enter, several at a time; who cannot do the network is absent.

        Raises EntrantDied, and what its code raises.
        """
        # Entered first, so that it is left last: when the workers are gone, no thread waits for one any more.
        pool = self._opened.enter_context(ThreadPoolExecutor(max_workers=max(2, all_threads())))
        groups = self._groups()
        for group in groups.copy():
            try:
                worker = self._opened.enter_context(self._start(self.entrants[group[0]]))
            except MissingExtra as reason:
                self.absent.update(dict.fromkeys(group, str(reason)))
                groups.remove(group)
            else:
                self._worker_of.update(dict.fromkeys(group, worker))
        progress("starting the entrants", 0.0)
        # One worker makes the samples ready, and the others read them.
        for places in (groups[:1], groups[1:]):
            for future in [pool.submit(self._load_group, group) for group in places]:
                future.result()
        # One after the other, since the time to compile is told.
        for place in [place for place in range(len(self.entrants)) if place not in self.absent]:
            progress(f"first run of {self.entrants[place].name}", 0.0)
            self._enter(place)

    def call(self, place: int, name: str, **arguments: Any) -> Any:
        """Have the entrant's worker do something; raises EntrantDied."""
        try:
            return self._worker_of[place].call(name, place=place, **arguments)
        except WorkerDied as death:
            entrant = self.entrants[place]
            raise EntrantDied(f"{entrant.name}: {death}", entrant.variant) from death

    def losses(self, place: int, steps: int) -> list[float]:
        """The losses of a fresh instance over its first steps; of a slow one fewer, but two at least."""
        found: list[float] = self.call(place, "losses", batch=self._batch, steps=steps)["losses"]
        return found

    def race(self, places: Sequence[int], blocks: int, seed: int, progress: Progress, turn_s: float = TURN_S) -> Turns:
        """Interleaved blocks of the entrants at these places, (blocks, len(places), 2) seconds a run."""
        return race([RemoteContestant(self, place) for place in places], blocks, seed, progress, turn_s=turn_s)

    def dismiss(self, places: Sequence[int]) -> None:
        """End the workers that only these entrants live in."""
        staying = {id(self._worker_of[place]) for place in self.entered if place not in places}
        for place in places:
            if id(self._worker_of[place]) not in staying:
                self._worker_of[place].close()

    def _groups(self) -> list[list[int]]:
        """Places by worker: those that are apart alone, the others by environment."""
        shared: dict[Environment, list[int]] = {}
        groups = []
        for place, entrant in enumerate(self.entrants):
            if entrant.apart:
                groups.append([place])
            elif entrant.environment in shared:
                shared[entrant.environment].append(place)
            else:
                shared[entrant.environment] = [place]
                groups.append(shared[entrant.environment])
        return groups

    def _load_group(self, places: Sequence[int]) -> None:
        for place in places:
            entrant = self.entrants[place]
            constants = dict(entrant.constants)
            try:
                self.call(place, "load", request=entrant.request.to_json(), constants=constants, shared=self._shared)
            except (MissingExtra, UnsupportedNetwork) as reason:
                self.absent[place] = str(reason)

    def _enter(self, place: int) -> None:
        try:
            told = self.call(place, "enter", batch=self._batch, steps=self._steps)
        except UnsupportedNetwork as reason:  # some see only in the first step that they cannot
            self.absent[place] = str(reason)
        else:
            self.entered[place] = Entered(**told)
