"""The reference of `mlpprof advise` says what the records and the schema say."""

from __future__ import annotations

import re
from pathlib import Path

from test_report_json_documents import schema

from mlpprof.results.advice import CATEGORIES

FOLDER = Path(__file__).resolve().parent.parent / "reports" / "advise"
REFERENCE = (FOLDER / "README.md").read_text(encoding="utf-8")


def table(title: str) -> dict[str, str]:
    """Name -> what, of the first table below a title; a row may have several names."""
    rows = re.findall(r"^\| (`.*`) \| (.*) \|$", REFERENCE.partition(title)[2].partition("\n\n## ")[0], re.MULTILINE)
    return {name: what for names, what in rows for name in re.findall(r"`([^`]+)`", names)}


def test_the_categories_of_the_reference_are_those_of_the_records():
    assert list(table("## Categories").items()) == list(CATEGORIES.items())


def test_the_reference_explains_every_key_of_the_schema():
    document = schema("advice")
    told = table("## The JSON")
    assert set(told) == set(document["properties"]) | set(document["$defs"]["finding"]["properties"])


def test_every_link_of_the_reference_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", REFERENCE):
        assert (FOLDER / target).exists(), target
