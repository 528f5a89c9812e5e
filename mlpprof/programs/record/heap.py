"""How much free memory the allocator keeps: glibc returns the end of its heap to the system above a threshold.

That threshold is twice the size from which on blocks are mapped one by one, which grows with the blocks that were freed
before. So it is tried out in the program's own process, before anything is recorded.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

LEAST, MOST, FACTOR = 64 * 1024, 32 * 1024 * 1024, 1.05
"""Blocks between these sizes, in bytes, are tried out; each is this many times as large as the one before."""

LARGEST_HEAP = 1 << 36
"""Mapped blocks lie much further away from the beginning of the heap than this."""


def given_back_from() -> int | None:
    """The least number of free bytes that the allocator gives back to the system; None if that is not known.

    The blocks are never written, so they cost no memory and no time.
    """
    try:
        found = re.search(r"^([0-9a-f]+)-([0-9a-f]+) .*\[heap\]$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    except OSError:
        return None
    if found is None:
        return None
    begin, size = int(found[1], 16), float(LEAST)
    end = begin + LARGEST_HEAP
    while size <= MOST:
        address = np.empty(int(size), np.uint8).ctypes.data
        if not begin <= address < end:
            return 2 * int(size)
        size *= FACTOR
    return None
