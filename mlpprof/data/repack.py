"""`mlpprof data repack`: the arrays of a data file in a new file that reads fast: uncompressed, each in one piece."""

from __future__ import annotations

import errno
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
from numpy.lib import format as npy

from mlpprof.data.container import ArrayInfo, Container, printable
from mlpprof.data.dataset import Array
from mlpprof.data.stored_rows import StoredRows
from mlpprof.data.unchanged import FileStates
from mlpprof.errors import DataError, UsageError
from mlpprof.files import write_atomically

BLOCK_BYTES = 16 << 20
"""About this many bytes are read and written at a time."""

MOST_OF_MEMORY = 0.25
"""A block may take this share of the free memory, where the file's chunks make it larger."""

HEADER_BYTES = 64 << 10
"""A file takes at most this many bytes besides the values of its arrays."""

Report = Callable[[str, float], None]
"""What gets the progress: what is done, and the share that is done."""

Blocks = Iterator[Array]

Store = Callable[[str, ArrayInfo, Blocks], None]
"""What writes one array: its name, its facts, and its blocks of rows in order."""


@dataclass(frozen=True)
class Repacked:
    """The arrays that a new file holds, the bytes of their values, and those that were left out, with the reason."""

    arrays: tuple[str, ...]
    nbytes: int
    left_out: tuple[tuple[str, str], ...]


def repack(container: Container, path: Path, report: Report, overwrite: bool = False) -> Repacked:
    """Write the arrays of a container to a new file, in the format of its ending; the file appears whole or not at all.

    Arrays that cannot be used are left out. Raises UsageError if the file exists already (unless overwrite), has
    another ending than those of WRITERS, or cannot be written; DataError if an array cannot be read, or if
    the file changes meanwhile.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UsageError(f"cannot write {path}: expected a name that ends in {', '.join(WRITERS)}; choose one of these")
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path} exists already; choose another name, or add --overwrite to replace it")
    usable = {name: info for name, info in container.arrays.items() if not info.problem}
    left_out = tuple((name, info.problem) for name, info in container.arrays.items() if info.problem)
    if not usable:
        raise DataError(f"{container.path} holds no array that can be used ({container.listing})")
    files = FileStates.of((container.path, *container.beside))
    whole = sum(info.nbytes for info in usable.values())
    _require_space(path, whole)
    done = 0

    def reported(name: str, blocks: Blocks) -> Blocks:
        nonlocal done
        for block in blocks:
            report(f"writing {printable(name)}", done / max(1, whole))
            yield np.ascontiguousarray(block, block.dtype.newbyteorder("="))
            done += block.nbytes

    with write_atomically(path) as temporary, _as_os_error(), writer(temporary) as store:
        for name, info in usable.items():
            store(name, info, reported(name, _blocks(container, name)))
        files.require_unchanged()
    return Repacked(tuple(usable), whole, left_out)


def _blocks(container: Container, name: str) -> Blocks:
    """The rows of an array in order; a single number as it is."""
    if container.arrays[name].shape:
        with container.open_rows(name) as rows:
            yield from _runs(rows)
    else:
        yield container.read(name)


def _runs(rows: StoredRows) -> Blocks:
    """The rows in runs of whole chunks, so that no chunk is unpacked twice if memory allows it."""
    of_chunk = rows.layout.chunks[0] if rows.layout.chunks else 1
    most = rows.rows_in(int(psutil.virtual_memory().available * MOST_OF_MEMORY))
    count = max(of_chunk, rows.rows_in(BLOCK_BYTES) // of_chunk * of_chunk)
    count = min(count, most)
    for start in range(0, rows.rows, count):
        yield rows.read(start, min(start + count, rows.rows))


@contextmanager
def _hdf5(path: Path) -> Iterator[Store]:
    with h5py.File(path, "w") as file:

        def store(name: str, info: ArrayInfo, blocks: Blocks) -> None:
            dataset = file.create_dataset(name, info.shape, _native(info))
            file.flush()  # what HDF5 cannot write when it closes a file, it prints
            start = 0
            for block in blocks:
                if not info.shape:
                    dataset[()] = block
                    continue
                dataset[start : start + len(block)] = block
                start += len(block)

        yield store


@contextmanager
def _npz(path: Path) -> Iterator[Store]:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def store(name: str, info: ArrayInfo, blocks: Blocks) -> None:
            header: dict[str, Any] = {
                "shape": info.shape,
                "fortran_order": False,
                "descr": npy.dtype_to_descr(_native(info)),
            }
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array_header_1_0(member, header)
                for block in blocks:
                    member.write(block.reshape(-1).view(np.uint8).data)

        yield store


WRITERS = {".h5": _hdf5, ".hdf5": _hdf5, ".npz": _npz}
"""Ending of the new file -> what writes it."""


def _native(info: ArrayInfo) -> np.dtype[Any]:
    return np.dtype(info.dtype).newbyteorder("=")


def _require_space(path: Path, nbytes: int) -> None:
    folder = path.resolve().parent
    if not folder.is_dir():
        return  # writing refuses it, with the reason
    free = shutil.disk_usage(folder).free
    if nbytes + HEADER_BYTES > free:
        raise UsageError(
            f"cannot write {path}: it needs {nbytes / 1e6:,.1f} MB, but {free / 1e6:,.1f} MB are free on that disk; "
            "make room, or choose another place"
        )


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Raise what h5py reports for a disk that is full meanwhile, as Python's own files do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = re.search(r"errno = (\d+)", str(error))
        if number is None and isinstance(error, OSError) and error.errno:
            raise
        code = int(number[1]) if number is not None else errno.EIO
        raise OSError(code, os.strerror(code)) from error
