"""What dask loads into the worker processes of a sweep on this machine: the command alone handles Ctrl-C."""

from __future__ import annotations

import signal


def dask_setup(worker: object) -> None:
    """Ignore Ctrl-C, which the terminal sends to all processes; the command ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
