"""Who takes part in a race: an entrant is a subject (what runs) in an environment (its threads and variables)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlpprof.compare.functions import FunctionReference
from mlpprof.engines.members import WORKERS_VARIABLE
from mlpprof.errors import MissingExtra, UnsupportedNetwork
from mlpprof.machine.blas import worker_environment
from mlpprof.machine.linux import affinity, cpu_quota
from mlpprof.process import Progress, Worker
from mlpprof.profile.request import Request
from mlpprof.profile.variant import DEFAULT_THREADS, mpiexec_for, start_worker
from mlpprof.programs.request import ProgramRequest
from mlpprof.programs.runs import contained

WORKER = "mlpprof.compare.worker"
PROGRAM_WORKER = "mlpprof.compare.program_worker"

FRAMEWORKS = "peers/"
"""The names of the variants that are frameworks begin with this."""

IN_ONE_PROCESS = ("buffered", "chunked", "fused_update", "compiled", "blocked", "sparse", "delayed", "gram")
"""These variants may be the fastest in one process. Those that cannot do a network do not take part."""
SHARING = (
    "threaded",
    "processes",
    "feature_shards",
    "neuron_shards",
    "fused_neuron_shards",
    "compiled_processes",
    "compiled_feature_shards",
    "blocked_team",
    "sparse_team",
)
"""These variants share a step among workers, whose number is a setting. `mpi` is not here: it starts its own."""


@dataclass(frozen=True)
class Environment:
    """The environment of a worker: its BLAS threads (None: as the machine has it), and whether kernel pins are cleared.

    variables: further variables to set, as (name, value), such as MLPPROF_WORKERS.
    """

    threads: int | None = DEFAULT_THREADS
    native_blas: bool = False
    variables: tuple[tuple[str, str], ...] = ()

    def worker(self, variants: Iterable[str] = (), module: str = WORKER, limit_s: float | None = None) -> Worker:
        """A new worker in this environment, for these variants; module: its program. limit_s: as for `Worker`."""
        return start_worker(module, self.as_variables(), variants, limit_s)

    def as_variables(self) -> dict[str, str]:
        """The whole environment of a process."""
        return worker_environment(os.environ, self.threads, self.native_blas) | dict(self.variables)


ONE_THREAD = Environment(1, native_blas=True)


@dataclass(frozen=True)
class VariantSubject:
    """A variant on its network and data.

    batch: samples of a step, 0 for all of them. constants: numbers that replace constants of the variant's file.
    steps: where a run is an epoch of so many steps; None where it is a single step. part: where a run is a part of a
    step, the name that the worker has for it.
    """

    request: Request
    batch: int
    constants: Mapping[str, int] = field(default_factory=dict)
    steps: int | None = None
    part: str = "step"

    @property
    def variant(self) -> str:
        """The variant's name; for a file without folder and ending, unless the request has a name."""
        if self.request.name is not None:
            return self.request.name
        file, is_file, _ = self.request.variant.partition(".py")
        return Path(file).name if is_file else file

    @property
    def name(self) -> str:
        """'chunked', or 'chunked ROWS=250'."""
        return " ".join([self.variant, *(f"{key}={value}" for key, value in self.constants.items())])

    @property
    def seed(self) -> int:
        """The seed of the request."""
        return self.request.seed

    def to_json(self) -> dict[str, Any]:
        """What a worker needs to load it."""
        return {
            "request": self.request.to_json(),
            "batch": self.batch,
            "constants": dict(self.constants),
            "steps": self.steps,
            "part": self.part,
        }

    @classmethod
    def from_json(cls, message: Mapping[str, Any]) -> VariantSubject:
        """The subject from `to_json`."""
        return cls(**{**message, "request": Request.from_json(message["request"])})


@dataclass(frozen=True)
class FunctionSubject:
    """A function that a fresh process can import; make_arguments: the function that makes the arguments of a call."""

    name: str
    function: FunctionReference
    make_arguments: FunctionReference | None = None
    batch: int = 0
    seed: int = 0

    @property
    def variant(self) -> str:
        """The name of the function."""
        return self.name

    def to_json(self) -> dict[str, Any]:
        """What a worker needs to import it."""
        return asdict(self)

    @classmethod
    def from_json(cls, message: Mapping[str, Any]) -> FunctionSubject:
        """The subject from `to_json`."""
        making = message["make_arguments"]
        function = FunctionReference.from_json(message["function"])
        made = None if making is None else FunctionReference.from_json(making)
        return cls(**{**message, "function": function, "make_arguments": made})


