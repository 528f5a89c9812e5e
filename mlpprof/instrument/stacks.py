"""The call view: pyinstrument's samples of the call stack, kept as its own session JSON."""

from __future__ import annotations

from collections.abc import Callable

from pyinstrument import Profiler
from pyinstrument.renderers import SessionRenderer

SAMPLE_INTERVAL_S = 0.0005


def profile_stacks(run: Callable[[], None]) -> str:
    """The call stacks while `run` runs, a sample every half millisecond, as pyinstrument's session JSON."""
    profiler = Profiler(interval=SAMPLE_INTERVAL_S)
    with profiler:
        run()
    return profiler.output(SessionRenderer())
