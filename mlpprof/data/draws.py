"""Random whole numbers that are the same on every machine and in every NumPy.

NumPy promises the stream of a bit generator for good, but not what its Generator methods make of it; so the embedded
sets are drawn from the raw stream, and from there with integers alone.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class Draws:
    """A stream of random numbers from a seed."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def bytes(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Uniform bytes, 0 to 255."""
        return self._raw(math.prod(shape)).reshape(shape)

    def below(self, n: int, shape: tuple[int, ...]) -> Integers:
        """Uniform whole numbers from 0 to n - 1, for n far below 2**32."""
        words = self._raw(4 * math.prod(shape)).view("<u4").astype(np.int64)
        return ((words * n) >> 32).reshape(shape)

    def around(self, reach: int, shape: tuple[int, ...]) -> Integers:
        """Whole numbers from -reach to reach, the middle likelier than the ends (a triangle)."""
        return self.below(reach + 1, shape) - self.below(reach + 1, shape)

    def _raw(self, count: int) -> NDArray[np.uint8]:
        words = np.asarray(self._bits.random_raw(-(-count // 8)))
        return words.astype("<u8", copy=False).view(np.uint8)[:count]
