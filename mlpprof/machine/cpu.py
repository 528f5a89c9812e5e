"""Facts of the processor: model, vector instructions, caches, clock, load and stolen time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

from mlpprof.machine.keys import Json
from mlpprof.machine.system_files import cpu_list, cpu_list_text, integer, number, read_integer, read_text, read_word

SIMD_FLAGS = (
    *("sse2", "ssse3", "sse4_1", "sse4_2", "avx", "f16c", "fma", "fma4", "avx2", "avx_vnni"),
    *("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""The flags of /proc/cpuinfo that numerical kernels choose by: x86, then ARM."""

MODEL_KEYS = ("model name", "cpu", "Model")
"""The key of the processor's name in /proc/cpuinfo: x86, POWER, boards with ARM."""

SIZE_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def model_name(root: Path = Path("/")) -> str | None:
    """The processor's name with single blanks; None where /proc/cpuinfo does not tell."""
    values = dict(reversed(_cpuinfo(root)))  # reversed: the first CPU's line wins
    return next((name for key in MODEL_KEYS if (name := " ".join(values.get(key, "").split()))), None)


def simd(root: Path = Path("/")) -> list[Json] | None:
    """The flags of `SIMD_FLAGS` that the first CPU has; None where /proc/cpuinfo tells no flags."""
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


def cpu_times_s(root: Path = Path("/")) -> tuple[float | None, float | None]:
    """CPU seconds since boot over all CPUs: all of them with idle ones, and those stolen by a hypervisor.

    Two readings tell the share stolen between them. /proc/stat counts ticks: user, nice, system, idle, iowait, irq,
    softirq, steal; the guest columns behind them are already in user and nice.
    """
    for line in (read_text(root, "proc/stat") or "").splitlines():
        words = line.split()
        if words[:1] == ["cpu"] and len(words) > 8:
            ticks = [integer(word) for word in words[1:9]]
            known = [count for count in ticks if count is not None]
            if len(known) == len(ticks):
                tick_hz = os.sysconf("SC_CLK_TCK")
                return sum(known) / tick_hz, known[-1] / tick_hz
    return None, None


def _cpuinfo(root: Path) -> list[tuple[str, str]]:
    """The lines of /proc/cpuinfo as (key, value)."""
    lines = (line.partition(":") for line in (read_text(root, "proc/cpuinfo") or "").splitlines())
    return [(key.strip(), value.strip()) for key, _, value in lines]


def _size_bytes(text: str | None) -> int | None:
    """'512K' -> 524288."""
    count = integer((text or "")[:-1])
    unit = SIZE_UNITS.get((text or "")[-1:])
    return None if count is None or unit is None or count <= 0 else count * unit


def _grouped(by_cpu: dict[int, str]) -> str | None:
    """{0: 'a', 1: 'a', 2: 'b'} -> '0-1=a; 2=b', the form in which pyperf writes what differs by CPU."""
    groups: dict[str, list[int]] = {}
    for cpu, text in sorted(by_cpu.items()):
        groups.setdefault(text, []).append(cpu)
    return "; ".join(f"{cpu_list_text(cpus)}={text}" for text, cpus in groups.items()) or None
