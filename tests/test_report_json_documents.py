"""Every JSON document keeps its contract, and the contract describes every key of it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from advices import EVALUATION, LOOP, PROGRAM, SIGMOID, hostile_advice, make_advice
from jsonschema import Draft202012Validator
from pages import make_comparison, make_ladder, make_program_comparison, verdict
from runs import make_program_run, make_run
from sweeps import shown, sweep
from test_compare_autotune import tuning

from mlpprof.compare.bisect import Bisected, Judged
from mlpprof.compare.verify import Statement
from mlpprof.programs.bisection import Commit
from mlpprof.report.json_documents import (
    advice_json,
    bisect_json,
    check_json,
    claims_json,
    comparison_json,
    different_training_json,
    kept_json,
    ladder_json,
    peers_json,
    profile_json,
    reproduce_json,
    speedup_json,
    step_profile_json,
    sweep_json,
    tuning_json,
    unmeasured_json,
    verify_json,
)
from mlpprof.results import CheckResult, DifferentTraining, ProgramPair, Race, Speedup, Training
from mlpprof.results.advice import CATEGORIES
from mlpprof.results.json import json_text
from mlpprof.results.peers import Competitor, PeersRow, PeersTable
from mlpprof.results.reproduction import Claim, Reproduction
from mlpprof.results.step_profile import StepProfile

WRONG = CheckResult("mine", False, float("nan"), 1e-10, None, "loss", None, "the loss is not finite")
CHECKS = (
    CheckResult("naive", True, 2e-12, 1e-10, 2, "gradients"),
    WRONG,
    CheckResult("compiled", None, skipped="needs numba: pip install 'mlpprof[compiled]'"),
)
COMPARISON = make_comparison()
TURNS_S = np.full((2, 2, 2), 1e-3)
TURNS_S[1, 0] = np.nan
COMPETITORS = (
    Competitor("chunked", "chunked", False, True, "NumPy", "float32", 0.1, 1, 0.0, 1e-6, verdict(1.5)),
    Competitor("torch", "peers/torch", True, True, "MKL", "float32", 0.15, 1, 0.2, None, None),
)
ROW = PeersRow(
    *("tiny", "20-3, batch 30", COMPARISON.network, 300, 30, 10, COMPETITORS, {"peers/jax_scan": "not installed"}),
    Race(("chunked", "peers/torch"), ("float32", "float32"), 30, (TURNS_S,)),
)
REPRODUCTION = Reproduction(
    *("liu", "A card", (("data", "digits"),), (), ()),
    claims=(
        Claim("speedup", 2.0, "2 x", 2.5, "2.5 x", "within 20 %", False, "a note"),
        Claim("accuracy", None, "high", None, "not measured", "", None, ""),
    ),
    tables=(),
    figures=(),
    machine={},
)
SPEEDUP = Speedup(
    "new",
    "old",
    "tiny",
    verdict(2.0, 1.15, "fail"),
    COMPARISON.waterfall,
    "mlpprof compare",
    ("a note",),
    make_program_comparison().lost,
)

DOCUMENTS: dict[str, tuple[str, Any]] = {
    "two batch sizes": ("profile", profile_json(make_run((32, 500), warnings=("pinned",)))),
    "phases fused": ("profile", profile_json(make_run(separable=False))),
    "no labels": ("profile", profile_json(make_run(labelled=False))),
    "not checked": ("profile", profile_json(make_run(checked=False))),
    "failed with NaN": ("profile", profile_json(replace(make_run(), check=WRONG))),
    "threads left alone": ("profile", profile_json(replace(make_run(), threads=None, machine={}))),
    "checks": ("check", check_json(CHECKS)),
    "comparison": ("compare", [comparison_json(COMPARISON)]),
    "without a claim": ("compare", [comparison_json(make_comparison(at_least=None))]),
    "programs": ("compare", [comparison_json(make_program_comparison())]),
    "programs that train differently": (
        "compare",
        [
            comparison_json(COMPARISON),
            different_training_json(
                DifferentTraining(
                    "old.py",
                    "new.py",
                    ("old.py:step", "new.py:step"),
                    Training(False, 20, "W (3, 2) differs", ("a note",), "W (3, 2)", 0.001, 1e-9, 2),
                )
            ),
        ],
    ),
    "programs without a check": (
        "compare",
        [comparison_json(replace(COMPARISON, network=None, programs=ProgramPair(("a", "b"), (0.0, 0.0), None)))],
    ),
    "ladder with a slow rung": ("ladder", [ladder_json(make_ladder(profiled=False))]),
    "peers": ("peers", peers_json(PeersTable("now", "mlpprof peers", True, 1, (ROW,), {}))),
    "tuning": ("autotune", tuning_json(tuning(), True, ["what", "ratio", "why"])),
    "lone candidate": ("autotune", tuning_json(tuning(runner_up=None, over_runner_up=None), False, ["", "", ""])),
    "reproduction": ("reproduce", reproduce_json([REPRODUCTION])),
    "claims of a test session": (
        "speedups",
        claims_json(
            [
                {"test": "test_a.py::test_b", **speedup_json(SPEEDUP)},
                {"test": "test_a.py::test_c", **unmeasured_json("new.py", "old.py", 1.0, "error", "there is no file")},
            ]
        ),
    ),
    "three findings": ("advice", advice_json(make_advice())),
    "an evaluation around the step": (
        "advice",
        advice_json(make_advice(program=PROGRAM, findings=(SIGMOID, EVALUATION))),
    ),
    "no findings": ("advice", advice_json(make_advice(findings=(), notes=(), source={}, environment={}))),
    "hostile texts": ("advice", advice_json(hostile_advice())),
    "not finite": (
        "advice",
        advice_json(make_advice(step_s=float("nan"), findings=(replace(LOOP, payoff_s=(0.0, float("inf"))),))),
    ),
    "slow commit": (
        "bisect",
        bisect_json(
            Bisected(
                *(Commit("a" * 40, "one", "A", "2026-11-30"), Commit("b" * 40), 0.9, COMPARISON),
                (Judged(Commit("b" * 40), "bad", "0.8x", verdict(0.8)), Judged(Commit("c" * 40), "skip", "no step")),
                (Commit("b" * 40),),
                COMPARISON,
            )
        ),
    ),
    "verified race": (
        "verify",
        verify_json({Path("race.h5"): [Statement("the ratio", 1.5, 1.5), Statement("the verdict", "pass", None)]}),
    ),
    "sweep of races": (
        "sweep",
        sweep_json(
            sweep(
                shown("cached", "naive", over_s=3e-4, ratio=1.5, low=1.4, high=1.6),
                shown("scalar", "naive", state="failed", machine=None, file=None, step_s=None, error="it broke"),
            )
        ),
    ),
    "program": ("profile", profile_json(make_program_run())),
    "step of a program": ("step", step_profile_json(make_program_run().step_profile)),
    "empty step": (
        "step",
        step_profile_json(StepProfile("net.py:step", (), (), {}, "calls", ())),
    ),
}
SCHEMAS = sorted({name for name, _ in DOCUMENTS.values()})


def schema(name: str) -> dict[str, Any]:
    return json.loads((files("mlpprof.report") / "schemas" / f"{name}.schema.json").read_text("utf-8"))


def closed(node: Any) -> Any:
    """The schema with every key forbidden that it does not describe."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    tightened = {key: closed(value) for key, value in node.items()}
    return {"additionalProperties": False, **tightened} if "properties" in node and "required" in node else tightened


