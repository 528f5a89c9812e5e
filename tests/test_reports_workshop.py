"""The study of labelled submissions: what is planted, and how a verdict is compared with its label."""

from __future__ import annotations

import ast
import json
import re
from contextlib import nullcontext
from dataclasses import asdict

import pytest

from mlpprof.process import Progress
from mlpprof.workshop.exercises import built_in
from reports.workshop.figures import MEASURED, PAGES, main_figures, roofline_words
from reports.workshop.planted import AT_LINE, PLANTS, Plant, swap
from reports.workshop.raced import PATTERN, SLOW, Ended, Raced, chosen, earlier_pieces
from reports.workshop.raced import run as run_raced
from reports.workshop.raced import table as raced_table
from reports.workshop.seconds import Watch
from reports.workshop.submissions import (
    Outcome,
    Submission,
    Verdict,
    changed_lines,
    judged,
    planted,
    submissions,
    table,
)

WRONG = Plant("a kind", "a mistake", ("wrong sign",), ())
CRASH = Plant("a kind", "a crash", (AT_LINE,), ())
RIGHT = Plant("right", "the same", (), ())


def submission(plant: Plant) -> Submission:
    return Submission(1, plant, 0, "x\n" * 6 + "y\n", "x\n" * 6 + "z\n")


@pytest.mark.parametrize(
    ("plant", "verdict", "is_right", "is_named"),
    [
        (RIGHT, Verdict(""), True, None),
        (RIGHT, Verdict("my_mlp.py:7: no"), False, None),
        (WRONG, Verdict("the gradients have the wrong sign"), True, True),
        (WRONG, Verdict("the gradients are wrong"), True, False),
        (WRONG, Verdict(""), False, False),
        (CRASH, Verdict("my_mlp.py:7 in loss: TypeError"), True, True),
        (CRASH, Verdict("my_mlp.py:77 in loss: TypeError"), True, False),
        (CRASH, Verdict("what it does", line=7), True, True),
        (WRONG, Verdict("wrong sign", failure="late: it took longer"), False, True),
    ],
)
def test_a_verdict_is_compared_with_the_label(plant, verdict, is_right, is_named):
    found = judged(submission(plant), lambda one: verdict)
    assert (found.is_judged_right, found.is_named) == (is_right, is_named)


def test_a_plant_changes_the_code_and_not_the_docstring():
    source = '"""a = 1"""\n\nimport numpy\n\na = 1\n'
    assert planted(source, swap("a = 1", "a = 2")) == '"""a = 1"""\n\nimport numpy\n\na = 2\n'
    assert planted(source, swap("b = 1", "b = 2")) is None
    assert changed_lines("a\nb\nc\n", "a\nx\ny\nc\n") == (2, 3)
    assert changed_lines("a\nb\nc\n", "a\nc\n") == (2,)


def test_every_form_fits_a_solution_and_there_are_far_more_than_three_hundred_submissions():
    made = list(submissions(seed=0))
    assert len(made) > 900
    assert sum(one.plant.is_right for one in made) > 100
    fitted = {(one.plant.kind, one.plant.name, one.form) for one in made}
    assert fitted >= {(plant.kind, plant.name, i) for plant in PLANTS for i in range(len(plant.forms))}
    for one in {(one.plant.name, one.form): one for one in made}.values():
        if one.plant.name != "a syntax error":
            ast.parse(one.source)


def test_the_table_has_a_row_for_each_kind_and_lists_what_was_judged_wrong():
    results = [judged(submission(WRONG), lambda one: Verdict("")), judged(submission(RIGHT), lambda one: Verdict(""))]
    text = table(Outcome(results, total=9))
    assert "| a kind | 1 | 0 | 0.0% | 0 of 1 | 0.0% |" in text
    assert "| all | 2 | 1 | 50.0% | 0 of 1 | 0.0% |" in text
    assert "| a mistake (a kind, judged wrong) | 1 | (passes) |" in text


