"""Every key that a description of a machine may hold, with its meaning and unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | int | float | bool | None"
Description: TypeAlias = dict[str, Json]

KEYS = {
    # the machine; names that pyperf has too keep pyperf's meaning
    "platform": "operating system, release and libc, as platform.platform() gives it; never the host name",
    "cpu_model_name": "name of the processor",
    "cpu_architecture": "instruction set family: x86_64, aarch64, arm64 ...",
    "cpu_simd": "vector instruction sets that the kernel lets programs use, by their names in /proc/cpuinfo",
    "cpu_count": "logical CPUs of the machine",
    "cpu_core_count": "physical cores of the machine",
    "cpu_affinity": "CPUs that this process may run on, such as '0-3,8'",
    "cpu_affinity_count": "number of CPUs that this process may run on",
    "cpu_quota": "CPUs' worth of time that the container (cgroup) may use; null where no limit is known",
    "cpu_freq": "clock of the CPUs of the affinity when described, such as '0-3=2445 MHz'",
    "cpu_config": "frequency driver and governor of the CPUs of the affinity, and whether boost is on",
    "cpu_caches": "caches of the first CPU of the affinity: level, type, size_bytes, line_bytes, shared_by CPUs",
    "load_avg_1min": "runnable tasks, averaged over the last minute",
    "runnable_threads": "threads running or ready to run when described, this one included",
    "cpu_time_s": "CPU time since boot, idle included, summed over the CPUs, seconds",
    "steal_s": "part of cpu_time_s in which a hypervisor ran something else, seconds",
    "clocksource": "the clock that the operating system reads: tsc, hpet, kvm-clock ...",
    "mem_total_bytes": "memory of the machine, bytes",
    "mem_limit_bytes": "memory limit of the container (cgroup), bytes; null where no limit is known",
    "page_size_bytes": "size of a memory page, bytes",
    "transparent_hugepages": "policy of the operating system: always, madvise or never",
    # the process
    "mem_max_rss": "most memory this process has had resident so far, bytes",
    "libc_version": "C library, whose allocator serves NumPy: 'glibc 2.36'",
    "allocator_environment": "environment variables that affect the allocators, with their values",
    "preloaded_libraries": "file names (no folders) in LD_PRELOAD or DYLD_INSERT_LIBRARIES",
    "timer": "clock that time.perf_counter reads, and its resolution",
    "python_version": "version of Python",
    "python_implementation": "cpython, pypy ...",
    "python_compiler": "compiler that built Python",
    "python_gil": "whether the global interpreter lock is on",
    "mlpprof_version": "version of mlpprof",
    "numpy_version": "version of NumPy",
    "scipy_version": "version of SciPy",
    "numpy_simd": "vector instruction sets that NumPy's own loops use: baseline (built in) and found (dispatched)",
    "numpy_blas": "name and version of the BLAS that NumPy was built with",
    "blas": "BLAS libraries loaded in this process: vendor, version, kernel, threads, threading_layer, library "
    "(file name) and loaded_by (numpy or scipy, which may bring one each)",
    "openmp": "OpenMP runtimes loaded in this process: threads, library (file name)",
    "blas_environment": "environment variables that affect BLAS, OpenMP or NumPy's choice of loops, with their values",
    # the user's folder, from facts.commit_facts
    "commit_id": "commit of the git repository around the folder",
    "commit_dirty": "whether tracked files differ from that commit",
}
"""The meaning and unit of every key. A value is null where it is not known.

For privacy the host name, the user and the paths of files are left out; the recorded variables are shown in full.
"""
