"""The views of other profilers: line_profiler's lines, and pyinstrument's samples of the call stack."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType, ModuleType

from line_profiler import LineProfiler
from pyinstrument import Profiler
from pyinstrument.renderers import SessionRenderer

from mlpprof.results import LineTime

SAMPLE_INTERVAL_S = 0.0005


def profile_lines(module: ModuleType, run: Callable[[], None]) -> tuple[LineTime, ...]:
    """Hits and seconds of every line of `module`'s own functions and methods while `run` runs.

    line_profiler registers functions and does not replace them, so instances made before are profiled too.
    """
    profiler = LineProfiler()
    for function in _functions(module):
        profiler.add_function(function)
    profiler.enable_by_count()
    try:
        run()
    finally:
        profiler.disable_by_count()
    statistics = profiler.get_stats()
    return tuple(
        LineTime(line, hits, ticks * statistics.unit)
        for line, hits, ticks in sorted(entry for entries in statistics.timings.values() for entry in entries)
        if hits > 0
    )


def _functions(module: ModuleType) -> list[FunctionType]:
    found = []
    for value in vars(module).values():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        members = vars(value).values() if inspect.isclass(value) else (value,)
        found += [inspect.unwrap(m) for m in members if inspect.isfunction(m)]
    return found


def profile_stacks(run: Callable[[], None]) -> str:
    """The call stacks while `run` runs, one sample every half millisecond, as pyinstrument's session JSON."""
    profiler = Profiler(interval=SAMPLE_INTERVAL_S)
    with profiler:
        run()
    return profiler.output(SessionRenderer())
