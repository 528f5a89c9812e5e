"""Samples that one worker has made ready for the next ones: reading them takes a tenth of making them again.

Every worker still gets arrays of its own, in memory of its own, so that processes stay independent replicates.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from mlpprof.model import Array


class SharedArrays:
    """Pairs of arrays by key, as .npy files in a folder that lives as long as a race."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: object) -> tuple[Array, Array] | None:
        """What an earlier worker has kept under the key."""
        paths = self._paths(key)
        if not all(path.is_file() for path in paths):
            return None
        X, Y = (np.load(path, allow_pickle=False) for path in paths)
        return X, Y

    def keep(self, key: object, arrays: tuple[Array, Array]) -> None:
        """Keep them for later workers; without room on the disk, these make their own."""
        for path, array in zip(self._paths(key), arrays, strict=True):
            # not write_atomically: waiting for the disk takes longer than making the arrays
            part = path.with_suffix(".part")
            try:
                with part.open("wb") as file:
                    np.save(file, array, allow_pickle=False)
                part.replace(path)
            except OSError:
                part.unlink(missing_ok=True)

    def _paths(self, key: object) -> tuple[Path, Path]:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return self._folder / f"X-{digest}.npy", self._folder / f"Y-{digest}.npy"
