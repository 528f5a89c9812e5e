"""The four MNIST files from a server that the user names, checked against their published md5 sums."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from mlpprof.data.container import one_line
from mlpprof.errors import DataError, MissingExtra, UsageError

MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""The sums that were published with the database. A file with another sum is refused, whatever server it comes from."""

CHUNK_BYTES = 1 << 16
INSTALL = "pip install 'mlpprof[data]'"

Report = Callable[[str, float], None]
"""A function that is called with the name of the current file and the share of the whole that is done, 0 to 1."""


def fetch_mnist(url: str, folder: Path | None = None, report: Report = lambda what, share: None) -> Path:
    """Download the missing files of MNIST from url/train-images-idx3-ubyte.gz and so on; returns the folder.

    folder: None is mlpprof's own in the user's cache. A file that exists and has the right sum is kept. A new file
    gets its name only when its sum is right.
    Raises MissingExtra without pooch, UsageError for a wrong URL, DataError if a file cannot be downloaded.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"'{url}' is not the address of a server; expected http:// or https:// and the files' folder")
    try:
        import pooch  # an extra: only this function needs it
    except ImportError as error:
        raise MissingExtra(f"fetching data needs pooch; install it with: {INSTALL}") from error
    target = folder if folder is not None else Path(pooch.os_cache("mlpprof")) / "mnist"
    pooch.get_logger().setLevel(logging.WARNING)
    for number, (name, md5) in enumerate(MNIST_MD5.items()):
        address = f"{url.rstrip('/')}/{name}"
        bar = _Bar(name, number / len(MNIST_MD5), report)
        # The files are compressed already. A server that packs or unpacks them on the way would change the sum.
        downloader = pooch.HTTPDownloader(
            progressbar=bar, chunk_size=CHUNK_BYTES, headers={"Accept-Encoding": "identity"}
        )
        try:
            pooch.retrieve(address, f"md5:{md5}", fname=name, path=target, downloader=downloader)
        except ValueError as error:
            raise DataError(
                f"{address} is not the published {name}: its md5 differs from {md5}; use another --url"
            ) from error
        except OSError as error:
            # After "Caused by" come the names of classes and their addresses in memory.
            reason = one_line(error).split(" (Caused by")[0]
            raise DataError(f"cannot fetch {address} into {target}: {reason}; check --url and --to") from error
        bar.close()
    return target


class _Bar:
    """The progress bar that pooch expects; it reports the bytes of one file as a share of all four files."""

    def __init__(self, what: str, done: float, report: Report) -> None:
        self.total = 0
        self._what = what
        self._done = done
        self._bytes = 0
        self._report = report
        self._show(0.0)

    def update(self, count: int) -> None:
        self._bytes += count
        if self.total:
            self._show(min(1.0, self._bytes / self.total))

    def reset(self) -> None:
        self._bytes = 0

    def close(self) -> None:
        self._show(1.0)

    def _show(self, share: float) -> None:
        self._report(self._what, self._done + share / len(MNIST_MD5))
