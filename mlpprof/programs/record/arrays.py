"""What an array is: the buffer that it lies in, and the values that it has.

Buffers are distinguished by weak references to the arrays that own them, because memory and `id`s are reused. Values
are compared by a checksum of their bytes in the logical order of the elements, so that A and a copy of it in the other
memory order are equal.
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpprof.instrument.numpy_costs import order_of

MOST_BYTES = 4_000_000
"""For larger arrays the checksum takes only some rows, and the sum of all elements' bits."""

BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
"""Bytes of an element -> the integer type that its bits are read as."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """An operand or a result at one moment.

    root: number of the buffer; -1 for a single number. start: address of the first element. content: a checksum of
    shape, dtype and values; 0 where it is not needed, as for an array of which a part is taken. trims: the contents
    without the first row, the last row, the first column, the last column, where they are needed.
    """

    root: int
    start: int
    shape: tuple[int, ...]
    dtype: str
    order: str
    nbytes: int
    content: int
    is_matrix: bool = False
    trims: tuple[int, ...] = ()

    @property
    def is_array(self) -> bool:
        """Whether it is an array, not a number."""
        return self.root >= 0

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape)) if self.shape else 1


class Roots:
    """Numbers for buffers, each for as long as its owner lives. now: gives the time that is noted when one is freed.

    shared: buffers in memory that is not NumPy's own, as a mapped file or memory of several processes.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._alive: dict[int, tuple[weakref.ref[Array], int]] = {}
        self._next = 0
        self.died: dict[int, int] = {}
        self.shared: set[int] = set()

    def number(self, array: Array) -> int:
        """The number of the buffer that an array lies in."""
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        known = self._alive.get(id(root))
        if known is not None and known[0]() is root:
            return known[1]
        number, key = self._next, id(root)
        self._next += 1
        if not root.flags.owndata:
            self.shared.add(number)

        def gone(reference: weakref.ref[Array]) -> None:
            self.died[number] = self._now()
            if (held := self._alive.get(key)) is not None and held[0] is reference:
                del self._alive[key]

        self._alive[key] = (weakref.ref(root, gone), number)
        return number


def value_of(thing: Any, roots: Roots, with_trims: bool = False, with_content: bool = True) -> Value:
    """The value of an array or a number."""
    if not isinstance(thing, np.ndarray):
        content = hash((type(thing).__name__, repr(thing) if isinstance(thing, float | int | complex) else id(thing)))
        dtype = getattr(getattr(thing, "dtype", None), "name", type(thing).__name__)
        return Value(-1, 0, (), dtype, "", int(getattr(thing, "nbytes", 0)), content)
    trims = _trims(thing) if with_trims and thing.ndim == 2 else ()
    start = int(thing.__array_interface__["data"][0]) if not thing.dtype.hasobject else id(thing)
    return Value(
        roots.number(thing),
        start,
        thing.shape,
        thing.dtype.name,
        order_of(thing),
        thing.nbytes,
        content_of(thing) if with_content else 0,
        isinstance(thing, np.matrix),
        trims,
    )


def upright(array: Array) -> Array:
    """The array, or its transpose if that lies in C order."""
    return array.T if array.flags.f_contiguous and not array.flags.c_contiguous else array


def content_of(array: Array) -> int:
    """A checksum of shape, dtype and values."""
    if array.dtype.hasobject:
        return id(array)
    plain = array.view(np.ndarray) if type(array) is not np.ndarray else array
    if plain.nbytes > MOST_BYTES and plain.ndim > 0:
        step = max(1, len(plain) // 64)
        return hash((plain.shape, plain.dtype.name, _bytes_sum(plain[::step]), _bits_sum(plain)))
    return hash((plain.shape, plain.dtype.name, _bytes_sum(plain)))


def _bytes_sum(array: Array) -> int:
    if not array.nbytes:
        return 0
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data)


def _bits_sum(array: Array) -> int:
    """The bits of all elements, added as integers with wrapping: the sum does not depend on the order."""
    bits = BITS.get(array.itemsize)
    return 0 if bits is None else int(np.add.reduce(array.view(bits), axis=None, dtype=np.uint64))


def _trims(array: Array) -> tuple[int, ...]:
    """Contents without the first row, the last row, the first column, the last column.

    For an array in F order, those of its transpose, because that is what the program has stacked.
    """
    array = upright(array)
    return tuple(content_of(part) for part in (array[1:], array[:-1], array[:, 1:], array[:, :-1]))
