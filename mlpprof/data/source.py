"""Where samples come from, as a value that fits into JSON, and the way from there to a Dataset."""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mlpprof.data.dataset import DataFacts, Dataset, facts_of
from mlpprof.data.embedded import EMBEDDED, embedded, embedded_set
from mlpprof.data.hdf5_and_npz import Container, is_hdf5, one_line, open_hdf5, open_npz
from mlpprof.data.idx import GZIP_ERRORS, GZIP_MAGIC, is_idx, open_idx, open_idx_folder
from mlpprof.errors import DataError, did_you_mean

KINDS = "expected an IDX images file (or the folder of MNIST's four), an HDF5 file or an .npz archive"


@dataclass(frozen=True)
class DataSource:
    """An embedded set by name, or a file (or folder) by path with the names of the arrays in it.

    name: of an embedded set, or None.  path: of a file or folder, or None; exactly one of the two.
    x, y: names of the samples and the labels in the file, where they are not the usual ones; both or neither.
    Raises DataError for any other combination.
    """

    name: str | None = None
    path: str | None = None
    x: str | None = None
    y: str | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.path is None):
            raise DataError(f"a data source has either a name or a path; found name {self.name!r}, path {self.path!r}")
        if self.name is not None:
            embedded_set(self.name)
            if self.x is not None or self.y is not None:
                raise DataError(f"--x and --y name arrays in a file; '{self.name}' is an embedded set and has none")

    @classmethod
    def parse(cls, text: str, x: str | None = None, y: str | None = None) -> DataSource:
        """What a user means by `--data TEXT`: an embedded set if there is one of that name, else a path.

        A file called like an embedded set is reached as ./digits. Raises DataError if it is neither.
        """
        if text in EMBEDDED:
            return cls(name=text, x=x, y=y)
        path = Path(text).expanduser()
        if not _exists(path):
            near = did_you_mean(text, EMBEDDED) or _near_files(path)
            raise DataError(f"no data file or embedded set '{text}'{near} (embedded: {', '.join(EMBEDDED)})")
        return cls(path=str(path), x=x, y=y)

    @property
    def text(self) -> str:
        """The source as it is typed after `--data`."""
        return self.name or self.path or ""

    def to_dict(self) -> dict[str, str | None]:
        """The source as a plain dict of strings and None, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> DataSource:
        """The source that `to_dict` gave; raises DataError for other keys or values."""
        for key, value in plain.items():
            if key not in cls.__dataclass_fields__ or not isinstance(value, str | None):
                raise DataError(f"{key}: {value!r} is no part of a data source; expected name, path, x or y as text")
        return cls(**{key: value for key, value in plain.items() if isinstance(value, str)})


def load(source: DataSource) -> Dataset:
    """The samples of a source, read and checked; raises DataError, in one line, whatever is wrong with it."""
    if source.name is not None:
        return embedded(source.name)
    container = open_container(source)
    return container.dataset(container.roles(source.x, source.y))


def peek(source: DataSource) -> DataFacts:
    """The sizes of a source from its headers and its labels, without making or reading X; raises DataError."""
    if source.name is not None:
        known = embedded_set(source.name)
        return DataFacts(known.samples, known.test_samples, math.prod(known.sample_shape), known.classes)
    container = open_container(source)
    return facts_of(container.outline(container.roles(source.x, source.y)))


def open_container(source: DataSource) -> Container:
    """The arrays of a source's file, told by its content and not by its name; raises DataError."""
    if source.path is None:
        raise DataError(f"'{source.name}' is an embedded set, not a file")
    path = Path(source.path)
    try:
        return _open(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _open(path: Path) -> Container:
    if not _exists(path):
        raise DataError(f"no data file '{path}'{_near_files(path)}")
    if path.is_dir():
        container = open_idx_folder(path)
        if container is None:
            files = sorted(file.name for file in path.iterdir() if file.suffix in (".h5", ".hdf5", ".npz"))
            hint = f"; name one of its files: {', '.join(files[:5])}" if files else ""
            raise DataError(f"folder {path} holds no train-images-idx3-ubyte or train-images-idx3-ubyte.gz{hint}")
        return container
    if not path.is_file():
        raise DataError(f"{path} is no regular file; {KINDS}")
    with path.open("rb") as file:
        start = file.read(256)
    if not start:
        raise DataError(f"{path} is empty; {KINDS}")
    if is_hdf5(path):
        return open_hdf5(path)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return open_npz(path)
    if start.startswith(GZIP_MAGIC):
        try:
            with gzip.open(path) as zipped:
                start = zipped.read(256)
        except GZIP_ERRORS as error:
            raise DataError(f"{path} is a damaged or incomplete gzip file ({error}); fetch it again") from error
    if is_idx(start[:4]):
        return open_idx(path)
    raise DataError(f"{path} {_looks_like(start)}; {KINDS}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)[:80]!r} is no path to data: {one_line(error)}") from error


def _looks_like(start: bytes) -> str:
    if start.startswith(b"\x93NUMPY"):
        return "is a single .npy array; write both with np.savez('data.npz', X=X, Y=Y)"
    if start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5":
        return "is a pickle, which could run code and is never loaded"
    text = start.decode("utf-8", errors="ignore").split("\n")[0].strip()
    if text and text.isprintable() and b"\0" not in start:
        return f"is a text file that starts with '{text[:40]}'"
    return f"starts with the bytes {start[:4].hex(' ')}, which are no known format's"


def _near_files(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder} either"
    return did_you_mean(path.name, (file.name for file in folder.iterdir()))
