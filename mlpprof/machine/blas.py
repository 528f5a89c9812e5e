"""The BLAS of a process: what is loaded, what pins its kernel, the environment of a worker, the header lines.

Kernel and threads of a BLAS are fixed when it is loaded, so they are set through the environment before a worker
starts, and read inside the worker.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import PurePath

import threadpoolctl

from mlpprof.errors import UsageError
from mlpprof.machine.container import cpu_quota
from mlpprof.machine.kernels import VectorRank, cpu_rank, kernel_rank
from mlpprof.machine.keys import Json

WORKERS_VARIABLE = "MLPPROF_WORKERS"
"""What `mlpprof.model.team` reads; not imported, since whoever starts workers does not load NumPy."""

VENDOR_NAMES = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS", "flexiblas": "FlexiBLAS"}

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",  # any BLAS on OpenMP; NVPL and Arm Performance Libraries have nothing else
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""What sets the number of threads, by vendor."""

THREAD_OVERRIDES = (
    "MKL_DOMAIN_NUM_THREADS",
    *("BLIS_JC_NT", "BLIS_PC_NT", "BLIS_IC_NT", "BLIS_JR_NT", "BLIS_IR_NT"),
)
"""Variables that outrank the `THREAD_VARIABLES` of their vendor."""

KERNEL_VARIABLES = {
    "OPENBLAS_CORETYPE": "openblas",
    "BLIS_ARCH_TYPE": "blis",
    "AOCL_ENABLE_INSTRUCTIONS": "blis",
    "MKL_ENABLE_INSTRUCTIONS": "mkl",
    "MKL_CBWR": "mkl",
    "MKL_DEBUG_CPU_TYPE": "mkl",
    "NVPL_BLAS_DEBUG_CPU_TYPE": "nvpl",
}
"""What pins a kernel -> the vendor whose libraries obey it."""

