"""Where a program's time goes, as every report shows it."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial

import pytest
from advices import EVALUATION, PROGRAM, SIGMOID, make_advice
from rich.console import Console
from runs import make_program_run

from mlpprof.report.advice_words import proof_headline
from mlpprof.report.files.findings import github_text, markdown_text
from mlpprof.report.json_documents import profile_json
from mlpprof.report.notebook.views import AdviceView, RunView
from mlpprof.report.page.advice import advice_html
from mlpprof.report.page.headline import headline
from mlpprof.report.page.page import page_html
from mlpprof.report.program_rows import known_text, longer_than_the_steps, program_table, program_words
from mlpprof.report.story import Story
from mlpprof.report.terminal.advise import print_advice
from mlpprof.report.terminal.console import text_of
from mlpprof.report.terminal.profile import print_run
from mlpprof.results import Training, Verdict
from mlpprof.results.on_disk import load_run, save_run
from mlpprof.results.proof import IN_THE_PATCH, Proof, TriedCure

ADVICE = make_advice(program=PROGRAM, findings=(SIGMOID, EVALUATION))


def printed(width):
    buffer = io.StringIO()
    print_advice(ADVICE, Console(file=buffer, width=width))
    return buffer.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_terminal_begins_with_the_program_and_ends_with_what_is_around_the_step(width):
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    assert (
        words.index("Where the program's time goes") < words.index("Findings") < words.index("takes the 1,000 samples")
    )
    assert "an epoch 100 steps (net.py:Net.step) 2.00 s 20.0 % net.py:40 `print(evaluate(test))` 7.50 s 75.0 %" in words
    assert "net.py:40 takes 75.0 % of an epoch. It runs the loop in net.py:30." in words
    assert "those around the step come after those in it" in words
    assert "6.00–7.00 s per epoch, 60–70 % of an epoch" in words


def test_files_pages_and_notebooks_show_the_program_and_what_a_payoff_is_for():
    for text in (markdown_text(ADVICE), advice_html(ADVICE), AdviceView(ADVICE)._repr_html_()):
        assert "print(evaluate(test))" in text
        assert "75.0 %" in text
        assert "It runs the loop in net.py:30." in text
        assert "60–70 % of an epoch" in text
    assert "It saves 6.00–7.00 s per epoch (60–70 %25 of an epoch)" in github_text(ADVICE)


def test_a_profile_shows_where_the_time_of_the_whole_program_goes_as_advise_does(tmp_path):
    run = make_program_run(time=PROGRAM)
    row = "an epoch 100 steps (net.py:step) 2.00 s 20.0 % net.py:40 `print(evaluate(test))` 7.50 s 75.0 %"
    assert row in " ".join(text_of(partial(print_run, run)).split())
    for page in (page_html(Story.of(runs=[run])), RunView(run)._repr_html_()):
        assert "print(evaluate(test))" in page
    [*_, words] = [one for one in headline(Story.of(runs=[run])).more if "only" in one]
    assert words == "The steps take only 20.0 % of an epoch; net.py:40 `print(evaluate(test))` takes 75.0 %."
    assert longer_than_the_steps(replace(PROGRAM, steps_s=8.0)) == ""
    save_run(run, tmp_path / "run.h5")
    assert profile_json(load_run(tmp_path / "run.h5"))["program"]["time"]["statements"][0]["seconds"] == 7.5
    assert "The whole program" not in page_html(Story.of(runs=[make_program_run()]))


def test_the_headline_is_about_the_step_although_an_epoch_takes_longer():
    assert "the largest gives 410–520 µs of its 20.0 ms" in markdown_text(ADVICE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "2 were seen from beginning to end"),
        ({"units": 1}, "one was seen from beginning to end"),
        ({"units": 0}, "mlpprof saw 100 steps of one. It ended the program before the end of the epoch"),
        ({"units": 0, "planned": 900}, "mlpprof saw 100 of the 900 steps of one, and the table counts all of them"),
        (
            {"units": 0, "statements": (replace(PROGRAM.statements[0], is_open=True),)},
            "ended the program in a statement after the steps of one, which takes longer than shown",
        ),
        ({"unit": "step", "steps": 1.0}, "Each turn of the loop `for epoch in range(9)` (train.py:7) makes one step"),
        ({"loop": None}, "found no loop around the steps that it can follow"),
    ],
)
def test_the_words_report_what_was_seen(changes, words):
    assert words in program_words(replace(PROGRAM, **changes))


def test_small_statements_are_added_up_and_a_statement_that_did_not_end_is_marked():
    small = tuple(replace(PROGRAM.statements[1], line=line, seconds=0.01) for line in (20, 21))
    open_one = replace(PROGRAM.statements[0], is_open=True)
    rows = program_table(replace(PROGRAM, statements=(open_one, *small), end_s=0.0), "net.py:Net.step").rows
    texts = [[cell.text for cell in row.cells] for row in rows]
    assert texts[2][2] == "> 7.50 s"
    assert texts[3][1:] == ["other statements", "20.0 ms", "0.2 %"]
    assert len(texts) == 4


def test_a_statement_that_calls_the_step_is_shown_with_its_other_work():
    caller, other = (
        replace(PROGRAM.statements[0], line=line, text=text)
        for line, text in ((20, "net.step(X[:, rows], Y)"), (21, "x = net.restep(x)"))
    )
    rows = program_table(replace(PROGRAM, statements=(caller, other)), "net.py:Net.step").rows
    texts = [row.cells[1].text for row in rows]
    assert "net.py:20 `net.step(X[:, rows], Y)`, besides the step" in texts
    assert "net.py:21 `x = net.restep(x)`" in texts


def test_what_takes_no_time_before_the_training_is_one_row():
    short = replace(PROGRAM, beginning_s=0.04, beginning=(replace(PROGRAM.beginning[0], does="It reads a file."),))
    rows = program_table(short, "net.py:Net.step").rows
    assert [cell.text for cell in rows[0].cells] == ["before the training", "all statements", "40.0 ms", "100.0 %"]
    assert not any("before the training" in one for one in known_text(short))
    assert any("before the training" in one for one in known_text(replace(short, beginning_s=4.0)))


def test_the_headline_of_a_proof_says_what_an_epoch_takes_if_the_patch_changes_something_around_the_step():
    cure = TriedCure("sample-loop", "net.py", 40, "", "safe", (2.0, 3.0), None, IN_THE_PATCH, per="epoch")
    verdict = Verdict(None, 1.0, 0.98, 1.02, None, 5, "")
    proof = Proof(0.001, 0.001, verdict, Training(True, 50, ""), (cure,), (), "patch", 2, epoch_s=(0.066, 0.025))
    assert proof_headline("train.py", proof).endswith(
        "trains the same over 50 steps; 66.0 ms -> 25.0 ms an epoch in one run each, which is less exact"
    )
