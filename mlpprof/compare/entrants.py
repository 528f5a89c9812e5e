"""A race between processes: entrants that cannot share one environment pass a token.

Every entrant lives in a worker of its own, with its own BLAS threads, or shares one with entrants of the same
environment. The blocks are those of a race in one process (ABBA, or any order and its reverse); only that a turn is a
call to the worker whose entrant it is, while all others sleep. One set of processes is one replicate.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlpprof.compare.race import TURN_S, CallableContestant, FunctionReference, race
from mlpprof.compare.waterfall import waterfall
from mlpprof.engines.team import WORKERS_VARIABLE
from mlpprof.errors import CheckFailed, MissingExtra, UnsupportedNetwork, UsageError, WorkerDied
from mlpprof.instrument.clocks import Clock
from mlpprof.machine.blas import worker_environment
from mlpprof.machine.linux import affinity, cpu_quota
from mlpprof.model import Network
from mlpprof.model.gradcheck import SINGLE_PRECISION_FACTOR, TRAJECTORY_TOLERANCE
from mlpprof.process import Progress, Worker
from mlpprof.profile.profile import DEFAULT_THREADS, WORKER, mpiexec_for, start_worker
from mlpprof.profile.request import Request
from mlpprof.results import Change, CheckResult, Race
from mlpprof.results.json import decode_batch_result

# What a verdict rests on: replicates of a race, each from a process of its own where that is possible.
#
# A process is one replicate: it loads the contestants, warms them up, and races them in interleaved blocks. What
# differs
# between processes (memory layout, the core, the neighbours of the moment) is part of the spread that the verdict sees.


BLOCKS = 8
"""Blocks of one replicate: enough for a median that single outliers do not move."""
WATERFALL_STEPS = 60
"""Timed steps a pass for the attribution of a difference."""
WATERFALL_S = 3.0
"""Where so many steps would take longer than this, the worker chooses how many."""

FRAMEWORKS = "peers/"
"""How the names of the variants begin that are frameworks."""

Turns = NDArray[np.float64]


@dataclass(frozen=True)
class Environment:
    """Of the processes of a race: BLAS threads (None: as it comes) and whether kernel pins are cleared.

    variables: further ones to set, as (name, value), such as MLPPROF_WORKERS.
    """

    threads: int | None = DEFAULT_THREADS
    native_blas: bool = False
    variables: tuple[tuple[str, str], ...] = ()

    def worker(self, variants: Iterable[str], module: str = WORKER) -> Worker:
        """A new worker in this environment, for these variants; module: its program."""
        environment = worker_environment(os.environ, self.threads, self.native_blas) | dict(self.variables)
        return start_worker(module, environment, variants)


class Racer(Protocol):
    """Something that can add one more replicate to a race."""

    def run(self, progress: Progress) -> None:
        """Add one replicate."""

    def race(self) -> Race:
        """All replicates so far."""


class VariantRacer:
    """Variants on one network and data; every replicate is a worker process.

    requests: one for each variant, the oldest first; the same one twice makes an A/A race. check: the first process
    checks before it races that every variant is right and that all agree on this network and data. blocks: of every
    replicate. Raises UsageError for a framework beside others: they share no process.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        batch: int,
        environment: Environment,
        check: bool = False,
        blocks: int = BLOCKS,
    ) -> None:
        self._requests = tuple(requests)
        frameworks = [one.variant for one in requests if one.variant.startswith(FRAMEWORKS)]
        if frameworks and len({one.variant for one in requests}) > 1:
            raise UsageError(
                f"'{frameworks[0]}' is a framework and shares no process with others; use mlpprof compare, or peers"
            )
        self._check = check
        self._blocks = blocks
        self._batch = batch
        self._environment = environment
        self._turns: list[Turns] = []
        self._opened: dict[str, Mapping[str, Any]] = {}
        self._described: Mapping[str, Any] = {}
        self._shared = tempfile.mkdtemp(prefix="mlpprof-race-")
        weakref.finalize(self, shutil.rmtree, self._shared, ignore_errors=True)

    def run(self, progress: Progress) -> None:
        """One more process; raises CheckFailed if a variant turns out to be wrong."""
        with self._worker(progress) as worker:
            if self._check and not self._turns:
                self._require_equivalence(worker, progress)
            answer = worker.call(
                "race",
                progress,
                variants=[request.variant for request in self._requests],
                batch=self._batch,
                blocks=self._blocks,
                seed=self._requests[0].seed + len(self._turns),
            )
        self._turns.append(np.array(answer["step_s"]))

    def open(self, progress: Progress) -> None:
        """Load everything once, and check it if so asked, without racing; raises what is refused or wrong."""
        with self._worker(progress) as worker:
            if self._check:
                self._require_equivalence(worker, progress)

    def race(self) -> Race:
        """All processes so far."""
        opened = [self._opened[request.variant] for request in self._requests]
        return Race(
            variants=tuple(answer["variant"]["name"] for answer in opened),
            dtypes=tuple(answer["dtype"] for answer in opened),
            batch=self._batch,
            turns_s=tuple(self._turns),
            trained=tuple(dict.fromkeys(answer["variant"]["name"] for answer in opened if answer["spans_steps"])),
        )

    def _require_equivalence(self, worker: Worker, progress: Progress) -> None:
        first, *others = dict.fromkeys(request.variant for request in self._requests)
        for name in (first, *others):
            _require(worker.call("quick_check", progress, variant=name))
        for name in others:
            _require(worker.call("agreement", progress, variant=name, other=first))

    def waterfall(self, progress: Progress) -> tuple[Change, ...]:
        """Where the difference between the first and the last variant lies, from instrumented passes."""
        race = self.race()
        ends = (0, len(self._requests) - 1)
        with self._worker(progress) as worker:
            old, new = (
                decode_batch_result(
                    worker.call(
                        "profile",
                        progress,
                        variant=self._requests[i].variant,
                        batch=self._batch,
                        steps=WATERFALL_STEPS if 3 * WATERFALL_STEPS * race.step_s(i) < WATERFALL_S else None,
                    )
                )
                for i in ends
            )
        return waterfall(old, new, *(race.step_s(i) for i in ends))

    @property
    def described(self) -> Mapping[str, Any]:
        """What the first worker told of the data and the machine."""
        return self._described

    @contextmanager
    def _worker(self, progress: Progress) -> Iterator[Worker]:
        with self._environment.worker(one.variant for one in self._requests) as worker:
            for request in dict.fromkeys(self._requests):
                answer = worker.call("prepare", progress, request=request.to_json(), shared=self._shared)
                self._opened.setdefault(request.variant, answer)
            if not self._described:
                self._described = worker.call("describe", progress, variant=self._requests[0].variant)
            yield worker


