"""The BLAS of a process: what is loaded, which kernel it runs and what pins that, and the environment of a worker.

Kernel and threads of a BLAS are fixed when it is loaded. So they are set through the environment before a worker
starts, and read inside the worker. A process that starts workers imports this module without loading NumPy.

A BLAS picks its kernel by the CPU; an environment variable can pin another. What the pin costs is mostly the width of
the vectors that the matrix product uses, so kernels are ranked by that alone:

- SSE: 4 float32 in a vector. AVX: 8. AVX2: 8 with fused multiply-add, twice the arithmetic of AVX. AVX-512: 16.
- Zen, Zen 2 and Zen 3 run OpenBLAS's Haswell code under either name (builds often alias the two), so they rank equal.
- Cooperlake and SapphireRapids differ from SkylakeX in bfloat16 products, which no variant uses, so they rank equal.
- Bulldozer to Excavator ran 128-bit units with FMA4. OpenBLAS's own choice for all of them is their kernel, also where
  the CPU lists AVX2, so a CPU with FMA4 ranks as AVX. (Zen dropped FMA4.)
- AVX-512 means AVX512VL, as in OpenBLAS: Knights Landing lacks it and gets Haswell.
- ARM, POWER and the rest are not ranked: their kernels differ in tuning more than in width, and the flags of a CPU do
  not show the width of SVE. Without a rank there is no warning.

Source: OpenBLAS, driver/others/dynamic.c and kernel/x86_64/KERNEL.*; BLIS, config_registry.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from enum import IntEnum
from pathlib import PurePath

import threadpoolctl

from mlpprof.engines.members import WORKERS_VARIABLE
from mlpprof.errors import UsageError, counted
from mlpprof.machine.keys import Json
from mlpprof.machine.linux import cpu_quota


class VectorRank(IntEnum):
    """Width of the vectors that a kernel uses or a CPU offers, narrow to wide."""

    SSE = 1
    AVX = 2
    AVX2 = 3
    AVX512 = 4

    @property
    def text(self) -> str:
        """The usual spelling: 'AVX-512'."""
        return "AVX-512" if self is VectorRank.AVX512 else self.name


KERNELS = {
    VectorRank.SSE: (
        # Builds without old kernels show Prescott's as Katmai, the first of its aliases.
        *("katmai", "coppermine", "northwood", "prescott", "banias", "atom", "core2", "penryn", "dunnington"),
        *("nehalem", "athlon", "opteron", "opteron_sse3", "barcelona", "nano", "bobcat"),
        "generic",
    ),
    VectorRank.AVX: ("sandybridge", "bulldozer", "piledriver", "steamroller", "excavator"),
    VectorRank.AVX2: ("haswell", "zen", "zen2", "zen3"),
    VectorRank.AVX512: ("skylakex", "cooperlake", "sapphirerapids", "skx", "knl", "zen4", "zen5"),
}
"""The names of the kernels of each rank in lower case: OpenBLAS's, and BLIS's where it has its own."""

CPU_FLAGS = (
    (VectorRank.AVX512, "avx512vl"),
    (VectorRank.AVX2, "avx2"),
    (VectorRank.AVX, "avx"),
    (VectorRank.SSE, "sse2"),
)
"""The flag in /proc/cpuinfo that shows each rank, widest first."""

NUMPY_FEATURES = (
    (VectorRank.AVX512, ("X86_V4", "AVX512_SKX")),
    (VectorRank.AVX2, ("X86_V3", "AVX2")),
    (VectorRank.AVX, ("AVX",)),
    (VectorRank.SSE, ("X86_V2", "SSE2")),
)
"""NumPy's names for the same where there is no /proc/cpuinfo; the first is the name since NumPy 2.4."""


def kernel_rank(kernel: str) -> VectorRank | None:
    """The rank of a kernel by its name in any case, or None if it is not ranked."""
    return next((rank for rank, names in KERNELS.items() if kernel.lower() in names), None)


def cpu_rank(description: Mapping[str, Json]) -> VectorRank | None:
    """The rank of the kernel that a BLAS would choose by itself for the described CPU, or None if not known."""
    flags = description.get("cpu_simd")
    if isinstance(flags, list):
        rank = next((rank for rank, flag in CPU_FLAGS if flag in flags), None)
        return VectorRank.AVX if rank is VectorRank.AVX2 and "fma4" in flags else rank
    simd = description.get("numpy_simd")
    if not isinstance(simd, dict):
        return None
    features = {*_texts(simd.get("baseline")), *_texts(simd.get("found"))}
    return next((rank for rank, names in NUMPY_FEATURES if features.intersection(names)), None)


def _texts(value: Json) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


