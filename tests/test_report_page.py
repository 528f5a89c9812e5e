"""The page as text: valid, safe, whole, small, and the same each time."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import HOSTILE, hostile_run, make_comparison, make_ladder, make_program_comparison
from runs import make_program_run, make_run

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_OK
from mlpprof.model import PHASES
from mlpprof.report.code_diff import code_diff
from mlpprof.report.facts import story_warnings
from mlpprof.report.page import page as embedded
from mlpprof.report.page.changes import rung_changes
from mlpprof.report.page.headline import headline
from mlpprof.report.page.page import page_html
from mlpprof.report.page.variant_views import source_lines
from mlpprof.report.story import Story
from mlpprof.results.on_disk import save_run

ORDER = ("verdict", "time", "limits", "changes", "scaling", "sure", "machine", "data")
TEN = ("per_sample", "naive", "float32", "no_input_delta", "contiguous", "cached", "sliced", "tanh_sigmoid")
TEN = (*TEN, "buffered", "chunked")


@pytest.fixture(scope="module")
def ladder_story() -> Story:
    return Story.of(
        ladders=[make_ladder(names=("naive", "cached", "sliced")), make_ladder(32, names=("naive", "sliced"))]
    )


@pytest.fixture(scope="module")
def ladder_page(ladder_story: Story) -> str:
    return page_html(ladder_story)


@pytest.fixture(scope="module")
def hostile_page() -> str:
    return page_html(Story.of(runs=[hostile_run()]))


def raw(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="raw">(.*?)</script>', page, re.S)[1])


def assert_valid(page: str) -> None:
    html5lib = pytest.importorskip("html5lib", reason="html5lib checks the page: pip install html5lib")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # html5lib's own
        tree = html5lib.HTMLParser(strict=True).parse(page)
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    references = {element.get("href", "")[1:] for element in tree.iter() if element.get("href", "").startswith("#")}
    assert references <= set(ids)


def test_the_page_of_ladders_is_valid_html_with_unique_ids(ladder_page):
    assert_valid(ladder_page)


def test_the_page_of_a_hostile_run_is_valid_html(hostile_page):
    assert_valid(hostile_page)


def test_the_page_of_comparisons_is_valid_html():
    assert_valid(page_html(Story.of(comparisons=[make_comparison()])))
    page = page_html(Story.of(comparisons=[make_program_comparison(text="<b>tanh</b>")]))
    assert_valid(page)
    assert "new.py:17" in page
    assert "both train the same" in page
    assert "<b>tanh" not in page
    assert "batch 0" not in page


def test_a_run_whose_phases_cannot_be_separated_has_a_page():
    assert_valid(page_html(Story.of(runs=[make_run((32,), separable=False), make_run(labelled=False)])))


def test_the_page_of_a_program_is_valid_html():
    assert_valid(page_html(Story.of(runs=[make_program_run(limits=True, lines=True)])))


def test_the_sections_come_in_the_order_of_the_story(ladder_page):
    assert tuple(re.findall(r'<section id="(\w+)"', ladder_page)) == ORDER
    assert tuple(re.findall(r'<a href="#(\w+)"', ladder_page)) == ORDER


def test_the_page_of_a_ladder_explains_why_a_variant_has_two_step_times(ladder_page):
    assert "Each variant has two step times here" in ladder_page
    assert "Each variant has two step times here" not in page_html(Story.of(runs=[make_run(labelled=False)]))


def test_the_verdict_is_one_sentence_with_ratio_and_interval(ladder_story):
    sentence = headline(ladder_story).sentence
    assert sentence.count(". ") == 0
    assert re.search(r"sliced takes .* and naive .*: sliced is [\d.]+ times \([\d.]+ to [\d.]+\) as fast", sentence)


def test_nothing_is_loaded_from_elsewhere(ladder_page):
    outside = re.sub(r"<script.*?</script>", "", ladder_page, flags=re.S)
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', outside) == []
    assert re.findall(r"url\((?!#)[^)]*\)|@import", outside) == []
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', ladder_page)[1]
    assert policy.startswith("default-src &#39;none&#39;;")
    assert "unsafe-inline" not in policy.split("style-src")[0]


def test_hostile_text_begins_no_tag(hostile_page):
    assert "<script>alert" not in hostile_page
    assert "<img" not in hostile_page
    assert hostile_page.count("</title>") > 1, "figures have titles"
    assert hostile_page.count("<script") == 2
    assert "\x1b" not in hostile_page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hostile_page
    assert HOSTILE in raw(hostile_page)["runs"][0]["source"]


def test_the_raw_data_are_whole_to_the_nanosecond():
    measured = make_run((32, 500))
    found = embedded.document(Story.of(runs=[measured]), with_labels=True)
    assert found["left_out"] is None
    for document, result in zip(found["runs"][0]["results"], measured.results, strict=True):
        samples = document["raw_ns"]
        np.testing.assert_allclose(np.array(samples["total"]) * 1e-9, result.total_s, atol=1e-9)
        assert set(samples["phases"]) == set(PHASES)
        assert len(samples["labels"]) == len(result.labels)


def test_a_page_that_would_be_too_long_leaves_out_samples_of_labels_and_says_so(monkeypatch):
    monkeypatch.setattr(embedded, "BUDGET", 1000)
    found = json.loads(embedded.embedded(Story.of(runs=[make_run()])))
    assert "single labels" in found["left_out"]
    result = found["runs"][0]["results"][0]
    assert "labels" not in result["raw_ns"]
    assert result["labels"]
    assert len(result["raw_ns"]["total"]) == 6


@pytest.mark.slow
def test_a_ladder_of_ten_with_everything_stays_below_two_megabytes():
    made = make_ladder(names=TEN, rounds=40, steps=7)
    assert 400_000 < len(page_html(Story.of(ladders=[made])).encode()) < 2_000_000


def test_the_same_records_give_the_same_page():
    story = Story.of(runs=[make_run(labelled=False)])
    assert page_html(story) == page_html(story)


def test_every_rung_stands_beside_its_diff_and_the_time_that_moved(ladder_story):
    changes = [change for change in rung_changes(ladder_story) if change.batch == 500]
    assert [change.new for change in changes] == [rung.name for rung in ladder_story.ladders[0].rungs[1:]]
    for change in changes:
        assert change.verdict is not None
        assert any(line.kind == "+" for line in change.diff)
        assert change.moved.rows[-1].cells[0].text == "step"
        phases = [row for row in change.moved.rows[:-1] if not row.cells[2].text]
        for place, whole_s in ((3, change.old_s), (4, change.new_s)):
            assert sum(row.cells[place].value or 0.0 for row in phases) == pytest.approx(whole_s)


def test_runs_that_were_measured_apart_get_no_verdict_and_a_warning():
    first, second = make_ladder(names=("cached", "sliced"), root="cached").runs
    story = Story.of(runs=[first, second])
    (change,) = rung_changes(story)
    assert (change.old, change.new, change.verdict) == ("cached", "sliced", None)
    assert any("no verdict" in warning for warning in story_warnings(story))


def test_a_ladder_that_was_not_checked_says_so():
    ladder = replace(make_ladder(names=("naive", "sliced"), profiled=False), checked=False)
    assert story_warnings(Story.of(ladders=[ladder])) == ["the rungs were not checked (--no-check)"]


def test_the_code_diff_leaves_docstrings_out_and_numbers_lines():
    old = '"""Old."""\nx = 1\ny = 2\n'
    new = '"""New, and longer.\n\nMore.\n"""\nx = 1\ny = 3\n'
    lines = [(line.kind, line.old, line.new, line.text) for line in code_diff(old, new)]
    assert lines == [(" ", 2, 5, "x = 1"), ("-", 3, None, "y = 2"), ("+", None, 6, "y = 3")]
    assert code_diff(old, old) == []


def test_a_hot_line_is_shaded_and_has_its_time_of_one_step():
    made = make_run(lines=True)
    lines = source_lines(made.variant.source, made.lines)
    hot = max(lines, key=lambda line: line.heat)
    assert "gradient" in hot.text
    assert hot.time_s == pytest.approx(0.26 * made.results[0].step_s.median)
    assert hot.calls == 3
    assert all(line.heat == 0 for line in lines if line.time_s is None)


def test_stored_runs_give_a_page_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    made = make_run((32,), labelled=False)
    save_run(made, tmp_path / "a.h5")
    save_run(make_run((32,), variant="sliced", seed=1, labelled=False), tmp_path / "b.h5")
    assert run(["report", "a.h5", "-o", "one.html"]) == EXIT_OK
    assert (tmp_path / "one.html").read_text(encoding="utf-8") == page_html(Story.of(runs=[made]))
    assert run(["report", "a.h5", "b.h5", "-o", "two.html"]) == EXIT_OK
    assert "sliced" in (tmp_path / "two.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5", "one.html", "two.html"]


def test_a_page_needs_a_record():
    with pytest.raises(ValueError, match="at least one"):
        page_html(Story.of())