@dataclass(frozen=True)
class ProgramSubject:
    """A user's unchanged program, which takes its own steps; it needs a process of its own.

    request: with its step. how_often: how often it is run, in words, for messages. steps: how many steps it makes in
    all, if they are few; None if that is not known, or many. by_processor: whether its steps are timed by the processor
    time of its process, which other programs change less than the time on the clock.
    """

    request: ProgramRequest
    how_often: str
    steps: int | None = None
    batch: int = 0
    seed: int = 0
    by_processor: bool = False

    @property
    def variant(self) -> str:
        """The name of the program."""
        return self.request.name.text

    @property
    def name(self) -> str:
        """The name of the program."""
        return self.variant

    def to_json(self) -> dict[str, Any]:
        """What a worker needs to run it."""
        return {**self.message(), "steps": self.steps, "by_processor": self.by_processor}

    def message(self) -> dict[str, Any]:
        """What a worker needs to run it once."""
        return {"program": self.request.to_json(), "step": self.request.step, "how_often": self.how_often}


Subject = VariantSubject | FunctionSubject | ProgramSubject


@dataclass(frozen=True)
class Entrant:
    """A subject in an environment.

    process: entrants of one environment share a worker process if they have the same word here; None: the entrant has
    a process of its own.
    """

    subject: Subject
    environment: Environment = ONE_THREAD
    process: str | None = None

    @property
    def name(self) -> str:
        """The subject with its settings: 'chunked ROWS=250, 4 threads', or 'processes, 4 workers'; a program's name."""
        if isinstance(self.subject, ProgramSubject):
            return self.subject.name
        threads = self.environment.threads
        workers = dict(self.environment.variables).get(WORKERS_VARIABLE)
        return (
            self.subject.name
            + ("" if threads == 1 else f", {'all' if threads is None else threads} threads")
            + ("" if workers is None else f", {workers} workers")
        )


def by_worker(entrants: Sequence[Entrant]) -> list[list[int]]:
    """The places of the entrants in groups, each of which shares a worker."""
    groups: dict[object, list[int]] = {}
    for place, entrant in enumerate(entrants):
        key = place if entrant.process is None else (entrant.environment, entrant.process)
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def worker_for(entrants: Sequence[Entrant], module: str = WORKER, limit_s: float | None = None) -> Worker:
    """A worker for entrants that share one; module: its program. limit_s: as for `Worker`."""
    subjects = [entrant.subject for entrant in entrants]
    variants = [one.request.variant for one in subjects if isinstance(one, VariantSubject)]
    if isinstance(subjects[0], ProgramSubject):
        return Worker(
            PROGRAM_WORKER,
            entrants[0].environment.as_variables(),
            before=contained(subjects[0].request),
            runs=entrants[0].name,
        )
    return entrants[0].environment.worker(variants, module, limit_s)


def all_threads() -> int:
    """As many threads as this process may run at once: by its affinity and its container's quota."""
    cpus = affinity()
    count = len(cpus) if cpus else os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, count if quota is None else min(count, int(quota)))


def worker_counts() -> list[int]:
    """The numbers of workers that are tried: all processors, and half of them if that is more than one."""
    cores, half = all_threads(), all_threads() // 2
    return [cores, half] if half > 1 else [cores]


def with_workers(count: int) -> Environment:
    """The environment of a variant that shares a step among so many workers, each with one BLAS thread."""
    return Environment(1, native_blas=True, variables=((WORKERS_VARIABLE, str(count)),))


def refusals(requests: Sequence[Request], environment: Environment, progress: Progress) -> dict[str, str]:
    """The variants that cannot take part, because an extra is missing or they cannot do the network -> why."""
    refused = {}
    with environment.worker() as worker:
        for place, request in enumerate(requests):
            try:
                mpiexec_for([request.variant], os.environ | dict(environment.variables))
                worker.call("load", progress, key=place, subject=VariantSubject(request, 0).to_json())
            except (MissingExtra, UnsupportedNetwork) as reason:
                refused[request.variant] = str(reason)
    return refused
