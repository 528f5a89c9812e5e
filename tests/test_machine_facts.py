"""The facts that a run records: complete, documented, JSON, private, and true on this machine; commit and source."""

import hashlib
import json
import os
import platform
import shutil
import socket
import stat
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
from mlpprof.machine.facts import commit_facts, describe, source_sha256
from mlpprof.machine.keys import KEYS

ROOT = Path(__file__).parent.parent

FILE_KEYS = (
    *("cpu_model_name", "cpu_simd", "cpu_quota", "cpu_freq", "cpu_config", "cpu_caches", "runnable_threads"),
    *("clocksource", "mem_limit_bytes", "transparent_hugepages"),
)
"""The facts that come from /proc and /sys alone."""


@pytest.fixture(scope="module")
def description():
    return describe()


def test_every_key_is_documented_and_every_documented_key_is_emitted(description, tmp_path):
    emitted = [*description, *commit_facts(tmp_path)]
    assert len(emitted) == len(set(emitted))
    assert set(emitted) == set(KEYS)
    assert all(len(meaning) > 10 for meaning in KEYS.values())
    assert json.loads(json.dumps(description, allow_nan=False)) == description


def test_every_key_stays_and_is_null_where_the_system_shows_nothing(tmp_path):
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
        *("mem_total_bytes", "cpu_core_count", "cpu_affinity", "cpu_affinity_count", "libc_version", "blas", "openmp"),
    )
    assert {key: blind[key] for key in refused} == dict.fromkeys(refused)


def test_neither_host_nor_folders_are_recorded(description):
    text = json.dumps({key: value for key, value in description.items() if key not in ("platform", "blas_environment")})
    assert str(Path(np.__file__).parent.parent) not in text
    assert sys.executable not in text
    host = socket.gethostname()
    assert len(host) < 4 or host not in text


def test_two_openmp_runtimes_in_one_process_cause_no_warning(monkeypatch):
    def warn():
        import warnings

        warnings.warn("Found Intel OpenMP and LLVM OpenMP", RuntimeWarning, stacklevel=1)
        return [{"user_api": "openmp", "internal_api": "openmp", "num_threads": 2, "filepath": "/x/libgomp.so.1"}]

    monkeypatch.setattr(threadpoolctl, "threadpool_info", warn)
    described = describe()
    assert described["openmp"] == [{"threads": 2, "library": "libgomp.so.1"}]
    assert described["blas"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="the affinity is Linux's")
def test_the_affinity_is_that_of_this_process():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(before)})
        described = describe()
    finally:
        os.sched_setaffinity(0, before)
    assert (described["cpu_affinity"], described["cpu_affinity_count"]) == (str(max(before)), 1)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/cpuinfo is Linux's")
def test_the_vector_flags_agree_with_what_numpy_found(description):
    if "X86_V3" in description["numpy_simd"]["found"]:
        assert {"avx2", "fma"} <= set(description["cpu_simd"])
    if "X86_V4" in description["numpy_simd"]["found"]:
        assert "avx512vl" in description["cpu_simd"]


def test_every_blas_that_threadpoolctl_sees_is_described(description):
    seen = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    described = {library["library"]: library for library in description["blas"]}
    assert len(described) == len(seen)
    for library in seen:
        entry = described[Path(library["filepath"]).name]
        assert entry["version"] == library["version"]
        assert entry["kernel"] == library.get("architecture")
        assert entry["threads"] == library["num_threads"]


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


def openblas(described: dict) -> list[dict]:
    libraries = [library for library in described["blas"] if library["vendor"] == "openblas"]
    if not libraries:
        pytest.skip("this NumPy does not use OpenBLAS")
    return libraries


def test_the_two_pools_of_numpy_and_scipy_are_both_described_with_the_workers_threads():
    described = described_by_a_worker(
        "import scipy.linalg", **worker_environment({"OPENBLAS_NUM_THREADS": "4"}, 1, False)
    )
    assert {library["threads"] for library in openblas(described)} == {1}
    if (Path(np.__file__).parent.parent / "scipy.libs").is_dir():
        assert sorted(library["loaded_by"] for library in described["blas"]) == ["numpy", "scipy"]


def test_scipys_version_is_known_without_loading_scipy():
    described = described_by_a_worker(
        "import sys, atexit\natexit.register(lambda: sys.exit('scipy loaded') if 'scipy' in sys.modules else None)"
    )
    assert described["scipy_version"]
    assert [library for library in described["blas"] if library["loaded_by"] == "scipy"] == []


