"""The description as a whole: complete, documented, JSON, private, and true on this machine."""

import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import threadpoolctl

from mlpprof.machine.blas import (
    VectorRank,
    blas_line,
    cpu_rank,
    kernel_rank,
    machine_line,
    pinned_kernel_warning,
    worker_environment,
)
from mlpprof.machine.facts import commit_facts, describe
from mlpprof.machine.keys import KEYS

ROOT = Path(__file__).parent.parent

FILE_KEYS = (
    *("cpu_model_name", "cpu_simd", "cpu_quota", "cpu_freq", "cpu_config", "cpu_caches", "runnable_threads"),
    *("cpu_time_s", "steal_s", "clocksource", "mem_limit_bytes", "transparent_hugepages"),
)
"""What comes from /proc and /sys alone."""


@pytest.fixture(scope="module")
def description():
    return describe()


def test_every_key_is_documented_and_every_documented_key_is_emitted(description, tmp_path):
    emitted = [*description, *commit_facts(tmp_path)]
    assert len(emitted) == len(set(emitted))
    assert set(emitted) == set(KEYS)
    assert all(len(meaning) > 10 for meaning in KEYS.values())


def test_a_description_survives_json_unchanged(description):
    assert json.loads(json.dumps(description, allow_nan=False)) == description


def test_every_key_stays_and_is_null_where_the_system_tells_nothing(tmp_path):
    blind = describe(root=tmp_path, environment={})
    assert set(blind) | {"commit_id", "commit_dirty"} == set(KEYS)
    assert {key: blind[key] for key in FILE_KEYS} == dict.fromkeys(FILE_KEYS)
    assert machine_line(blind)
    assert blas_line(blind)


def test_a_missing_library_of_the_system_leaves_null(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise PermissionError("not here")

    monkeypatch.setattr(psutil, "virtual_memory", refuse)
    monkeypatch.setattr(psutil, "cpu_count", refuse)
    monkeypatch.setattr(psutil, "Process", refuse)
    monkeypatch.setattr(platform, "libc_ver", refuse)
    monkeypatch.setattr(threadpoolctl, "threadpool_info", refuse)
    blind = describe(root=tmp_path)
    refused = (
        "mem_total_bytes",
        "cpu_core_count",
        "cpu_affinity",
        "cpu_affinity_count",
        "libc_version",
        "blas",
        "openmp",
    )
    assert {key: blind[key] for key in refused} == dict.fromkeys(refused)


def test_neither_host_nor_folders_are_told(description):
    text = json.dumps({key: value for key, value in description.items() if key not in ("platform", "blas_environment")})
    assert str(Path(np.__file__).parent.parent) not in text
    assert sys.executable not in text
    host = socket.gethostname()
    assert len(host) < 4 or host not in text


def test_two_openmp_runtimes_in_one_process_warn_nobody(monkeypatch):
    def warn():
        import warnings

        warnings.warn("Found Intel OpenMP and LLVM OpenMP", RuntimeWarning, stacklevel=1)
        return [{"user_api": "openmp", "internal_api": "openmp", "num_threads": 2, "filepath": "/x/libgomp.so.1"}]

    monkeypatch.setattr(threadpoolctl, "threadpool_info", warn)
    told = describe()
    assert told["openmp"] == [{"threads": 2, "library": "libgomp.so.1"}]
    assert told["blas"] == []


def test_the_counts_agree_with_psutil(description):
    assert description["cpu_count"] == psutil.cpu_count()
    assert description["cpu_core_count"] == psutil.cpu_count(logical=False)
    assert description["mem_total_bytes"] == psutil.virtual_memory().total


@pytest.mark.skipif(sys.platform != "linux", reason="the affinity is Linux's")
def test_the_affinity_is_that_of_this_process():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(before)})
        told = describe()
    finally:
        os.sched_setaffinity(0, before)
    assert (told["cpu_affinity"], told["cpu_affinity_count"]) == (str(max(before)), 1)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/cpuinfo is Linux's")
def test_the_vector_flags_agree_with_what_numpy_found(description):
    if "X86_V3" in description["numpy_simd"]["found"]:
        assert {"avx2", "fma"} <= set(description["cpu_simd"])
    if "X86_V4" in description["numpy_simd"]["found"]:
        assert "avx512vl" in description["cpu_simd"]


def test_every_blas_that_threadpoolctl_sees_is_told(description):
    seen = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    told = {library["library"]: library for library in description["blas"]}
    assert len(told) == len(seen)
    for library in seen:
        entry = told[Path(library["filepath"]).name]
        assert entry["version"] == library["version"]
        assert entry["kernel"] == library.get("architecture")
        assert entry["threads"] == library["num_threads"]


def test_the_versions_are_those_imported(description):
    assert description["numpy_version"] == np.__version__
    assert description["python_version"] == platform.python_version()
    assert description["python_implementation"] == sys.implementation.name


def described_by_a_worker(statements: str, **environment: str) -> dict:
    inherited = worker_environment(os.environ, threads=None, native_blas=True)
    base = {name: value for name, value in inherited.items() if not name.startswith(("OPENBLAS_", "OMP_", "GOTO_"))}
    code = f"{statements}\nimport json\nfrom mlpprof.machine.facts import describe\nprint(json.dumps(describe()))"
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=base | environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def openblas(told: dict) -> list[dict]:
    libraries = [library for library in told["blas"] if library["vendor"] == "openblas"]
    if not libraries:
        pytest.skip("this NumPy does not use OpenBLAS")
    return libraries


def test_one_openblas_thread_asked_for_shows_as_one_thread():
    told = described_by_a_worker("", OPENBLAS_NUM_THREADS="1")
    assert [library["threads"] for library in openblas(told)] == [1]
    assert told["blas_environment"]["OPENBLAS_NUM_THREADS"] == "1"
    assert blas_line(told).endswith("· 1 thread")


def test_the_two_pools_of_numpy_and_scipy_are_both_told_with_the_workers_threads():
    told = described_by_a_worker("import scipy.linalg", **worker_environment({"OPENBLAS_NUM_THREADS": "4"}, 1, False))
    assert {library["threads"] for library in openblas(told)} == {1}
    if (Path(np.__file__).parent.parent / "scipy.libs").is_dir():
        assert sorted(library["loaded_by"] for library in told["blas"]) == ["numpy", "scipy"]


def test_scipys_version_is_told_without_loading_scipy():
    told = described_by_a_worker(
        "import sys, atexit\natexit.register(lambda: sys.exit('scipy loaded') if 'scipy' in sys.modules else None)"
    )
    assert told["scipy_version"]
    assert [library for library in told["blas"] if library["loaded_by"] == "scipy"] == []


def test_a_kernel_pinned_below_the_cpu_is_found_in_a_real_process():
    told = described_by_a_worker("", OPENBLAS_CORETYPE="Prescott")
    kernel = openblas(told)[0]["kernel"]
    if (cpu_rank(told) or 0) < VectorRank.AVX or kernel_rank(kernel) is not VectorRank.SSE:
        pytest.skip(f"needs a CPU with AVX and an OpenBLAS that obeys OPENBLAS_CORETYPE; this one runs {kernel}")
    assert "OPENBLAS_CORETYPE=Prescott pins OpenBLAS" in pinned_kernel_warning(told)


def test_a_process_that_pins_nothing_gets_no_warning():
    assert pinned_kernel_warning(described_by_a_worker("")) is None


def test_the_module_that_starts_workers_does_not_load_numpy():
    code = "import sys, mlpprof.machine.blas; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=60)
