"""`mlpprof profile` and `mlpprof report` as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from mlpprof.model import PHASES

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
QUICK = ["--workload", "tiny", "--steps", "20"]

pytestmark = pytest.mark.timing


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def profile_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert run(["profile", *arguments, "--json"]) == EXIT_OK
    return json.loads(capsys.readouterr().out)


def test_the_report_shows_phases_and_labels_and_keeps_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "cached", *QUICK]) == EXIT_OK
    printed = capsys.readouterr().out
    for word in (*PHASES, "derivative", "propagate", "gradient", "bias row", "OpenBLAS", "kept in reports/"):
        assert word in printed
    (kept,) = Path("reports").glob("*.h5")
    assert "cached-tiny" in kept.name


def test_a_stored_run_gives_the_same_report_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "cached", *QUICK, "-o", "mine.h5"]) == EXIT_OK
    first = capsys.readouterr().out
    assert run(["report", "mine.h5"]) == EXIT_OK
    assert first.startswith(capsys.readouterr().out.rstrip("\n"))


def test_json_holds_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    document = profile_json(capsys, "cached", *QUICK, "--batch", "1,30")
    assert document["schema"] == 1
    assert document["variant"] == "cached"
    assert document["workload"] == "tiny"
    assert [result["batch"] for result in document["results"]] == [1, 30]
    for result in document["results"]:
        assert result["step_s"]["low"] <= result["step_s"]["median"] <= result["step_s"]["high"]
        assert len(result["step_s"]["samples"]) == 20
        assert set(result["phases"]) == set(PHASES)
        for phase in result["phases"].values():
            assert set(phase) >= {"median_s", "share", "bytes_allocated", "page_faults"}
        assert sum(phase["share"] for phase in result["phases"].values()) == pytest.approx(1)
        assert {"phase", "layer", "label", "median_s", "share"} <= set(result["labels"][0])
        assert set(result["agreement"]) == {"phases_over_total", "phases_disturbance", "labels_disturbance"}


def test_the_threads_asked_for_are_the_threads_of_the_blas(capsys: pytest.CaptureFixture[str]) -> None:
    document = profile_json(capsys, "cached", *QUICK, "--threads", "2")
    assert {library["threads"] for library in document["machine"]["blas"]} == {min(2, os.cpu_count() or 1)}


def test_dtype_overrides_the_variants_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "cached", *QUICK, "--dtype", "float64"]) == EXIT_OK
    assert "float64" in capsys.readouterr().out


def test_the_line_view_and_the_call_view_are_shown_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "naive", *QUICK, "--lines", "--stacks-file", "calls.html"]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "self.W[l] @ self.A_bias[l - 1]" in printed
    assert "train_step" in printed
    assert "<html" in Path("calls.html").read_text(encoding="utf-8").lower()
    (kept,) = Path("reports").glob("*.h5")
    assert run(["report", str(kept), "--stacks-file", "calls.speedscope.json"]) == EXIT_OK
    assert "speedscope" in json.loads(Path("calls.speedscope.json").read_text(encoding="utf-8"))["$schema"]


@pytest.mark.parametrize("extension", ["json", "csv", "txt"])
def test_out_writes_the_format_of_its_extension(extension: str) -> None:
    out = Path(f"run.{extension}")
    assert run(["profile", "sliced", *QUICK, "-o", str(out)]) == EXIT_OK
    assert out.stat().st_size > 500


def test_a_variant_of_your_own_is_profiled_by_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    ladder = Path(__file__).resolve().parent.parent / "variants"
    source = (ladder / "sliced.py").read_text(encoding="utf-8")
    Path("mine.py").write_text(source.replace("class MLP", "class Net"), encoding="utf-8")
    assert run(["profile", "./mine.py:Net", *QUICK]) == EXIT_OK
    assert "mine" in capsys.readouterr().out


def test_an_exception_of_your_variant_is_shown_with_file_and_line(capsys: pytest.CaptureFixture[str]) -> None:
    ladder = Path(__file__).resolve().parent.parent / "variants"
    source = (ladder / "naive.py").read_text(encoding="utf-8")
    broken = source.replace("self.W[l] @ self.A_bias[l - 1]", "self.W[l] @ self.A[l - 1]")
    line = broken.splitlines().index(next(x for x in broken.splitlines() if "self.W[l] @ self.A[l - 1]" in x)) + 1
    Path("mine.py").write_text(broken, encoding="utf-8")
    assert run(["profile", "mine.py", *QUICK]) == EXIT_USAGE
    assert f"mine.py:{line} in forward: ValueError" in capsys.readouterr().err


def test_a_wrong_variant_is_not_timed(capsys: pytest.CaptureFixture[str]) -> None:
    ladder = Path(__file__).resolve().parent.parent / "variants"
    source = (ladder / "naive.py").read_text(encoding="utf-8")
    Path("mine.py").write_text(source.replace("self.A[l] - self.Y) / m", "self.A[l] - self.Y) * 2 / m"), "utf-8")
    assert run(["profile", "mine.py", *QUICK]) == EXIT_FAILED
    error = capsys.readouterr().err
    assert "layer" in error
    assert "nothing was timed" in error
    assert not Path("reports").exists()


def test_no_check_is_repeated_in_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "cached", *QUICK, "--no-check"]) == EXIT_OK
    assert "--no-check" in capsys.readouterr().out


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data sets are not here")
@pytest.mark.parametrize(("data", "layers"), [("", "784-70-30-10"), ("train_catvnoncat.h5", "12288-20-1")])
def test_real_mnist_and_real_cats_are_profiled(capsys: pytest.CaptureFixture[str], data: str, layers: str) -> None:
    document = profile_json(
        capsys, "cached", "--data", str(SHARED / data), "--layers", layers, "--batch", "100", "--steps", "20"
    )
    assert document["results"][0]["step_s"]["median"] > 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_ends_the_workers_and_leaves_no_half_file(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mlpprof", "profile", "cached", "--steps", "100000"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # a suite that runs in the background ignores SIGINT, and its children would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    tool = psutil.Process(process.pid)
    deadline = time.monotonic() + 30
    while not (workers := tool.children(recursive=True)) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == EXIT_INTERRUPTED
    assert "interrupted" in error
    assert "Traceback" not in error
    assert workers
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
    assert not list(tmp_path.rglob("*.h5*"))
