"""Facts of processor, memory and container, as Linux shows them in /proc and /sys.

Most functions take the root of the paths: Path("/"), or a folder with a made-up tree in tests. A file that is missing,
forbidden or garbled gives None.

The limits of a container are those of its cgroup (version 1 or 2). A limit on any cgroup above has an effect too, so
the smallest one counts. The controllers are searched where distributions and container runtimes mount them, below
/sys/fs/cgroup. Source: the Linux kernel's admin-guide/cgroup-v2 and scheduler/sched-bwc.
"""

from __future__ import annotations

import math
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath

import psutil

from mlpprof.machine.keys import Json

if sys.platform != "win32":
    import resource

MAX_CPUS = 1 << 16
"""No machine has so many CPUs: a larger number in a list is garbage, and would fill the memory."""

SIMD_FLAGS = (
    *("sse2", "ssse3", "sse4_1", "sse4_2", "avx", "f16c", "fma", "fma4", "avx2", "avx_vnni"),
    *("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""Numerical kernels are chosen by these flags of /proc/cpuinfo: x86, then ARM."""

MODEL_KEYS = ("model name", "cpu", "Model")
"""The keys of the processor's name in /proc/cpuinfo: x86, POWER, boards with ARM."""

SIZE_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

ALLOCATOR_PREFIXES = ("MALLOC_", "_RJEM_MALLOC_", "MIMALLOC_", "TCMALLOC_")
ALLOCATOR_VARIABLES = ("GLIBC_TUNABLES", "PYTHONMALLOC", "NUMPY_MADVISE_HUGEPAGE")
"""The variables that affect allocators besides those with the prefixes."""

PRELOAD_VARIABLES = ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES")

MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""In version 2 and 1 of cgroups: the limit of memory, what is used, and what of it the system gives back if needed."""

UNLIMITED_BYTES = 1 << 60
"""Version 1 of cgroups writes "no memory limit" as the largest multiple of a page, near 2**63."""


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


def model_name(root: Path = Path("/")) -> str | None:
    """The processor's name with single blanks; None where /proc/cpuinfo does not have it."""
    values = dict(reversed(_cpuinfo(root)))  # reversed: the first CPU's line wins
    return next((name for key in MODEL_KEYS if (name := " ".join(values.get(key, "").split()))), None)


def simd(root: Path = Path("/")) -> list[Json] | None:
    """The flags of `SIMD_FLAGS` that the first CPU has; None where /proc/cpuinfo lists no flags."""
    for key, value in _cpuinfo(root):
        if key in ("flags", "Features"):
            flags = set(value.split())
            return [flag for flag in SIMD_FLAGS if flag in flags]
    return None


def affinity() -> list[int] | None:
    """The CPUs this process may run on; None where the system has no such notion (macOS)."""
    try:
        process = psutil.Process()
        return [int(cpu) for cpu in process.cpu_affinity()] if hasattr(process, "cpu_affinity") else None
    except (OSError, psutil.Error):
        return None


def core_count() -> int | None:
    """Physical cores of the machine."""
    try:
        count = psutil.cpu_count(logical=False)
    except (OSError, psutil.Error):
        return None
    return int(count) if count else None


def caches(root: Path, cpu: int) -> list[Json] | None:
    """The caches that `cpu` uses, innermost first, or None."""
    found: list[tuple[int, str, Json]] = []
    for folder in sorted((root / f"sys/devices/system/cpu/cpu{cpu}/cache").glob("index*")):
        level, kind, size = read_integer(folder, "level"), read_word(folder, "type"), read_word(folder, "size")
        if level is None or kind is None or (size_bytes := _size_bytes(size)) is None:
            continue
        shared = cpu_list(read_word(folder, "shared_cpu_list"))
        facts: Json = {
            "level": level,
            "type": kind,
            "size_bytes": size_bytes,
            "line_bytes": read_integer(folder, "coherency_line_size"),
            "shared_by": None if shared is None else len(shared),
        }
        found.append((level, kind, facts))
    return [facts for _, _, facts in sorted(found, key=lambda cache: cache[:2])] or None


def frequency(root: Path, cpus: list[int]) -> str | None:
    """The clocks of `cpus` at this moment in pyperf's form, '0-3=2445 MHz', or None."""
    mhz: dict[int, str] = {}
    cpu = None
    for key, value in _cpuinfo(root):
        if key == "processor":
            cpu = integer(value)
        elif key == "cpu MHz" and cpu in cpus and (clock := number(value)) is not None:
            mhz[cpu] = f"{clock:.0f} MHz"
    for cpu in cpus:
        khz = read_integer(root, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq")
        if cpu not in mhz and khz is not None:
            mhz[cpu] = f"{khz / 1000:.0f} MHz"
    return _grouped(mhz)


def configuration(root: Path, cpus: list[int]) -> str | None:
    """Driver and governor of the clocks of `cpus` in pyperf's form, then 'boost:on' or 'boost:off', or None."""
    settings: dict[int, str] = {}
    for cpu in cpus:
        folder = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        named = {name: read_word(root, f"{folder}/scaling_{name}") for name in ("driver", "governor")}
        if parts := [f"{name}:{word}" for name, word in named.items() if word is not None]:
            settings[cpu] = ", ".join(parts)
    boost = read_integer(root, "sys/devices/system/cpu/cpufreq/boost")
    no_boost = read_integer(root, "sys/devices/system/cpu/intel_pstate/no_turbo")
    if boost is None and no_boost is not None:
        boost = 1 - no_boost
    boost_text = {0: "boost:off", 1: "boost:on"}.get(-1 if boost is None else boost)
    return "; ".join(text for text in (_grouped(settings), boost_text) if text) or None


def load_average(root: Path = Path("/")) -> tuple[float | None, int | None]:
    """Runnable tasks averaged over the last minute, and threads runnable right now; each may be None."""
    words = (read_text(root, "proc/loadavg") or "").split()
    if len(words) >= 4:
        return number(words[0]), integer(words[3].partition("/")[0])
    if sys.platform not in ("linux", "win32"):
        try:
            return os.getloadavg()[0], None
        except OSError:
            pass
    return None, None


def cpu_times_s() -> tuple[float | None, float | None]:
    """CPU seconds since boot over all CPUs: all of them with idle ones, and those stolen by a hypervisor (Linux only).

    Two readings show the share that was stolen between them. The time of guests is already part of user and nice.
    """
    try:
        times = psutil.cpu_times()
    except (OSError, psutil.Error):
        return None, None
    guests_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return sum(times) - guests_s, getattr(times, "steal", None)


def _cpuinfo(root: Path) -> list[tuple[str, str]]:
    lines = (line.partition(":") for line in (read_text(root, "proc/cpuinfo") or "").splitlines())
    return [(key.strip(), value.strip()) for key, _, value in lines]


def _size_bytes(text: str | None) -> int | None:
    """'512K' -> 524288."""
    count = integer((text or "")[:-1])
    unit = SIZE_UNITS.get((text or "")[-1:])
    return None if count is None or unit is None or count <= 0 else count * unit


def _grouped(by_cpu: dict[int, str]) -> str | None:
    """{0: 'a', 1: 'a', 2: 'b'} -> '0-1=a; 2=b', pyperf's form for facts that differ from CPU to CPU."""
    groups: dict[str, list[int]] = {}
    for cpu, text in sorted(by_cpu.items()):
        groups.setdefault(text, []).append(cpu)
    return "; ".join(f"{cpu_list_text(cpus)}={text}" for text, cpus in groups.items()) or None


def total_bytes() -> int | None:
    """Memory of the machine, bytes."""
    try:
        return int(psutil.virtual_memory().total)
    except (OSError, psutil.Error):
        return None


def interruptions() -> int:
    """How often the system has taken the processor from this process for another one; 0 where it does not count."""
    return 0 if sys.platform == "win32" else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def max_rss_bytes() -> int | None:
    """The most memory this process has had resident so far, bytes."""
    if sys.platform == "win32":
        try:
            return int(psutil.Process().memory_info().peak_wset)
        except (OSError, psutil.Error):
            return None
    # ru_maxrss is in bytes on macOS and in KiB elsewhere.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def transparent_hugepages(root: Path = Path("/")) -> str | None:
    """The policy in force: always, madvise or never. The file has brackets around it."""
    text = read_text(root, "sys/kernel/mm/transparent_hugepage/enabled")
    chosen = re.search(r"\[(\w+)\]", text or "")
    return chosen[1] if chosen else None


def libc_version() -> str | None:
    """'glibc 2.36', or None where Python does not know it (musl, macOS, Windows)."""
    try:
        return " ".join(platform.libc_ver()).strip() or None
    except OSError:
        return None


def allocator_environment(environment: Mapping[str, str]) -> dict[str, Json]:
    """The variables in `environment` that affect an allocator, with their values."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name in ALLOCATOR_VARIABLES or name.startswith(ALLOCATOR_PREFIXES)
    }


def preloaded_libraries(environment: Mapping[str, str]) -> list[Json]:
    """The file names, without folders, of libraries that are loaded before all others, such as another allocator."""
    names = (re.split(r"[:\s]+", environment.get(variable, "")) for variable in PRELOAD_VARIABLES)
    return [PurePath(path).name for paths in names for path in paths if path]


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The CPU time per second that this process may use: 1.5 is one and a half CPUs; None where no limit is known."""
    quotas = []
    for folder in cgroup_folders(root, "cpu"):
        if (text := read_text(folder, "cpu.max")) is not None:
            words = [*text.split(), "", ""]
            quota_us, period_us = integer(words[0]), integer(words[1])
        else:
            quota_us, period_us = read_integer(folder, "cpu.cfs_quota_us"), read_integer(folder, "cpu.cfs_period_us")
        if quota_us is not None and period_us is not None and quota_us > 0 and period_us > 0:
            quotas.append(quota_us / period_us)
    return min(quotas, default=None)


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """Bytes of memory this process may use; None where no limit is known."""
    limits = []
    for folder in cgroup_folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = read_integer(folder, name)
            if limit is not None and 0 < limit < UNLIMITED_BYTES:
                limits.append(limit)
    return min(limits, default=None)


def free_memory_bytes(root: Path = Path("/"), available: int | None = None) -> int:
    """Bytes of memory that this process can still take: those that the machine has, or that a cgroup leaves of them.

    available: what the machine has; None asks the system. Files that the system only keeps for later count as free.
    """
    free = int(psutil.virtual_memory().available) if available is None else available
    for folder in cgroup_folders(root, "memory"):
        for limit_name, used_name, kept_name in MEMORY_FILES:
            limit, used = read_integer(folder, limit_name), read_integer(folder, used_name)
            if limit is not None and used is not None and 0 < limit < UNLIMITED_BYTES:
                kept = re.search(rf"^{kept_name} (\d+)$", read_text(folder, "memory.stat") or "", re.MULTILINE)
                free = min(free, max(0, limit - used + (int(kept[1]) if kept else 0)))
    return free


def cgroup_folders(root: Path, controller: str) -> list[Path]:
    """The folders of this process's cgroup and of all above it, in both versions' hierarchies.

    A container may see its own cgroup mounted as the top while /proc still shows the path outside of it. Then the path
    leads nowhere, and the limit is that of the top, which is among the folders anyway.
    """
    mounts = root / "sys/fs/cgroup"
    folders: dict[Path, None] = {}
    for line in (read_text(root, "proc/self/cgroup") or f"0::/\n1:{controller}:/").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path.startswith("/") or ".." in PurePosixPath(path).parts:
            path = "/"
        if controllers == "":
            tops = [mounts, mounts / "unified"]
        elif controller in controllers.split(","):
            tops = [mounts / controllers, mounts / controller]
        else:
            continue
        inside = PurePosixPath(path).relative_to("/")
        folders |= {top / level: None for top in tops for level in (inside, *inside.parents)}
    return list(folders)
