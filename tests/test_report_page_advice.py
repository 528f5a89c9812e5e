"""The page of findings as text: valid, safe, small, with a picture that is told in words and its data."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from advices import LOOP, SIGMOID, hostile_advice, make_advice
from pages import HOSTILE
from test_report_page import assert_valid, raw

from mlpprof.report.json_documents import advice_json
from mlpprof.report.page.advice import MOST_DRAWN, advice_html
from mlpprof.results.advice import CATEGORIES
from mlpprof.results.json import json_text

ADVICES = {
    "three": make_advice(),
    "none": make_advice(findings=(), notes=(), environment={}, source={}),
    "hostile": hostile_advice(),
    "no gain": make_advice(findings=(replace(LOOP, payoff_s=(0.0, 0.0), payoff_share=(0.0, 0.0)),)),
    "loss": make_advice(findings=(replace(LOOP, payoff_s=(-0.001, 0.002)),)),
}


@pytest.mark.parametrize("advice", ADVICES.values(), ids=ADVICES.keys())
def test_a_page_of_findings_is_valid_html_with_unique_ids(advice):
    assert_valid(advice_html(advice))


def test_each_finding_has_its_source_its_cure_and_its_figures():
    page = advice_html(make_advice())
    for i, finding in enumerate(make_advice().findings, start=1):
        (article,) = re.findall(rf'<article[^>]*id="finding-{i}">(.*?)</article>', page, re.S)
        assert f"net.py:{finding.line}:{finding.column}" in article
        assert article.count('class="hot"') == finding.end_line - finding.line + 1
        assert finding.why in article
        assert article.count('class="added"') == sum(line.startswith("+") for line in finding.cure.splitlines())
    assert "14.2–16.1 ms <small>71–80 % of the step</small>" in page


def test_the_picture_is_described_in_words():
    page = advice_html(make_advice())
    (label, *_) = re.findall(r'aria-label="(What each change saves[^"]*)"', page)
    assert "1, the loop adds one outer product a sample: 14.2–16.1 ms, 71–80 %" in label


def test_the_chart_names_each_finding_by_place_and_title_and_the_table_begins_with_what_it_saves():
    page = advice_html(make_advice())
    assert "1. net.py:22 the loop adds one outer product" in page
    assert "1. net.py:22 sample-loop" in page  # on a phone
    assert re.findall(r"<th scope=.col.[^>]*>([^<]*)", page)[:2] == ["what", "saves per step"]


def test_the_data_are_what_the_json_prints_and_the_text_of_the_files():
    found = raw(advice_html(make_advice()))
    source = found.pop("source")
    assert found == json.loads(json_text(advice_json(make_advice())))
    assert source == make_advice().source


def test_hostile_text_of_findings_begins_no_tag():
    page = advice_html(hostile_advice())
    assert "<script>alert" not in page
    assert page.count("<script") == 2
    assert "\x1b" not in page
    assert HOSTILE in json.dumps(raw(page), ensure_ascii=False) or HOSTILE in raw(page)["notes"][0]
    assert page.count("</title></head>") <= 1


def test_no_findings_are_reported_with_what_was_looked_for():
    page = advice_html(ADVICES["none"])
    assert "Nothing found in net.py:Net.step" in page
    for what in CATEGORIES.values():
        assert what in page
    assert "<figure" not in page


def test_many_findings_in_long_files_stay_small_and_the_picture_says_what_it_leaves_out():
    findings = tuple(replace(SIGMOID, line=20 + i, end_line=20 + i) for i in range(MOST_DRAWN + 20))
    source = {"net.py": "\n".join(f"x{i} = f(x{i - 1})  # {'text ' * 10}" for i in range(3000))}
    page = advice_html(make_advice(findings=findings, source=source))
    assert 200_000 < len(page.encode()) < 2_000_000
    assert "20 more are in the table" in page


def test_the_same_advice_gives_the_same_page():
    assert advice_html(make_advice()) == advice_html(make_advice())
