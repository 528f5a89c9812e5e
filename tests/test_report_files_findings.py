"""Findings where changes are reviewed: GitHub's annotations, Markdown, and SARIF that fits the official schema."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import attr
import pytest
import sarif_om
from advices import LOOP, hostile_advice, make_advice

from mlpprof.report.files.findings import github_text, markdown_text, sarif_text
from mlpprof.results.advice import Edit
from mlpprof.results.place import Place
from mlpprof.results.proof import IN_THE_PATCH, Proof, TriedCure

EDIT = Edit("net.py", 22, 25, "        self.W2 -= rate * (d2 @ self.A1.T)\n")
SAFE = replace(LOOP, kind="safe", edits=(EDIT,), related=(Place("net.py", 5),))

CLASSES = {
    "runs": sarif_om.Run,
    "tool": sarif_om.Tool,
    "driver": sarif_om.ToolComponent,
    "rules": sarif_om.ReportingDescriptor,
    "defaultConfiguration": sarif_om.ReportingConfiguration,
    "shortDescription": sarif_om.MultiformatMessageString,
    "help": sarif_om.MultiformatMessageString,
    "results": sarif_om.Result,
    "message": sarif_om.Message,
    "description": sarif_om.Message,
    "locations": sarif_om.Location,
    "relatedLocations": sarif_om.Location,
    "physicalLocation": sarif_om.PhysicalLocation,
    "artifactLocation": sarif_om.ArtifactLocation,
    "region": sarif_om.Region,
    "deletedRegion": sarif_om.Region,
    "insertedContent": sarif_om.ArtifactContent,
    "fixes": sarif_om.Fix,
    "artifactChanges": sarif_om.ArtifactChange,
    "replacements": sarif_om.Replacement,
}
"""The classes that were generated from the official schema, for the properties whose values are objects."""


def require_official(value, kind):
    """Every property of an object is one of the official schema, and no required one is missing."""
    known = {one.metadata["schema_property_name"]: one for one in attr.fields(kind)}
    assert value.keys() <= known.keys(), kind
    assert {name for name, one in known.items() if one.default is attr.NOTHING} <= value.keys(), kind
    for name, inner in value.items():
        for one in inner if isinstance(inner, list) else [inner]:
            if isinstance(one, dict) and name != "properties":
                require_official(one, CLASSES[name])


@pytest.mark.parametrize("advice", [make_advice(findings=(SAFE,)), make_advice(), hostile_advice()])
def test_sarif_has_the_properties_of_the_official_schema(advice):
    document = json.loads(sarif_text(advice))
    assert document["version"] == "2.1.0"
    require_official(document, sarif_om.SarifLog)
    rules = [rule["id"] for rule in document["runs"][0]["tool"]["driver"]["rules"]]
    for result in document["runs"][0]["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]


def test_a_finding_in_a_notebook_is_shown_at_its_first_line_and_says_which_cell_it_is_in():
    related = (Place("work.ipynb", 5, 2),)
    advice = make_advice(findings=(replace(LOOP, file="work.ipynb", cell=3, line=12, end_line=14, related=related),))
    [line] = [line for line in github_text(advice).splitlines() if line.startswith("::warning")]
    assert re.search(r"file=\S*work.ipynb,line=1,endLine=1,title=.*\(line 12 of cell 3\)::", line)
    result, _ = json.loads(sarif_text(advice))["runs"][0]["results"]
    assert "(line 12 of cell 3)" in result["message"]["text"]
    [place], [other] = result["locations"], result["relatedLocations"]
    assert place["physicalLocation"]["region"] == {"startLine": 1, "startColumn": 1, "endLine": 1}
    assert (place["message"]["text"], other["message"]["text"]) == ("line 12 of cell 3", "line 5 of cell 2")


def test_sarif_offers_safe_edits_as_fixes_and_says_whether_they_are_proven():
    def fix_of(advice):
        result, small = json.loads(sarif_text(advice))["runs"][0]["results"]
        assert (result["level"], small["level"]) == ("warning", "note")
        return result.get("fixes")

    [fix] = fix_of(make_advice(findings=(SAFE,)))
    [replacement] = fix["artifactChanges"][0]["replacements"]
    assert replacement["deletedRegion"] == {"startLine": 22, "startColumn": 1, "endLine": 25, "endColumn": 1}
    assert replacement["insertedContent"]["text"] == EDIT.text
    assert "(not proven;" in fix["description"]["text"]
    assert fix_of(make_advice(findings=(replace(SAFE, kind="precision"),))) is None
    assert fix_of(make_advice(findings=(LOOP,))) is None
    cure = TriedCure(SAFE.category, "net.py", 22, SAFE.title, "safe", (2.0, 3.0), 2.5, IN_THE_PATCH)
    proof = Proof(1.0, 0.5, None, None, (cure,), (), "patch", 1)
    assert not proof.is_proven
    [fix] = fix_of(replace(make_advice(findings=(SAFE,)), proof=proof))
    assert "(not proven;" in fix["description"]["text"]


def test_an_annotation_is_one_line_whatever_the_user_calls_things(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    advice = replace(
        make_advice(findings=(replace(LOOP, title="a, b: 5 %\nc"),), notes=()), folder=str(tmp_path / "src")
    )
    line, *others = github_text(advice).splitlines()
    assert [other.partition(",title")[0] for other in others] == [
        "::notice file=src/net.py,line=9",
        "::notice file=src/net.py,line=12",
    ]
    assert line.startswith("::warning file=src/net.py,line=22,endLine=24,title=sample-loop%3A a%2C b%3A 5 %25")
    assert "%0A" in line
    assert all(line.startswith("::") for line in github_text(hostile_advice()).splitlines())


def test_markdown_shows_the_cure_as_a_diff_and_no_html():
    text = markdown_text(make_advice())
    assert "```diff\n-for i in range(X.shape[1]):\n" in text
    outside_of_code = re.sub(r"(?ms)^(`{3,})diff$.*?^\1$", "", markdown_text(hostile_advice()))
    assert "<script" not in re.sub(r"`[^`\n]*`", "", outside_of_code)
