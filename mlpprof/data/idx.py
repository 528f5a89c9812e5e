"""MNIST's IDX files: a big-endian header (two zero bytes, a type, the dimensions), then plain numbers.

The format is described by LeCun, Cortes and Burges with the MNIST database of handwritten digits.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from mlpprof.data.dataset import Array
from mlpprof.data.hdf5_and_npz import ArrayInfo, Container, size_in_bytes
from mlpprof.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_DIMENSIONS = 4
FOLDER_NAMES = ("train-images-idx3-ubyte", "train-images.idx3-ubyte")
GZIP_ERRORS = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class Header:
    """What an IDX file declares: shape, dtype, and where the numbers start, bytes."""

    shape: tuple[int, ...]
    dtype: str
    offset: int

    @property
    def nbytes(self) -> int:
        """The bytes that the numbers take."""
        return size_in_bytes(self.shape, np.dtype(self.dtype).itemsize)


def is_idx(start: bytes) -> bool:
    """Whether a file's first four bytes are an IDX magic number."""
    return len(start) == 4 and start[:2] == b"\0\0" and start[2] in TYPES and 1 <= start[3] <= MAX_DIMENSIONS


def open_idx(path: Path) -> Container:
    """The images file at path with the labels file (and the test files) beside it; gzipped or not.

    Beside train-images-idx3-ubyte: train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte.
    Raises DataError if a header is damaged, or no labels are there.
    """
    header = read_header(path)
    if len(header.shape) < 2:
        raise DataError(
            f"{path} holds labels (one dimension of {header.shape[0]:,}); give the images file that belongs to it"
        )
    labels = _labels_beside(path)
    if labels is None:
        wanted = _labels_name(path.name)
        raise DataError(
            f"{path}: no labels file beside it; expected {wanted} in the same folder"
            if wanted != path.name
            else f"{path}: cannot tell its labels file; expected a name with 'images', such as {FOLDER_NAMES[0]}"
        )
    files = {"train_images": path, "train_labels": labels}
    test_images = _test_images_beside(path)
    test_labels = None if test_images is None else _labels_beside(test_images)
    if test_images is not None and test_labels is not None:
        files |= {"test_images": test_images, "test_labels": test_labels}
    headers = {name: read_header(file) for name, file in files.items()}
    for name in ("train_labels", "test_labels"):
        if name in headers and len(headers[name].shape) != 1:
            raise DataError(f"{files[name]}: expected labels in one dimension, but it has {headers[name].shape}")
    return Container(
        "IDX",
        path,
        {name: ArrayInfo(name, head.shape, str(np.dtype(head.dtype)), head.nbytes) for name, head in headers.items()},
        lambda name: read_array(files[name]),
    )


def open_idx_folder(folder: Path) -> Container | None:
    """The MNIST files under their four standard names in a folder; None if there are no training images."""
    for name in FOLDER_NAMES:
        images = _with_or_without_gz(folder / name)
        if images is not None:
            return open_idx(images)
    return None


def read_header(path: Path) -> Header:
    """The header of an IDX file; raises DataError if it is damaged or does not fit the file's size."""
    try:
        with _open(path) as file:
            start = file.read(4)
            if not is_idx(start):
                raise DataError(
                    f"{path}: magic number {start.hex(' ') or 'missing'} is no IDX file's; expected 00 00 08 03 "
                    "for images or 00 00 08 01 for labels"
                )
            dimensions = start[3]
            sizes = file.read(4 * dimensions)
    except GZIP_ERRORS as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(sizes) < 4 * dimensions:
        raise DataError(f"{path} ends within its header of {dimensions} dimensions; fetch it again")
    header = Header(struct.unpack(f">{dimensions}I", sizes), TYPES[start[2]], 4 + 4 * dimensions)
    if math.prod(header.shape) == 0:
        raise DataError(f"{path} declares shape {header.shape}, which holds nothing")
    if not _is_gzip(path):
        size = path.stat().st_size
        if size != header.offset + header.nbytes:
            raise DataError(
                f"{path} has {size:,} bytes; its header of shape {header.shape} expects "
                f"{header.offset + header.nbytes:,}; fetch it again"
            )
    return header


def read_array(path: Path) -> Array:
    """The numbers of an IDX file in their stored dtype, read-only; raises DataError if there are fewer or more."""
    header = read_header(path)
    try:
        with _open(path) as file:
            file.read(header.offset)
            content = file.read(header.nbytes)
            has_more = bool(file.read(1))
    except GZIP_ERRORS as error:
        raise DataError(f"{path} is damaged or incomplete ({error}); fetch it again") from error
    if len(content) < header.nbytes or has_more:
        found = "more" if has_more else f"{len(content):,}"
        raise DataError(
            f"{path} holds {found} bytes of numbers; its header of shape {header.shape} expects {header.nbytes:,}"
        )
    return np.frombuffer(content, header.dtype).reshape(header.shape)


def _open(path: Path) -> BinaryIO:
    # GzipFile has all that is used of a binary file here, but typeshed does not call it one.
    return cast(BinaryIO, gzip.open(path)) if _is_gzip(path) else path.open("rb")


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def _with_or_without_gz(path: Path) -> Path | None:
    plain = path.with_name(path.name.removesuffix(".gz"))
    zipped = plain.with_name(plain.name + ".gz")
    # Of two, the one that was asked for; else the one that needs no unpacking.
    return next((file for file in (path, plain, zipped) if file.is_file()), None)


def _labels_name(images_name: str) -> str:
    return images_name.replace("images", "labels").replace("idx3", "idx1")


def _labels_beside(images: Path) -> Path | None:
    name = _labels_name(images.name)
    return None if name == images.name else _with_or_without_gz(images.with_name(name))


def _test_images_beside(images: Path) -> Path | None:
    if "train" not in images.name:
        return None
    candidates = (
        _with_or_without_gz(images.with_name(images.name.replace("train", word))) for word in ("t10k", "test")
    )
    return next((file for file in candidates if file is not None), None)
