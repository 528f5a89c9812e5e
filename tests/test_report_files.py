"""Runs as files for other programs: the JSON contracts, the raw samples as CSV, and the choice by extension."""

import copy
import csv
import io
import json
import math
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from runs import assert_equal_records, make_run

from mlpprof.errors import RunFileError, UsageError
from mlpprof.report.files.csv_tables import samples_csv
from mlpprof.report.files.formats import choose_format, require_known_stacks_ending, write_runs, write_stacks
from mlpprof.report.json_documents import check_json, profile_json
from mlpprof.report.terminal.profile import report_text
from mlpprof.results import CheckResult, StackProfile
from mlpprof.results.json import json_text
from mlpprof.results.on_disk import load_run

CHECKS = (
    CheckResult("naive", True, 2e-12, 1e-10, 2, "gradients"),
    CheckResult("mine", False, math.nan, 1e-10, None, "loss", None, "the loss is not finite"),
    CheckResult("compiled", None, skipped="needs numba: pip install 'mlpprof[compiled]'"),
)

RUNS = {
    "two batch sizes": make_run((32, 500), warnings=("pinned",)),
    "phases fused": make_run(separable=False),
    "no labels": make_run(labelled=False),
    "not checked": make_run(checked=False),
    "failed with NaN": replace(make_run(), check=CHECKS[1]),
    "threads left alone": replace(make_run(), threads=None, machine={}),
}


def schema(name: str) -> dict:
    return json.loads((files("mlpprof.report") / "schemas" / f"{name}.schema.json").read_text())


