"""Windows: arrays whose content is replaced between steps, because the rows of a file pass through them.

Processes that are forked share a window. A rank of MPI does not, so a window also says how another process opens one of
the same file, which has that process's own rows.
"""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mlpprof.model.interface import Array


class OpenWindow(Protocol):
    """The window of another process: X (rows, n_0), Y (rows, n_L)."""

    X: Array
    Y: Array

    def hold(self, part: int) -> None:
        """Have the rows of this part of the file and of the part before it in the window."""

    def close(self) -> None:
        """Release it."""


@dataclass(frozen=True)
class Window:
    """How other processes open a window like this one.

    opener: a function as 'module:name', which takes the text and the number of the process. part: the part of the file
    that the last batch comes from.
    """

    opener: str
    text: str
    part: Callable[[], int]


_windows: dict[int, tuple[weakref.ref[Array], Window]] = {}


def register(X: Array, window: Window) -> None:
    """Make it known that X is a window."""
    _windows[id(X)] = weakref.ref(X), window


def window_of(X: Array) -> Window | None:
    """How to open a window like X; None if X is an array like any other."""
    known, window = _windows.get(id(X), (None, None))
    return window if known is not None and known() is X else None


def open_window(opener: str, text: str, process: int) -> OpenWindow:
    """Open the window of another process."""
    module, _, name = opener.partition(":")
    opened: OpenWindow = getattr(importlib.import_module(module), name)(text, process)
    return opened
