"""A data set whose samples stay in their file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from mlpprof.data.container import Container, Roles
from mlpprof.data.dataset import PIXEL_MAX, Array, Blocks, Dataset, fingerprint_of, outputs, scaled
from mlpprof.data.stored_rows import StoredRows
from mlpprof.data.unchanged import FileStates
from mlpprof.errors import DataError

SCAN_BYTES = 8 << 20
"""If all rows are read in their order, about this many bytes are read at a time."""


@dataclass(frozen=True)
class StreamedSet:
    """A set whose samples stay in their file; its labels or targets are in memory.

    file: that X is in. outline: the set with zeros for X. part_rows: this many rows are shuffled together. files: as
    they were when they were opened.
    """

    container: Container
    roles: Roles
    file: Path
    outline: Dataset
    part_rows: int
    files: FileStates

    @classmethod
    def of(cls, container: Container, roles: Roles, part_rows: int) -> StreamedSet:
        """The set in these roles; raises DataError if it is not one, or if its rows cannot be read in any order."""
        with container.open_rows(roles.X) as rows:
            if rows.is_in_sequence:
                how = " and ".join(rows.layout.filters)
                raise DataError(
                    f"{container.path}: '{roles.X}' is stored in a way ({how}) in which a row can be read only after "
                    f"all rows before it; write a file that streams: mlpprof data repack {container.path} -o NEW.h5"
                )
            file = rows.file
        files = FileStates.of((container.path, file))
        return cls(container, roles, file, container.outline(roles), part_rows, files)

    @property
    def name(self) -> str:
        return self.outline.name

    @property
    def samples(self) -> int:
        return self.outline.samples

    @property
    def features(self) -> int:
        return self.outline.features

    @cached_property
    def scale(self) -> int:
        """As `Dataset.scale`; rows are read until one decides it."""
        with self.container.open_rows(self.roles.X) as rows:
            if rows.dtype != np.uint8:
                return 1
            return PIXEL_MAX if any(block.max() > 1 for _, block in _blocks(rows)) else 1

    def head(self, count: int, n_outputs: int, dtype: DTypeLike) -> tuple[Array, Array]:
        """The first rows in the form of `Dataset.arrays`."""
        count = min(count, self.samples)
        labels, targets = (None if one is None else one[:count] for one in (self.outline.labels, self.outline.targets))
        with self.container.open_rows(self.roles.X) as rows:
            X = rows.read(0, count).reshape(count, -1)
        return (
            scaled(f"{self.name}: X", X, self.scale, dtype),
            outputs(self.name, labels, targets, n_outputs, dtype),
        )

    def fingerprint(self) -> str:
        """As `Dataset.fingerprint`; all rows are read once."""
        with ExitStack() as stack:

            def blocks_of(name: str | None) -> Blocks | None:
                if name is None:
                    return None
                rows = stack.enter_context(self.container.open_rows(name))
                return rows.dtype, (rows.rows, rows.row_bytes // rows.dtype.itemsize), _blocks(rows)

            def blocks_in_memory(values: Array | None) -> Blocks | None:
                return None if values is None else (values.dtype, values.shape, iter([(0, values)]))

            it, roles = self.outline, self.roles
            return fingerprint_of(
                (
                    blocks_of(roles.X),
                    *map(blocks_in_memory, (it.labels, it.targets)),
                    blocks_of(roles.X_test),
                    *map(blocks_in_memory, (it.labels_test, it.targets_test)),
                )
            )


def _blocks(rows: StoredRows) -> Iterator[tuple[int, Array]]:
    count = rows.rows_in(SCAN_BYTES)
    for start in range(0, rows.rows, count):
        yield start, rows.read(start, min(start + count, rows.rows))
