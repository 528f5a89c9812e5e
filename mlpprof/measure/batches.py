"""The order in which samples are trained on: shuffled anew every epoch, the same for every instance of a run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlpprof.model import Array


def batches(samples: int, m: int, seed: int) -> Iterator[Array]:
    """Endless indices (m,) into `samples` rows, epoch after epoch; the last, incomplete batch of an epoch is left out.

    Every batch has m rows, since a shorter one would be a different measurement.
    """
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(samples)
        for start in range(0, samples - m + 1, m):
            yield order[start : start + m]


def steps_per_epoch(samples: int, m: int) -> int:
    """Steps that visit every sample once, the last batch possibly short."""
    return -(-samples // m)