def test_a_kernel_pinned_below_the_cpu_is_found_in_a_real_process():
    described = described_by_a_worker("", OPENBLAS_CORETYPE="Prescott")
    kernel = openblas(described)[0]["kernel"]
    if (cpu_rank(described) or 0) < VectorRank.AVX or kernel_rank(kernel) is not VectorRank.SSE:
        pytest.skip(f"needs a CPU with AVX and an OpenBLAS that obeys OPENBLAS_CORETYPE; this one runs {kernel}")
    assert "OPENBLAS_CORETYPE=Prescott pins OpenBLAS" in pinned_kernel_warning(described)


def test_the_module_that_starts_workers_does_not_load_numpy():
    code = "import sys, mlpprof.machine.blas; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=60)


UNKNOWN = {"commit_id": None, "commit_dirty": None}

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="uses scripts in place of programs")


def git(folder: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")
    answer = subprocess.run(
        ["git", "-C", str(folder), *settings, *arguments], check=True, capture_output=True, text=True
    )
    return answer.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "mine.py").write_text("PARENT = None\n", encoding="utf-8")
    git(folder, "add", "mine.py")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@needs_git
def test_a_clean_commit_is_found_also_from_a_folder_below(repository):
    below = repository / "below"
    below.mkdir()
    head = git(repository, "rev-parse", "HEAD")
    assert commit_facts(repository) == commit_facts(below) == {"commit_id": head, "commit_dirty": False}


@needs_git
def test_changed_and_staged_files_make_the_commit_dirty_but_an_untracked_one_does_not(repository):
    (repository / "new.py").write_text("", encoding="utf-8")
    assert commit_facts(repository)["commit_dirty"] is False
    git(repository, "add", "new.py")
    assert commit_facts(repository)["commit_dirty"] is True
    git(repository, "commit", "--quiet", "--message", "two")
    (repository / "mine.py").write_text("PARENT = 'naive'\n", encoding="utf-8")
    assert commit_facts(repository)["commit_dirty"] is True


@pytest.mark.parametrize("folder", [".", "nowhere", "null\0character"])
def test_a_folder_outside_any_repository_or_that_cannot_be_is_unknown(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_facts(tmp_path / folder) == UNKNOWN


def test_a_machine_without_git_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_facts(tmp_path) == UNKNOWN


@needs_git
def test_the_folders_repository_is_used_though_a_hook_names_another(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere/index"))
    facts = commit_facts(repository)
    monkeypatch.undo()
    assert facts == {"commit_id": git(repository, "rev-parse", "HEAD"), "commit_dirty": False}


@needs_git
@needs_posix
def test_neither_hooks_nor_monitors_of_the_repository_run(repository, tmp_path):
    witness = tmp_path / "witness"
    program = script(tmp_path / "program", f"touch '{witness}'")
    for hook in ("post-index-change", "fsmonitor-watchman", "pre-commit"):
        script(repository / ".git/hooks" / hook, f"touch '{witness}'")
    git(repository, "config", "core.fsmonitor", str(program))
    # the same content with another time: status would refresh its index, and so run post-index-change
    os.utime(repository / "mine.py", (1, 1))
    index = (repository / ".git/index").read_bytes()
    assert commit_facts(repository)["commit_dirty"] is False
    assert not witness.exists()
    assert (repository / ".git/index").read_bytes() == index
    git(repository, "status")
    assert witness.exists()  # so the programs above do run where nothing forbids it


COMMIT = "a" * 40


@needs_posix
@pytest.mark.parametrize(
    ("program", "timeout_s", "facts"),
    [
        ("exec sleep 60", 0.2, UNKNOWN),
        (
            f'case "$*" in *rev-parse*) echo {COMMIT};; *) exec sleep 60;; esac',
            0.5,
            {"commit_id": COMMIT, "commit_dirty": None},
        ),
        ("echo; echo 'please install git first'", 3.0, UNKNOWN),
    ],
    ids=["hangs", "slow status", "another answer"],
)
def test_a_git_that_hangs_or_answers_something_else_leaves_the_facts_unknown(
    tmp_path, monkeypatch, program, timeout_s, facts
):
    script(tmp_path / "git", program)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert commit_facts(tmp_path, timeout_s=timeout_s) == facts


def test_the_hash_is_of_the_bytes_and_none_without_a_file(tmp_path):
    source = tmp_path / "mine.py"
    source.write_bytes(b"x = 1\r\n")
    assert source_sha256(source) == hashlib.sha256(b"x = 1\r\n").hexdigest()
    assert source_sha256(tmp_path / "none.py") is None
    assert source_sha256(tmp_path) is None
