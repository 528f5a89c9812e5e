"""`-o`, `--format` and `--figure` of `mlpprof profile` and `mlpprof report` on a run that was really measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_OK, EXIT_USAGE
from mlpprof.results.on_disk import load_run

QUICK = ["--workload", "tiny", "--steps", "20", "--no-limits"]

pytestmark = [pytest.mark.timing, pytest.mark.slow]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored run of two batch sizes."""
    path = tmp_path_factory.mktemp("exports") / "cached.h5"
    assert run(["profile", "cached", *QUICK, "--batch", "30,200", "-o", str(path)]) == EXIT_OK
    return path


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_statement_of_a_measured_run_has_shape_and_dtype_in_its_trace(kept: Path) -> None:
    assert run(["report", str(kept), "-o", "step.json", "--format", "chrome-trace"]) == EXIT_OK
    begins = [event for event in json.loads(Path("step.json").read_text())["traceEvents"] if event["ph"] == "B"]
    labels = [event for event in begins if event["cat"] == "label"]
    assert len(labels) == sum(len(result.labels) for result in load_run(kept).results)
    for event in labels:
        assert event["args"]["dtype"] == "float32"
        assert event["args"]["shape"].startswith("(")
    (product,) = [e for e in labels if e["name"] == "weighted sum, layer 1" and e["tid"] == 2]
    assert product["args"]["shape"] == "(8, 21) @ (21, 200)"
    assert product["args"]["layer"] == 1


def test_the_frames_of_speedscope_name_the_labelled_lines_of_the_file(kept: Path) -> None:
    assert run(["report", str(kept), "-o", "step.speedscope.json"]) == EXIT_OK
    stored = load_run(kept)
    lines = stored.variant.source.splitlines()
    frames = json.loads(Path("step.speedscope.json").read_text())["shared"]["frames"]
    derivatives = [frame for frame in frames if frame["name"].startswith("derivative")]
    assert len(derivatives) == 2
    for frame in derivatives:
        assert frame["file"] == "cached.py"
        assert "# phase: derivative" in lines[frame["line"] - 1]


def test_several_stored_runs_are_one_trace_or_one_picture_and_several_reports(kept: Path, capsys) -> None:
    assert run(["report", str(kept), str(kept), "-o", "both.trace.json"]) == EXIT_OK
    events = json.loads(Path("both.trace.json").read_text())["traceEvents"]
    assert {event["pid"] for event in events} == {1, 2}
    assert run(["report", str(kept), str(kept), "-o", "both.svg", "--figure", "phases-30"]) == EXIT_OK
    assert "cached (2)" in Path("both.svg").read_text(encoding="utf-8")
    capsys.readouterr()
    assert run(["report", str(kept), str(kept)]) == EXIT_OK
    assert capsys.readouterr().out.count("\nAgreement") == 2
    assert run(["report", str(kept), str(kept), "--json"]) == EXIT_OK
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert run(["report", str(kept), str(kept), "-o", "both.json"]) == EXIT_USAGE
    assert "json holds one run, not 2" in capsys.readouterr().err


def test_a_line_view_that_is_to_be_written_is_measured_without_asking_twice() -> None:
    assert run(["profile", "cached", *QUICK, "-o", "step.lprof.txt"]) == EXIT_OK
    text = Path("step.lprof.txt").read_text(encoding="utf-8")
    assert "Function: MLP.backward" in text
    (kept,) = Path("reports").glob("*.h5")
    assert load_run(kept).lines is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--figure", "pie", "-o", "a.png"], "no figure 'pie' (known: history, speedup, phases, layers"),
        (["--figure", "layers"], "--figure layers needs a file; add -o FILE"),
        (["--format", "speedscope"], "--format speedscope needs a file; add -o FILE"),
        (["--format", "speedscop", "-o", "a.json"], "no format 'speedscop'; did you mean 'speedscope'"),
        (["--figure", "layers", "-o", "a.json"], "--figure layers needs a picture"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(arguments, message, capsys) -> None:
    assert run(["profile", "cached", *QUICK, *arguments]) == EXIT_USAGE
    assert message in capsys.readouterr().err
    assert not Path("reports").exists()


def test_a_figure_that_the_run_has_no_data_for_leaves_the_run_and_says_where(capsys) -> None:
    assert run(["profile", "cached", *QUICK, "-o", "a.png", "--figure", "roofline"]) == EXIT_USAGE
    error = capsys.readouterr().err
    assert "no figure 'roofline' (there are: " in error
    (kept,) = Path("reports").glob("*.h5")
    assert f"the run is kept in {kept}" in error
