"""Files that mlpprof 0.1.0 wrote are still read: runs, results of the workshop, caches, and the JSON of reports."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from mlpprof.compare import autotune
from mlpprof.data.source import DataSource
from mlpprof.machine import limits
from mlpprof.model import Network
from mlpprof.report.terminal.profile import report_text
from mlpprof.results.on_disk import load_run
from mlpprof.workshop.result import read_result

STORED = Path(__file__).parent / "stored"
REPORTS = Path(__file__).parents[1] / "reports"
NUMPY_BLAS = {"vendor": "openblas", "kernel": "Zen", "threads": 1, "loaded_by": "numpy"}
MACHINE = {"cpu_model_name": "AMD EPYC", "numpy_version": "2.4.6", "blas": [NUMPY_BLAS]}


def test_an_old_run_is_read_and_shown():
    run = load_run(STORED / "run.h5")
    assert (run.mlpprof_version, run.warnings) == ("0.1.0", ("kept by mlpprof 0.1.0",))
    assert run.network.layers == (20, 8, 3)
    assert run.results[0].total_s.shape == (2, 2)
    assert run.lines is not None
    assert run.stacks is not None
    assert "kept by mlpprof 0.1.0" in report_text(run)


def test_an_old_result_of_the_workshop_is_read():
    found = read_result(STORED / "workshop_result.json")
    assert (found.learner, found.guess) == ("Anna", 2.5)
    assert found.speed is not None
    assert found.speed.over_first.ratio == 10.0


def test_measurements_that_an_old_version_kept_are_found_again():
    kept = limits.CACHE.read(limits.key_of(MACHINE), pytest.fail, STORED / "limits")
    assert kept == limits.Kept({"gemm_float32": {"value": 80.0, "unit": "GFLOP/s"}}, frozenset({"gemm_float32"}))
    key = autotune.tuned_key(MACHINE, Network((20, 3)), 30, "float32", DataSource(name="tiny"))
    tuned = autotune.CACHE.read(key, pytest.fail, STORED / "tuned")
    assert tuned is not None
    assert tuned.tuning.over_runner_up is not None
    assert tuned.tuning.constants == {"ROWS": 8}


@pytest.mark.parametrize(
    ("document", "contract"), [("peers/peers.json", "peers"), ("reproduce/reproduction.json", "reproduce")]
)
def test_documents_of_the_reports_keep_their_contract(document, contract):
    schema = json.loads((files("mlpprof.report") / "schemas" / f"{contract}.schema.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(json.loads((REPORTS / document).read_text("utf-8")))
