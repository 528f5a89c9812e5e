"""Interleaved blocks: contestants take turns in one process, so that drift of the machine falls on all alike.

A block is a random order of the contestants followed by its reverse: ABBA or BAAB for two, ABCCBA and so on for more.
What drifts linearly within a block cancels in every pair. Each turn repeats the step until it has lasted long enough
to be timed, and every contestant has an instance of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from importlib.machinery import BuiltinImporter, FrozenImporter
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlpprof import catalog
from mlpprof.errors import UsageError
from mlpprof.instrument.clocks import Clock
from mlpprof.model.gradcheck import close
from mlpprof.namespace import Namespace
from mlpprof.process import Progress
from mlpprof.profile.passes import Subject, TimedPass, paused_garbage_collection, warm_up

TURN_S = 0.015
"""Least duration of a turn."""
ARGUMENTS_ALIVE = 16
"""Sets of arguments that are made ahead: so many calls are clocked together, whatever a turn holds."""
SLOW_TURN_S = 0.5
SLOW_BLOCKS = 2
"""A contestant whose step is slower than SLOW_TURN_S takes part in the first blocks only; it is marked so."""


class Contestant(Protocol):
    """Something that can be run and timed again and again."""

    def warm_up(self, clock: Clock) -> float:
        """Run until the time settles; seconds of the fastest run."""

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a run, over `runs` of them."""


class VariantContestant:
    """The training step of a variant; each turn goes on with the next batches."""

    def __init__(self, entry: catalog.Entry, subject: Subject, batch: int) -> None:
        self._entry = entry
        self._subject = subject
        self._instance = subject.make()
        self._indices = subject.walk(batch)
        self._prepared_for = 0

    def warm_up(self, clock: Clock) -> float:
        """Train until the time of a step settles."""
        with catalog.variant_code(self._entry):
            timed = TimedPass(self._subject, self._instance, self._indices, lambda: None, clock)
            return warm_up(timed, clock)[1]

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a step, through `train` where the variant spans steps; the indices are drawn before the clock."""
        X, Y, train_step = self._subject.X, self._subject.Y, self._instance.train_step
        train = getattr(self._instance, "train", None)
        indices = [next(self._indices) for _ in range(runs)]
        with catalog.variant_code(self._entry):
            if train is not None and runs != self._prepared_for:
                train(X, Y, indices)  # a compiler may have to learn the new number
                self._prepared_for = runs
            start = clock()
            if train is not None:
                train(X, Y, indices)
                return (clock() - start) / runs
            for index in indices:
                train_step(X, Y, index)
            return (clock() - start) / runs

    def close(self) -> None:
        """Release the instance."""
        with catalog.own_modules(self._entry):
            close(self._instance)


class CallableContestant:
    """A function, called with fresh arguments that are made outside the clock.

    running, making: entered, outside the clock too, around the calls of the function and of make_arguments.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        make_arguments: Callable[[], Sequence[Any]],
        running: Callable[[], AbstractContextManager[None]] = nullcontext,
        making: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._function = function
        self._make_arguments = make_arguments
        self._running = running
        self._making = making

    def warm_up(self, clock: Clock) -> float:
        """Call until half a second is over, at least 3 and at most 20 times."""
        begun = clock()
        seconds: list[float] = []
        while len(seconds) < 3 or (len(seconds) < 20 and clock() - begun < 0.5):
            seconds.append(self.turn(1, clock))
        return min(seconds)

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a call; a few sets of arguments are alive at a time, so that they fit into caches and memory."""
        function = self._function
        seconds = 0.0
        for done in range(0, runs, ARGUMENTS_ALIVE):
            with self._making():
                arguments = [tuple(self._make_arguments()) for _ in range(min(ARGUMENTS_ALIVE, runs - done))]
            with self._running():
                start = clock()
                for values in arguments:
                    function(*values)
                seconds += clock() - start
        return seconds / runs


def no_arguments() -> tuple[()]:
    """The arguments of a function that takes none."""
    return ()


def race(
    contestants: Sequence[Contestant],
    blocks: int,
    seed: int,
    report: Progress,
    clock: Clock = perf_counter,
    turn_s: float = TURN_S,
) -> NDArray[np.float64]:
    """Seconds a run in every turn, (blocks, contestants, 2): the turn on the way out and the one on the way back.

    turn_s: least duration of a turn. NaN where a slow contestant sat out.
    """
    rng = np.random.default_rng(seed)
    report("warming up", 0.0)
    with paused_garbage_collection():
        fastest_s = [contestant.warm_up(clock) for contestant in contestants]
    runs = [max(1, math.ceil(turn_s / seconds)) for seconds in fastest_s]
    seconds = np.full((blocks, len(contestants), 2), np.nan)
    for block in range(blocks):
        report("racing", (block + 0.5) / (blocks + 0.5))
        racing = [i for i, s in enumerate(fastest_s) if s < SLOW_TURN_S or block < SLOW_BLOCKS]
        order = rng.permutation(racing)
        with paused_garbage_collection():
            for way, turns in enumerate((order, order[::-1])):
                for i in turns:
                    seconds[block, i, way] = contestants[i].turn(runs[i], clock)
    return seconds


# Functions that a fresh process can find again: by module and qualified name, as Python imports them.


@dataclass(frozen=True)
class FunctionReference:
    """A function by module and qualified name, with what a fresh process needs to import it.

    file: of the module, for one that is no package's, such as a test file or a script. sys_path: the parent's.
    origin: the file that the parent has found by the module's name, where the name is enough.
    """

    module: str
    qualname: str
    file: str | None
    sys_path: tuple[str, ...]
    origin: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The reference as plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, message: dict[str, Any]) -> FunctionReference:
        """The reference from `to_json`."""
        return cls(**{**message, "sys_path": tuple(message["sys_path"])})

    def resolve(self) -> Callable[..., Any]:
        """Import the function; raises UsageError if the module or the name is not there."""
        for folder in self.sys_path:
            if folder not in sys.path:
                sys.path.append(folder)
        try:
            with self.running():
                found: Any = self._import()
                for name in self.qualname.split("."):
                    found = getattr(found, name)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"cannot import {self.module}.{self.qualname} in a fresh process: {error}") from error
        function: Callable[..., Any] = found
        return function

    def running(self) -> AbstractContextManager[None]:
        """Around calls of the function: what its file imports from beside it is its own, as of a variant's file."""
        return nullcontext() if self.file is None else _namespace_of(self.file).running()

    def _import(self) -> object:
        if self.file is None:
            imported = importlib.import_module(self.module)
            file = getattr(imported, "__file__", None)
            if file is not None and self.origin is not None and Path(file).resolve() != Path(self.origin).resolve():
                raise UsageError(
                    f"the module '{self.module}' is {self.origin} here, but {file} in a fresh process, which would "
                    "run other code; rename your file, or give the variants by their paths"
                )
            return imported
        known = sys.modules.get(self.module)
        if known is not None and getattr(known, "__file__", None) == self.file:
            return known
        spec = importlib.util.spec_from_file_location(self.module, self.file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{self.file} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.module] = module
        spec.loader.exec_module(module)
        return module


