"""What a program reads from files while it trains: with h5py, and with NumPy's functions for files.

These functions are exchanged for ones that take the time of each call and note where the program made it. So a read is
also seen in a generator of batches, whose operations are not recorded, and when its file has been closed since.
"""

from __future__ import annotations

import functools
import math
import operator
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import h5py
import numpy as np

from mlpprof.instrument.rewriting import Site

LOADERS = ("load", "loadtxt", "genfromtxt", "fromfile")
"""NumPy's functions that read a whole file into an array."""

DEEPEST = 40
"""The program's own frame is looked for in so many frames around a read."""


@dataclass(frozen=True)
class Stored:
    """An HDF5 dataset as it lies in its file. chunks: () if it is in one piece. may_change: the file is open for
    writing.
    """

    file: str
    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    is_packed: bool
    may_change: bool


@dataclass
class FileRead:
    """The reads of one expression. place: its file, its first line and column, its last line and column.

    times, seconds: per step. later: how often it was read after the steps that count. shape, dtype: of what the last
    read gave. key: the index of the last one; None for a function that reads a file. stored: the dataset; None for a
    whole file. in_step: it was read within a step, or by the generator of batches of the loop around the step, whose
    time is a part of the step's.
    """

    place: tuple[str, int, int, int, int]
    key: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: Stored | None
    in_step: bool
    times: float = 0.0
    seconds: float = 0.0
    later: int = 0

    @property
    def site(self) -> Site:
        """Its place as that of an operation."""
        file, line, column, end_line, end_column = self.place
        return Site(file, line, column, None, end_line, end_column)

    @property
    def is_whole(self) -> bool:
        """Whether it reads all that there is."""
        return self.stored is None or self.shape == self.stored.shape

    @property
    def is_one_row(self) -> bool:
        """Whether its index is a single number."""
        try:
            operator.index(self._first_key)
        except TypeError:
            return False
        return True

    @property
    def is_run(self) -> bool:
        """Whether its index is a slice, so that the rows follow each other."""
        return isinstance(self._first_key, slice)

    @property
    def _first_key(self) -> Any:
        return self.key[0] if isinstance(self.key, tuple) and self.key else self.key

    @property
    def rows(self) -> int:
        """The rows that a read gives."""
        return 1 if self.is_one_row or not self.shape else self.shape[0]

    @property
    def nbytes(self) -> int:
        """The bytes that a read gives."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def all_rows(self) -> int:
        """The rows of the whole set."""
        return self.rows if self.stored is None else self.stored.shape[0]

    @property
    def all_bytes(self) -> int:
        """The bytes that the whole set takes in memory."""
        return self.nbytes if self.stored is None else math.prod(self.stored.shape) * self.dtype.itemsize


class FileReads:
    """The reads of a program.

    is_own: whether a file of source code belongs to the program. is_training: whether reads are timed now. is_in_step:
    what `FileRead.in_step` is for a read that is made now. is_counted: whether the steps count that run now.
    """

    def __init__(
        self,
        is_own: Callable[[str], bool],
        is_training: Callable[[], bool],
        is_in_step: Callable[[], bool],
        is_counted: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._is_own = functools.cache(is_own)
        self._is_training, self._is_in_step, self._clock = is_training, is_in_step, clock
        self._is_counted = is_counted
        self._found: dict[tuple[Any, int], FileRead] = {}
        self._is_reading = threading.local()

    def of_steps(self, steps: int) -> list[FileRead]:
        """The reads so far, one for each expression. steps: so many steps count."""
        by_place: dict[tuple[str, int, int, int, int], FileRead] = {}
        for one in self._found.values():  # an expression has several codes: plain, with clocks, observed
            known = by_place.setdefault(one.place, replace(one, times=0.0, seconds=0.0, later=0))
            known.times += one.times
            known.seconds += one.seconds
            known.later += one.later
        return [
            replace(one, times=one.times / max(1, steps), seconds=share * one.seconds / max(1, steps))
            for one in by_place.values()
            if (share := one.times / (one.times + one.later))
        ]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within the block, reads are noted."""
        owners: list[tuple[Any, str]] = [(h5py.Dataset, "__getitem__"), (h5py.Dataset, "__array__")]
        owners += [(np.lib.npyio.NpzFile, "__getitem__"), *((np, name) for name in LOADERS)]
        before = [(owner, name, getattr(owner, name)) for owner, name in owners]
        for owner, name, function in before:
            setattr(owner, name, self._noting(function))
        try:
            yield
        finally:
            for owner, name, function in before:
                setattr(owner, name, function)

    def _noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def noted(*operands: Any, **options: Any) -> Any:
            if not self._is_training() or getattr(self._is_reading, "now", False):
                return function(*operands, **options)
            self._is_reading.now = True  # `np.load` itself calls `np.fromfile`
            begun_s = self._clock()
            try:
                result = function(*operands, **options)
            finally:
                self._is_reading.now = False
            seconds = self._clock() - begun_s
            if isinstance(result, np.ndarray | np.generic) and not isinstance(result, np.memmap):
                self._note(sys._getframe(1), operands, result, seconds)
            return result

        return noted

    def _note(self, frame: FrameType | None, operands: tuple[Any, ...], result: Any, seconds: float) -> None:
        for _ in range(DEEPEST):
            if frame is None or self._is_own(frame.f_code.co_filename):
                break
            frame = frame.f_back
        if frame is None or not self._is_own(frame.f_code.co_filename):
            return
        known = self._found.get((frame.f_code, frame.f_lasti))
        if known is None:
            place = _place(frame)
            if place is None:
                return
            known = FileRead(place, None, (), np.dtype(float), None, self._is_in_step())
            known.stored = _stored(operands[0]) if isinstance(operands[0], h5py.Dataset) else None
            self._found[frame.f_code, frame.f_lasti] = known
        known.key = operands[1] if len(operands) > 1 and known.stored is not None else None
        known.shape, known.dtype = result.shape, result.dtype
        if self._is_counted():
            known.times += 1
        else:
            known.later += 1
        known.seconds += seconds


def _place(frame: FrameType) -> tuple[str, int, int, int, int] | None:
    """The expression that a frame evaluates."""
    line, end_line, column, end_column = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    if line is None or end_line is None or column is None or end_column is None:
        return None
    return frame.f_code.co_filename, line, column, end_line, end_column


def _stored(dataset: h5py.Dataset) -> Stored:
    filters = dataset.id.get_create_plist().get_nfilters()
    return Stored(
        dataset.file.filename,
        dataset.name or "",
        dataset.shape or (),
        dataset.chunks or (),
        filters > 0,
        dataset.file.mode != "r",
    )