def refusals(requests: Sequence[Request], environment: Environment, progress: Progress) -> dict[str, str]:
    """The variants that cannot take part, because an extra is missing or they cannot do the network -> why."""
    refused = {}
    with environment.worker(()) as worker:
        for request in requests:
            try:
                mpiexec_for([request.variant], os.environ | dict(environment.variables))
                worker.call("prepare", progress, request=request.to_json())
            except (MissingExtra, UnsupportedNetwork) as reason:
                refused[request.variant] = str(reason)
    return refused


class FunctionRacer:
    """Two importable functions; every replicate is a worker process that imports them afresh."""

    def __init__(
        self,
        functions: Sequence[FunctionReference],
        make_arguments: FunctionReference | None,
        environment: Environment,
    ) -> None:
        self._functions = tuple(functions)
        self._make_arguments = make_arguments
        self._environment = environment
        self._turns: list[Turns] = []

    def run(self, progress: Progress) -> None:
        """One more process."""
        with self._environment.worker(()) as worker:
            answer = worker.call(
                "race_functions",
                progress,
                functions=[function.to_json() for function in self._functions],
                make_arguments=None if self._make_arguments is None else self._make_arguments.to_json(),
                blocks=BLOCKS,
                seed=len(self._turns),
            )
        self._turns.append(np.array(answer["step_s"]))

    def race(self) -> Race:
        """All processes so far."""
        names = told_apart([(function.module, function.qualname) for function in self._functions])
        return _function_race(names, self._turns)


class InProcessRacer:
    """Closures and other callables that no fresh process can import: groups of blocks in this process."""

    def __init__(self, functions: Sequence[Callable[..., Any]], make_arguments: Callable[[], Sequence[Any]]) -> None:
        self._contestants = [CallableContestant(function, make_arguments) for function in functions]
        self._names = told_apart(
            [
                (str(getattr(function, "__module__", "")), str(getattr(function, "__qualname__", repr(function))))
                for function in functions
            ]
        )
        self._turns: list[Turns] = []

    def run(self, progress: Progress) -> None:
        """One more group of blocks."""
        self._turns.append(race(self._contestants, BLOCKS, len(self._turns), progress))

    def race(self) -> Race:
        """All groups so far."""
        return _function_race(self._names, self._turns)


