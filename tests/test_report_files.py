"""Results as files: which format a name selects, CSV, and what happens when a file cannot be written."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from advices import make_advice
from pages import make_comparison, make_program_comparison
from runs import assert_equal_records, make_run
from test_compare_autotune import tuning

from mlpprof.errors import RunFileError, UsageError
from mlpprof.report.files.csv_tables import samples_csv
from mlpprof.report.files.formats import ADVICE, CALL_VIEW, COMPARISONS, LADDERS, RUNS, TUNING
from mlpprof.report.json_documents import profile_json
from mlpprof.report.terminal.profile import report_text
from mlpprof.results import StackProfile
from mlpprof.results.on_disk import load_run


def test_csv_holds_every_sample_of_every_pass(tmp_path):
    run = make_run((32, 500), rounds=2, steps=3)
    text = RUNS.write([run], tmp_path / "run.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    series = {}
    for row in rows:
        key = (int(row["batch"]), row["pass"], row["phase"], row["layer"], row["label"])
        series.setdefault(key, {})[int(row["round"]), int(row["step"])] = float(row["seconds"])
    result = run.results[1]
    expected = {"total": result.total_s, "phases": result.phases_pass_s, "labels": result.labels_pass_s}
    for name, samples in expected.items():
        assert series[500, name, "", "", ""] == dict(np.ndenumerate(samples))
    assert series[500, "phases", "backward", "", ""] == dict(np.ndenumerate(result.phases["backward"].step_s))
    for label in result.labels:
        layer = "" if label.layer is None else str(label.layer)
        assert series[500, "labels", label.phase, layer, label.label] == dict(np.ndenumerate(label.step_s))
    assert len(series) == 2 * (3 + len(result.phases) + len(result.labels))
    assert len(rows) == 6 * len(series)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_csv_gives_a_spreadsheet_no_formula_from_a_name(start):
    run = make_run(rounds=1, steps=1)
    label = replace(run.results[0].labels[0], label=f"{start}HYPERLINK(A1)")
    run = replace(run, results=(replace(run.results[0], labels=(label,)),))
    rows = list(csv.DictReader(io.StringIO(samples_csv(run), newline="")))
    assert rows[-1]["label"] == f"'{start}HYPERLINK(A1)"


def test_csv_quotes_what_would_break_it():
    run = make_run(rounds=1, steps=1)
    label = replace(run.results[0].labels[0], label='a,"b"')
    run = replace(run, results=(replace(run.results[0], labels=(label,)),))
    rows = list(csv.DictReader(io.StringIO(samples_csv(run))))
    assert rows[-1]["label"] == 'a,"b"'


def test_the_extension_selects_the_format(tmp_path):
    run = make_run((32, 500))
    assert_equal_records(load_run(RUNS.write([run], tmp_path / "run.h5")), run)
    assert json.loads(RUNS.write([run], tmp_path / "run.JSON").read_text()) == profile_json(run)
    assert RUNS.write([run], tmp_path / "run.txt").read_text(encoding="utf-8") == report_text(run)
    assert RUNS.write([run], tmp_path / "run.csv").read_bytes().startswith(b"batch,pass,")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.JSON", "run.csv", "run.h5", "run.txt"]


@pytest.mark.parametrize("name", ["run.docx", "run", "run.h5.gz", ".json"])
def test_an_unknown_extension_is_refused_with_the_known_ones(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(UsageError) as caught:
        RUNS.write([make_run()], path)
    assert str(path) in str(caught.value)
    assert ".h5, .json, .csv, .txt" in str(caught.value)
    with pytest.raises(UsageError):
        RUNS.choose(path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("kind", "results"),
    [(ADVICE, make_advice()), (TUNING, tuning())],
    ids=["advice", "tuning"],
)
def test_a_result_is_written_in_every_format_of_its_kind_and_no_other(tmp_path, kind, results):
    contents = {
        one.name: kind.write(results, tmp_path / f"a{one.ending}", one.name).read_text(encoding="utf-8")
        for one in kind.formats
    }
    assert len(set(contents.values())) == len(kind.formats)
    if "json" in contents:
        assert json.loads(contents["json"])["schema"] in (1, 2)
    if "txt" in contents:
        assert "\x1b" not in contents["txt"]
    with pytest.raises(UsageError, match="expected a name that ends in"):
        kind.choose(tmp_path / "a.h5")


@pytest.mark.parametrize("name", ["run.h5", "run.lprof", "run.json", "run.svg"])
def test_a_failure_leaves_the_old_file(tmp_path, name, monkeypatch):
    path = tmp_path / name
    path.write_text("old")

    def fail(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        RUNS.write([make_run(lines=True)], path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_call_view_is_written_as_a_page_and_for_speedscope(tmp_path):
    run = make_run(stacks=True)
    page = CALL_VIEW.write(run, tmp_path / "calls.html").read_text(encoding="utf-8")
    assert "<html" in page
    assert "train_step" in page
    document = json.loads(CALL_VIEW.write(run, tmp_path / "calls.speedscope.json").read_text())
    assert "train_step" in {frame["name"] for frame in document["shared"]["frames"]}


def test_a_call_view_that_cannot_be_written_is_refused_with_the_reason(tmp_path):
    with pytest.raises(UsageError, match=r"\.html, \.speedscope\.json"):
        CALL_VIEW.write(make_run(stacks=True), tmp_path / "calls.json")
    with pytest.raises(UsageError, match="--stacks"):
        CALL_VIEW.write(make_run(), tmp_path / "calls.html")
    with pytest.raises(RunFileError, match="cannot be drawn"):
        CALL_VIEW.write(replace(make_run(), stacks=StackProfile(500, 1, "{}")), tmp_path / "calls.html")
    assert CALL_VIEW.choose(tmp_path / "x.SpeedScope.json").ending == ".speedscope.json"
    assert list(tmp_path.iterdir()) == []


def test_the_longest_ending_that_fits_selects_the_format_unless_one_is_named(tmp_path):
    assert RUNS.choose(tmp_path / "a.Trace.JSON").name == "chrome-trace"
    assert RUNS.choose(tmp_path / "a.speedscope.json").name == "speedscope"
    assert RUNS.choose(tmp_path / "a.lprof.txt").shows == "lines"
    assert RUNS.choose(tmp_path / "a.txt").name == "txt"
    assert RUNS.choose(tmp_path / "a.json", "speedscope").name == "speedscope"
    assert RUNS.choose(tmp_path / "a", "chrome-trace").name == "chrome-trace"
    with pytest.raises(UsageError, match="no format 'chrome-tracing'; did you mean 'chrome-trace'"):
        RUNS.choose(tmp_path / "a.json", "chrome-tracing")


def test_a_format_of_one_run_refuses_several_and_names_those_that_take_them(tmp_path):
    with pytest.raises(UsageError, match="csv holds one run, not 2; these hold several: html, png, svg, speedscope"):
        RUNS.write([make_run(), make_run()], tmp_path / "a.csv")


def test_any_figure_is_drawn_by_its_name_and_an_unknown_one_names_those_there_are(tmp_path):
    run = make_run((32, 500))
    assert RUNS.write([run], tmp_path / "a.png", figure="samples-32").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in RUNS.write([run], tmp_path / "a.svg", figure="layers-500").read_text(encoding="utf-8")
    assert RUNS.write([run], tmp_path / "a", "png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="no figure 'layer-500'; did you mean 'layers-500'.*phases, layers-32"):
        RUNS.write([run], tmp_path / "b.png", figure="layer-500")
    with pytest.raises(UsageError, match="no figure 'waterfall'"):
        RUNS.write([run], tmp_path / "b.png", figure="waterfall")
    with pytest.raises(UsageError, match="--figure scaling needs a picture"):
        RUNS.write([run], tmp_path / "b.csv", figure="scaling")
    assert not (tmp_path / "b.png").exists()


def test_unknown_formats_are_refused_with_those_there_are():
    with pytest.raises(UsageError, match="did you mean 'csv'"):
        COMPARISONS.choose(Path("a.txt"), "cvs")
    with pytest.raises(UsageError, match="--format selects github, pytest-benchmark"):
        COMPARISONS.choose(Path("a.txt"), None)
    with pytest.raises(UsageError, match="expected a name that ends in"):
        LADDERS.choose(Path("a.pdf"))


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("a.csv", None, "old.py,new.py,,0,,"),
        ("a.json", "pytest-benchmark", '"group": "new.py over old.py"'),
        ("a.json", "github-action-benchmark", '"name": "new.py relative to old.py"'),
        ("a.json", None, '"text": "tanh(z + 0 * z)"'),
    ],
)
def test_programs_that_were_compared_are_written_in_every_format(tmp_path, name, kind, said):
    assert said in COMPARISONS.write([make_program_comparison()], tmp_path / name, kind).read_text(encoding="utf-8")


def test_any_figure_of_a_comparison_is_drawn_by_its_name(tmp_path):
    path = tmp_path / "a.svg"
    turns = COMPARISONS.write([make_comparison()], path, "svg", "turns").read_text(encoding="utf-8")
    assert turns != COMPARISONS.write([make_comparison()], path, "svg").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="no figure 'layers' .there are: speedup, .*turns"):
        COMPARISONS.write([make_comparison()], path, "svg", "layers")
    with pytest.raises(UsageError, match="--figure turns needs a picture"):
        COMPARISONS.choose(tmp_path / "a.csv", None, "turns")
    with pytest.raises(UsageError, match="no figure 'turn'; did you mean 'turns'"):
        LADDERS.choose(tmp_path / "a.png", figure="turn")
