"""A data file as named arrays, seen before they are read, and the choice of those that are samples and labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlpprof.data.dataset import Array, Dataset, require_memory
from mlpprof.errors import DataError, did_you_mean

Reader = Callable[[str], Array]
"""An array's name -> the array; raises DataError."""

LAYOUTS = (
    ("train_set_x", "train_set_y", "test_set_x", "test_set_y"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_x", "train_y", "test_x", "test_y"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x", "y", "x_test", "y_test"),
    ("test_set_x", "test_set_y", "", ""),
)
"""Names of X, Y, X_test and Y_test that are recognised, upper or lower case: cats, keras, and the plain one."""

LISTED = 12
"""At most this many names are listed in a message."""


@dataclass(frozen=True)
class ArrayInfo:
    """What is known of an array without reading it: its name, shape, dtype, and why it cannot be read, if so."""

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    nbytes: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Roles:
    """Which arrays of a file are X and Y, and X_test and Y_test where there is a test set."""

    X: str
    Y: str
    X_test: str | None = None
    Y_test: str | None = None


@dataclass(frozen=True)
class Container:
    """A file (with the files that belong to it) as named arrays.

    kind: 'IDX', 'HDF5' or 'npz'.  path: as the user gave it.  arrays: by name, in the file's order.
    reader: name -> array; raises DataError.
    """

    kind: str
    path: Path
    arrays: Mapping[str, ArrayInfo]
    reader: Reader

    def read(self, name: str) -> Array:
        """The array of that name; raises DataError if it is none, unreadable or larger than the free memory."""
        self.usable(name)
        return self.reader(name)

    def usable(self, name: str) -> ArrayInfo:
        """What is known of an array that can be read; raises DataError with the reason if it cannot."""
        info = self.info(name)
        if info.problem:
            raise DataError(f"{self.path}: '{name}' cannot be used: {info.problem}")
        require_memory(info.nbytes, f"{self.path}: '{name}' of shape {info.shape}")
        return info

    def info(self, name: str) -> ArrayInfo:
        """What is known of the array of that name; raises DataError listing the names there are."""
        if name not in self.arrays:
            near = did_you_mean(name, [printable(known) for known in self.arrays])
            raise DataError(f"{self.path}: no array '{name}'{near} ({self.listing})")
        return self.arrays[name]

    @property
    def listing(self) -> str:
        """The arrays with their shapes, for messages: 'it holds X (60000, 784), Y (60000,)'."""
        named = [f"{printable(info.name)} {info.shape}" for info in self.arrays.values()]
        more = [f"{len(named) - LISTED} more"] if len(named) > LISTED else []
        return "it holds " + ", ".join(named[:LISTED] + more)

    def roles(self, x: str | None = None, y: str | None = None) -> Roles:
        """The arrays named x and y, or those of a known layout; raises DataError if neither is there."""
        if (x is None) != (y is None):
            given, missing = ("--x", "--y") if y is None else ("--y", "--x")
            raise DataError(f"{self.path}: {given} was given without {missing}; name both arrays ({self.listing})")
        if x is not None and y is not None:
            return Roles(self.info(x).name, self.info(y).name)
        by_lower: dict[str, list[str]] = {}
        for name in self.arrays:
            by_lower.setdefault(name.lower(), []).append(name)
        for layout in LAYOUTS:
            found = [by_lower.get(name, []) for name in layout]
            if not (found[0] and found[1]):
                continue
            if any(len(names) > 1 for names in found):
                twice = next(names for names in found if len(names) > 1)
                raise DataError(
                    f"{self.path}: {' and '.join(twice)} differ in case only; name the arrays to use with --x and --y"
                )
            X, Y, X_test, Y_test = ([*names, ""][0] for names in found)
            return Roles(X, Y, X_test, Y_test) if X_test and Y_test else Roles(X, Y)
        raise DataError(
            f"{self.path}: no arrays named X and Y, x_train and y_train, or train_set_x and train_set_y; "
            f"name them with --x and --y ({self.listing})"
        )

    def dataset(self, roles: Roles) -> Dataset:
        """The samples and labels in these roles, read and checked; raises DataError."""
        return self.assemble(roles, self.read, self.read)

    def outline(self, roles: Roles) -> Dataset:
        """The set as `dataset` gives it, but for X and X_test, which are zeros that take neither time nor memory."""
        return self.assemble(roles, self._blank, self.read)

    def assemble(self, roles: Roles, X_of: Reader, Y_of: Reader) -> Dataset:
        """The set of the arrays that X_of and Y_of give for the names in these roles; raises DataError."""
        return Dataset.from_arrays(
            str(self.path),
            X_of(roles.X),
            Y_of(roles.Y),
            None if roles.X_test is None else X_of(roles.X_test),
            None if roles.Y_test is None else Y_of(roles.Y_test),
        )

    def _blank(self, name: str) -> Array:
        info = self.usable(name)
        return np.broadcast_to(np.zeros((), np.uint8), info.shape)


def size_in_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """The bytes of an array, exact also where a damaged file declares impossible sizes."""
    return math.prod(shape) * itemsize


def one_line(error: Exception) -> str:
    """A library's message without its line breaks and its end, for use within ours."""
    return printable(" ".join(str(error).split()))[:200] or type(error).__name__


def printable(text: str) -> str:
    """Text from a file without what a terminal would obey: control characters become '�'."""
    return "".join(c if c.isprintable() else "�" for c in text)