def closed(node):
    """The schema with every key forbidden that it does not tell."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    tightened = {key: closed(value) for key, value in node.items()}
    return {"additionalProperties": False, **tightened} if "properties" in node and "required" in node else tightened


@pytest.mark.parametrize("name", ["profile", "check"])
def test_the_schemas_are_schemas_and_tell_that_keys_may_be_added(name):
    Draft202012Validator.check_schema(schema(name))
    assert "Keys may be added" in schema(name)["description"]


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_a_profile_keeps_its_schema_and_every_key_is_told(run):
    document = json.loads(json_text(profile_json(run)))
    Draft202012Validator(closed(schema("profile"))).validate(document)


def test_a_check_keeps_its_schema_and_every_key_is_told():
    Draft202012Validator(closed(schema("check"))).validate(json.loads(json_text(check_json(CHECKS))))


@pytest.mark.parametrize(
    "path", [("schema",), ("machine",), ("results", 0, "step_s", "samples"), ("results", 0, "agreement")]
)
def test_the_schema_refuses_a_profile_without_a_key_of_the_contract(path):
    document = copy.deepcopy(profile_json(make_run()))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    assert list(Draft202012Validator(schema("profile")).iter_errors(document))


def test_a_profile_has_the_keys_that_were_promised():
    document = profile_json(make_run())
    result = document["results"][0]
    assert {"schema", "variant", "workload", "results", "machine"} <= set(document)
    assert (document["schema"], document["variant"], document["workload"]) == (1, "cached", "digits")
    assert {"batch", "step_s", "phases", "labels", "agreement"} <= set(result)
    assert {"median", "low", "high", "samples"} <= set(result["step_s"])
    assert list(result["phases"]) == ["fetch_batch", "forward", "loss", "backward", "update"]
    assert {"median_s", "share", "bytes_allocated", "page_faults"} <= set(result["phases"]["forward"])
    assert {"phase", "layer", "label", "median_s", "share"} <= set(result["labels"][0])
    assert set(result["agreement"]) == {"phases_over_total", "phases_disturbance", "labels_disturbance"}


def test_the_figures_of_a_profile_are_those_of_the_run():
    run = make_run((32, 500))
    result, document = run.results[1], profile_json(run)["results"][1]
    assert document["batch"] == 500
    assert document["step_s"]["samples"] == [x for row in result.total_s for x in row]
    low, median, high = np.quantile(result.total_s, (0.025, 0.5, 0.975))
    assert document["step_s"] | {"samples": None} == {"median": median, "low": low, "high": high, "samples": None}
    shares = [phase["share"] for phase in document["phases"].values()]
    assert sum(shares) == pytest.approx(1)
    assert document["phases"]["update"]["median_s"] == np.median(result.phases["update"].step_s)
    assert document["labels"][2]["median_s"] == np.median(result.labels[2].step_s)
    assert document["agreement"]["labels_disturbance"] == result.labels_disturbance
    assert profile_json(run)["machine"] == run.machine


def test_what_was_not_measured_is_null_and_not_zero():
    result = profile_json(make_run(separable=False))["results"][0]
    assert result["phases"] == {}
    assert result["agreement"]["phases_over_total"] is None
    assert result["agreement"]["labels_disturbance"] is not None


def test_what_is_not_finite_is_null():
    run = make_run(rounds=1, steps=3)
    result = replace(run.results[0], losses=np.array([1.0, np.nan, np.inf]))
    document = profile_json(replace(run, results=(result,), check=CHECKS[1], machine={"load": float("nan")}))
    assert document["results"][0]["losses"] == [1.0, None, None]
    assert document["check"]["deviation"] is None
    assert document["machine"] == {"load": None}


def test_a_check_tells_right_wrong_and_skipped_apart():
    document = check_json(CHECKS)
    assert document["schema"] == 1
    contract = {
        name: {key: found[key] for key in ("ok", "worst_deviation", "layer", "skipped")}
        for name, found in document["variants"].items()
    }
    assert contract == {
        "naive": {"ok": True, "worst_deviation": 2e-12, "layer": 2, "skipped": None},
        "mine": {"ok": False, "worst_deviation": None, "layer": None, "skipped": None},
        "compiled": {"ok": None, "worst_deviation": None, "layer": None, "skipped": CHECKS[2].skipped},
    }
    assert check_json([]) == {"schema": 1, "variants": {}}


def test_csv_holds_every_sample_of_every_pass(tmp_path):
    run = make_run((32, 500), rounds=2, steps=3)
    text = write_runs([run], tmp_path / "run.csv").read_text()
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


def test_csv_quotes_what_would_break_it():
    run = make_run(rounds=1, steps=1)
    label = replace(run.results[0].labels[0], label='a,"b"')
    run = replace(run, results=(replace(run.results[0], labels=(label,)),))
    rows = list(csv.DictReader(io.StringIO(samples_csv(run))))
    assert rows[-1]["label"] == 'a,"b"'


def test_the_extension_picks_the_format(tmp_path):
    run = make_run((32, 500))
    assert_equal_records(load_run(write_runs([run], tmp_path / "run.h5")), run)
    assert json.loads(write_runs([run], tmp_path / "run.JSON").read_text()) == profile_json(run)
    assert write_runs([run], tmp_path / "run.txt").read_text(encoding="utf-8") == report_text(run)
    assert write_runs([run], tmp_path / "run.csv").read_bytes().startswith(b"batch,pass,")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.JSON", "run.csv", "run.h5", "run.txt"]


@pytest.mark.parametrize("name", ["run.docx", "run", "run.h5.gz", ".json"])
def test_an_unknown_extension_is_told_with_the_known_ones(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(UsageError) as caught:
        write_runs([make_run()], path)
    assert str(path) in str(caught.value)
    assert ".h5, .json, .csv, .txt" in str(caught.value)
    with pytest.raises(UsageError):
        choose_format(path)
    assert not path.exists()


@pytest.mark.parametrize("name", ["run.h5", "run.json", "run.csv", "run.txt"])
def test_a_failure_leaves_the_old_file(tmp_path, name, monkeypatch):
    path = tmp_path / name
    path.write_text("old")

    def fail(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        write_runs([make_run()], path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_call_view_is_written_as_a_page_and_for_speedscope(tmp_path):
    run = make_run(stacks=True)
    page = write_stacks(run, tmp_path / "calls.html").read_text(encoding="utf-8")
    assert "<html" in page
    assert "train_step" in page
    document = json.loads(write_stacks(run, tmp_path / "calls.speedscope.json").read_text())
    assert "train_step" in {frame["name"] for frame in document["shared"]["frames"]}


def test_a_call_view_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"\.html or \.speedscope\.json"):
        write_stacks(make_run(stacks=True), tmp_path / "calls.json")
    with pytest.raises(UsageError, match="--stacks"):
        write_stacks(make_run(), tmp_path / "calls.html")
    with pytest.raises(RunFileError, match="cannot be drawn"):
        write_stacks(replace(make_run(), stacks=StackProfile(500, 1, "{}")), tmp_path / "calls.html")
    assert require_known_stacks_ending(tmp_path / "x.SpeedScope.json") == ".speedscope.json"
    assert list(tmp_path.iterdir()) == []
