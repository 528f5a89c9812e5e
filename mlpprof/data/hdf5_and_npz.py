"""A data file as named arrays, seen before they are read, and the choice of those that are samples and labels."""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import h5py
import numpy as np
from numpy.lib import format as npy

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


# HDF5 files: the cats' train_set_x and train_set_y, plain X and Y, or named datasets; none leads out of the file.


HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)
MAX_OBJECTS = 10_000


def is_hdf5(path: Path) -> bool:
    """Whether a file has HDF5's signature, at its start or behind a user block."""
    return bool(h5py.is_hdf5(path))


def open_hdf5(path: Path) -> Container:
    """The datasets of an HDF5 file, and those of the test file beside train_*.h5; raises DataError if unreadable.

    A group's datasets are named as paths, 'mnist/X'. Links to other files, virtual and externally stored datasets,
    and anything but numbers are listed with the reason and never followed or read.
    """
    files = dict.fromkeys(_list(path), path)
    arrays = _list(path)
    if "train_set_x" in arrays and "test_set_x" not in arrays and path.name.startswith("train"):
        test = path.with_name("test" + path.name.removeprefix("train"))
        if test.is_file():
            # Only the test set's own two: other names may well stand in both files.
            found = {name: info for name, info in _list(test).items() if name in ("test_set_x", "test_set_y")}
            arrays |= found
            files |= dict.fromkeys(found, test)
    if not arrays:
        raise DataError(f"{path} is an HDF5 file without datasets; expected X and Y, or train_set_x and train_set_y")
    return Container("HDF5", path, arrays, lambda name: _read(files[name], name))


def _list(path: Path) -> dict[str, ArrayInfo]:
    arrays: dict[str, ArrayInfo] = {}
    seen: set[Any] = set()

    def walk(group: h5py.Group, prefix: str) -> None:
        for key in group:
            name = prefix + key
            if len(arrays) > MAX_OBJECTS:
                raise DataError(f"{path} holds more than {MAX_OBJECTS:,} datasets; put X and Y in a file of their own")
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                arrays[name] = ArrayInfo(name, problem=f"it is a link to another file, {printable(link.filename)}")
                continue
            if isinstance(link, h5py.SoftLink):
                arrays[name] = ArrayInfo(name, problem=f"it is a soft link; name its target, {printable(link.path)}")
                continue
            child = group[key]
            if isinstance(child, h5py.Dataset):
                try:
                    arrays[name] = _hdf5_info(name, child)
                except TypeError as error:
                    arrays[name] = ArrayInfo(name, problem=f"its dtype has no NumPy equivalent: {one_line(error)}")
            elif isinstance(child, h5py.Group) and child.id not in seen:
                # Hard links can form a circle.
                seen.add(child.id)
                walk(child, name + "/")

    try:
        with h5py.File(path, "r") as file:
            seen.add(file["/"].id)
            walk(file, "")
    except HDF5_ERRORS as error:
        raise DataError(f"{path} cannot be read as HDF5: {one_line(error)}") from error
    return arrays


def _hdf5_info(name: str, dataset: h5py.Dataset) -> ArrayInfo:
    if dataset.shape is None:
        return ArrayInfo(name, problem="it is empty")
    shape, dtype = dataset.shape, dataset.dtype
    nbytes = size_in_bytes(shape, dtype.itemsize)
    problem = ""
    if dtype.kind not in "biuf":
        problem = f"dtype {dtype}: expected numbers"
    elif dataset.is_virtual:
        problem = "it is virtual: its values are in other files; copy it into one file"
    elif dataset.external:
        problem = f"its values are in another file, {printable(dataset.external[0][0])}; copy it into one file"
    return ArrayInfo(name, shape, str(dtype), nbytes, problem)


def _read(path: Path, name: str) -> Array:
    try:
        with h5py.File(path, "r") as file:
            array: Array = np.asarray(file[name][()])
    except HDF5_ERRORS as error:
        raise DataError(f"{path}: '{name}' cannot be read: {one_line(error)}") from error
    return array


# NumPy's .npz archives: X and Y, keras' x_train ... y_test, or named arrays. Nothing pickled is ever loaded.


NPZ_ERRORS = (
    OSError,
    EOFError,
    ValueError,  # NumPy, for a header that is none
    RuntimeError,  # zipfile, for encryption and for methods of compression that it does not know
    SyntaxError,
    TypeError,  # NumPy, where a key of the header is no text
    TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def open_npz(path: Path) -> Container:
    """The arrays of an .npz archive; raises DataError if it is no sound archive.

    Their shapes come from the members' headers; nothing is unpacked yet.
    """
    arrays: dict[str, ArrayInfo] = {}
    members: dict[str, zipfile.ZipInfo] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".npy"):
                    name = member.filename.removesuffix(".npy")
                    members[name] = member
                    arrays[name] = _npz_info(archive, name, member)
    except NPZ_ERRORS as error:
        raise DataError(f"{path} is no sound .npz archive: {one_line(error)}") from error
    if not arrays:
        raise DataError(f"{path} is a zip archive without arrays; expected .npy members, as np.savez writes them")

    def reader(name: str) -> Array:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(members[name]) as file:
                array: Array = npy.read_array(file, allow_pickle=False)
                # At its end zipfile compares the checksum.
                if file.read(1):
                    raise DataError(f"{path}: '{name}' goes on behind its {array.nbytes:,} bytes; it is damaged")
        except NPZ_ERRORS as error:
            raise DataError(f"{path}: '{name}' is damaged: {one_line(error)}") from error
        return array

    return Container("npz", path, arrays, reader)


def _npz_info(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> ArrayInfo:
    try:
        with archive.open(member) as file:
            shape, dtype = _header(file)
            offset = file.tell()
    except NPZ_ERRORS as error:
        return ArrayInfo(name, problem=f"its header is damaged: {one_line(error)}")
    if dtype.kind not in "biuf":
        problem = "it holds Python objects, which could run code" if dtype.hasobject else "expected numbers"
        return ArrayInfo(name, shape, str(dtype), problem=f"dtype {dtype}: {problem}")
    nbytes = size_in_bytes(shape, dtype.itemsize)
    problem = ""
    if member.file_size != offset + nbytes:
        problem = f"shape {shape} of {dtype} takes {nbytes:,} bytes, but the archive has {member.file_size - offset:,}"
    return ArrayInfo(name, shape, str(dtype), nbytes, problem)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file)
    else:
        raise ValueError(f"npy format {version[0]}.{version[1]}, which only arrays with named fields need")
    return shape, dtype
