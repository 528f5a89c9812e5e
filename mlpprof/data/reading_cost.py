"""What it costs to read an array in the layout that its file has: rows in runs, random rows, and the disk's own limit.

The system is asked to forget the file before each measurement, because it would otherwise come from memory.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlpprof.data.container import Container
from mlpprof.data.reading_order import RUN_BYTES
from mlpprof.data.stored_rows import Layout, StoredRows

BLOCK_BYTES = 8 << 20
"""The disk's own limit is measured with blocks of this many bytes."""

LONGEST_S = 0.4
"""A measurement ends after this many seconds, and after one run, row or block at the earliest."""

MOST_ROWS = 2_000
"""At most this many random rows are read."""

CAN_FORGET = hasattr(os, "posix_fadvise")
"""Whether the system can be asked to forget a file."""


@dataclass(frozen=True)
class ReadingCost:
    """What reading an array costs.

    run_rows: the rows of a run. run_bytes_s, random_bytes_s: bytes of values per second, of rows in runs and of rows
    one by one in random order. disk_bytes_s: what the disk gives if the file is read as it is, from the beginning.
    reads_fast: as in `StoredRows`. is_estimated: random rows were not read, because all before each of them had to be
    unpacked; the figure follows from that of runs. is_from_disk: the system can be asked to forget the file.
    """

    name: str
    layout: Layout
    row_bytes: int
    run_rows: int
    run_bytes_s: float
    random_bytes_s: float
    disk_bytes_s: float
    reads_fast: bool
    is_estimated: bool = False
    is_from_disk: bool = CAN_FORGET

    @property
    def run_share(self) -> float:
        """Rows in runs, as a share of the disk's own limit; more than 1 where the disk holds fewer bytes of them."""
        return self.run_bytes_s / self.disk_bytes_s

    @property
    def random_share(self) -> float:
        """Random rows, as a share of the disk's own limit."""
        return self.random_bytes_s / self.disk_bytes_s


def reading_cost(container: Container, name: str, clock: Callable[[], float] = time.perf_counter) -> ReadingCost:
    """Read a part of an array in several ways, for about a second in total; raises DataError if it is unreadable."""
    with container.open_rows(name) as rows:
        disk_bytes_s = disk_speed(rows.file, clock)
        run_rows = rows.rows if rows.is_by_column else rows.rows_in(RUN_BYTES)
        starts = range(0, rows.rows - run_rows + 1, run_rows)
        run_bytes_s = _bytes_s(rows, starts, run_rows, clock)
        # before and after, because other programs may use the disk
        disk_bytes_s = max(disk_bytes_s, disk_speed(rows.file, clock))
    if rows.is_in_sequence:
        # on average half of the rows come before a random one
        random_bytes_s = run_bytes_s / max(1.0, rows.rows / 2)
    else:
        # the file is opened again, because HDF5 keeps the chunks that it has unpacked
        with container.open_rows(name) as rows:
            order = np.random.default_rng(0).integers(rows.rows, size=MOST_ROWS).tolist()
            random_bytes_s = _bytes_s(rows, order, 1, clock)
    return ReadingCost(
        name,
        rows.layout,
        rows.row_bytes,
        run_rows,
        run_bytes_s,
        random_bytes_s,
        disk_bytes_s,
        rows.reads_fast,
        is_estimated=rows.is_in_sequence,
    )


def _bytes_s(rows: StoredRows, starts: range | list[int], each: int, clock: Callable[[], float]) -> float:
    forget(rows.file)
    begin_s, read = clock(), 0
    for start in starts:
        read += rows.read(start, start + each).nbytes
        if clock() - begin_s > LONGEST_S:
            break
    return read / max(clock() - begin_s, 1e-9)


def disk_speed(path: Path, clock: Callable[[], float] = time.perf_counter) -> float:
    """Bytes per second of a file itself, from its beginning, into one buffer."""
    forget(path)
    buffer, read = bytearray(BLOCK_BYTES), 0
    with path.open("rb", buffering=0) as file:
        begin_s = clock()
        while count := file.readinto(buffer):
            read += count
            if clock() - begin_s > LONGEST_S:
                break
        return read / max(clock() - begin_s, 1e-9)


def forget(path: Path) -> None:
    """Ask the system to forget a file's content, so that it is read from the disk again."""
    if not CAN_FORGET:
        return
    with path.open("rb") as file:
        # what was written only now cannot be forgotten before it is on the disk
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