def test_the_figures_are_drawn_from_what_was_measured_and_are_those_of_the_pages():
    measured = json.loads((MEASURED / "roofline.json").read_text(encoding="utf-8"))
    drawn = main_figures(measured)
    shipped = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.svg")}
    assert drawn.keys() == shipped.keys()
    assert all("<desc" in picture and "<title" in picture for picture in shipped.values())
    for one in measured["solutions"]:
        assert f"{one['exercise']}: " in roofline_words(measured)


def test_the_counted_figures_of_the_answers_are_those_of_the_solutions():
    rows = re.findall(
        r"^\| (\d) \| ([\d,]+) operations, ([\d.]+) million \| ([\d.]+) MB", built_in().text("answers.md"), re.MULTILINE
    )
    measured = json.loads((MEASURED / "roofline.json").read_text(encoding="utf-8"))["solutions"]
    assert rows == [
        (str(one["exercise"]), f"{one['operations']:,}", f"{one['flop'] / 1e6:.1f}", f"{one['bytes_moved'] / 1e6:.1f}")
        for one in measured
    ]


def test_the_raced_submissions_are_right_wrong_and_slow_ones_in_turn():
    found = chosen(10, seed=0)
    assert ["right" if one.plant.is_right else "slow" if one.plant is SLOW else "wrong" for one in found] == 2 * [
        *PATTERN
    ]
    assert all(one.source.count("self.forward()") == 3 for one in found if one.plant is SLOW)


def test_outcomes_that_differ_between_settings_or_from_the_label_are_counted():
    outcomes = iter(["pass", "pass", "pass", "inconclusive", "fail", "pass"])

    def ask(one: Submission, progress: Progress) -> Ended:
        return Ended(next(outcomes), "speed", 2.0, 1.5, 3, 20.0)

    settings = {"one": nullcontext, "two": nullcontext}
    kept: list[int] = []
    found = run_raced(3, 0, None, lambda *_: None, lambda outcome: kept.append(len(outcome.results)), ask, settings)
    text = " ".join(raced_table(found, list(settings)).split())
    assert kept == [1, 2, 3]
    assert "3 submissions were checked on 2 settings, which are 6 checks. 1 of the submissions had the same" in text
    assert "and 1 a PASS on one and a FAIL on another. 4 of the checks ended as their label demands. 1 " in text
    assert "| pass: 2.00x of 1.50x, 3 processes, 20 s |" in text


def test_a_raced_study_goes_on_after_the_submissions_that_are_known(tmp_path):
    asked: list[Submission] = []

    def ask(one: Submission, progress: Progress) -> Ended:
        asked.append(one)
        return Ended("pass", "speed", 2.0, 1.5, 3, 20.0)

    def study(count: int, known: list[Raced]) -> list[Raced]:
        return run_raced(
            count, 0, None, lambda *_: None, lambda outcome: None, ask, {"one": nullcontext}, known
        ).results

    everything = study(40, [])
    # the first submission that is the same as an earlier one; it is checked all the same
    again = next(i for i, one in enumerate(everything) if one.source in [before.source for before in everything[:i]])
    document = {"code": "abc", "submissions": [asdict(one) for one in everything[:again]], "earlier": []}
    (tmp_path / "raced.json").write_text(json.dumps(document | {"circumstances": {"minutes": 7.0}}), encoding="utf-8")
    known, earlier = earlier_pieces(tmp_path / "raced.json", "abc")
    asked.clear()
    assert study(again + 1, known) == everything[: again + 1]
    assert (len(asked), earlier) == (1, [{"minutes": 7.0}])
    assert earlier_pieces(tmp_path / "raced.json", "another code") == ([], [])


def test_the_seconds_of_a_check_are_those_before_in_and_after_its_race():
    times = iter([0.0, 2.0, 7.0, 8.0])
    watch = Watch(lambda what, share: None, lambda: next(times))
    for what in (
        "loading my_mlp.py",
        "counting",
        "process 1 of 2: loading",
        "process 2 of 2: racing",
        "loading the data",
    ):
        watch(what, 0.5)
    assert watch.seconds() == [2.0, 5.0, 1.0]
