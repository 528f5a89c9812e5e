"""HDF5 files: the cats' train_set_x and train_set_y, plain X and Y, or named datasets. No link out of the file is
followed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mlpprof.data.container import ArrayInfo, Container, one_line, printable, refusing
from mlpprof.data.dataset import Array
from mlpprof.data.stored_rows import Layout, StoredRows
from mlpprof.errors import DataError

MAX_DATASETS = 10_000
LARGEST_CHUNK = 256 << 20
"""HDF5 unpacks a compressed chunk as a whole. A chunk of more bytes is refused if it is larger than its dataset."""


def is_hdf5(path: Path) -> bool:
    """Whether a file has HDF5's signature, at its start or after a user block."""
    return bool(h5py.is_hdf5(path))


def open_hdf5(path: Path) -> Container:
    """The datasets of an HDF5 file, and those of the test file beside train_*.h5; raises DataError if unreadable.

    A group's datasets are named as paths, 'mnist/X'. Links to other files, virtual and externally stored datasets,
    datasets that were never written, and anything but numbers are listed with the reason and never read.
    """
    arrays = _list(path)
    files = dict.fromkeys(arrays, path)
    if "train_set_x" in arrays and "test_set_x" not in arrays and path.name.startswith("train"):
        test = path.with_name("test" + path.name.removeprefix("train"))
        if test.is_file():
            # Only the test set's own two: both files may have other names in common.
            found = {name: info for name, info in _list(test).items() if name in ("test_set_x", "test_set_y")}
            arrays |= found
            files |= dict.fromkeys(found, test)
    if not arrays:
        raise DataError(f"{path} is an HDF5 file without datasets; expected X and Y, or train_set_x and train_set_y")

    def read(name: str) -> Array:
        with h5py.File(files[name], "r") as file:
            return np.asarray(file[name][()])

    @contextmanager
    def open_rows(name: str) -> Iterator[StoredRows]:
        with h5py.File(files[name], "r") as file:
            dataset = file[name]
            yield StoredRows(
                files[name],
                dataset.shape,
                dataset.dtype,
                _layout(dataset),
                lambda start, stop: dataset[start:stop],
                offset=dataset.id.get_offset(),  # None for chunks
            )

    return Container("HDF5", path, arrays, read, open_rows)


def _layout(dataset: h5py.Dataset) -> Layout:
    plist = dataset.id.get_create_plist()
    names = [plist.get_filter(number)[3].decode(errors="replace") for number in range(plist.get_nfilters())]
    filters = tuple("gzip" if name == "deflate" else printable(name) for name in names)
    return Layout(dataset.id.get_storage_size(), dataset.chunks or (), filters)


def _list(path: Path) -> dict[str, ArrayInfo]:
    arrays: dict[str, ArrayInfo] = {}
    seen: set[Any] = set()

    def walk(group: h5py.Group, prefix: str) -> None:
        for key in group:
            name = prefix + key
            if len(arrays) > MAX_DATASETS:
                raise DataError(f"{path} holds more than {MAX_DATASETS:,} datasets; put X and Y in a file of their own")
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                arrays[name] = ArrayInfo(name, problem=f"it is a link to another file, {printable(link.filename)}")
                continue
            if isinstance(link, h5py.SoftLink):
                arrays[name] = ArrayInfo(name, problem=f"it is a soft link; name its target, {printable(link.path)}")
                continue
            child = group[key]
            if isinstance(child, h5py.Dataset):
                arrays[name] = _info(name, child)
            elif isinstance(child, h5py.Group) and child.id not in seen:
                # Hard links can form a circle.
                seen.add(child.id)
                walk(child, name + "/")

    with refusing(f"{path} cannot be read as HDF5"), h5py.File(path, "r") as file:
        seen.add(file["/"].id)
        walk(file, "")
    return arrays


def _info(name: str, dataset: h5py.Dataset) -> ArrayInfo:
    if dataset.shape is None:
        return ArrayInfo(name, problem="it is empty")
    try:
        dtype = dataset.dtype
    except TypeError as error:
        return ArrayInfo(name, problem=f"its dtype has no NumPy equivalent: {one_line(error)}")
    if dataset.is_virtual:
        problem = "it is virtual: its values are in other files; copy it into one file"
    elif dataset.external:
        problem = f"its values are in another file, {printable(dataset.external[0][0])}; copy it into one file"
    else:
        problem = _storage_problem(dataset, dtype)
    return ArrayInfo.of(name, dataset.shape, dtype, problem if dtype.kind in "biuf" else "")


def _storage_problem(dataset: h5py.Dataset, dtype: np.dtype[Any]) -> str:
    """The problem with how the values are stored, or an empty text. A small file can declare any number of values.

    Values that were never written would be read as zeros. A chunk that was compressed may need more memory than the
    whole dataset.
    """
    declared, unit = math.prod(dataset.shape) * dtype.itemsize, "bytes"
    expected, written = declared, dataset.id.get_storage_size()
    if dataset.chunks is not None:
        chunk_bytes = math.prod(dataset.chunks) * dtype.itemsize
        if chunk_bytes > max(declared, LARGEST_CHUNK) and dataset.id.get_create_plist().get_nfilters():
            return f"its chunks take {chunk_bytes:,} bytes each, but the whole dataset takes {declared:,}"
        expected, unit = math.prod(-(-n // k) for n, k in zip(dataset.shape, dataset.chunks, strict=True)), "chunks"
        written = dataset.id.get_num_chunks()
    return f"only {written:,} of its {expected:,} {unit} were ever written" if written < expected else ""
