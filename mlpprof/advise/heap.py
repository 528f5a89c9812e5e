"""What an update in place may cost: without the new array, the allocator gives the step's memory back in every step.

glibc returns the free memory at the end of its heap to the system if it is larger than a threshold. A new array
that lives until the next step lies behind the step's temporary arrays and prevents that. If the array is updated in
place, nothing does: all temporary arrays are on new pages in every step, and the first write to each page is a fault.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import cache
from statistics import median

import numpy as np

from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

MOST_OF_MLPPROF = 8 * 1024 * 1024
"""In the recorded process mlpprof has freed blocks before, which gives a threshold of some megabytes. A higher one is
the program's own; a lower one says nothing about the program under plain Python, which begins with 128 KiB."""

LEAST_BYTES, LONGEST_S = 1024, 5.0
"""Smaller arrays are left out, and an experiment that takes more seconds is ended."""

EXPERIMENT = """
import ctypes, json, resource, sys
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
message = json.load(sys.stdin)
if message["least"]:
    libc.mallopt(-1, message["least"])
    libc.mallopt(-3, min(32 << 20, message["least"] // 2))
def new(size):
    block = libc.malloc(size)
    libc.memset(block, 1, size)
    return block
held = [new(size) for size in message["held"]]
blocks = {}
counts = []
for step in range(12):
    for is_begin, number in message["order"]:
        if not is_begin:
            old = blocks.pop(number, None)
            if old is not None:
                libc.free(old)
        else:
            if number in blocks:
                libc.free(blocks.pop(number))
            blocks[number] = new(message["sizes"][number])
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print((counts[-1] - counts[3]) / (len(counts) - 4))
"""
"""It makes and frees blocks as the step does, and prints the page faults of a step.

least: the free bytes from which on the allocator gives memory back; 0 leaves that to glibc. -1 and -3 are glibc's
numbers for this threshold, and for the size from which on a block is mapped on its own.
"""

PROBE_BYTES, PROBES = 1024 * 1024, 8
"""The time of a page fault is measured on so many new blocks of this size."""


def more_faults_s(cured: Iterable[Event], graph: Graph) -> tuple[float, float]:
    """Seconds per step, from and to, for the page faults that are new once some arrays are updated in place.

    They are negative if there are fewer. A process of its own makes the allocations of the step, as they are and
    without those of the cured operations, and counts its page faults: with the threshold of the recorded process, and
    with that of a process in which mlpprof has freed nothing.
    """
    least, length = graph.trace.times.given_back_from, _length(graph)
    if trim() is None or len(graph.trace.steps) < 2 or least is None:
        return 0.0, 0.0
    sites = {(event.site, event.name) for event in cured}
    blocks = _blocks(graph)
    kept = [(begin, end, size) for begin, end, size, place in blocks if place not in sites]
    held = [size for begin, end, size, place in blocks if place in sites and end >= length]
    more = []
    for threshold in (least, *([0] if least <= MOST_OF_MLPPROF else [])):
        old = page_faults([(begin, end, size) for begin, end, size, _ in blocks], [], length, threshold)
        new = page_faults(kept, held, length, threshold)
        if old is not None and new is not None:
            more.append(_fault_s() * (new - old))
    return min(more, default=0.0), max(more, default=0.0)


def _length(graph: Graph) -> int:
    start, stop = graph.trace.steps[0]
    return stop - start


def _blocks(graph: Graph) -> list[tuple[int, int, int, tuple[int, str]]]:
    """The new arrays of a step: when each is made and freed, counted in operations, its bytes, and its operation.

    One that lives until the next step is freed after the length of a step, or later.
    """
    start, stop = graph.trace.steps[0]
    found = []
    for event in graph.first:
        output = event.output
        if output is None or not output.is_array or event.is_view or event.is_own or output.root in event.writes:
            continue
        begin, length = event.index - start, stop - start
        died = graph.trace.died.get(output.root)
        end = (
            begin + length
            if died is None
            else died - start
            if died <= stop
            else length + died - graph.trace.steps[1][0]
        )
        if output.nbytes >= LEAST_BYTES:
            found.append((begin, max(begin + 1, end), output.nbytes, (event.site, event.name)))
    return found


def page_faults(blocks: list[tuple[int, int, int]], held: list[int], length: int, least: int) -> float | None:
    """The page faults of a step that makes and frees these blocks; None if the experiment fails. held: made before."""
    order = sorted(
        [(begin % length, 1, number) for number, (begin, _, _) in enumerate(blocks)]
        + [(end % length, 0, number) for number, (_, end, _) in enumerate(blocks)]
    )
    message = {
        "sizes": [size for _, _, size in blocks],
        "held": held,
        "order": [[is_begin, number] for _, is_begin, number in order],
        "least": least,
    }
    command = [sys.executable, "-S", "-E", "-c", EXPERIMENT]
    try:
        answer = subprocess.run(command, input=json.dumps(message), capture_output=True, text=True, timeout=LONGEST_S)
        return float(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


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
