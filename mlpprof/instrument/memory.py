"""What each phase asks of memory: bytes allocated, peak, page faults. Never in a pass that is timed.

Python's tracemalloc, which NumPy reports its arrays to, knows what is held and the peak, but not what was allocated
in all: an array that is freed again leaves no trace in the balance. So the phases run under a line trace, and the
peak is read and reset at every line: what the peak rose above the line's start is what the line allocated. A line
that frees a temporary and then takes as much again is counted once, so the figure is a lower bound, and exact for one
operation a line. What the tracing itself allocates is measured on an empty line and taken off.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from mlpprof.instrument.clocks import shadow
from mlpprof.model import PHASES, Variant

try:
    import resource
except ImportError:  # Windows counts no faults here
    resource = None  # type: ignore[assignment]  # the name stays, and None says so


@dataclass(frozen=True)
class PhaseMemory:
    """Of one phase in one step: bytes allocated in all, and the highest balance above the one it began with."""

    bytes_allocated: int
    peak_bytes: int


class MemoryWatch:
    """Memory by phase of one instance; use as a context manager around steps, then `take` after each."""

    def __init__(self, instance: Variant) -> None:
        self._taken: dict[str, PhaseMemory] = {}
        self._noise = 0
        for name in PHASES:
            shadow(instance, name, self._watched(name, getattr(instance, name)))

    def __enter__(self) -> MemoryWatch:
        tracemalloc.start(1)
        self._noise = _tracing_noise()
        return self

    def __exit__(self, *exception: object) -> None:
        tracemalloc.stop()

    def take(self) -> dict[str, PhaseMemory]:
        """Memory by phase since the last take; a phase that was not called is absent."""
        taken, self._taken = self._taken, {}
        return taken

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            trace = _LineTrace(self._noise)
            result = trace.run(method, *arguments)
            self._taken[name] = PhaseMemory(trace.allocated, trace.peak)
            return result

        return watched


class _LineTrace:
    """Sums what the peak rises above each line's start, over all Python lines that run under it."""

    def __init__(self, noise: int) -> None:
        self._noise = noise
        self._line_start = 0
        self.allocated = 0
        self.peak = 0

    def run(self, method: Callable[..., Any], *arguments: Any) -> Any:
        previous = sys.gettrace()
        tracemalloc.reset_peak()
        began, _ = tracemalloc.get_traced_memory()
        self._line_start = began
        highest = began

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal highest
            now, peak = tracemalloc.get_traced_memory()
            self.allocated += max(0, peak - self._line_start - self._noise)
            highest = max(highest, peak)
            tracemalloc.reset_peak()
            self._line_start = now
            return trace

        sys.settrace(trace)
        try:
            return method(*arguments)
        finally:
            sys.settrace(previous)
            self.peak = max(0, highest - began - self._noise)


def _tracing_noise() -> int:
    """Bytes that the trace itself takes at a line that allocates nothing."""

    def idle() -> None:
        a = b = None
        a = b
        b = a

    probe = _LineTrace(0)
    probe.run(idle)
    lines = 5  # the call, three lines, the return
    return -(-probe.allocated // lines)


def page_faults() -> int | None:
    """Minor page faults of this process so far; None where the system does not count them."""
    return None if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class FaultCount:
    """Minor page faults by phase of one instance, summed until `take` reads and clears them."""

    def __init__(self, instance: Variant) -> None:
        self._faults = dict.fromkeys(PHASES, 0)
        for name in PHASES:
            shadow(instance, name, self._counting(name, getattr(instance, name)))

    def _counting(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any) -> Any:
            before = page_faults() or 0
            result = method(*arguments)
            self._faults[name] += (page_faults() or 0) - before
            return result

        return counting

    def take(self) -> dict[str, int]:
        """Faults by phase since the last take."""
        taken = dict(self._faults)
        self._faults.update(dict.fromkeys(PHASES, 0))
        return taken
