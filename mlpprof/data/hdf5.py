"""HDF5 files: the cats' train_set_x and train_set_y, plain X and Y, or named datasets; none leads out of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mlpprof.data.container import ArrayInfo, Container, one_line, printable, size_in_bytes
from mlpprof.data.dataset import Array
from mlpprof.errors import DataError

READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)
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
                    arrays[name] = _info(name, child)
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
    except READ_ERRORS as error:
        raise DataError(f"{path} cannot be read as HDF5: {one_line(error)}") from error
    return arrays


def _info(name: str, dataset: h5py.Dataset) -> ArrayInfo:
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
    except READ_ERRORS as error:
        raise DataError(f"{path}: '{name}' cannot be read: {one_line(error)}") from error
    return array
