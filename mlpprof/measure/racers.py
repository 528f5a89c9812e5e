"""What a verdict rests on: replicates of a race, each from a process of its own where that is possible.

A process is one replicate: it loads the contestants, warms them up, and races them in interleaved blocks. What differs
between processes (memory layout, the core, the neighbours of the moment) is part of the spread that the verdict sees.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlpprof.errors import CheckFailed, MissingExtra, UnsupportedNetwork, UsageError
from mlpprof.machine.blas import worker_environment
from mlpprof.measure.callables import FunctionReference
from mlpprof.measure.messages import decode_batch_result
from mlpprof.measure.profile import DEFAULT_THREADS, WORKER
from mlpprof.measure.race import CallableContestant, race
from mlpprof.measure.ranks import mpiexec_for, start_worker
from mlpprof.measure.request import Request
from mlpprof.measure.waterfall import waterfall
from mlpprof.process import Progress, Worker
from mlpprof.results import Change, CheckResult, Race

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
        names = [(function.qualname, function.module) for function in self._functions]
        return _function_race(names, self._turns)


class InProcessRacer:
    """Closures and other callables that no fresh process can import: groups of blocks in this process."""

    def __init__(self, functions: Sequence[Callable[..., Any]], make_arguments: Callable[[], Sequence[Any]]) -> None:
        self._contestants = [CallableContestant(function, make_arguments) for function in functions]
        self._names = [
            (getattr(function, "__qualname__", repr(function)), getattr(function, "__module__", None) or "")
            for function in functions
        ]
        self._turns: list[Turns] = []

    def run(self, progress: Progress) -> None:
        """One more group of blocks."""
        self._turns.append(race(self._contestants, BLOCKS, len(self._turns), progress))

    def race(self) -> Race:
        """All groups so far."""
        return _function_race(self._names, self._turns)


def _function_race(names: Sequence[tuple[str, str]], turns: Sequence[Turns]) -> Race:
    """names: of functions, each with its module's, which is shown where the functions are called alike."""
    alike = len({name for name, _ in names}) < len(set(names))
    shown = tuple(f"{module}.{name}" if alike else name for name, module in names)
    return Race(variants=shown, dtypes=("",) * len(names), batch=0, turns_s=tuple(turns))


def _require(answer: Mapping[str, Any]) -> None:
    checked = CheckResult(**answer)
    if checked.ok is False:
        raise CheckFailed(f"{checked.message}; nothing was timed (mlpprof check shows more)")