def told_apart(functions: Sequence[tuple[str, str]]) -> list[str]:
    """Names for functions given as (module, name): the module stands before it only where two have the same name."""
    names = [name for _, name in functions]
    if len(set(names)) == len(set(functions)):
        return names
    return [f"{module}.{name}" if module else name for (module, _), name in zip(functions, names, strict=True)]


def _function_race(names: Sequence[str], turns: Sequence[Turns]) -> Race:
    return Race(variants=tuple(names), dtypes=("",) * len(names), batch=0, turns_s=tuple(turns))


def _require(answer: Mapping[str, Any]) -> None:
    checked = CheckResult(**answer)
    if checked.ok is False:
        raise CheckFailed(f"{checked.message}; nothing was timed (mlpprof check shows more)")


RESIDENT = "mlpprof.compare.worker"

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


# Replicates of a relay in which every participant runs at its best setting, and all compute the same.
#
# The first replicate holds every participant in each of its settings (BLAS threads, constants of its file). It compares
# their losses before anything is timed, then times all of them in a short trial; the best setting of each stays, and
# these race. Further replicates are fresh processes of the chosen settings alone.


LOSS_STEPS = 20
"""Steps after which the losses of all entrants are compared."""
REFERENCE = "sliced"
"""Whose losses all others are held against: it is checked against finite differences with every change."""
TRIAL_BLOCKS = 1
HOPELESS = 3.0
"""A setting whose second run takes so many times as long as another's is not tried further."""


@dataclass(frozen=True)
class Participant:
    """The same variant in the settings that it may run in, the first of which is taken where all do alike."""

    settings: tuple[Entrant, ...]


@dataclass(frozen=True)
class Chosen:
    """A participant in its best setting.

    compile_s: what its first run took longer than a warm one. deviation: largest relative difference of its losses
    from those of the reference; None where they were not compared.
    """

    entrant: Entrant
    entered: Entered
    compile_s: float
    deviation: float | None


class EntrantWrong(CheckFailed):
    """The losses of an entrant deviate."""

    def __init__(self, message: str, variant: str) -> None:
        super().__init__(message)
        self.variant = variant


class Contest:
    """A race of participants in processes of their own; `run` adds a replicate, as a `Racer` does.

    steps: of the epoch that a run is, None for single steps. check: hold the losses of all against `sliced` first.
    everybody: that one cannot take part is an error; else the others race.
    """

    def __init__(
        self,
        participants: Sequence[Participant],
        batch: int,
        *,
        steps: int | None = None,
        blocks: int = BLOCKS,
        turn_s: float = TURN_S,
        check: bool = True,
        everybody: bool = False,
        start: StartWorker = start_resident,
    ) -> None:
        self._participants = tuple(participants)
        self._batch = batch
        self._steps = steps
        self._blocks = blocks
        self._turn_s = turn_s
        self._check = check
        self._everybody = everybody
        self._start = start
        self._turns: list[Turns] = []
        self.chosen: tuple[Chosen, ...] = ()
        self.absent: dict[str, str] = {}
        self.described: Mapping[str, Any] = {}
        self._shared = tempfile.mkdtemp(prefix="mlpprof-race-")
        weakref.finalize(self, shutil.rmtree, self._shared, ignore_errors=True)

    def run(self, progress: Progress) -> None:
        """One more set of processes.

        Raises EntrantWrong before anything is timed if losses deviate, EntrantDied if a worker ended, and
        UnsupportedNetwork if nobody is left, or not everybody where that was asked for.
        """
        if self._turns:
            with self._relay([chosen.entrant for chosen in self.chosen]) as relay:
                relay.open(progress)
                self._race(relay, range(len(self.chosen)), progress)
            return
        entrants = [entrant for participant in self._participants for entrant in participant.settings]
        with self._relay(entrants) as relay:
            relay.open(progress)
            if not relay.entered or (relay.absent and self._everybody):
                raise UnsupportedNetwork("; ".join(relay.absent.values()) or "nobody takes part")
            self.described = relay.call(next(iter(relay.entered)), "facts")
            self._screen(relay, progress)
            deviations = (
                require_agreement(relay, self._batch, self._shared, progress, self._start) if self._check else {}
            )
            places = self._trial(relay, progress)
            relay.dismiss([place for place in relay.entered if place not in places])
            self._race(relay, places, progress)
            run_s = np.nanmin(self._turns[0], axis=(0, 2))
            self.chosen = tuple(
                Chosen(
                    relay.entrants[place],
                    relay.entered[place],
                    max(0.0, relay.entered[place].first_s - float(run_s[i])),
                    deviations.get(place),
                )
                for i, place in enumerate(places)
            )

    def race(self) -> Race:
        """All replicates so far; seconds are those of a step, or of an epoch where a run is one."""
        return Race(
            variants=tuple(one.entrant.name for one in self.chosen),
            dtypes=tuple(one.entered.dtype for one in self.chosen),
            batch=self._batch,
            turns_s=tuple(self._turns),
            trained=tuple(one.entrant.name for one in self.chosen if one.entered.spans_steps),
        )

    def _relay(self, entrants: Sequence[Entrant]) -> Relay:
        return Relay(entrants, self._batch, self._steps, self._shared, self._start)

    def _race(self, relay: Relay, places: Sequence[int], progress: Progress) -> None:
        self._turns.append(relay.race(places, self._blocks, len(self._turns), progress, self._turn_s))

    def _screen(self, relay: Relay, progress: Progress) -> None:
        """Dismiss settings far slower than another one of the same participant: all threads on a busy machine."""
        for group in self._groups():
            present = [place for place in group if place in relay.entered]
            if len(present) < 2:
                continue
            progress(f"settings of {relay.entrants[group[0]].variant}", 0.0)
            run_s = {place: float(relay.call(place, "turn", runs=1)) for place in present}
            hopeless = [place for place in present if run_s[place] > HOPELESS * min(run_s.values())]
            relay.dismiss(hopeless)
            for place in hopeless:
                del relay.entered[place]

    def _groups(self) -> list[list[int]]:
        """The places of each participant's settings."""
        groups, first = [], 0
        for participant in self._participants:
            groups.append(list(range(first, first + len(participant.settings))))
            first += len(participant.settings)
        return groups

    def _trial(self, relay: Relay, progress: Progress) -> list[int]:
        """The place of every participant's best setting; who cannot take part is noted as absent."""
        groups: list[list[int]] = []
        for group in self._groups():
            present = [place for place in group if place in relay.entered]
            if present:
                groups.append(present)
            else:
                self.absent[relay.entrants[group[0]].variant] = relay.absent[group[0]]
        tried = [place for group in groups if len(group) > 1 for place in group]
        if not tried:
            return [group[0] for group in groups]
        turns = relay.race(tried, TRIAL_BLOCKS, 0, progress, self._turn_s)
        best_s = dict(zip(tried, np.nanmin(turns, axis=(0, 2)), strict=True))
        return [min(group, key=lambda place: best_s.get(place, 0.0)) for group in groups]


