"""What an update in place may cost: without the new array, the allocator gives the step's memory back in every step.

glibc returns the free memory at the end of its heap to the system if it is larger than a threshold. A new array
that lives until the next step lies behind the step's temporary arrays and prevents that. If the array is updated in
place, nothing does: all temporary arrays are on new pages in every step, and the first write to each page is a fault.
"""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Iterable
from functools import cache
from statistics import median

import numpy as np

from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

UNSURE = 2.0
"""The process that mlpprof records in has freed other blocks as well, so the threshold is known within this factor."""

PROBE_BYTES, PROBES = 1024 * 1024, 8
"""The time of a page fault is measured on so many new blocks of this size."""


def more_faults_s(cured: Iterable[Event], graph: Graph) -> tuple[float, float]:
    """Seconds per step, from and to, for the page faults that are new once some arrays are updated in place."""
    if trim() is None or len(graph.trace.steps) < 2 or not graph.trace.times.faults:
        return 0.0, 0.0
    sites = {(event.site, event.name) for event in cured}
    end, size, peak, staying = graph.trace.steps[0][1], 0, 0, 0
    changes: list[tuple[int, int]] = []
    for event in graph.first:
        output = event.output
        if output is None or not output.is_array or event.is_view or event.is_own or output.root in event.writes:
            continue
        if (event.site, event.name) in sites:
            continue
        died = graph.trace.died.get(output.root, end)
        if died <= end:
            changes += [(event.index, output.nbytes), (died, -output.nbytes)]
        else:
            staying += output.nbytes
    for _, change in sorted(changes):
        size += change
        peak = max(peak, size)
    faults = peak / mmap.PAGESIZE - median(graph.trace.times.faults)
    least = graph.trace.times.given_back_from
    if least is None or staying > peak / 2 or peak < least / UNSURE:
        return 0.0, 0.0
    most_s = max(0.0, faults) * _fault_s()
    return most_s if peak >= least else 0.0, most_s


@cache
def trim() -> ctypes._NamedFuncPointer | None:
    """glibc's function that returns free memory to the system; None if the allocator is another one."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None


@cache
def _fault_s() -> float:
    """Seconds of one page fault: the first write to new pages, less a second write to the same."""
    found = []
    for _ in range(PROBES):
        with mmap.mmap(-1, PROBE_BYTES) as block:
            array = np.frombuffer(block, np.uint8)
            times = []
            for value in (1, 2):
                begin = time.perf_counter()
                array.fill(value)
                times.append(time.perf_counter() - begin)
            del array
        found.append((times[0] - times[1]) * mmap.PAGESIZE / PROBE_BYTES)
    return max(0.0, median(found))
