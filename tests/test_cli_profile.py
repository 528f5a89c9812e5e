"""`mlpprof profile` and `mlpprof report` as a user types them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from mlpprof.model import PHASES

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
QUICK = ["--workload", "tiny", "--steps", "20"]
ASKED = [
    "--batch",
    "1,30",
    "--threads",
    "2",
    "--dtype",
    "float64",
    "--no-check",
    "--lines",
    "--stacks-file",
    "calls.html",
]

pytestmark = [pytest.mark.timing, pytest.mark.slow]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class Measured:
    """One run that was really measured: what was printed, where it was kept, and its call view."""

    printed: str
    run: Path
    calls: Path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("measured")
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        assert run(["profile", "naive", *QUICK, *ASKED]) == EXIT_OK
    (kept,) = (folder / "reports").glob("*.h5")
    return Measured(printed.getvalue(), kept, folder / "calls.html")


def test_the_report_shows_phases_labels_and_options_and_keeps_the_run(measured: Measured) -> None:
    for word in (*PHASES, "derivative", "propagate", "gradient", "bias row", "OpenBLAS", "kept in reports/"):
        assert word in measured.printed
    for asked in ("float64", "--no-check"):
        assert asked in measured.printed
    assert "naive-tiny" in measured.run.name


def test_a_stored_run_gives_the_same_report_again(measured: Measured, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(measured.run)]) == EXIT_OK
    assert measured.printed.startswith(capsys.readouterr().out.rstrip("\n"))


def test_json_holds_the_documented_keys(measured: Measured, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(measured.run), "--json"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["variant"] == "naive"
    assert document["workload"] == "tiny"
    assert {library["threads"] for library in document["machine"]["blas"]} == {min(2, os.cpu_count() or 1)}
    assert [result["batch"] for result in document["results"]] == [1, 30]
    for result in document["results"]:
        assert result["step_s"]["low"] <= result["step_s"]["median"] <= result["step_s"]["high"]
        assert len(result["step_s"]["samples"]) == 20
        assert set(result["phases"]) == set(PHASES)
        for phase in result["phases"].values():
            assert set(phase) >= {"median_s", "share", "bytes_allocated", "page_faults"}
        # the rest of a step is between the phases: calls, and reading the clocks
        assert 0.5 < sum(phase["share"] for phase in result["phases"].values()) < 1 + 1e-9
        assert {"phase", "layer", "label", "median_s", "share"} <= set(result["labels"][0])
        assert set(result["agreement"]) == {"phases_over_total", "phases_disturbance", "labels_disturbance"}


def test_the_line_view_and_the_call_view_are_shown_and_written(measured: Measured) -> None:
    assert "self.W[l] @ self.A_bias[l - 1]" in measured.printed
    assert "train_step" in measured.printed
    assert "<html" in measured.calls.read_text(encoding="utf-8").lower()
    assert run(["report", str(measured.run), "--stacks-file", "calls.speedscope.json"]) == EXIT_OK
    assert "speedscope" in json.loads(Path("calls.speedscope.json").read_text(encoding="utf-8"))["$schema"]


@pytest.mark.parametrize("extension", ["json", "csv", "txt"])
def test_out_writes_the_format_of_its_extension(measured: Measured, extension: str) -> None:
    out = Path(f"run.{extension}")
    assert run(["report", str(measured.run), "-o", str(out)]) == EXIT_OK
    assert out.stat().st_size > 500


def test_a_variant_of_your_own_is_profiled_by_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    ladder = Path(__file__).resolve().parent.parent / "variants"
    source = (ladder / "sliced.py").read_text(encoding="utf-8")
    Path("mine.py").write_text(source.replace("class MLP", "class Net"), encoding="utf-8")
    assert run(["profile", "./mine.py:Net", *QUICK, "--no-check", "--no-limits"]) == EXIT_OK
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


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data sets are not here")
@pytest.mark.parametrize(("data", "layers"), [("", "784-70-30-10"), ("train_catvnoncat.h5", "12288-20-1")])
def test_real_mnist_and_real_cats_are_profiled(capsys: pytest.CaptureFixture[str], data: str, layers: str) -> None:
    arguments = ["cached", "--data", str(SHARED / data), "--layers", layers, "--batch", "100", "--steps", "20"]
    assert run(["profile", *arguments, "--no-limits", "--json"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
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
