"""In which order the rows of a file are read and trained on: parts of several runs of neighbouring rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np

from mlpprof.data.dataset import Array, DataFacts
from mlpprof.data.stored_rows import StoredRows

PARTS = 3
"""The window has room for this many parts."""

WINDOW_BYTES = 128 << 20
"""The window takes about this many bytes in float32, if the batch does not need more."""

BATCHES = 3
"""A part has at least this many batches, so that a batch comes from two parts at most."""

RUN_BYTES = 1 << 20
"""A run takes at most this many bytes: a disk reads them nearly as fast as a whole file."""

FEWEST_RUNS = 64
"""A part has at least this many runs, so that its rows come from many places of the file."""

FEWEST_CHUNKS = 8
"""A run has whole chunks of the file, if a part then has at least this many runs.

If the chunks are larger, a run is a piece of a chunk, and the chunk is read again for each of its other pieces.
"""


def part_rows_for(facts: DataFacts, batch: int, window_bytes: int = WINDOW_BYTES) -> int:
    """The rows of a part for a set of these sizes; at least BATCHES of this size, and no more than the set."""
    wanted = window_bytes // (PARTS * facts.features * np.dtype(np.float32).itemsize)
    return min(facts.samples, max(wanted, BATCHES * batch))


def run_rows_for(rows: StoredRows, part_rows: int) -> int:
    """The rows of a run, in a part of part_rows rows."""
    wanted = max(1, min(rows.rows_in(RUN_BYTES), part_rows // FEWEST_RUNS))
    if not rows.layout.chunks:
        return wanted
    of_chunk = rows.layout.chunks[0]
    return wanted // of_chunk * of_chunk or max(1, min(of_chunk, part_rows // FEWEST_CHUNKS))


@dataclass(frozen=True)
class Plan:
    """Which rows are read when, and the order in which they are trained on.

    rows: of the set. run_rows: read at once. part_rows: at most this many are shuffled together. Parts are numbered
    over all epochs; those of an epoch are equally large, up to a run. shares: several processes train on every batch,
    and process k takes its rows k, k + shares, and so on. These come from places that lie together, so that each
    process reads only its own. The size of a batch is a multiple of shares.
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
        runs = _shuffled(self.seed, epoch, self.runs)
        return runs[self._first_run(number) : self._first_run(number + 1)] * self.run_rows

    def numbers(self, part: int) -> Array:
        """The row numbers of a part in the file, in the order in which they lie in the window."""
        numbers = (self.starts(part)[:, None] + np.arange(self.run_rows)).ravel()
        return numbers[numbers < self.rows]

    def order(self, part: int) -> Array:
        """The places in the window of the rows of a part, in the order in which they are trained on."""
        first, bounds = self._bounds(part)
        rng = np.random.default_rng((self.seed, part, 1))
        order = np.empty(bounds[-1], np.int64)
        for share, (start, stop) in enumerate(pairwise(bounds)):
            order[(share - first) % self.shares :: self.shares] = start + rng.permutation(stop - start)
        return self.base(part) + order

    def places(self, part: int, share: int | None) -> range:
        """The places, counted from the base of a part, of the rows of a share; None stands for all."""
        _, bounds = self._bounds(part)
        return range(bounds[-1]) if share is None else range(bounds[share], bounds[share + 1])

    def _bounds(self, part: int) -> tuple[int, list[int]]:
        """How many rows of the epoch come before a part, and where each share of the part begins and the last one ends.

        The bounds are counted from the base of the part.
        """
        epoch, number = divmod(part, self.parts)
        runs = _shuffled(self.seed, epoch, self.runs)
        first, end = (self._rows_of(runs[: self._first_run(one)]) for one in (number, number + 1))
        sizes = (len(range((share - first) % self.shares, end - first, self.shares)) for share in range(self.shares))
        return first, [0, *accumulate(sizes)]

    def _rows_of(self, runs: Array) -> int:
        """The number of rows in these runs."""
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