@cache
def _namespace_of(file: str) -> Namespace:
    """One for all functions of a file, which share its module."""
    return Namespace(Path(file))


def reference_to(function: Callable[..., Any]) -> FunctionReference | None:
    """How a fresh process gets at this very function; None for closures, lambdas, bound methods and the like."""
    module_name = str(getattr(function, "__module__", ""))
    qualname = str(getattr(function, "__qualname__", "<"))
    module = sys.modules.get(module_name)
    if module is None or not inspect.isfunction(function) or "<" in qualname:
        return None
    found: Any = module
    for name in qualname.split("."):
        found = getattr(found, name, None)
    if found is not function:
        return None  # replaced since, by a decorator or a monkeypatch
    file = getattr(module, "__file__", None)
    if module_name == "__main__":
        return None if file is None else FunctionReference("__mlpprof_main__", qualname, file, tuple(sys.path))
    by_name = not _is_loose_file(module_name, file)
    return FunctionReference(
        module_name, qualname, None if by_name else file, tuple(sys.path), file if by_name else None
    )


def _is_loose_file(name: str, file: str | None) -> bool:
    """Whether a module lies in a file that its name alone does not lead to, as pytest's importlib mode loads it."""
    if file is None:
        return False
    # Not importlib.util.find_spec, which answers with what is imported already: that is the file, wherever it lies.
    finders = [finder for finder in sys.meta_path if finder not in (BuiltinImporter, FrozenImporter)]
    origin, folders = None, None
    names = name.split(".")
    for length in range(1, len(names) + 1):
        part = ".".join(names[:length])
        specs = (finder.find_spec(part, folders) for finder in finders)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            return True
        origin, folders = spec.origin, spec.submodule_search_locations
    return origin is None or Path(origin) != Path(file)
