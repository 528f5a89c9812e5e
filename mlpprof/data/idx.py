"""MNIST's IDX files: a big-endian header (two zero bytes, a type, the dimensions), then plain numbers.

The files of a set belong together by their names. They are found under the names of MNIST and EMNIST, with or without
.gz, with the number of a browser's copy, in torchvision's MNIST/raw and in the folders that Kaggle's archives make.

The format is described by LeCun, Cortes and Burges with the MNIST database of handwritten digits.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from mlpprof.data.container import START_BYTES, ArrayInfo, Container, looks_like, refusing
from mlpprof.data.dataset import Array
from mlpprof.data.stored_rows import Layout, StoredRows, reading
from mlpprof.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_DIMENSIONS = 4
TRAINING_IMAGES = "train-images-idx3-ubyte"
SET_ENDING = re.compile(r"( ?\(\d+\))?(\.gz)?$")
"""The part of a file's name that says nothing about its content: a copy's number and .gz."""

MAX_ENTRIES = 10_000
"""The search for images below a folder looks at no more entries than this in each level."""

DEEPEST = 2
"""The search looks this many folders down; torchvision's files lie in MNIST/raw."""


@dataclass(frozen=True)
class Header:
    """The shape and dtype that an IDX file declares, and the offset at which its numbers start, in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    offset: int

    @property
    def nbytes(self) -> int:
        """The bytes that the numbers take."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_idx(start: bytes) -> bool:
    """Whether a file's first four bytes are an IDX magic number."""
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in TYPES and 1 <= start[3] <= MAX_DIMENSIONS


def open_idx(path: Path) -> Container:
    """The images file at path with the labels file (and the test files) beside it; gzipped or not.

    Beside train-images-idx3-ubyte: train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte.
    Raises DataError if a header is damaged or the labels are missing.
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
            else f"{path}: cannot find its labels file; expected a name with 'images', such as {TRAINING_IMAGES}"
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
    arrays = {name: ArrayInfo.of(name, head.shape, head.dtype) for name, head in headers.items()}
    beside = tuple(files.values())[1:]
    return Container(
        "IDX", path, arrays, lambda name: read_array(files[name]), lambda name: _open_rows(files[name]), beside
    )


@contextmanager
def _open_rows(path: Path) -> Iterator[StoredRows]:
    header, is_gzip = read_header(path), _is_gzip(path)
    with _open(path) as file:
        layout = Layout(path.stat().st_size - (0 if is_gzip else header.offset), filters=("gzip",) if is_gzip else ())
        read = reading(file, header.offset, header.shape, header.dtype)
        offset = None if is_gzip else header.offset
        yield StoredRows(path, header.shape, header.dtype, layout, read, is_in_sequence=is_gzip, offset=offset)


def open_idx_folder(folder: Path) -> Container | None:
    """The only set of IDX files in a folder or below it; None if there are no training images.

    Raises DataError, with their names, if there are several sets.
    """
    for level in range(DEEPEST + 1):
        below = islice(folder.glob("*/" * level + "*"), MAX_ENTRIES)
        images = [file for file in below if _stem(file.name).endswith(TRAINING_IMAGES) and file.is_file()]
        stems = dict.fromkeys((file.parent, _stem(file.name)) for file in sorted(images))
        sets = [file for parent, stem in stems if (file := _preferred(parent.iterdir(), stem)) is not None]
        if len(sets) > 1:
            names = ", ".join(f"'{file.relative_to(folder)}'" for file in sets)
            raise DataError(f"folder {folder} holds {len(sets)} sets; give the images file of one of them: {names}")
        if sets:
            return open_idx(sets[0])
    return None


def read_header(path: Path) -> Header:
    """The header of an IDX file; raises DataError if it is damaged or does not fit the file's size."""
    with refusing(f"{path} cannot be read"), _open(path) as file:
        start = file.read(START_BYTES)
    if not is_idx(start):
        found = looks_like(start) if start else "is empty"
        raise DataError(f"{path} {found}; an IDX file starts with 00 00 08 03 for images and 00 00 08 01 for labels")
    dimensions = start[3]
    offset = 4 + 4 * dimensions
    if len(start) < offset:
        raise DataError(f"{path} ends within its header of {dimensions} dimensions; download it again")
    header = Header(struct.unpack(f">{dimensions}I", start[4:offset]), np.dtype(TYPES[start[2]]), offset)
    if header.nbytes == 0:
        raise DataError(f"{path} declares shape {header.shape}, which holds nothing")
    if not _is_gzip(path):
        size = path.stat().st_size
        if size != header.offset + header.nbytes:
            raise DataError(
                f"{path} has {size:,} bytes; its header of shape {header.shape} expects "
                f"{header.offset + header.nbytes:,}; download it again"
            )
    return header


def read_array(path: Path) -> Array:
    """The numbers of an IDX file in their stored dtype, read-only; raises DataError if there are fewer or more."""
    header = read_header(path)
    with refusing(f"{path} is damaged or incomplete, download it again"), _open(path) as file:
        file.read(header.offset)
        content = file.read(header.nbytes)
        has_more = bool(file.read(1))
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


def _stem(name: str) -> str:
    """The name as MNIST's authors write it: 'train-images.idx3-ubyte (1).gz' -> 'train-images-idx3-ubyte'."""
    return SET_ENDING.sub("", name).replace(".idx", "-idx")


def _preferred(files: Iterator[Path], stem: str, ending: str = "") -> Path | None:
    """The file with this stem and ending, else the one with the shortest name: plain before gzipped before a copy."""
    found = [file for file in files if _stem(file.name) == stem and file.is_file()]
    return min(found, key=lambda file: (not file.name.endswith(ending), len(file.name), file.name), default=None)


def _beside(file: Path, name: str) -> Path | None:
    """The file of another name in the same folder, or in a folder of that name, as Kaggle's archives have it."""
    stem = _stem(name)
    ending = name[len(SET_ENDING.sub("", name)) :]
    home = file.parent.parent if _stem(file.parent.name) == _stem(file.name) else file.parent
    folders = [home, *(entry for entry in home.iterdir() if _stem(entry.name) == stem and entry.is_dir())]
    found = (_preferred(folder.iterdir(), stem, ending) for folder in folders)
    return next((file for file in found if file is not None), None)


def _labels_name(images_name: str) -> str:
    return images_name.replace("images", "labels").replace("idx3", "idx1")


def _labels_beside(images: Path) -> Path | None:
    name = _labels_name(images.name)
    return None if name == images.name else _beside(images, name)


def _test_images_beside(images: Path) -> Path | None:
    if "train" not in images.name:
        return None
    candidates = (_beside(images, images.name.replace("train", word)) for word in ("t10k", "test"))
    return next((file for file in candidates if file is not None), None)
