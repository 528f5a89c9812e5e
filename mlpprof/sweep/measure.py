"""One cell of a sweep, measured on the node that this process runs on."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mlpprof.compare.entrants import Environment
from mlpprof.compare.programs import ProgramComparer, Wanted
from mlpprof.compare.variant_comparison import compare
from mlpprof.errors import DataError, MlpprofError, UsageError
from mlpprof.machine.facts import machine_class
from mlpprof.profile.program import ProgramSettings, profile_program
from mlpprof.profile.variant import WORKER, Settings, profile
from mlpprof.results import Comparison, Run
from mlpprof.results.on_disk import run_bytes
from mlpprof.results.races_on_disk import races_bytes
from mlpprof.sweep.grid import Cell

ROOM = 0.25
"""Other programs may use this much of a CPU beyond those that the cell leaves free: mlpprof and dask need some."""


@dataclass(frozen=True)
class Answer:
    """What a node sends back. content: of the cell's file, empty if it failed. machine: the class of the machine.

    others: the CPUs' worth of time that other programs used meanwhile. is_busy: they used CPUs that the cell needed.
    error: why it failed, and the kind of that error.
    """

    content: bytes = b""
    machine: str = ""
    others: float = 0.0
    is_busy: bool = False
    error: str = ""
    kind: str = ""


def measure_cell(cell: Cell) -> Answer:
    """Profile or race a cell."""

    def measured() -> tuple[bytes, str]:
        content, machine = _of_record(_program(cell) if cell.programs else _variant(cell))
        return content, machine_class(machine)

    return answer(cell, measured)


def machine_of_node(native_blas: bool = False) -> dict[str, Any]:
    """The description of the machine that this process runs on, as a cell will find it."""
    with Environment(1, native_blas).worker(module=WORKER) as worker:
        return dict(worker.call("machine"))


def class_of_node(native_blas: bool = False) -> str:
    """The class of the machine that this process runs on, as a cell will find it."""
    return machine_class(machine_of_node(native_blas))


def answer(cell: Cell, measured: Callable[[], tuple[bytes, str]]) -> Answer:
    """Measure in the folder of a cell. measured: returns the content of the answer and the class of the machine.

    An error that a user can read is part of the answer, because not each can be pickled.
    """
    before = _Used.now()
    try:
        with _in_folder(cell):
            content, machine = measured()
    except DataError as error:  # the command has found the data on its own machine
        words = f"on {socket.gethostname()}: {error}; every node needs the data at the same path"
        return Answer(error=words, kind=type(error).__name__)
    except MlpprofError as error:
        return Answer(error=str(error), kind=type(error).__name__)
    others = _Used.now().by_others_since(before)
    return Answer(content, machine, others, is_crowded(others, cell.shown.threads, os.cpu_count() or 1))


def is_crowded(others: float, threads: int | None, cpus: int) -> bool:
    """Whether other programs took CPUs that a cell needed. others: used by them; threads: of the cell, None for all."""
    return others > cpus - min(threads or cpus, cpus) + ROOM


@dataclass(frozen=True)
class _Used:
    """CPU seconds used so far, on this machine and by this process with its children."""

    at_s: float
    whole_s: float
    own_s: float

    @classmethod
    def now(cls) -> _Used:
        times = psutil.cpu_times()
        # On Linux, the time of guests is also a part of user and nice.
        idle_s = sum(getattr(times, name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice"))
        return cls(time.monotonic(), sum(times) - idle_s, sum(os.times()[:4]))

    def by_others_since(self, before: _Used) -> float:
        """The CPUs' worth of time that other programs used; 0 on Windows, which does not count that of children."""
        passed_s = self.at_s - before.at_s
        if os.name == "nt" or passed_s <= 0:
            return 0.0
        return max(0.0, (self.whole_s - before.whole_s - (self.own_s - before.own_s)) / passed_s)


@contextlib.contextmanager
def _in_folder(cell: Cell) -> Iterator[None]:
    """Paths of programs and data are relative to the working folder of the command, if this node has that folder."""
    if Path(cell.folder).is_dir():
        with contextlib.chdir(cell.folder):
            yield
        return
    if cell.programs:
        raise UsageError(f"this node has no folder {cell.folder}; a program runs only where its files are")
    yield


def _variant(cell: Cell) -> Run | Sequence[Comparison]:
    shown, environment = cell.shown, Environment(cell.shown.threads, cell.native_blas)
    assert shown.batch is not None
    if shown.over is None:
        settings = Settings([shown.batch], cell.steps, shown.threads, cell.native_blas, limits=False)
        return profile(cell.variants[0], cell.workload, settings, cell.typed, quietly)
    return compare(
        cell.variants,
        cell.workload,
        shown.batch,
        environment,
        at_least=None,
        budget_s=cell.budget_s,
        check=True,
        with_waterfall=False,
        typed=cell.typed,
        progress=quietly,
    )


def _program(cell: Cell) -> Run | Sequence[Comparison]:
    threads = cell.shown.threads
    if cell.shown.over is None:
        settings = ProgramSettings(threads, cell.native_blas, limits=False)
        return profile_program(cell.programs[0], settings, cell.typed, quietly)
    comparer = ProgramComparer(
        cell.programs, Environment(threads, cell.native_blas), Wanted(budget_s=cell.budget_s), lambda sentence: None
    )
    return comparer.compare(cell.typed, quietly)


def _of_record(record: Run | Sequence[Comparison]) -> tuple[bytes, Mapping[str, Any]]:
    if isinstance(record, Run):
        return run_bytes(record), record.machine
    return races_bytes(record), record[0].machine


def quietly(what: str, share: float) -> None:
    """Nobody watches a cell; the sweep shows which cells run where."""
