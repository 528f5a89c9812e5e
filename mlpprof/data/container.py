"""A data file as named arrays: listed before they are read, and the choice of those that are samples and labels.

`hdf5`, `npz`, `npy` and `idx` open one format each and give a `Container`; everything after that is the same for all.
"""

from __future__ import annotations

import lzma
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from mlpprof.data.dataset import Array, Dataset, require_memory
from mlpprof.data.stored_rows import StoredRows
from mlpprof.errors import DataError, did_you_mean

Reader = Callable[[str], Array]
"""A function from an array's name to the array. It may raise any of READ_ERRORS."""

Opener = Callable[[str], AbstractContextManager[StoredRows]]
"""A function from an array's name to its rows, while its file is open. It may raise any of READ_ERRORS."""

LAYOUTS = (
    ("train_set_x", "train_set_y", "test_set_x", "test_set_y"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_x", "train_y", "test_x", "test_y"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x", "y", "x_test", "y_test"),
    ("test_set_x", "test_set_y", "", ""),
)
"""The names of X, Y, X_test and Y_test that are recognised, in upper or lower case."""

LISTED = 12
"""A message lists at most this many names."""

ANSWER_BYTES = 8
"""Labels become int64 and targets float64, so each number of Y takes this much besides its stored form."""

START_BYTES = 1024
"""This much of a file's beginning is enough to recognise its format."""

READ_ERRORS = (
    OSError,
    EOFError,
    KeyError,
    ValueError,  # NumPy, for a damaged header
    RuntimeError,  # zipfile, for encryption and unknown methods of compression; h5py
    SyntaxError,
    TypeError,  # NumPy, where a key of the header is not text; h5py, for a dtype that NumPy does not have
    TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""The exceptions that h5py, zipfile, gzip and NumPy raise for a file that is damaged or cannot be read."""


@contextmanager
def refusing(message: str) -> Iterator[None]:
    """Turn any of READ_ERRORS into a DataError: the message, and the library's reason in one line."""
    try:
        yield
    except READ_ERRORS as error:
        raise DataError(f"{message}: {one_line(error)}") from error


@dataclass(frozen=True)
class ArrayInfo:
    """What is known of an array before it is read; `problem` says why it cannot be read, or is empty."""

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    nbytes: int = 0
    problem: str = ""

    @classmethod
    def of(cls, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], problem: str = "") -> ArrayInfo:
        """The facts of an array. Any dtype but booleans, integers and real numbers is a problem."""
        if dtype.kind not in "biuf":
            problem = f"dtype {dtype}: {problem or 'expected numbers'}"
        # Python's integers stay exact where a damaged file declares impossible sizes.
        return cls(name, shape, str(dtype), math.prod(shape) * dtype.itemsize, problem)


@dataclass(frozen=True)
class Roles:
    """The names of the arrays that are X and Y, and X_test and Y_test where there is a test set."""

    X: str
    Y: str
    X_test: str | None = None
    Y_test: str | None = None


@dataclass(frozen=True)
class Container:
    """A file (with the files that belong to it) as named arrays.

    kind: 'IDX', 'HDF5', 'npz' or 'npy'.  path: as the user gave it.  arrays: by name, in the file's order.
    reader: reads an array as a whole.  opener: opens it to be read by rows.  beside: the other files with its arrays.
    """

    kind: str
    path: Path
    arrays: Mapping[str, ArrayInfo]
    reader: Reader
    opener: Opener
    beside: tuple[Path, ...] = ()

    def read(self, name: str) -> Array:
        """The array of that name; raises DataError if it is missing, unreadable or larger than the free memory."""
        info = self.usable(name)
        require_memory(info.nbytes, f"{self.path}: '{name}' of shape {info.shape}")
        with refusing(f"{self.path}: '{name}' cannot be read"):
            return self.reader(name)

    @contextmanager
    def open_rows(self, name: str) -> Iterator[StoredRows]:
        """The array of that name, of 1 dimension or more, to be read by rows; raises DataError as `read`."""
        self.usable(name)
        message = f"{self.path}: '{name}' cannot be read"
        with ExitStack() as stack:
            with refusing(message):
                rows = stack.enter_context(self.opener(name))

            def read(start: int, stop: int) -> Array:
                # not around the block of the caller, whose own errors are no errors of this file
                with refusing(message):
                    return rows.read(start, stop)

            yield replace(rows, read=read)

    def usable(self, name: str) -> ArrayInfo:
        """The facts of an array that can be read; raises DataError with the reason if it cannot."""
        info = self.info(name)
        if info.problem:
            raise DataError(f"{self.path}: '{name}' cannot be used: {info.problem}")
        return info

    def info(self, name: str) -> ArrayInfo:
        """The facts of the array of that name; raises DataError that lists the names there are."""
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
                    f"{self.path}: the names {' and '.join(twice)} differ in case only; "
                    "name the arrays to use with --x and --y"
                )
            X, Y, X_test, Y_test = ([*names, ""][0] for names in found)
            return Roles(X, Y, X_test, Y_test) if X_test and Y_test else Roles(X, Y)
        raise DataError(
            f"{self.path}: no arrays named X and Y, x_train and y_train, or train_set_x and train_set_y; "
            f"name them with --x and --y ({self.listing})"
        )

    def dataset(self, roles: Roles) -> Dataset:
        """The samples and labels in these roles, read and checked; raises DataError."""
        self.require_memory(roles)
        return self.assemble(roles, self.read, self.read)

    def outline(self, roles: Roles) -> Dataset:
        """The same set with zeros for X and X_test, which take neither time nor memory; raises DataError."""
        self.require_memory(roles, with_samples=False)
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

    def require_memory(self, roles: Roles, with_samples: bool = True) -> None:
        """Raise DataError, before anything is read, if the arrays together need more than the free memory.

        with_samples: whether X and X_test are read too.
        """
        samples = [self.usable(name) for name in (roles.X, roles.X_test) if name is not None] if with_samples else []
        answers = [self.usable(name) for name in (roles.Y, roles.Y_test) if name is not None]
        stored = sum(info.nbytes for info in samples + answers)
        converted = ANSWER_BYTES * sum(math.prod(info.shape) for info in answers)
        listed = ", ".join(f"'{info.name}' {info.shape}" for info in samples + answers)
        require_memory(stored + converted, f"{self.path}: {listed}")

    def _blank(self, name: str) -> Array:
        return np.broadcast_to(np.zeros((), np.uint8), self.usable(name).shape)


def looks_like(start: bytes) -> str:
    """The end of the sentence "FILE ..." for a file that is not a known format, from its first START_BYTES."""
    if start.startswith(b"\x93NUMPY"):
        return "is an .npy array"
    if start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5":
        return "is a pickle, which could run code and is never loaded"
    text = start.decode("utf-8", errors="ignore").strip()
    if text.lower().startswith(("<!doctype html", "<html")):
        title = re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        shown = f" ({printable(' '.join(title[1].split()))[:80]})" if title else ""
        return f"is a web page{shown}, not data; download the file again"
    line = text.split("\n")[0].strip()
    if line and line.isprintable() and b"\0" not in start:
        return f"is a text file that starts with '{line[:40]}'"
    return f"starts with the bytes {start[:4].hex(' ')}, which no known format has"


def one_line(error: Exception) -> str:
    """A library's message in one line of at most 200 characters, for use within ours."""
    return printable(" ".join(str(error).split()))[:200] or type(error).__name__


def printable(text: str) -> str:
    """Text from a file with '�' for every control character, which a terminal would obey."""
    return "".join(c if c.isprintable() else "�" for c in text)
