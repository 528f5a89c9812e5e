"""Training from a file that need not fit into memory: a thread reads rows ahead into a window of the set.

The file is read in runs of neighbouring rows, because single rows are slow to read. An epoch visits all runs in a
random order. Several runs make a part, whose rows are shuffled. The window has room for three parts: the rows of a part
are trained on while the next part is read, and the part before stays for batches that are drawn ahead. The order
follows from the seed and the sizes alone, however fast the disk is.

X and Y of the window are the same arrays all the time, in memory that forked processes share. A variant takes the rows
of a batch from them as it takes them from a whole set.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from mlpprof.data.container import Container, Roles, refusing
from mlpprof.data.dataset import (
    PIXEL_MAX,
    Array,
    Blocks,
    DataFacts,
    Dataset,
    fingerprint_of,
    outputs,
    require_memory,
    require_outputs,
    scaled,
    write_labels,
)
from mlpprof.data.stored_rows import StoredRows
from mlpprof.data.unchanged import FileStates
from mlpprof.engines.team import shared_zeros
from mlpprof.errors import DataError
from mlpprof.results import StreamRecord

PARTS = 3
"""The window has room for so many parts."""

WINDOW_BYTES = 128 << 20
"""The window takes about so many bytes in float32, if the batch does not need more."""

BATCHES = 3
"""A part has at least so many batches, so that a batch comes from two parts at most."""

RUN_BYTES = 1 << 20
"""A run takes up to so many bytes: a disk reads them nearly as fast as a whole file."""

FEWEST_RUNS, FEWEST_CHUNKS = 64, 8
"""A part has at least so many runs, so that its rows come from many places. A run has whole chunks of the file. If they
are so large that there would be fewer runs than the second number, a run is a piece of a chunk, which is read again for
the others."""

ANNOUNCED = 4
"""The system learns so many runs before a run that it will be read: a disk that reads several at once is faster."""

SCAN_BYTES = 8 << 20
"""Where rows are read in their order, about so many bytes are read at a time."""


def part_rows_for(facts: DataFacts, batch: int, window_bytes: int = WINDOW_BYTES) -> int:
    """The rows of a part for a set of these sizes; BATCHES of so many rows at least, and no more than the set."""
    wanted = window_bytes // (PARTS * facts.features * np.dtype(np.float32).itemsize)
    return min(facts.samples, max(wanted, BATCHES * batch))


def run_rows_for(rows: StoredRows, part_rows: int) -> int:
    """The rows of a run in a part of so many rows."""
    wanted = max(1, min(rows.rows_in(RUN_BYTES), part_rows // FEWEST_RUNS))
    if not rows.layout.chunks:
        return wanted
    of_chunk = rows.layout.chunks[0]
    return wanted // of_chunk * of_chunk or max(1, min(of_chunk, part_rows // FEWEST_CHUNKS))


@dataclass(frozen=True)
class Plan:
    """Which rows are read when, and the order in which they are trained on.

    rows: of the set. run_rows: read at once. part_rows: at most so many are shuffled together. Parts are numbered over
    all epochs; those of an epoch are equally large, up to a run. shares: several processes train on every batch, and
    process k takes its rows k, k + shares, and so on. These come from places that lie together, so that each process
    reads only its own. The size of a batch is a multiple of shares.
    """

    rows: int
    run_rows: int
    part_rows: int
    seed: int
    shares: int = 1

    @property
    def runs(self) -> int:
        """Runs in an epoch; the last one of the set may be shorter than the others."""
        return -(-self.rows // self.run_rows)

    @property
    def parts(self) -> int:
        """Parts in an epoch."""
        return -(-self.runs // max(1, self.part_rows // self.run_rows))

    @property
    def smallest_part(self) -> int:
        """No part has fewer rows."""
        return self.runs // self.parts * self.run_rows - (self.runs * self.run_rows - self.rows)

    def starts(self, part: int) -> Array:
        """The first row of each run of a part, in the order in which they are read."""
        epoch, number = divmod(part, self.parts)
        return (
            _shuffled(self.seed, epoch, self.runs)[self._first_run(number) : self._first_run(number + 1)]
            * self.run_rows
        )

    def numbers(self, part: int) -> Array:
        """The row numbers of a part in the file, in the order in which they lie in the window."""
        numbers = (self.starts(part)[:, None] + np.arange(self.run_rows)).ravel()
        return numbers[numbers < self.rows]

    def order(self, part: int) -> Array:
        """The places in the window of the rows of a part, in the order in which they are trained on."""
        count = len(self.numbers(part))
        rng, first = np.random.default_rng((self.seed, part, 1)), self._before(part)
        order = np.empty(count, np.int64)
        for share in range(self.shares):
            places = self.places(part, share)
            order[(share - first) % self.shares :: self.shares] = places.start + rng.permutation(len(places))
        return self.base(part) + order

    def places(self, part: int, share: int | None) -> range:
        """The places, counted from the base of a part, of the rows of a share; None stands for all."""
        count, first = len(self.numbers(part)), self._before(part)
        if share is None:
            return range(count)
        sizes = [len(range((one - first) % self.shares, count, self.shares)) for one in range(self.shares)]
        return range(sum(sizes[:share]), sum(sizes[: share + 1]))

    def _before(self, part: int) -> int:
        """The number of rows of the same epoch that come before a part."""
        epoch, number = divmod(part, self.parts)
        runs = _shuffled(self.seed, epoch, self.runs)[: self._first_run(number)]
        missing = self.runs * self.run_rows - self.rows  # from the last run of the set
        return len(runs) * self.run_rows - (missing if missing and self.runs - 1 in runs else 0)

    def _first_run(self, number: int) -> int:
        """The runs of an epoch that come before its part of that number: the first parts have one more, if any."""
        return number * (self.runs // self.parts) + min(number, self.runs % self.parts)

    def base(self, part: int) -> int:
        """The place in the window of the first row of a part."""
        return part % PARTS * self.part_rows


@lru_cache(maxsize=4)
def _shuffled(seed: int, epoch: int, count: int) -> Array:
    return np.random.default_rng((seed, epoch)).permutation(count)


@dataclass(frozen=True)
class StreamedSet:
    """A set whose samples stay in their file; its labels or targets are in memory.

    file: that X is in. outline: the set with zeros for X. part_rows: so many rows are shuffled together. files: as
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