def require_agreement(
    relay: Relay,
    batch: int,
    shared: str,
    progress: Progress,
    start: StartWorker = start_resident,
    steps: int = LOSS_STEPS,
) -> dict[int, float]:
    """How far the losses of every entrant are from those of `sliced`, run beside them in the same precision.

    Raises EntrantWrong where rounding does not explain it.
    """
    deviations: dict[int, float] = {}
    for dtype in sorted({entered.dtype for entered in relay.entered.values()}):
        places = [place for place, entered in relay.entered.items() if entered.dtype == dtype]
        one = relay.entrants[places[0]].request
        reference = Entrant(Request(REFERENCE, one.network, one.source, dtype, one.seed))
        with Relay([reference], batch, None, shared, start) as beside:
            beside.open(progress)
            expected = beside.losses(0, steps)
        allowed = loss_tolerance(one.network, batch, dtype)
        for place in places:
            progress(f"comparing the losses of {relay.entrants[place].name}", 0.0)
            ours = relay.losses(place, steps)
            deviations[place] = loss_deviation(ours, expected)
            if deviations[place] > allowed:
                raise EntrantWrong(
                    f"{relay.entrants[place].name}: the losses of the first {min(len(ours), len(expected))} steps "
                    f"deviate from those of {REFERENCE} by {deviations[place]:.1e}, at most {allowed:.0e} is allowed; "
                    "nothing was timed",
                    relay.entrants[place].variant,
                )
    return deviations


def loss_deviation(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest relative difference over the steps that both have made; infinite where one is not a number."""
    count = min(len(ours), len(theirs))
    a, b = np.array(ours[:count]), np.array(theirs[:count])
    worst = float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-3), initial=0.0))
    return worst if np.isfinite(worst) and count > 0 else float("inf")


def loss_tolerance(network: Network, batch: int, dtype: str) -> float:
    """What rounding may do to the losses of the first steps: as for gradients in float32, as for steps in float64."""
    if dtype == "float64":
        return TRAJECTORY_TOLERANCE
    longest_sum = max(*network.layers, batch)
    return SINGLE_PRECISION_FACTOR * float(np.finfo(np.float32).eps) * float(np.sqrt(longest_sum))
