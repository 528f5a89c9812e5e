"""The memory of each phase: bytes allocated, peak, page faults. It is never measured in a pass that is timed.

NumPy reports its arrays to Python's tracemalloc, which knows the memory in use and its peak, but not how much was
allocated in all: an array that is freed again leaves no trace. So the phases run under a line trace, and the peak is
read and reset at every line: a line allocated what the peak rose above the memory in use at its start. A line that
frees a temporary and then allocates as much again counts once. So the figure is a lower bound, and exact if every line
has one operation. The memory of the tracing itself is measured on an empty line and subtracted.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from mlpprof.instrument.clocks import shadow_phases
from mlpprof.model import Variant

try:
    import resource
except ImportError:  # on Windows, where page faults are not counted
    resource = None  # type: ignore[assignment]  # None means that there is no such module


@dataclass(frozen=True)
class PhaseMemory:
    """The memory of one phase in one step: bytes allocated in all, and the most in use above that at its start."""

    bytes_allocated: int
    peak_bytes: int


class MemoryWatch:
    """The memory of one instance by phase; use it as a context manager around steps, and `take` after each step."""

    def __init__(self, instance: Variant) -> None:
        self._taken: dict[str, PhaseMemory] = {}
        self._noise = 0
        shadow_phases(instance, self._watched)

    def __enter__(self) -> MemoryWatch:
        tracemalloc.start(1)
        self._noise = _tracing_noise()
        return self

    def __exit__(self, *exception: object) -> None:
        tracemalloc.stop()

    def take(self) -> dict[str, PhaseMemory]:
        """The memory by phase since the last take; a phase that was not called is absent."""
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
    """The sum, over all Python lines that run under it, of the peak's rise above the memory at the line's start."""

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
    """The bytes that the trace itself allocates at a line that allocates nothing."""

    def idle() -> None:
        a = b = None
        a = b
        b = a

    probe = _LineTrace(0)
    probe.run(idle)
    lines = 5  # the call, three lines, the return
    return -(-probe.allocated // lines)


def page_faults() -> int | None:
    """The minor page faults of this process so far; None where the system does not count them."""
    return None if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_minflt
