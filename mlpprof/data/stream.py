"""Training from a file that need not fit into memory: a thread reads rows ahead into a window of the set.

The file is read in runs of neighbouring rows, because single rows are slow to read. An epoch visits all runs in a
random order. Several runs make a part, whose rows are shuffled. The window has room for three parts: the rows of a part
are trained on while the next part is read, and the part before stays for batches that are drawn ahead. The order
follows from the seed and the sizes alone, however fast the disk is.

X and Y of the window are the same arrays all the time, in memory that forked processes share. A variant takes the rows
of a batch from them as it takes them from a whole set.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike

from mlpprof.data.dataset import Array, require_memory, require_outputs
from mlpprof.data.filling import Filler
from mlpprof.data.reading_order import PARTS, Plan, run_rows_for
from mlpprof.data.streamed_set import StreamedSet
from mlpprof.engines.team import shared_zeros
from mlpprof.errors import DataError
from mlpprof.results import StreamRecord


class _Shelf:
    """What the trainer and its reading thread share. changed: the lock of all that is here; it is notified of changes.

    loaded, needed: numbers of parts. Those below `loaded` are in the window, or were; those below `needed` are not
    needed any more, and are left out if they were not read yet. start: how often reading has begun again from the first
    part. seconds: the time that reading each part has taken.
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
            filler = Filler(self.data, self.plan, self.X, self.Y, self._share)
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


def _read_ahead(shelf: _Shelf, filler: Filler) -> None:
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
                if not filler.load(part, lambda: shelf.stopped):
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