class _Shelf:
    """What the trainer and its reading thread know of each other; changed: a lock, and the news that something changed.

    loaded, needed: numbers of parts. Those below `loaded` are in the window, or were; those below `needed` are not
    needed any more, and are left out if they were not read yet. start: raised where reading begins again from the first
    part. seconds: of reading each part.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.start = 0
        self.loaded = self.needed = 0
        self.seconds: dict[int, float] = {}
        self.error: BaseException | None = None
        self.stopped = False

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


class Stream:
    """The window of a set, and the thread that fills it. A context manager; the thread ends when it is closed.

    X (rows, n_0), Y (rows, n_L): the window, in dtype. charged_s: seconds that batches have waited for the file so far;
    a part that was waited for is charged to all batches from it, in equal shares.

    A batch stays in the window until `together` batches were taken.

    shares: as in `Plan`. share: only the rows of this share are read, and all others of X are not numbers.
    """

    def __init__(
        self,
        data: StreamedSet,
        n_outputs: int,
        dtype: DTypeLike,
        seed: int,
        shares: int = 1,
        share: int | None = None,
    ) -> None:
        self.data = data
        require_outputs(data.name, data.outline.labels, data.outline.targets, n_outputs)
        with data.container.open_rows(data.roles.X) as rows:
            self._row_bytes = rows.row_bytes
            self.plan = Plan(rows.rows, run_rows_for(rows, data.part_rows), data.part_rows, seed, shares)
            chunk_rows = rows.layout.chunks[0] if rows.layout.chunks else 1
        self.rereads = max(1.0, min(chunk_rows, rows.rows) / self.plan.run_rows)
        window = PARTS * self.plan.part_rows
        kind = np.dtype(dtype)
        nbytes = window * (data.features + n_outputs) * kind.itemsize
        require_memory(nbytes, f"{data.name}: a window of {window:,} rows", "use a smaller batch")
        self.X: Array = shared_zeros((window, data.features), kind)
        self.Y: Array = shared_zeros((window, n_outputs), kind)
        self.charged_s = 0.0
        self._share = share
        if share is not None:
            self.X[...] = np.nan
        self._shelf = _Shelf()
        self._thread: threading.Thread | None = None
        self._close = weakref.finalize(self, self._shelf.stop)
        self._begin()

    def together(self, m: int) -> int:
        """So many batches of m rows can be taken before the rows of the first of them may be replaced."""
        # the rest at the end of an epoch, which is left out, is smaller than a batch
        return max(1, self.plan.smallest_part // m - 1)

    def walk(self, m: int) -> Iterator[Array]:
        """Endless batches of m rows of the window, from the first one of the first epoch on.

        There is one flow of rows: a new walk starts it again, and walks that exist already go on from there. As in
        `batches`, the rest of an epoch that makes no whole batch is left out.
        """
        self.restart()
        while True:
            yield self.take(m)

    def restart(self) -> None:
        """Begin again with the first batch."""
        if self._part < 0:
            return
        with self._shelf.changed:
            self._shelf.start += 1
            self._shelf.loaded = self._shelf.needed = 0
            self._shelf.seconds.clear()
            self._shelf.changed.notify_all()
        self._begin()

    def _begin(self) -> None:
        self._part, self._left, self._share_s = -1, 0, 0.0
        self._order: Array = np.empty(0, np.int64)
        self._counted: dict[int, tuple[float, float]] = {}

    def take(self, m: int) -> Array:
        """The places (m,) of the next batch in the window; waits until it is there. Raises what the thread raised."""
        if self._left < m:
            self._enter((self._part // self.plan.parts + 1) * self.plan.parts)
            self._left = self.plan.rows
        self._left -= m
        taken = []
        while m > 0:
            if not len(self._order):
                self._enter(self._part + 1)
            piece, self._order = self._order[:m], self._order[m:]
            taken.append(piece)
            m -= len(piece)
            self.charged_s += self._share_s * len(piece)
        return taken[0] if len(taken) == 1 else np.concatenate(taken)

    @property
    def part(self) -> int:
        """The part that the last batch comes from, perhaps with rows of the one before."""
        return self._part

    def hold(self, part: int) -> None:
        """Have a part and the one before in the window, for another process that takes the batches."""
        if part < self._part:
            self.restart()
        if part != self._part:
            self._enter(part)

    def _enter(self, part: int) -> None:
        """Go on with a part once it was read."""
        shelf = self._shelf
        begun = time.perf_counter()
        with shelf.changed:
            shelf.needed = max(0, part - 1)
            shelf.changed.notify_all()
        if self._thread is None:
            filler = _Filler(self.data, self.plan, self.X, self.Y, self._share)
            self._thread = threading.Thread(target=_read_ahead, args=(shelf, filler), name="reads ahead", daemon=True)
            self._thread.start()
        with shelf.changed:
            while shelf.loaded <= part and shelf.error is None and not shelf.stopped:
                shelf.changed.wait()
            if shelf.error is not None:
                raise shelf.error
            if shelf.stopped:
                raise DataError(f"{self.data.name}: no more rows, because the stream was closed")
            seconds = {number: shelf.seconds.pop(number) for number in list(shelf.seconds) if number <= part}
        waited_s = time.perf_counter() - begun
        for number, read_s in seconds.items():
            self._counted[number] = read_s, waited_s if number == part else 0.0
        self._part, self._order = part, self.plan.order(part)
        self._share_s = waited_s / len(self._order)

    def record(self) -> StreamRecord:
        """How much was read since the last restart, without the first part, for which every run has to wait."""
        counted = [(number, *seconds) for number, seconds in self._counted.items() if number > 0]
        rows = sum(len(self.plan.places(number, self._share)) for number, _, _ in counted)
        return StreamRecord(
            part_rows=self.plan.part_rows,
            run_rows=self.plan.run_rows,
            row_bytes=self._row_bytes,
            rows=rows,
            read_s=sum(read_s for _, read_s, _ in counted),
            waited_s=sum(waited_s for _, _, waited_s in counted),
            rereads=self.rereads,
        )

    def close(self) -> None:
        """End the thread; a second call does nothing."""
        self._close()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _read_ahead(shelf: _Shelf, filler: _Filler) -> None:
    """The thread: read the next part when there is room for it, until the stream is closed or a part cannot be read."""
    part, start = 0, -1
    try:
        with filler:
            while True:
                with shelf.changed:
                    while not shelf.stopped and shelf.start == start and part >= shelf.needed + PARTS:
                        shelf.changed.wait()
                    if shelf.stopped:
                        return
                    if shelf.start != start:
                        part, start = 0, shelf.start
                    part = max(part, shelf.needed)
                begun = time.perf_counter()
                if not filler.load(part, shelf):
                    return
                seconds = time.perf_counter() - begun
                with shelf.changed:
                    if shelf.start == start:
                        part += 1
                        shelf.loaded, shelf.seconds[part - 1] = part, seconds
                        shelf.changed.notify_all()
    except BaseException as error:  # noqa: BLE001 - the trainer raises it
        with shelf.changed:
            shelf.error = error
            shelf.changed.notify_all()


class _Filler:
    """Reads parts into the window, converted. It belongs to the thread, which must not keep the stream itself alive."""

    def __init__(self, data: StreamedSet, plan: Plan, X: Array, Y: Array, share: int | None) -> None:
        self._data, self._plan, self._X, self._Y, self._share = data, plan, X, Y, share
        self._open = ExitStack()
        self._rows: StoredRows | None = None
        self._raw: Any = None
        self._scratch: Array | None = None
        self._is_finite = np.zeros(
            plan.rows, bool
        )  # the rows that were checked: parts of the first epoch may be left out

    def __enter__(self) -> _Filler:
        rows = self._rows = self._open.enter_context(self._data.container.open_rows(self._data.roles.X))
        if rows.offset is not None:
            with refusing(f"{rows.file} cannot be read"):
                self._raw = self._open.enter_context(rows.file.open("rb", buffering=0))
            if rows.dtype != self._X.dtype or self._data.scale != 1:
                self._scratch = np.empty((self._plan.run_rows, self._X.shape[1]), rows.dtype)
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def load(self, part: int, shelf: _Shelf) -> bool:
        """Read a part; False if the stream was closed meanwhile. Raises DataError if that cannot be done."""
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
            if shelf.stopped:
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
        """Read bytes of the file to where they belong. The interpreter's lock is free meanwhile, as with no library."""
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
            if np.isfinite(np.dot(flat, flat)):  # faster than a look at each; it may also overflow where all are finite
                return
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