BLAS_PREFIXES = (
    *("OPENBLAS_", "GOTO_", "OMP_", "GOMP_", "KMP_", "MKL_", "BLIS_", "AOCL_", "VECLIB_", "NVPL_", "ARMPL_"),
    *("FLEXIBLAS", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"),
)
"""Variables that begin so can change what is measured, so they are recorded."""

NOT_THE_USERS = ("KMP_DUPLICATE_LIB_OK",)
"""Set by importing threadpoolctl, and without effect on time."""


def loaded_libraries() -> dict[str, Json]:
    """{"blas": [...], "openmp": [...]}: the libraries loaded in this process, in the form that `KEYS` tells.

    NumPy and SciPy from wheels bring one BLAS each, with its own threads. Accelerate is not seen by threadpoolctl.
    """
    try:
        with warnings.catch_warnings():
            # two OpenMP runtimes in one process: threadpoolctl warns, the description shows it
            warnings.simplefilter("ignore", RuntimeWarning)
            found = threadpoolctl.threadpool_info()
    except (OSError, RuntimeError):
        return {"blas": None, "openmp": None}
    blas: list[Json] = [
        {
            "vendor": library["internal_api"],
            "version": library.get("version"),
            "kernel": library.get("architecture"),
            "threads": library.get("num_threads"),
            "threading_layer": library.get("threading_layer"),
            "library": PurePath(library["filepath"]).name,
            "loaded_by": _package_of(library["filepath"]),
        }
        for library in found
        if library["user_api"] == "blas"
    ]
    openmp: list[Json] = [
        {"threads": library.get("num_threads"), "library": PurePath(library["filepath"]).name}
        for library in found
        if library["user_api"] == "openmp"
    ]
    return {"blas": blas, "openmp": openmp}


def blas_environment(environment: Mapping[str, str]) -> dict[str, Json]:
    """The variables in `environment` that steer BLAS, OpenMP or NumPy's choice of loops, as they are set."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(BLAS_PREFIXES) and name not in NOT_THE_USERS
    }


def worker_environment(base: Mapping[str, str], threads: int | None, native_blas: bool) -> dict[str, str]:
    """The environment to start a worker in: a copy of `base` with BLAS set up.

    threads: of every BLAS and of OpenMP; None leaves all of them as `base` has them.
    native_blas: drop what pins a kernel, so that each BLAS chooses by the CPU.
    Where a container's quota allows fewer CPUs than there are, teams get no more workers than that.
    Raises UsageError if threads is less than 1.
    """
    environment = dict(base)
    if threads is not None:
        if threads < 1:
            raise UsageError(f"{threads} BLAS threads make no worker; expected 1 or more")
        environment |= dict.fromkeys(THREAD_VARIABLES, str(threads))
        for name in THREAD_OVERRIDES:
            environment.pop(name, None)
    if native_blas:
        for name in KERNEL_VARIABLES:
            environment.pop(name, None)
    if (quota := cpu_quota()) is not None:
        environment.setdefault(WORKERS_VARIABLE, str(max(1, min(int(quota), os.cpu_count() or 1))))
    return environment


def pinned_kernel_warning(description: Mapping[str, Json]) -> str | None:
    """One line if the environment pins a loaded BLAS to narrower vectors than the CPU has, else None.

    What the library says it runs counts more than what the variable asks for: unknown names and builds for a single
    kernel ignore the variable. None also where the CPU or the kernel is not ranked (see `kernels`).
    """
    offered = cpu_rank(description)
    set_here = description.get("blas_environment")
    if offered is None or not isinstance(set_here, dict):
        return None
    for library in _libraries(description):
        for variable, vendor in KERNEL_VARIABLES.items():
            value = set_here.get(variable)
            if not isinstance(value, str) or vendor != library.get("vendor"):
                continue
            if vendor == "mkl":
                used, what = _mkl_rank(description, value), ""
            else:
                kernel = str(library.get("kernel") or value)
                used, what = kernel_rank(kernel), f"its {kernel} kernel, "
            if used is not None and used < offered:
                return (
                    f"{variable}={value} pins {_vendor_name(library)} to {what}{used.text}, where this CPU has "
                    f"{offered.text}: matrix products are slower than they could be (unset it, or use --native-blas)"
                )
    return None


def blas_line(description: Mapping[str, Json]) -> str:
    """Such as 'NumPy 2.4.6 · OpenBLAS 0.3.31 kernel Haswell · 1 thread'; SciPy's BLAS follows where it differs."""
    parts = [f"NumPy {description.get('numpy_version') or '(version not known)'}"]
    libraries = sorted(_libraries(description), key=lambda library: library.get("loaded_by") != "numpy")
    if libraries:
        parts += [_library_text(libraries[0]), _threads_text(libraries[0])]
    else:
        parts.append(f"{description.get('numpy_blas') or 'BLAS'}, kernel and threads not known")
    for other in libraries[1:]:
        if any(other.get(key) != libraries[0].get(key) for key in ("vendor", "kernel", "threads")):
            owner = {"numpy": "NumPy", "scipy": "SciPy"}.get(str(other.get("loaded_by")), "beside it")
            parts.append(f"{owner}: {_library_text(other)}, {_threads_text(other)}")
    return " · ".join(parts)


def machine_line(description: Mapping[str, Json]) -> str:
    """Such as 'AMD EPYC, 4 cores (quota 1.5), 23.5 GiB, L2 512 KiB, L3 32 MiB, load 0.3'; without what is unknown."""
    parts = [str(description.get("cpu_model_name") or description.get("cpu_architecture") or "CPU not known")]
    cpus, cores = description.get("cpu_count"), description.get("cpu_core_count")
    if isinstance(cpus, int):
        text = _count(cores, "core") if isinstance(cores, int) else _count(cpus, "CPU")
        if isinstance(cores, int) and cores != cpus:
            text += f" and {cpus} CPUs"
        limits = []
        usable, quota = description.get("cpu_affinity_count"), description.get("cpu_quota")
        if isinstance(usable, int) and usable < cpus:
            limits.append(f"affinity {usable}")
        if isinstance(quota, (int, float)):
            limits.append(f"quota {quota:.1f}")
        parts.append(text + (f" ({', '.join(limits)})" if limits else ""))
    total, limit = description.get("mem_total_bytes"), description.get("mem_limit_bytes")
    if isinstance(total, int):
        limit_text = f"{limit / 2**30:.1f} of " if isinstance(limit, int) and limit < total else ""
        parts.append(f"{limit_text}{total / 2**30:.1f} GiB")
    found = description.get("cpu_caches")
    for cache in found if isinstance(found, list) else []:
        if isinstance(cache, dict) and cache.get("level") != 1 and isinstance(size := cache.get("size_bytes"), int):
            parts.append(f"L{cache.get('level')} {_size_text(size)}")
    if isinstance(load := description.get("load_avg_1min"), (int, float)):
        parts.append(f"load {load:.1f}")
    return ", ".join(parts)


def _libraries(description: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    found = description.get("blas")
    return [library for library in found if isinstance(library, dict)] if isinstance(found, list) else []


def _package_of(path: str) -> str | None:
    """Which of NumPy and SciPy brought a library along, by the folder its wheel keeps it in."""
    parts = PurePath(path).parts
    for package in ("numpy", "scipy"):
        if f"{package}.libs" in parts or (package in parts and ".dylibs" in parts):
            return package
    return None


def _mkl_rank(description: Mapping[str, Json], value: str) -> VectorRank | None:
    """The rank that MKL_ENABLE_INSTRUCTIONS or MKL_CBWR asks for; both act on Intel's processors only."""
    if "Intel" not in str(description.get("cpu_model_name")):
        return None
    branch = value.upper().removeprefix("BRANCH=").partition(",")[0].strip()
    starts = {"AVX512": VectorRank.AVX512, "AVX2": VectorRank.AVX2, "AVX": VectorRank.AVX}
    starts |= dict.fromkeys(("SSE", "SSSE", "COMPATIBLE"), VectorRank.SSE)
    return next((rank for start, rank in starts.items() if branch.startswith(start)), None)


def _vendor_name(library: Mapping[str, Json]) -> str:
    vendor = str(library.get("vendor"))
    return VENDOR_NAMES.get(vendor, vendor)


def _library_text(library: Mapping[str, Json]) -> str:
    """'OpenBLAS 0.3.31 kernel Haswell': a version's fourth number and on count rebuilds of the wheel."""
    text = _vendor_name(library)
    if isinstance(version := library.get("version"), str):
        text += " " + ".".join(version.split(".")[:3])
    return text + (f" kernel {library['kernel']}" if library.get("kernel") else "")


def _threads_text(library: Mapping[str, Json]) -> str:
    threads = library.get("threads")
    return _count(threads, "thread") if isinstance(threads, int) else "threads not known"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _size_text(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:g} MiB" if size_bytes >= 2**20 else f"{size_bytes / 2**10:g} KiB"
