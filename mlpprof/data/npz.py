"""NumPy's .npz archives: X and Y, keras' x_train ... y_test, or named arrays. Nothing pickled is ever loaded."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from mlpprof.data.container import ArrayInfo, Container, one_line, size_in_bytes
from mlpprof.data.dataset import Array
from mlpprof.errors import DataError

READ_ERRORS = (
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
                    arrays[name] = _info(archive, name, member)
    except READ_ERRORS as error:
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
        except READ_ERRORS as error:
            raise DataError(f"{path}: '{name}' is damaged: {one_line(error)}") from error
        return array

    return Container("npz", path, arrays, reader)


def _info(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> ArrayInfo:
    try:
        with archive.open(member) as file:
            shape, dtype = _header(file)
            offset = file.tell()
    except READ_ERRORS as error:
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
