"""What a notebook shows of runs and comparisons: well-formed HTML with figures, and text where there is no HTML."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from advices import hostile_advice, make_advice
from runs import MACHINE, make_run
from test_report_files_traces import GRADIENT

from mlpprof.errors import MissingExtra, UsageError
from mlpprof.report.advice_words import place_text
from mlpprof.report.notebook.views import AdviceView, ComparisonView, RunView
from mlpprof.report.numbers import plain
from mlpprof.report.terminal.profile import report_text
from mlpprof.results import Comparison, ExpressionChange, PhaseChange, ProgramPair, Race, Verdict
from reports import build_notebook as build

VOID = {"br", "img", "meta", "input", "hr"}


class Page(HTMLParser):
    """The elements of a text of HTML; raises AssertionError where one is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def make_comparison(old: str = "naive", new: str = "cached", **changes) -> Comparison:
    run = make_run()
    turns_s = np.array([[[2.0e-3, 2.1e-3], [1.0e-3, 1.1e-3]]] * 4)
    verdict = Verdict("pass", 1.95, 1.8, 2.1, 1.5, 5, "the interval is above it")
    changes_of = (
        PhaseChange("backward", None, "", 1.0e-3, 0.4e-3, 0.6),
        PhaseChange("", None, "", 1.0e-3, 0.6e-3, 0.4),
    )
    race = Race((old, new), ("float64", "float32"), 500, (turns_s,))
    comparison = Comparison(
        old, new, "digits", run.network, 500, race, verdict, True, changes_of, MACHINE, "%mlpprof naive cached"
    )
    return replace(comparison, **changes)


@pytest.mark.parametrize(
    "run",
    [
        make_run(),
        make_run((1, 32, 500)),
        make_run(labelled=False),
        make_run(separable=False),
        make_run(separable=False, labelled=False),
        make_run(checked=False, lines=True, stacks=True, warnings=("the loss became NaN",)),
    ],
)
def test_a_run_shows_as_well_formed_html(run):
    page = Page(RunView(run, "reports/a.h5")._repr_html_())
    assert "script" not in page.tags
    assert "svg" in page.tags
    assert len(set(page.ids)) == len(page.ids)
    for name in run.results[0].phases:
        assert name in page.text
    assert "kept in reports/a.h5" in page.text
    for warning in run.warnings:
        assert warning in page.text


def test_html_shows_the_verdict_the_median_step_and_the_line_of_a_label():
    run = make_run()
    counted = replace(run, results=(replace(run.results[0], operations=(GRADIENT,)),))
    page = Page(RunView(counted)._repr_html_())
    assert "backward takes 41 % of the step; its slowest statement is the gradient of layer 1" in page.text
    assert "2.37 ms" in page.text
    assert "1 gradient 29 1 26" in page.text


def test_a_variant_full_of_markup_shows_as_text():
    bad = "<script>alert(1)</script>\"'&$x$"
    run = make_run(variant=bad, workload=bad, warnings=(bad,))
    labels = (replace(run.results[0].labels[0], label=bad), *run.results[0].labels[1:])
    run = replace(
        run,
        variant=replace(run.variant, summary=bad),
        results=(replace(run.results[0], labels=labels),),
        command=bad,
        check=replace(run.check, what=bad),
    )
    for html in (RunView(run)._repr_html_(), ComparisonView([make_comparison(old=bad, new=bad)])._repr_html_()):
        page = Page(html)
        assert "script" not in page.tags
        assert "<script" not in html
        assert bad in page.text


def test_a_comparison_shows_ratio_verdict_and_the_waterfall():
    page = Page(ComparisonView([make_comparison(), make_comparison(waterfall=(), new="sliced")])._repr_html_())
    assert "1.950 x as fast (95 %: 1.800–2.100), 5 processes" in page.text
    assert "PASS: the interval is above it" in page.text
    assert page.tags.count("svg") == 1
    assert "naive → sliced" in page.text


def test_without_html_a_view_is_the_report_of_the_terminal():
    run = make_run()
    assert repr(RunView(run)) == report_text(run)
    assert "1.950 x as fast" in repr(ComparisonView([make_comparison()]))


def test_the_parts_of_a_source_become_cells_that_are_the_same_every_time():
    source = "# Title\n\ntext\n\n```python\n%load_ext mlpprof\n```\n\n```python\nx = 1\n\ny = 2\n```\nend\n"
    notebook = build.built(source)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        ("markdown", "# Title\n\ntext"),
        ("code", "%load_ext mlpprof"),
        ("code", "x = 1\n\ny = 2"),
        ("markdown", "end"),
    ]
    assert notebook == build.built(source)


def test_a_path_of_this_machine_is_refused():
    notebook = build.built("```python\nx\n```\n")
    notebook.cells[0].outputs = [build._optional("nbformat.v4").new_output("stream", text=f"{Path.cwd()}/a")]
    with pytest.raises(UsageError, match="a path of this machine"):
        build._refuse_paths(notebook, (str(Path.cwd()),))


def test_a_missing_extra_is_named_with_the_line_that_installs_it():
    with pytest.raises(MissingExtra, match=r"pip install 'mlpprof\[notebook\]'"):
        build._optional("nothing_of_this_name")


@pytest.mark.parametrize("advice", [make_advice(), make_advice(findings=()), hostile_advice()])
def test_findings_show_as_well_formed_html_with_every_text(advice):
    view = AdviceView(advice)
    page = Page(view._repr_html_())
    assert "script" not in page.tags
    for finding in advice.findings:
        assert " ".join(plain(finding.title).split()) in page.text
        assert place_text(finding) in page.text
    for note in advice.notes:
        assert " ".join(plain(note).split()) in page.text
    assert page.tags.count("details") == len(advice.findings) + 1
    assert ("Looked for: a Python loop" in page.text) is (not advice.findings)
    assert repr(view).startswith("advise  ")


def test_the_lines_of_a_cell_are_those_of_the_finding_in_a_notebook():
    (finding,) = make_advice().findings[:1]
    finding = replace(finding, file="work.ipynb", cell=3, line=2, end_line=2)
    advice = make_advice(
        findings=(finding,), source={"work.ipynb:cell 2": "no\nno", "work.ipynb:cell 3": "a\nthis line"}
    )
    page = Page(AdviceView(advice)._repr_html_())
    assert "2 this line" in page.text
    assert "work.ipynb:cell 3:2:9" in page.text


def test_a_comparison_of_programs_has_no_batch_and_names_expressions_by_their_cells():
    changes = (ExpressionChange("new.ipynb", 7, "np.tanh(Z)", "", 1e-3, 2e-3, cell=3),)
    pair = ProgramPair(("old.ipynb:step", "new.ipynb:step"), (0.0, 0.0), None, changes)
    view = ComparisonView(
        [make_comparison("old.ipynb", "new.ipynb", workload=None, network=None, batch=0, programs=pair)]
    )
    page = Page(view._repr_html_())
    assert "batch" not in page.text.partition("The whole report as text")[0]
    assert "new.ipynb:cell 3:7 np.tanh(Z)" in page.text
    assert "new.ipynb:cell 3:7" in repr(view)
