"""Facts of the memory: size, pages, and what steers the allocators under NumPy's arrays."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath

import psutil

from mlpprof.machine.keys import Json
from mlpprof.machine.system_files import read_text

if sys.platform != "win32":
    import resource

ALLOCATOR_PREFIXES = ("MALLOC_", "_RJEM_MALLOC_", "MIMALLOC_", "TCMALLOC_")
ALLOCATOR_VARIABLES = ("GLIBC_TUNABLES", "PYTHONMALLOC", "NUMPY_MADVISE_HUGEPAGE")
"""Besides the prefixes. The last: whether NumPy asks for huge pages under large arrays."""

PRELOAD_VARIABLES = ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES")


def total_bytes() -> int | None:
    """Memory of the machine, bytes."""
    try:
        return int(psutil.virtual_memory().total)
    except (OSError, psutil.Error):
        return None


def max_rss_bytes() -> int | None:
    """The most memory this process has had resident so far, bytes."""
    if sys.platform == "win32":
        try:
            return int(psutil.Process().memory_info().peak_wset)
        except (OSError, psutil.Error):
            return None
    # ru_maxrss is in bytes on macOS and in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def transparent_hugepages(root: Path = Path("/")) -> str | None:
    """always, madvise or never: the word in brackets, which is the one in force."""
    text = read_text(root, "sys/kernel/mm/transparent_hugepage/enabled")
    chosen = re.search(r"\[(\w+)\]", text or "")
    return chosen[1] if chosen else None


def libc_version() -> str | None:
    """'glibc 2.36', or None where Python cannot tell (musl, macOS, Windows)."""
    try:
        return " ".join(platform.libc_ver()).strip() or None
    except OSError:
        return None


def allocator_environment(environment: Mapping[str, str]) -> dict[str, Json]:
    """The variables in `environment` that steer an allocator, as they are set."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name in ALLOCATOR_VARIABLES or name.startswith(ALLOCATOR_PREFIXES)
    }


def preloaded_libraries(environment: Mapping[str, str]) -> list[Json]:
    """File names of libraries put before all others, which is how another allocator gets in; no folders."""
    names = (re.split(r"[:\s]+", environment.get(variable, "")) for variable in PRELOAD_VARIABLES)
    return [PurePath(path).name for paths in names for path in paths if path]
