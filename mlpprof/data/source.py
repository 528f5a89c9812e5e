"""Where samples come from, as a value that fits into JSON, and the way from there to a Dataset."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path

from numpy.lib import format as npy

from mlpprof.data.container import START_BYTES, Container, looks_like, one_line, refusing
from mlpprof.data.dataset import DataFacts, Dataset
from mlpprof.data.embedded import EMBEDDED, embedded, embedded_set
from mlpprof.data.hdf5 import is_hdf5, open_hdf5
from mlpprof.data.idx import GZIP_MAGIC, TRAINING_IMAGES, is_idx, open_idx, open_idx_folder
from mlpprof.data.npy import open_npy
from mlpprof.data.npz import open_npz
from mlpprof.data.streamed_set import StreamedSet
from mlpprof.errors import DataError, did_you_mean

EXPECTED = "expected an IDX images file (or the folder of MNIST's four), an HDF5 file, an .npz archive or .npy files"
LISTED_FILES = 5


@dataclass(frozen=True)
class DataSource:
    """An embedded set by name, or a file (or folder) by path with the names of the arrays in it.

    name: that of an embedded set.  path: that of a file or folder.  Exactly one of the two is given.
    x, y: the names of the samples and the labels in the file, where they are not the usual ones; both or neither.
    part_rows: None reads the whole set into memory. Otherwise training reads the file while it runs, and this
    many rows are shuffled together (see `stream`).
    Raises DataError for any other combination.
    """

    name: str | None = None
    path: str | None = None
    x: str | None = None
    y: str | None = None
    part_rows: int | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.path is None):
            raise DataError(f"a data source has either a name or a path; found name {self.name!r}, path {self.path!r}")
        if self.name is not None:
            embedded_set(self.name)
            if self.x is not None or self.y is not None:
                raise DataError(f"--x and --y name arrays in a file; '{self.name}' is an embedded set and has none")

    @classmethod
    def parse(cls, text: str, x: str | None = None, y: str | None = None) -> DataSource:
        """The source that a user means by `--data TEXT`: an embedded set if there is one of that name, else a path.

        A file called like an embedded set is reached as ./digits. Raises DataError if it is neither.
        """
        if text in EMBEDDED:
            return cls(name=text, x=x, y=y)
        path = Path(text).expanduser()
        if not _exists(path):
            near = did_you_mean(text, EMBEDDED) or _near_files(path)
            raise DataError(f"there is no data file or embedded set '{text}'{near} (embedded: {', '.join(EMBEDDED)})")
        return cls(path=str(path), x=x, y=y)

    @property
    def text(self) -> str:
        """The source as it is typed after `--data`."""
        return self.name or self.path or ""


def data_state(source: DataSource) -> str:
    """What identifies the data: an embedded set by its name, a file by its path, size and time of the last change."""
    if source.path is None:
        return source.text
    path = Path(source.path).resolve()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = [f"{one.name} {one.stat().st_size} {one.stat().st_mtime_ns}" for one in files]
    return " ".join([str(path), source.x or "", source.y or "", *states])


def load(source: DataSource) -> Dataset:
    """The samples of a source, read and checked; raises DataError, in one line, whatever is wrong with it."""
    if source.name is not None:
        return embedded(source.name)
    container = open_container(source)
    return container.dataset(container.roles(source.x, source.y))


def load_stream(source: DataSource) -> StreamedSet:
    """The set of a source that is to be read while it is trained on; raises DataError as `load`."""
    if source.part_rows is None:
        raise DataError(f"'{source.text}' has no size of parts; it can only be read as a whole")
    container = open_container(source)
    return StreamedSet.of(container, container.roles(source.x, source.y), source.part_rows)


def memory_needed(source: DataSource, itemsize: int) -> int:
    """The bytes that the samples of a file take as they are stored and as numbers of itemsize bytes; 0 if embedded.

    Raises DataError as `load`.
    """
    if source.path is None:
        return 0
    container = open_container(source)
    info = container.usable(container.roles(source.x, source.y).X)
    return info.nbytes + math.prod(info.shape) * itemsize


def peek(source: DataSource) -> DataFacts:
    """The sizes of a source from its headers and its labels, without making or reading X; raises DataError."""
    if source.name is not None:
        known = embedded_set(source.name)
        return DataFacts(known.samples, known.test_samples, math.prod(known.sample_shape), known.classes)
    container = open_container(source)
    return container.outline(container.roles(source.x, source.y)).facts


def open_container(source: DataSource) -> Container:
    """The arrays of a source's file, recognised by its content and not by its name; raises DataError."""
    if source.path is None:
        raise DataError(f"'{source.name}' is an embedded set, not a file")
    path = Path(source.path)
    try:
        return _open(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _open(path: Path) -> Container:
    if not _exists(path):
        raise DataError(f"there is no data file '{path}'{_near_files(path)}")
    if path.is_dir():
        container = open_idx_folder(path)
        if container is None:
            files = sorted(file.name for file in path.iterdir() if _may_be_data(file.name))
            hint = f"; name one of its files: {', '.join(files[:LISTED_FILES])}" if files else ""
            raise DataError(f"folder {path} does not hold {TRAINING_IMAGES} or {TRAINING_IMAGES}.gz{hint}")
        return container
    if not path.is_file():
        raise DataError(f"{path} is not a regular file; {EXPECTED}")
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if not start:
        raise DataError(f"{path} is empty; {EXPECTED}")
    if is_hdf5(path):
        return open_hdf5(path)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return open_npz(path)
    if start.startswith(npy.MAGIC_PREFIX):
        return open_npy(path)
    if start.startswith(GZIP_MAGIC):
        with refusing(f"{path} is a damaged or incomplete gzip file, download it again"), gzip.open(path) as zipped:
            start = zipped.read(START_BYTES)
    if is_idx(start):
        return open_idx(path)
    raise DataError(f"{path} {looks_like(start)}; {EXPECTED}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)[:80]!r} cannot be a path to data: {one_line(error)}") from error


def _may_be_data(name: str) -> bool:
    return name.endswith((".h5", ".hdf5", ".npz", ".npy")) or "-ubyte" in name


def _near_files(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder} either"
    return did_you_mean(path.name, (file.name for file in folder.iterdir()))
