"""NumPy's .npy files: the arrays of a folder, each in a file of its own, such as X.npy and Y.npy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from numpy.lib import format as npy

from mlpprof.data.container import Container
from mlpprof.data.dataset import Array
from mlpprof.data.npz import info_of, read_header
from mlpprof.data.stored_rows import Layout, StoredRows, reading
from mlpprof.errors import DataError

ENDING = ".npy"


def open_npy(path: Path) -> Container:
    """The array at path and those in the files beside it, by their names without .npy.

    Raises DataError if it is alone, because samples need labels.
    """
    beside = [file for file in sorted(path.parent.iterdir()) if file.suffix == ENDING and file.is_file()]
    files = {file.stem: file for file in dict.fromkeys((path, *beside))}
    if len(files) == 1:
        raise DataError(
            f"{path} is a single .npy array; write the labels beside it with np.save('Y.npy', Y), or both with "
            "np.savez('data.npz', X=X, Y=Y)"
        )
    arrays = {
        name: info_of(name, partial(_opened, file), file.stat().st_size, "the file") for name, file in files.items()
    }

    def read(name: str) -> Array:
        with files[name].open("rb") as file:
            array: Array = npy.read_array(file, allow_pickle=False)
        return array

    @contextmanager
    def open_rows(name: str) -> Iterator[StoredRows]:
        with files[name].open("rb") as file:
            shape, dtype, is_by_column = read_header(file)
            offset, stored = file.tell(), files[name].stat().st_size - file.tell()
            layout = Layout(stored)
            if is_by_column:
                yield StoredRows.by_column(files[name], shape, dtype, layout, partial(read, name))
            else:
                read_rows = reading(file, offset, shape, dtype)
                yield StoredRows(files[name], shape, dtype, layout, read_rows, offset=offset)

    return Container("npy", path, arrays, read, open_rows, tuple(files.values())[1:])


def _opened(file: Path) -> IO[bytes]:
    return file.open("rb")
