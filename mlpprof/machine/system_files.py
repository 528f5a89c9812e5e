"""Reading the small text files of /proc and /sys; what is missing, forbidden or garbled is None.

Every function takes the root that the path starts from: Path("/"), or a folder with a fake tree in tests.
"""

from __future__ import annotations

import math
from pathlib import Path

MAX_CPUS = 1 << 16
"""No machine has so many: a larger number in a CPU list is garbage, and would fill the memory."""


def read_text(root: Path, name: str) -> str | None:
    """The text of root / name without surrounding blanks, or None."""
    try:
        return (root / name).read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):  # ValueError: a null character in a name that came from another file
        return None


def read_word(root: Path, name: str) -> str | None:
    """The first word of root / name, or None."""
    words = (read_text(root, name) or "").split()
    return words[0] if words else None


def read_integer(root: Path, name: str) -> int | None:
    """The first word of root / name as a whole number, or None."""
    return integer(read_word(root, name))


def integer(text: str | None) -> int | None:
    """A whole number of at most 64 bits from its text, or None."""
    try:
        value = int(text or "")
    except ValueError:
        return None
    return value if abs(value) < 1 << 64 else None


def number(text: str | None) -> float | None:
    """A finite number from its text, or None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def cpu_list(text: str | None) -> list[int] | None:
    """The CPUs in a list such as '0-3,8' -> [0, 1, 2, 3, 8], or None."""
    cpus: list[int] = []
    for part in (text or "").split(","):
        first, dash, last = part.partition("-")
        start, stop = integer(first), integer(last if dash else first)
        if start is None or stop is None or not 0 <= start <= stop < MAX_CPUS:
            return None
        cpus.extend(range(start, stop + 1))
    return cpus


def cpu_list_text(cpus: list[int]) -> str:
    """CPUs as Linux writes them: [0, 1, 2, 3, 8] -> '0-3,8'."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