VENDOR_NAMES = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS", "flexiblas": "FlexiBLAS"}

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",  # any BLAS on OpenMP; NVPL and Arm Performance Libraries have nothing else
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""The variables that set the number of threads, one or more for each vendor."""

THREAD_OVERRIDES = (
    "MKL_DOMAIN_NUM_THREADS",
    *("BLIS_JC_NT", "BLIS_PC_NT", "BLIS_IC_NT", "BLIS_JR_NT", "BLIS_IR_NT"),
)
"""The variables that take precedence over the `THREAD_VARIABLES` of their vendor."""

KERNEL_VARIABLES = {
    "OPENBLAS_CORETYPE": "openblas",
    "BLIS_ARCH_TYPE": "blis",
    "AOCL_ENABLE_INSTRUCTIONS": "blis",
    "MKL_ENABLE_INSTRUCTIONS": "mkl",
    "MKL_CBWR": "mkl",
    "MKL_DEBUG_CPU_TYPE": "mkl",
    "NVPL_BLAS_DEBUG_CPU_TYPE": "nvpl",
}
"""The variables that pin a kernel, each with the vendor whose libraries obey it."""

BLAS_PREFIXES = (
    *("OPENBLAS_", "GOTO_", "OMP_", "GOMP_", "KMP_", "MKL_", "BLIS_", "AOCL_", "VECLIB_", "NVPL_", "ARMPL_"),
    *("FLEXIBLAS", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"),
)
"""A variable with one of these beginnings can change what is measured, so it is recorded."""

SET_BY_THREADPOOLCTL = ("KMP_DUPLICATE_LIB_OK",)
"""Importing threadpoolctl sets this variable. It has no effect on time and is not the user's, so it is left out."""


def loaded_libraries() -> dict[str, Json]:
    """{"blas": [...], "openmp": [...]}: the libraries loaded in this process, in the form that `KEYS` describes.

    NumPy and SciPy from wheels bring one BLAS each, with its own threads. threadpoolctl does not see Accelerate.
    """
    try:
        with warnings.catch_warnings():
            # threadpoolctl warns of two OpenMP runtimes in one process; the description shows both.
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


def libraries_in(description: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    """The BLAS libraries in a description; none where they are not known."""
    found = description.get("blas")
    return [library for library in found if isinstance(library, dict)] if isinstance(found, list) else []


def numpy_blas(description: Mapping[str, Json]) -> Mapping[str, Json] | None:
    """The BLAS that NumPy uses, where it is known."""
    return next((library for library in libraries_in(description) if library.get("loaded_by") != "scipy"), None)


def blas_environment(environment: Mapping[str, str]) -> dict[str, Json]:
    """The variables in `environment` that affect BLAS, OpenMP or NumPy's choice of loops, with their values."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(BLAS_PREFIXES) and name not in SET_BY_THREADPOOLCTL
    }


def worker_environment(base: Mapping[str, str], threads: int | None, native_blas: bool) -> dict[str, str]:
    """The environment to start a worker in: a copy of `base` with BLAS set up.

    threads: for every BLAS and for OpenMP; None leaves the settings of `base`.
    native_blas: remove the variables that pin a kernel, so that each BLAS chooses by the CPU.
    Where a container's quota allows fewer CPUs than there are, a team gets no more workers than the quota allows.
    Raises UsageError if threads is less than 1.
    """
    environment = dict(base)
    if threads is not None:
        if threads < 1:
            raise UsageError(f"{threads} BLAS threads are not enough for a worker; expected 1 or more")
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

    The kernel that the library reports counts, and not the one that the variable asks for: a library ignores unknown
    names, and a build for a single kernel ignores the variable. None also where the CPU or the kernel is not ranked.
    """
    offered = cpu_rank(description)
    set_here = description.get("blas_environment")
    if offered is None or not isinstance(set_here, dict):
        return None
    for library in libraries_in(description):
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
    """A line such as 'NumPy 2.4.6 · OpenBLAS 0.3.31 kernel Haswell · 1 thread', with SciPy's BLAS if it differs."""
    parts = [f"NumPy {description.get('numpy_version') or '(version not known)'}"]
    libraries = sorted(libraries_in(description), key=lambda library: library.get("loaded_by") != "numpy")
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
    """A line such as 'AMD EPYC, 4 cores (quota 1.5), 23.5 GiB, L2 512 KiB, load 0.3' of the facts that are known."""
    parts = [str(description.get("cpu_model_name") or description.get("cpu_architecture") or "CPU not known")]
    cpus, cores = description.get("cpu_count"), description.get("cpu_core_count")
    if isinstance(cpus, int):
        text = counted(cores, "core") if isinstance(cores, int) else counted(cpus, "CPU")
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


def _package_of(path: str) -> str | None:
    """The package, NumPy or SciPy, whose wheel brought the library; the library's folder shows it."""
    parts = PurePath(path).parts
    for package in ("numpy", "scipy"):
        if f"{package}.libs" in parts or (package in parts and ".dylibs" in parts):
            return package
    return None


def _mkl_rank(description: Mapping[str, Json], value: str) -> VectorRank | None:
    """The rank that MKL_ENABLE_INSTRUCTIONS or MKL_CBWR asks for; both have an effect on Intel's processors only."""
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
    """'OpenBLAS 0.3.31 kernel Haswell', with three numbers of the version: the others count rebuilds of the wheel."""
    text = _vendor_name(library)
    if isinstance(version := library.get("version"), str):
        text += " " + ".".join(version.split(".")[:3])
    return text + (f" kernel {library['kernel']}" if library.get("kernel") else "")


def _threads_text(library: Mapping[str, Json]) -> str:
    threads = library.get("threads")
    return counted(threads, "thread") if isinstance(threads, int) else "threads not known"


def _size_text(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:g} MiB" if size_bytes >= 2**20 else f"{size_bytes / 2**10:g} KiB"
