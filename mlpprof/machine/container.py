"""The limits that a container (a Linux cgroup, version 1 or 2) sets on this process.

A limit on any cgroup above binds too, so the smallest one counts. The controllers are looked for where
distributions and container runtimes mount them, below /sys/fs/cgroup.
Source: the Linux kernel's admin-guide/cgroup-v2 and scheduler/sched-bwc.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from mlpprof.machine.system_files import integer, read_integer, read_text

UNLIMITED_BYTES = 1 << 60
"""Version 1 writes "no memory limit" as the largest multiple of a page, near 2**63."""


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time this process may use, 1.5 is one and a half CPUs; None where no limit is known."""
    quotas = []
    for folder in _folders(root, "cpu"):
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
    for folder in _folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = read_integer(folder, name)
            if limit is not None and 0 < limit < UNLIMITED_BYTES:
                limits.append(limit)
    return min(limits, default=None)


def _folders(root: Path, controller: str) -> list[Path]:
    """The folders of this process's cgroup and of all above it, in both versions' hierarchies.

    A container may see its own cgroup mounted as the top while /proc still tells the path outside of it; then the
    path leads nowhere and the top is what counts, which is among the folders anyway.
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