def test_every_schema_is_tried_and_states_when_its_number_is_raised():
    stored = (path.name for path in (files("mlpprof.report") / "schemas").iterdir())
    assert sorted(name.removesuffix(".schema.json") for name in stored) == SCHEMAS
    for name in SCHEMAS:
        Draft202012Validator.check_schema(schema(name))
        assert "raised when a key goes or changes its meaning" in schema(name)["description"]


@pytest.mark.parametrize(("name", "document"), DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_document_keeps_its_schema_which_describes_every_key(name, document):
    assert json.loads(json_text(document)) == document
    Draft202012Validator(closed(schema(name))).validate(document)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("two batch sizes", ("schema",)),
        ("two batch sizes", ("machine",)),
        ("two batch sizes", ("results", 0, "step_s", "samples")),
        ("two batch sizes", ("results", 0, "agreement")),
        ("three findings", ("findings",)),
        ("three findings", ("findings", 0, "payoff_s")),
    ],
)
def test_a_document_without_a_key_of_its_contract_is_refused(name, path):
    contract, document = copy.deepcopy(DOCUMENTS[name])
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    assert list(Draft202012Validator(schema(contract)).iter_errors(document))


def test_the_kept_file_of_a_reproduction_holds_the_contract_and_everything_else():
    kept = kept_json([REPRODUCTION], "mlpprof reproduce liu", "now")
    Draft202012Validator(schema("reproduce")).validate(kept)
    assert kept["command"] == "mlpprof reproduce liu"
    claim = kept["sources"]["liu"]["claims"][1]
    assert (claim["claimed"], claim["measured_text"]) == ("high", "not measured")


