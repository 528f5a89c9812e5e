"""NumPy's .npz archives: X and Y, keras' x_train ... y_test, or named arrays. Nothing pickled is ever loaded."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from mlpprof.data.container import READ_ERRORS, ArrayInfo, Container, one_line, refusing
from mlpprof.data.dataset import Array
from mlpprof.data.stored_rows import Layout, StoredRows, reading
from mlpprof.errors import DataError

MAX_HEADER_BYTES = 10_000
"""NumPy reads no longer header without allow_pickle, but takes the memory for it first. A usual one has 118 bytes."""

LOCAL_BYTES = 30
"""A member of a zip archive begins with this many bytes; the last four have the lengths of two fields behind them."""

LENGTH_BYTES = {(1, 0): 2, (2, 0): 4}
"""The bytes in which each version of the format stores the length of its header."""


def open_npz(path: Path) -> Container:
    """The arrays of an .npz archive; raises DataError if the archive is damaged or holds none.

    Their shapes come from the members' headers; nothing is unpacked yet.
    """
    arrays: dict[str, ArrayInfo] = {}
    members: dict[str, zipfile.ZipInfo] = {}
    with refusing(f"{path} is not a sound .npz archive"), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                name = member.filename.removesuffix(".npy")
                members[name] = member
                arrays[name] = info_of(name, partial(archive.open, member), member.file_size, "the archive")
    if not arrays:
        raise DataError(f"{path} is a zip archive without arrays; expected .npy members, as np.savez writes them")

    def read(name: str) -> Array:
        with zipfile.ZipFile(path) as archive, archive.open(members[name]) as file:
            array: Array = npy.read_array(file, allow_pickle=False)
            # zipfile compares the checksum when the end is reached.
            if file.read(1):
                raise ValueError(f"there is more in the archive after its {array.nbytes:,} bytes")
        return array

    @contextmanager
    def open_rows(name: str) -> Iterator[StoredRows]:
        member = members[name]
        is_stored = member.compress_type == zipfile.ZIP_STORED
        with zipfile.ZipFile(path) as archive, archive.open(member) as unpacked, path.open("rb") as plain:
            shape, dtype, is_by_column = read_header(unpacked)
            layout = Layout(member.compress_size, filters=() if is_stored else ("deflate",))
            if is_by_column:
                yield StoredRows.by_column(path, shape, dtype, layout, partial(read, name))
            elif is_stored:
                plain.seek(member.header_offset + LOCAL_BYTES - 4)
                lengths = plain.read(4)
                begin = plain.tell() + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
                offset = begin + unpacked.tell()
                yield StoredRows(path, shape, dtype, layout, reading(plain, offset, shape, dtype), offset=offset)
            else:
                read_member = reading(unpacked, unpacked.tell(), shape, dtype)
                yield StoredRows(path, shape, dtype, layout, read_member, is_in_sequence=True)

    return Container("npz", path, arrays, read, open_rows)


def info_of(name: str, opened: Callable[[], IO[bytes]], size: int, where: str) -> ArrayInfo:
    """The facts of an array from its header. opened: opens its .npy content, of size bytes. where: for messages."""
    try:
        with opened() as file:
            shape, dtype, _ = read_header(file)
            left = size - file.tell()
    except READ_ERRORS as error:
        return ArrayInfo(name, problem=f"its header is damaged: {one_line(error)}")
    if dtype.hasobject:
        return ArrayInfo.of(name, shape, dtype, "it holds Python objects, which could run code and are never loaded")
    info = ArrayInfo.of(name, shape, dtype)
    if not info.problem and left != info.nbytes:
        problem = f"shape {shape} of {dtype} takes {info.nbytes:,} bytes, but {where} has {left:,}"
        return ArrayInfo.of(name, shape, dtype, problem)
    return info


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape and dtype, and whether the values lie column after column."""
    version = npy.read_magic(file)
    if version not in LENGTH_BYTES:
        raise ValueError(f"npy format {version[0]}.{version[1]}, which only arrays with named fields need")
    length = file.read(LENGTH_BYTES[version])
    if (nbytes := int.from_bytes(length, "little")) > MAX_HEADER_BYTES:
        raise ValueError(f"it declares {nbytes:,} bytes, at most {MAX_HEADER_BYTES:,} are allowed")
    header = io.BytesIO(length + file.read(nbytes))
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_by_column, dtype = read(header)
    return shape, dtype, is_by_column and len(shape) > 1
