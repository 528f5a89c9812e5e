"""What disturbs timings on this machine at the moment, as far as the system shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlpprof.machine import linux

OTHERS = 1.5
"""A measurement itself is one runnable task. If there are so many on average, other programs run beside it."""


def causes(root: Path = Path("/")) -> list[str]:
    """The known causes of timings that differ for the same code, in words; empty if the system shows none."""
    return list(_causes(root))


def _causes(root: Path) -> Iterator[str]:
    load, _ = linux.load_average(root)
    if load is not None and load >= OTHERS:
        yield f"other programs run beside it (load {load:.1f})"
    quota = linux.cpu_quota(root)
    paused = _paused(root)
    if paused:
        yield f"the CPU quota of its container, {quota or 0:.3g} CPUs, has paused it {paused:,} times since it started"
    speeds = _speeds(root)
    if len(set(speeds)) > 1:
        yield f"its cores differ: the fastest can run {max(speeds) / min(speeds):.2g} times as fast as the slowest"
    throttled = sum(_integers(root, "thermal_throttle/core_throttle_count"))
    if throttled:
        yield f"the CPU has become too hot and slowed down {throttled:,} times since the system started"


def _paused(root: Path) -> int:
    """How often the scheduler has paused this cgroup, or one above it, because its quota was used up."""
    counts = [0]
    for folder in linux.cgroup_folders(root, "cpu"):
        for line in (linux.read_text(folder, "cpu.stat") or "").splitlines():
            name, _, value = line.partition(" ")
            if name == "nr_throttled":
                counts.append(linux.integer(value) or 0)
    return max(counts)


def _speeds(root: Path) -> list[int]:
    """The capacity, or else the highest clock, of the CPUs that this process may use."""
    return _integers(root, "cpu_capacity") or _integers(root, "cpufreq/cpuinfo_max_freq")


def _integers(root: Path, name: str) -> list[int]:
    folder = root / "sys/devices/system/cpu"
    usable = linux.affinity()
    names = sorted(folder.glob("cpu[0-9]*")) if usable is None else [folder / f"cpu{cpu}" for cpu in usable]
    return [value for one in names if (value := linux.read_integer(one, name))]
