"""The sets that mlpprof makes itself, from a seed, without a file: the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlpprof.data.dataset import Array, Dataset
from mlpprof.data.digits import digits
from mlpprof.data.draws import Draws
from mlpprof.data.pictures import pictures
from mlpprof.errors import DataError, did_you_mean

SEED = 0


@dataclass(frozen=True)
class EmbeddedSet:
    """An embedded set: what it holds, known without making it, and the function that makes it from a seed."""

    name: str
    summary: str
    samples: int
    test_samples: int
    sample_shape: tuple[int, ...]
    classes: int
    make: Callable[[int], tuple[Array, Array, Array | None, Array | None]]


def embedded(name: str) -> Dataset:
    """The embedded set of that name; raises DataError listing the names there are."""
    return Dataset.from_arrays(name, *embedded_set(name).make(SEED))


def embedded_set(name: str) -> EmbeddedSet:
    """What is known of the embedded set of that name; raises DataError listing the names there are."""
    if name not in EMBEDDED:
        raise DataError(f"no embedded set '{name}'{did_you_mean(name, EMBEDDED)} (known: {', '.join(EMBEDDED)})")
    return EMBEDDED[name]


def _tiny(seed: int) -> tuple[Array, Array, Array, Array]:
    """Three patterns of 4x5 pixels under noise that is five thirds as strong."""
    draws = Draws(seed)
    patterns = draws.bytes((3, 4, 5)).astype(np.int64)
    labels = draws.below(3, (400,))
    images = ((3 * patterns[labels] + 5 * draws.bytes((400, 4, 5)).astype(np.int64)) >> 3).astype(np.uint8)
    return images[:300], labels[:300], images[300:], labels[300:]


def _random(seed: int) -> tuple[Array, Array, None, None]:
    """Uniform inputs with labels that have nothing to do with them: there is nothing to learn but by heart."""
    draws = Draws(seed)
    X = draws.below(2**24, (1000, 1000)).astype(np.float32) / np.float32(2**24)
    return X, draws.below(10, (1000,)), None, None


def _teacher(seed: int) -> tuple[Array, Array, Array, Array]:
    """Uniform inputs and the yes or no of a random network that is partly linear, partly not; half of them are yes."""
    draws = Draws(seed)
    inputs = draws.below(2**16, (12_000, 39))
    centred = inputs - 2**15
    linear = centred @ draws.around(7, (39,))
    bent = np.abs(centred @ draws.around(7, (39, 8)))
    score = 3 * linear + bent @ (2 * (np.arange(8) % 2) - 1)
    labels = (score > np.sort(score)[len(score) // 2]).astype(np.int64)
    X = inputs.astype(np.float32) / np.float32(2**16)
    return X[:10_000], labels[:10_000], X[10_000:], labels[10_000:]


EMBEDDED = {
    known.name: known
    for known in (
        EmbeddedSet("digits", "hand-drawn digits in MNIST's shape", 60_000, 10_000, (28, 28), 10, digits),
        EmbeddedSet("tiny", "three noisy patterns of 4x5 pixels", 300, 100, (4, 5), 3, _tiny),
        EmbeddedSet("random", "uniform noise with random labels", 1_000, 0, (1_000,), 10, _random),
        EmbeddedSet("teacher", "yes or no from a random network", 10_000, 2_000, (39,), 2, _teacher),
        EmbeddedSet("cats", "pictures with and without a cat's head", 209, 50, (64, 64, 3), 2, pictures),
    )
}
"""The embedded sets by name; `digits` is the default of most commands."""