def test_the_schema_lists_the_categories_in_their_order():
    listed = schema("advice")["$defs"]["finding"]["properties"]["category"]["enum"]
    assert listed == list(CATEGORIES)


def test_the_figures_of_a_profile_are_those_of_the_run():
    run = make_run((32, 500))
    result, document = run.results[1], profile_json(run)["results"][1]
    assert document["batch"] == 500
    assert document["step_s"]["samples"] == [x for row in result.total_s for x in row]
    low, median, high = np.quantile(result.total_s, (0.025, 0.5, 0.975))
    assert document["step_s"] | {"samples": None} == {"median": median, "low": low, "high": high, "samples": None}
    assert sum(phase["share"] for phase in document["phases"].values()) <= 1 + 1e-9
    assert document["phases"]["update"]["share"] == result.phase_share("update")
    assert document["labels"][2]["share"] == result.label_share(result.labels[2])
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
    document = profile_json(replace(run, results=(result,), check=WRONG, machine={"load": float("nan")}))
    assert document["results"][0]["losses"] == [1.0, None, None]
    assert document["check"]["deviation"] is None
    assert document["machine"] == {"load": None}


def test_a_check_distinguishes_right_wrong_and_skipped():
    contract = {
        name: {key: found[key] for key in ("ok", "worst_deviation", "layer", "skipped")}
        for name, found in check_json(CHECKS)["variants"].items()
    }
    assert contract == {
        "naive": {"ok": True, "worst_deviation": 2e-12, "layer": 2, "skipped": None},
        "mine": {"ok": False, "worst_deviation": None, "layer": None, "skipped": None},
        "compiled": {"ok": None, "worst_deviation": None, "layer": None, "skipped": CHECKS[2].skipped},
    }
    assert check_json([]) == {"schema": 1, "variants": {}}


def test_a_turn_that_a_slow_variant_sat_out_is_null():
    assert peers_json(PeersTable("", "", True, 1, (ROW,), {}))["rows"][0]["turns_s"][0][1][0] == [None, None]


def test_the_phases_of_a_comparison_share_all_of_the_difference():
    phases = comparison_json(COMPARISON)["phases"].values()
    assert sum(phase["share_of_difference"] for phase in phases) == pytest.approx(1)


def test_the_parts_of_a_programs_step_are_shares_of_the_step_without_clocks():
    run = make_program_run(slower=1.8)
    document = profile_json(run)
    step_s = run.results[0].step_s.median
    assert document["step_s"]["median"] == document["results"][0]["step_s"]["median"] == step_s
    assert document["disturbance"] == pytest.approx(1.8)
    for parts in (document["phases"].values(), document["expressions"]):
        assert sum(part["median_s"] for part in parts) <= step_s * (1 + 1e-9)
        assert all(part["median_s"] == pytest.approx(part["share"] * step_s) for part in parts)
    product = document["expressions"][0]
    assert (product["text"], product["times"]) == ("self.W1 @ X", 1)
    assert product["share"] == pytest.approx(0.11, rel=0.02)
    assert (product["shape"], product["flop"]) == ([30, 784, 500], 23_520_000)


def test_the_document_of_a_program_has_every_key_of_the_document_of_its_step():
    run = make_program_run()
    assert profile_json(run).keys() >= step_profile_json(run.step_profile).keys()
    assert profile_json(run)["results"][0]["batch"] is None
