"""The facts that a run records: about the machine and the process (`describe`), and about the source measured there.

`describe` is called inside the worker process, so that it describes the BLAS that was measured. It does not import
SciPy for its version, which would load a second BLAS, with its own threads, into a process that may not use it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mlpprof import __version__
from mlpprof.machine import blas, linux
from mlpprof.machine.keys import Description, Json

TIMEOUT_S = 3.0

GIT = (
    "git",
    "--no-optional-locks",  # git writes no refreshed index: nobody's lock is in the way and no hook runs
    *("-c", "core.fsmonitor=false"),  # git status would start a program that the repository chooses
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "safe.bareRepository=explicit"),  # git reads no configuration from a repository inside the data
)

REPOSITORY_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX")
"""A git hook runs with these variables; they would name the hook's repository in place of the folder's."""


def describe(root: Path = Path("/"), environment: Mapping[str, str] | None = None) -> Description:
    """All keys of `KEYS` but the commit's; None where this system does not show the fact.

    Call it when the work is done: it does not have a BLAS that is loaded later, nor memory that is used later.
    root: where /proc and /sys are, for tests. environment: the variables of this process by default.
    """
    if environment is None:
        environment = os.environ
    return (
        _cpu_facts(root)
        | _memory_facts(root, environment)
        | _python_facts()
        | _numpy_facts()
        | blas.loaded_libraries()
        | {"blas_environment": blas.blas_environment(environment)}
    )


def _cpu_facts(root: Path) -> Description:
    usable = linux.affinity()
    shown = usable or list(range(os.cpu_count() or 1))
    load, runnable = linux.load_average(root)
    total_s, steal_s = linux.cpu_times_s()
    return {
        "platform": platform.platform(aliased=True),
        "cpu_model_name": linux.model_name(root),
        "cpu_architecture": platform.machine() or None,
        "cpu_simd": linux.simd(root),
        "cpu_count": os.cpu_count(),
        "cpu_core_count": linux.core_count(),
        "cpu_affinity": None if usable is None else linux.cpu_list_text(usable),
        "cpu_affinity_count": None if usable is None else len(usable),
        "cpu_quota": linux.cpu_quota(root),
        "cpu_freq": linux.frequency(root, shown),
        "cpu_config": linux.configuration(root, shown),
        "cpu_caches": linux.caches(root, min(shown)),
        "load_avg_1min": load,
        "runnable_threads": runnable,
        "cpu_time_s": total_s,
        "steal_s": steal_s,
        "clocksource": linux.read_word(root, "sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }


def _memory_facts(root: Path, environment: Mapping[str, str]) -> Description:
    return {
        "mem_total_bytes": linux.total_bytes(),
        "mem_limit_bytes": linux.memory_limit_bytes(root),
        "page_size_bytes": mmap.PAGESIZE,
        "transparent_hugepages": linux.transparent_hugepages(root),
        "mem_max_rss": linux.max_rss_bytes(),
        "libc_version": linux.libc_version(),
        "allocator_environment": linux.allocator_environment(environment),
        "preloaded_libraries": linux.preloaded_libraries(environment),
    }


def _python_facts() -> Description:
    clock = time.get_clock_info("perf_counter")
    gil_enabled = getattr(sys, "_is_gil_enabled", None)  # since Python 3.13; before, the lock is always on
    return {
        "timer": f"{clock.implementation}, resolution: {clock.resolution:g} s",
        "python_version": platform.python_version(),
        "python_implementation": sys.implementation.name,
        "python_compiler": " ".join(platform.python_compiler().split()) or None,
        "python_gil": True if gil_enabled is None else bool(gil_enabled()),
        "mlpprof_version": __version__,
    }


def _numpy_facts() -> Description:
    # The printing mode needs pyyaml and warns where it is missing; mode="dicts" does not.
    build = np.show_config(mode="dicts") or {}
    simd = build.get("SIMD Extensions")
    library = build.get("Build Dependencies", {}).get("blas", {})
    name = " ".join(str(library[key]) for key in ("name", "version") if library.get(key, "unknown") != "unknown")
    return {
        "numpy_version": np.__version__,
        "scipy_version": _installed_version("scipy"),
        "numpy_simd": None if simd is None else {key: _texts(simd.get(key)) for key in ("baseline", "found")},
        "numpy_blas": name or None,
    }


def _installed_version(package: str) -> str | None:
    """The version of the imported package, else of the installed one."""
    loaded = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(loaded, str):
        return loaded
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _texts(names: object) -> list[Json]:
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else []


def machine_class(description: Mapping[str, Any]) -> str:
    """The class of a described machine: architecture, vector width, cores, NumPy's BLAS and its kernel.

    Machines of one class run the same kernels on the same number of cores. Their ratios are similar, even if
    their times differ.
    """
    rank = blas.cpu_rank(description)
    libraries = sorted(description.get("blas") or [], key=lambda library: library.get("loaded_by") != "numpy")
    library = next((f"{library.get('vendor')} {library.get('kernel')}" for library in libraries), "unknown BLAS")
    vector = "unknown vectors" if rank is None else rank.text
    cores = description.get("cpu_core_count") or description.get("cpu_count")
    return f"{description.get('cpu_architecture')} {vector}, {cores} cores, {library}"


def commit_facts(folder: Path, timeout_s: float = TIMEOUT_S) -> Description:
    """The commit_id and commit_dirty of the git repository around `folder`.

    Both are None without git, repository, commit or permission; commit_dirty alone where git needs more than timeout_s
    seconds. Untracked files do not make a commit dirty, and changes inside submodules are ignored.
    """
    head = _git(folder, timeout_s, "rev-parse", "--verify", "HEAD")
    commit_id = (head or "").strip()
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit_id):
        return {"commit_id": None, "commit_dirty": None}
    changes = _git(folder, timeout_s, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    return {"commit_id": commit_id, "commit_dirty": None if changes is None else bool(changes.strip())}


def source_sha256(path: Path) -> str | None:
    """SHA-256 of the bytes of a file in hexadecimal; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _git(folder: Path, timeout_s: float, *arguments: str) -> str | None:
    """The output of git about `folder`, or None if git fails, is missing or takes too long."""
    environment = {name: value for name, value in os.environ.items() if name not in REPOSITORY_VARIABLES}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    try:
        answer = subprocess.run(
            [*GIT, "-C", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=timeout_s,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):  # ValueError: a null character in the name
        return None
    return answer.stdout if answer.returncode == 0 else None
