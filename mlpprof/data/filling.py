"""Reads the rows of a file into the window of a stream, in the numbers that a network takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

import numpy as np

from mlpprof.data.container import refusing
from mlpprof.data.dataset import Array, scaled, write_labels
from mlpprof.data.reading_order import Plan
from mlpprof.data.stored_rows import StoredRows
from mlpprof.data.streamed_set import StreamedSet
from mlpprof.errors import DataError

ANNOUNCED = 4
"""The system learns of a run this many runs before it is read: a disk that reads several at once is then faster."""


class Filler:
    """Reads parts into the window, converted. It belongs to the thread, which must not keep the stream itself alive."""

    def __init__(self, data: StreamedSet, plan: Plan, X: Array, Y: Array, share: int | None) -> None:
        self._data, self._plan, self._X, self._Y, self._share = data, plan, X, Y, share
        self._open = ExitStack()
        self._rows: StoredRows | None = None
        self._raw: Any = None
        self._scratch: Array | None = None
        # the rows that were checked: parts of the first epoch may be left out
        self._is_finite = np.zeros(plan.rows, bool)

    def __enter__(self) -> Filler:
        rows = self._rows = self._open.enter_context(self._data.container.open_rows(self._data.roles.X))
        if rows.offset is not None:
            with refusing(f"{rows.file} cannot be read"):
                self._raw = self._open.enter_context(rows.file.open("rb", buffering=0))
            if rows.dtype != self._X.dtype or self._data.scale != 1:
                self._scratch = np.empty((self._plan.run_rows, self._X.shape[1]), rows.dtype)
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def load(self, part: int, is_stopped: Callable[[], bool]) -> bool:
        """Read a part; False if it was stopped before the end. Raises DataError if that cannot be done."""
        plan = self._plan
        base, wanted = plan.base(part), plan.places(part, self._share)
        pieces, place = [], 0
        for start in plan.starts(part).tolist():
            count = min(plan.run_rows, plan.rows - start)
            first, last = max(wanted.start - place, 0), min(wanted.stop - place, count)
            if first < last:
                pieces.append((start + first, start + last, base + place + first))
            place += count
        for number, (start, stop, at) in enumerate(pieces):
            if is_stopped():
                return False
            for soon, end, _ in pieces[number + ANNOUNCED : number + ANNOUNCED + 1]:
                self._announce(soon, end)
            self._read(start, stop, self._X[at : at + stop - start])
        # what has changed may be why a value is not finite
        self._data.files.require_unchanged()
        numbers = plan.numbers(part)[wanted.start : wanted.stop]
        X, Y = (array[base + wanted.start : base + wanted.stop] for array in (self._X, self._Y))
        if not self._is_finite[numbers].all():
            self._require_finite(numbers, X)
            self._is_finite[numbers] = True
        self._answer(numbers, Y)
        return True

    def _read(self, start: int, stop: int, out: Array) -> None:
        """Read rows into a part of the window."""
        rows, scale = cast(StoredRows, self._rows), self._data.scale
        if rows.offset is None:
            values = rows.read(start, stop).reshape(out.shape)
        else:
            values = out if self._scratch is None else self._scratch[: stop - start]
            self._read_bytes(rows.offset + start * rows.row_bytes, values)
        if scale != 1:
            np.divide(values, scale, out=out, dtype=out.dtype)
        elif values is not out:
            with np.errstate(over="ignore"):  # it becomes infinite, which is found and reported
                np.copyto(out, values, casting="same_kind")

    def _announce(self, start: int, stop: int) -> None:
        """Ask the system to read rows, because they will be wanted soon."""
        rows = cast(StoredRows, self._rows)
        if rows.offset is not None and hasattr(os, "posix_fadvise"):
            begin, nbytes = rows.offset + start * rows.row_bytes, (stop - start) * rows.row_bytes
            os.posix_fadvise(self._raw.fileno(), begin, nbytes, os.POSIX_FADV_WILLNEED)

    def _read_bytes(self, offset: int, values: Array) -> None:
        """Read bytes of the file to where they belong.

        Python's own files release the interpreter's lock while they read, so that the training goes on; h5py does not.
        """
        left = values.reshape(-1).view(np.uint8).data
        with refusing(f"{self._data.name} cannot be read"):
            self._raw.seek(offset)
            while left:
                count = self._raw.readinto(left)
                if not count:
                    self._data.files.require_unchanged()
                    raise EOFError("it ends before its last row; copy it again from its source")
                left = left[count:]

    def _require_finite(self, numbers: Array, X: Array) -> None:
        """Raise DataError for NaN, infinity, and what is too large for the window's precision."""
        if cast(StoredRows, self._rows).dtype.kind != "f":
            return
        flat = X.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(np.dot(flat, flat)):
                return  # faster than to examine each value; if it is not finite, the square may just be too large
        is_bad = ~np.isfinite(X)
        if is_bad.any():
            place, column = np.argwhere(is_bad)[0].tolist()
            row = int(numbers[place])
            with self._data.container.open_rows(self._data.roles.X) as rows:
                stored = rows.read(row, row + 1).reshape(-1)
            # raises for a number that is too large for the precision
            scaled(f"{self._data.name}: row {row}: X", stored[None], 1, X.dtype)
            raise DataError(
                f"{self._data.name}: X has {stored[column]} in row {row}, column {column}; expected finite numbers "
                "throughout"
            )

    def _answer(self, numbers: Array, Y: Array) -> None:
        labels, targets = self._data.outline.labels, self._data.outline.targets
        if targets is not None:
            Y[...] = targets[numbers]
        elif labels is not None:
            Y[...] = 0
            write_labels(labels[numbers], Y)
