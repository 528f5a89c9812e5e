"""The JSON of findings and of a step's profile: the contracts, and reading back."""

from __future__ import annotations

import copy
import csv
import io
import json
from dataclasses import replace

import pytest
from advices import LOOP, hostile_advice, make_advice, make_step_profile
from jsonschema import Draft202012Validator
from test_report_files import closed, schema

from mlpprof.errors import UsageError
from mlpprof.report.json_documents import advice_from_json, advice_json, step_profile_csv, step_profile_json
from mlpprof.results.advice import CATEGORIES
from mlpprof.results.json import json_text

ADVICES = {
    "three findings": make_advice(),
    "none": make_advice(findings=(), notes=(), source={}, environment={}),
    "hostile": hostile_advice(),
    "not finite": make_advice(step_s=float("nan"), findings=(replace(LOOP, payoff_s=(0.0, float("inf"))),)),
}


@pytest.mark.parametrize("name", ["advice", "step"])
def test_the_schemas_are_schemas_and_tell_that_keys_may_be_added(name):
    Draft202012Validator.check_schema(schema(name))
    assert "Keys may be added" in schema(name)["description"]


@pytest.mark.parametrize("advice", ADVICES.values(), ids=ADVICES.keys())
def test_advice_keeps_its_schema_and_every_key_is_told(advice):
    document = json.loads(json_text(advice_json(advice)))
    Draft202012Validator(closed(schema("advice"))).validate(document)


def test_advice_has_the_keys_that_were_promised():
    document = advice_json(make_advice())
    assert (document["schema"], document["step"], document["step_s"]) == (1, "net.py:Net.step", 0.02)
    loop, sigmoid, _ = document["findings"]
    assert list(loop) == [
        *("category", "file", "line", "end_line", "column", "title", "why", "cure", "payoff_s", "payoff_share"),
        *("confidence", "related", "evidence"),
    ]
    assert (loop["category"], loop["file"], loop["line"], loop["end_line"], loop["column"]) == (
        *("sample-loop", "net.py", 22, 24, 9),
    )
    assert loop["payoff_s"] == [0.0142, 0.0161]
    assert loop["payoff_share"] == [0.71, 0.805]
    assert sigmoid["related"] == [{"file": "net.py", "line": 18}, {"file": "net.py", "line": 7}]
    assert sigmoid["evidence"]["measured"] == "replayed"


def test_the_schema_tells_the_categories_in_their_order():
    told = schema("advice")["properties"]["findings"]["items"]["properties"]["category"]["enum"]
    assert told == list(CATEGORIES)


@pytest.mark.parametrize(
    "key", ["schema", "step", "findings", ("findings", 0, "payoff_s"), ("findings", 0, "evidence")]
)
def test_advice_without_a_key_of_the_contract_is_refused_by_the_schema_and_by_reading(key):
    document = copy.deepcopy(advice_json(make_advice()))
    *parents, last = (key,) if isinstance(key, str) else key
    parent = document
    for name in parents:
        parent = parent[name]
    del parent[last]
    assert list(Draft202012Validator(schema("advice")).iter_errors(document))
    with pytest.raises(UsageError, match="advise again"):
        advice_from_json(document)


def test_advice_reads_back_as_it_was_without_the_text_of_files():
    for advice in (ADVICES["three findings"], ADVICES["none"], ADVICES["hostile"]):
        document = json.loads(json_text(advice_json(advice)))
        assert advice_from_json(document) == replace(advice, source={})
        assert advice_from_json({**document, "added later": 1}) == replace(advice, source={})


@pytest.mark.parametrize("document", [{}, {"schema": 2}, {"schema": 1, "step": "x", "step_s": 1, "findings": [3]}])
def test_what_is_no_advice_is_told(document):
    with pytest.raises(UsageError, match="advise again"):
        advice_from_json(document)


@pytest.mark.parametrize(
    "profile",
    [make_step_profile(), make_step_profile(expressions=(), phases={}, step_s=(), clocked_s=(), notes=())],
    ids=["whole", "empty"],
)
def test_a_step_profile_keeps_its_schema_and_every_key_is_told(profile):
    document = json.loads(json_text(step_profile_json(profile)))
    Draft202012Validator(closed(schema("step"))).validate(document)


def test_the_figures_of_a_step_profile_are_medians_and_shares_of_the_clocked_step():
    document = step_profile_json(make_step_profile())
    assert document["step_s"] == {"median": 0.0205, "samples": [0.02, 0.021, 0.0205]}
    assert document["disturbance"] == pytest.approx(0.0226 / 0.0205)
    assert document["phases"]["update"] == {
        "median_s": 0.0141,
        "share": pytest.approx(0.0141 / 0.0226),
        "samples": [0.014, 0.0142, 0.0141],
    }
    product = document["expressions"][1]
    assert (product["text"], product["median_s"], product["times"]) == ("self.W1 @ X", 0.0022, 1)
    assert (product["shape"], product["flop"]) == ([30, 784, 500], 23_520_000)


def test_csv_holds_every_sample_and_quotes_what_would_break_it():
    made = make_step_profile()
    made = replace(made, expressions=(replace(made.expressions[0], text='f(a, "b")'),))
    rows = list(csv.DictReader(io.StringIO(step_profile_csv(made))))
    series = {}
    for row in rows:
        series.setdefault((row["what"], row["phase"], row["text"]), []).append(float(row["seconds"]))
    assert series == {
        ("step", "", ""): list(made.step_s),
        ("clocked step", "", ""): list(made.clocked_s),
        ("phase", "forward", ""): list(made.phases["forward"]),
        ("phase", "update", ""): list(made.phases["update"]),
        ("expression", "forward", 'f(a, "b")'): list(made.expressions[0].seconds),
    }
