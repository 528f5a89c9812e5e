"""The digest of a run's file, verified with plain reads before h5py opens it: libhdf5 may crash on a damaged file.

The first 1,024 bytes are left to us by HDF5 (its "user block"). They hold one line of ASCII, then zero bytes:

    mlpprof-run schema=1 bytes=183520 sha256=0f3a...

schema: number of the layout (`mlpprof.store.SCHEMA`). bytes, sha256: length and digest of all that follows the block.
"""

from __future__ import annotations

import hashlib
import re
from io import BufferedIOBase
from pathlib import Path

from mlpprof import __version__
from mlpprof.errors import RunFileError

BLOCK_SIZE = 1024
"""Bytes before the HDF5 part: a power of two and at least 512, as HDF5 wants it."""

_HEADER = re.compile(rb"mlpprof-run schema=(\d{1,9}) ")
_STATED_SIZE = re.compile(rb" bytes=(\d{1,18}) ")
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_EXPECTED = "expected a run written by mlpprof profile"


def seal(path: Path, schema: int) -> None:
    """Write the block of a finished file over the 1,024 bytes that were left free for it."""
    with path.open("r+b") as file:
        file.seek(BLOCK_SIZE)
        size, digest = _rest(file)
        file.seek(0)
        file.write(_block(schema, size, digest))


def verify(path: Path, schema: int) -> None:
    """Raise RunFileError unless the file is, byte for byte, one that `seal` wrote with this schema or an older one."""
    try:
        _refuse_special(path)
        with path.open("rb") as file:
            block = file.read(BLOCK_SIZE)
            size, digest = _rest(file)
    except OSError as error:
        raise RunFileError(f"cannot read {path}: {error.strerror}; {_EXPECTED}") from error
    header = _HEADER.match(block)
    if header is None:
        raise RunFileError(f"{path} {_foreign(block)}; {_EXPECTED}")
    written_schema = int(header[1])
    if written_schema > schema:
        raise RunFileError(
            f"{path} has schema {written_schema}, of a newer mlpprof; {__version__} reads up to {schema}: "
            "pip install --upgrade mlpprof"
        )
    if written_schema < 1 or block != _block(written_schema, size, digest):
        stated = _STATED_SIZE.search(block)
        cut = len(block) < BLOCK_SIZE or (stated is not None and int(stated[1]) > size)
        found = f"cut off after {len(block) + size:,} bytes" if cut else "its content does not match its digest"
        raise RunFileError(f"{path} is damaged: {found}; copy it again from where it came, or profile again")


def _block(schema: int, size: int, digest: str) -> bytes:
    return f"mlpprof-run schema={schema} bytes={size} sha256={digest}\n".encode("ascii").ljust(BLOCK_SIZE, b"\0")


def _rest(file: BufferedIOBase) -> tuple[int, str]:
    """Length and SHA-256 of everything from the file's position on."""
    start = file.tell()
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return file.tell() - start, digest


def _refuse_special(path: Path) -> None:
    if not path.exists():
        raise RunFileError(f"there is no file {path}; mlpprof profile writes a run and says where")
    if path.is_dir():
        raise RunFileError(f"{path} is a folder; name one of the .h5 files in it")
    if not path.is_file():
        raise RunFileError(f"{path} is not a regular file; {_EXPECTED}")


def _foreign(block: bytes) -> str:
    if not block:
        return "is empty"
    if block.startswith(_HDF5_SIGNATURE):
        return "is an HDF5 file but not a run (mlpprof data show tells what is in it)"
    return f"is not a run: it begins with {block[:16].decode('ascii', 'replace')!a}"
