"""An array as it lies in a file that is open: its layout, and its rows read in runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np

from mlpprof.data.dataset import Array, require_memory

LARGEST_ROW_CHUNK = 1 << 20
"""HDF5 keeps a megabyte of chunks for each array. A larger chunk is read again for the next of its rows."""

BY_COLUMN = "column after column"
"""The name of the layout in which a row lies in as many places as it has values."""


@dataclass(frozen=True)
class Layout:
    """How the values of an array lie in the file.

    chunks: the shape of a chunk; () if the values lie in one piece. filters: the names of what unpacks a chunk or the
    array, such as 'gzip'. stored_bytes: what the values take in the file.
    """

    stored_bytes: int
    chunks: tuple[int, ...] = ()
    filters: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The layout in words: 'in one piece', 'chunks of 64 x 784, gzip'."""
        pieces = f"chunks of {' x '.join(f'{n:,}' for n in self.chunks)}" if self.chunks else "in one piece"
        return ", ".join([pieces, *self.filters])


@dataclass(frozen=True)
class StoredRows:
    """An array of an open file.

    file: where it is. read: from the first row and the one after the last to these rows. is_in_sequence: to read a
    row, all before it must be unpacked. offset: of the first value in the file; None unless the values lie in one piece
    as they are.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    layout: Layout
    read: Callable[[int, int], Array]
    is_in_sequence: bool = False
    offset: int | None = None

    @classmethod
    def by_column(
        cls,
        file: Path,
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
        layout: Layout,
        read_whole: Callable[[], Array],
    ) -> StoredRows:
        """The rows of an array whose values lie column after column.

        The first row that is read brings the whole array into memory; to look at the layout reads nothing.
        """

        @cache
        def whole() -> Array:
            require_memory(math.prod(shape) * dtype.itemsize, f"{file} (column after column, so it is read as a whole)")
            return read_whole()

        layout = replace(layout, filters=(*layout.filters, BY_COLUMN))
        return cls(file, shape, dtype, layout, lambda start, stop: whole()[start:stop], is_in_sequence=True)

    @property
    def rows(self) -> int:
        """N, the length of the first axis."""
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """The bytes of the values of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def is_by_column(self) -> bool:
        """Whether a row cannot be read without all others."""
        return BY_COLUMN in self.layout.filters

    @property
    def reads_fast(self) -> bool:
        """Whether nothing has to be unpacked, and a run of rows lies in one piece or in chunks of whole rows."""
        layout = self.layout
        if layout.filters or self.is_in_sequence:
            return False
        has_whole_rows = layout.chunks[1:] == self.shape[1:]
        return not layout.chunks or (
            has_whole_rows and math.prod(layout.chunks) * self.dtype.itemsize <= LARGEST_ROW_CHUNK
        )

    def rows_in(self, nbytes: int) -> int:
        """The number of whole rows that nbytes hold, at least one."""
        return max(1, min(self.rows, nbytes // max(1, self.row_bytes)))


def reading(
    file: IO[bytes], offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> Callable[[int, int], Array]:
    """The way to read rows that lie one after the other from an offset in a file, or in what it is unpacked to."""
    row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def read(start: int, stop: int) -> Array:
        file.seek(offset + start * row_bytes)
        content = file.read((stop - start) * row_bytes)
        if len(content) < (stop - start) * row_bytes:
            raise EOFError(f"it ends within the rows {start:,} to {stop:,}")
        return np.frombuffer(content, dtype).reshape(stop - start, *shape[1:])

    return read
