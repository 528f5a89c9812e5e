"""Cures are proven: alone, together, and in the patched program again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mlpprof.advise.editing.cure import Cure, LineEdit
from mlpprof.advise.find import Analysis
from mlpprof.advise.proof.prove import ROUNDS, Prover, moved
from mlpprof.errors import VariantCrash
from mlpprof.programs.name import ProgramName
from mlpprof.programs.parameters import Parameter
from mlpprof.programs.request import ProgramRequest
from mlpprof.results import Race, Verdict
from mlpprof.results.advice import Advice, Finding
from mlpprof.results.proof import BY_HAND, IN_THE_PATCH, NOT_CONFIRMED

PATH = "/p/train.py"
TEXT = "".join(f"line {number}\n" for number in range(1, 9))
REQUEST = ProgramRequest(ProgramName("script", "train.py"), step="train.py:7")


def cure(line, new, kind="safe"):
    return Cure(kind, (LineEdit(PATH, line - 1, line, (f"{new}\n",)),))


def finding(title, share=0.5):
    return Finding("recomputation", "train.py", 1, 1, 1, title, "", "", (0.1, 0.2), (share, share), "likely")


LATE_CRASH = VariantCrash("plots.py:9: TypeError")


class FakeTrials:
    """Programs whose text decides what they train, and how fast they are.

    rounds: the findings of each round with their cures. wrong: texts with which a program trains something else;
    crashing: with which it crashes; late, last: with which it crashes in a race, or only in the last one. faster: text
    -> how many times as fast the step is with it.
    """

    def __init__(
        self, rounds, wrong=(), crashing=(), faster=None, left=100, wrong_around=(), disturbed=(), late=(), last=()
    ):
        self.late, self.last = late, last
        self.disturbed = list(disturbed)
        self.wrong_around = wrong_around
        self.rounds, self.wrong, self.crashing, self.faster = list(rounds), wrong, crashing, faster or {}
        self.left, self.tried, self.analysed, self.timed_around = left, [], [], []

    def analysis(self, number):
        found = self.rounds[number] if number < len(self.rounds) else {}
        findings = tuple(finding(title) for title in found)
        advice = Advice("train.py:7", 1.0, 10, findings)
        return Analysis(advice, tuple(tuple(cures) for cures in found.values()), {PATH: TEXT})

    def analyse(self, request, progress):
        self.analysed.append(request)
        analysis = self.analysis(len(self.analysed))
        return replace(analysis, texts={PATH: request.overlay[PATH]})

    def parameters(self, requests, steps, progress):
        self.left -= len(requests)
        answers = []
        for request in requests:
            text = request.overlay.get(PATH, TEXT)
            self.tried.append(text)
            if any(words in text for words in self.crashing):
                answers.append(VariantCrash("train.py:3: NameError"))
                continue
            values = np.outer(np.arange(1.0, steps + 2), np.ones(3)) / 3
            if "ROUNDED" in text:
                values = values.astype(np.float32).astype(np.float64)
            if any(all(word in text for word in words.split()) for words in self.wrong):
                values[-1] += 0.1
            dtype = "float32" if "single" in text else "float64"
            answers.append(([Parameter("W", "", dtype, values, False)], steps))
        return answers

    def executed(self, request, lines, progress):
        self.left -= 1
        text = request.overlay.get(PATH, TEXT)
        is_other = any(words in text for words in self.wrong_around)
        return [{"n": np.array(int(is_other))}] * 3, [1.0 / self.speed(request)] * 3

    def speed(self, request):
        text = request.overlay.get(PATH, TEXT)
        return np.prod([ratio for words, ratio in self.faster.items() if words in text])

    def estimates(self, requests, progress, around=()):
        """The first ones are disturbed: they say `self.disturbed` of every cure."""
        self.timed_around += [requests[place].overlay[PATH] for place in around]
        if self.disturbed:
            return [self.disturbed.pop()] * len(requests[1:])
        return [
            LATE_CRASH if self.is_in(one, self.late) else self.speed(one) / self.speed(requests[0])
            for one in requests[1:]
        ]

    def is_in(self, request, some):
        return any(words in request.overlay.get(PATH, TEXT) for words in some)

    def race(self, old, new, progress):
        if self.is_in(new, (*self.late, *self.last)):
            raise LATE_CRASH
        ratio = self.speed(new) / self.speed(old)
        turns = np.array([[[1.0, 1.0], [1 / ratio, 1 / ratio]]])
        return Race(("old", "new"), ("", ""), 0, (turns,)), Verdict(
            None, ratio, 0.98 * ratio, 1.02 * ratio, None, 5, ""
        )

    def runs_left(self):
        return self.left


def prove(trials, **options):
    return Prover(trials, lambda what, share: None, **options).prove(REQUEST, trials.analysis(0), lambda path: path[3:])


def outcomes(proof):
    return {one.title: (one.outcome, one.kind) for one in proof.cures}


def test_what_trains_the_same_and_is_faster_is_combined_into_a_patch():
    rounds = [{"a": [cure(1, "A")], "b": [cure(3, "B")], "words": []}]
    proof = prove(FakeTrials(rounds, faster={"A": 1.5, "B": 1.2}))
    assert proof.is_proven
    assert proof.verdict.ratio == pytest.approx(1.8)
    assert (proof.old_s, proof.new_s) == (1.0, pytest.approx(1 / 1.8))
    assert outcomes(proof) == {"a": (IN_THE_PATCH, "safe"), "b": (IN_THE_PATCH, "safe"), "words": (BY_HAND, "manual")}
    assert [line for line in proof.patch.splitlines() if line[0] in "+-"] == [
        "--- a/train.py", "+++ b/train.py", "-line 1", "+A", "-line 3", "+B"
    ]  # fmt: skip
    assert proof.files[0].new == TEXT.replace("line 1", "A").replace("line 3", "B")


def test_what_trains_something_else_crashes_or_is_not_faster_is_not_in_the_patch():
    rounds = [
        {"wrong": [cure(1, "WRONG")], "crash": [cure(2, "CRASH")], "slow": [cure(3, "SLOW")], "c": [cure(4, "C")]}
    ]
    proof = prove(FakeTrials(rounds, wrong=["WRONG"], crashing=["CRASH"], faster={"SLOW": 0.9, "C": 1.3}))
    reasons = {one.title: one.reason for one in proof.cures if one.outcome == NOT_CONFIRMED}
    assert "differs by" in reasons["wrong"]
    assert "train.py:3: NameError" in reasons["crash"]
    assert "not faster (0.90" in reasons["slow"]
    assert proof.files[0].new == TEXT.replace("line 4", "C")


@pytest.mark.parametrize(("real", "disturbed", "alone", "is_kept"), [(1.2, 0.7, 1.2, True), (0.9, 1.02, 0.9, False)])
def test_a_cure_whose_gain_is_unclear_is_timed_again_and_the_middle_estimate_decides(real, disturbed, alone, is_kept):
    proof = prove(FakeTrials([{"a": [cure(1, "A")]}], faster={"A": real}, disturbed=[disturbed]))
    assert proof.cures[0].alone == pytest.approx(alone)
    assert bool(proof.is_proven) is is_kept


def test_a_cure_with_which_the_program_crashes_only_in_a_race_is_left_out_and_the_others_are_proven():
    proof = prove(FakeTrials([{"a": [cure(1, "A")], "late": [cure(3, "B")]}], faster={"A": 1.5, "B": 2.0}, late=["B"]))
    assert proof.is_proven
    assert proof.files[0].new == TEXT.replace("line 1", "A")
    [reason] = [one.reason for one in proof.cures if one.outcome == NOT_CONFIRMED]
    assert reason == "the program does not run with it: plots.py:9: TypeError"


@pytest.mark.parametrize(("last", "kept"), [("B", "a"), ("A", "")])
def test_if_the_last_race_fails_the_cures_of_the_later_rounds_are_left_out_until_it_runs(last, kept):
    rounds = [{"a": [cure(1, "A")]}, {"b": [cure(3, "B")]}]
    proof = prove(FakeTrials(rounds, faster={"A": 1.5, "B": 2.0}, last=[last]))
    assert [title for title, (outcome, _) in outcomes(proof).items() if outcome == IN_THE_PATCH] == [*kept]
    assert bool(proof.is_proven) == bool(kept)
    assert {one.reason for one in proof.cures if one.title not in kept} == {
        "the program does not run with it: plots.py:9: TypeError"
    }


def test_an_alternative_is_tried_where_the_first_form_of_a_cure_trains_something_else():
    proof = prove(FakeTrials([{"a": [cure(1, "WRONG"), cure(1, "RIGHT")]}], wrong=["WRONG"], faster={"RIGHT": 2.0}))
    assert proof.files[0].new == TEXT.replace("line 1", "RIGHT")


def test_cures_that_train_something_else_only_together_are_not_combined():
    rounds = [{"a": [cure(1, "A")], "b": [cure(3, "B")]}]
    proof = prove(FakeTrials(rounds, wrong=["A B"], faster={"A": 1.5, "B": 1.2}))
    assert outcomes(proof)["b"][0] == NOT_CONFIRMED
    assert proof.files[0].new == TEXT.replace("line 1", "A")


def test_the_patched_program_is_searched_again_and_lines_that_conflicted_get_their_turn():
    rounds = [{"a": [cure(1, "A")], "other": [cure(1, "B")]}, {"other": [cure(1, "A B")]}]
    trials = FakeTrials(rounds, faster={"A": 1.5, "B": 1.2})
    proof = prove(trials)
    assert proof.files[0].new == TEXT.replace("line 1", "A B")
    assert proof.verdict.ratio == pytest.approx(1.8)
    assert proof.rounds == 3


def test_rounds_and_runs_have_an_end():
    endless = [{f"finding {'x' * number}": [cure(1, f"A{number}")]} for number in range(20)]
    faster = {f"A{number}": 1.1 ** (number + 1) for number in range(20)}
    assert prove(FakeTrials(endless, faster=faster)).rounds == ROUNDS
    few = FakeTrials(endless, faster=faster, left=13)
    assert prove(few).rounds == 1
    proof = prove(FakeTrials(endless, faster=faster, left=5))
    assert not proof.patch
    assert "as often as announced" in proof.cures[0].reason


def test_safe_only_leaves_the_precision_alone():
    rounds = [{"float64": [cure(1, "A", "precision")]}]
    assert prove(FakeTrials(rounds, faster={"A": 2.0})).changes_precision
    proof = prove(FakeTrials(rounds, faster={"A": 2.0}), safe_only=True)
    assert not proof.patch
    assert proof.cures[0].reason == "it changes the precision"


def test_a_cure_classed_safe_that_changes_the_precision_is_refused():
    proof = prove(FakeTrials([{"layout": [cure(1, "single")]}], faster={"single": 2.0}))
    assert not proof.patch
    assert proof.cures[0].reason == "it is classed safe, but it changes the precision from float64 to float32"
    rounds = [{"float64": [cure(1, "single", "precision")]}, {"layout": [cure(2, "A")]}]
    proof = prove(FakeTrials(rounds, faster={"single": 2.0, "A": 1.5}))
    assert outcomes(proof) == {"float64": (IN_THE_PATCH, "precision"), "layout": (IN_THE_PATCH, "safe")}


@pytest.mark.parametrize(("kind", "outcome"), [("precision", IN_THE_PATCH), ("safe", NOT_CONFIRMED)])
def test_only_a_cure_of_the_precision_may_round_the_start_of_parameters_that_become_float64_again(kind, outcome):
    proof = prove(FakeTrials([{"float64": [cure(1, "ROUNDED", kind)]}], faster={"ROUNDED": 2.0}))
    assert outcomes(proof) == {"float64": (outcome, kind)}


def test_a_gain_that_is_not_certain_makes_no_patch():
    proof = prove(FakeTrials([{"a": [cure(1, "A")]}], faster={"A": 1.015}))
    assert proof.verdict is not None
    assert not proof.patch
    assert not proof.is_proven


def test_the_line_of_the_step_moves_with_the_edits_before_it():
    inserted = Cure("safe", (LineEdit(PATH, 6, 6, ("new\n", "new\n")), LineEdit(PATH, 7, 7, ("after\n",))))
    assert moved("train.py:7", [inserted]) == "train.py:9"
    assert moved("train.py:Net.step", [inserted]) == "train.py:Net.step"


def test_what_is_in_the_patch_stays_in_the_table_although_a_later_round_finds_more_of_it():
    proof = prove(FakeTrials([{"a": [cure(1, "A")]}, {"a": []}], faster={"A": 1.5}))
    assert outcomes(proof) == {"a": (IN_THE_PATCH, "safe")}


@pytest.mark.parametrize(
    ("wrong", "wrong_around", "reason"),
    [
        ((), (), "give the same `n` in 3 executions, 3 times as fast"),
        ((), ("n = 1",), "`n` is different in execution 1"),
        (("n = 1",), (), "differ"),
    ],
)
def test_an_edit_around_the_step_is_proven_by_what_its_lines_compute_and_by_the_training(wrong, wrong_around, reason):
    text = TEXT.replace("line 3", "n = 0").replace("line 4", "print(n)").replace("line ", "x = ")
    trials = FakeTrials([{}], wrong=wrong, wrong_around=wrong_around, faster={"n = 1": 3.0})
    first = trials.analysis(0)
    around = replace(finding("a loop"), line=3, end_line=3, outside=True, per="epoch")
    first = replace(first, advice=replace(first.advice, findings=(around,)), cures=((cure(3, "n = 1"),),))
    first = replace(first, texts={PATH: text})
    proof = Prover(trials, lambda what, share: None).prove(REQUEST, first, lambda path: path[3:])
    [tried] = proof.cures
    assert reason in tried.reason
    is_good = not wrong and not wrong_around
    assert (tried.outcome == IN_THE_PATCH, bool(proof.is_proven)) == (is_good, is_good)


def test_for_an_edit_of_the_call_of_the_step_the_time_between_steps_counts_and_the_step_need_not_be_faster():
    trials = FakeTrials([{"a": [cure(1, "A")], "b": [cure(3, "B")]}], faster={"A": 1.3, "B": 1.001})
    first = trials.analysis(0)
    inside, around = first.advice.findings
    first = replace(first, advice=replace(first.advice, findings=(inside, replace(around, outside=True))))
    Prover(trials, lambda what, share: None).prove(REQUEST, first, lambda path: path[3:])
    assert trials.timed_around == [TEXT.replace("line 3", "B")] * 2
    trials = FakeTrials([{"b": [cure(3, "B")]}], faster={"B": 1.015})
    first = trials.analysis(0)
    first = replace(first, advice=replace(first.advice, findings=(replace(around, outside=True),)))
    assert Prover(trials, lambda what, share: None).prove(REQUEST, first, lambda path: path[3:]).is_proven


def test_a_finding_with_the_words_of_one_in_the_patch_is_cured_at_its_other_place_too():
    rounds = [{"a loop": [cure(1, "A")]}, {"a loop": [cure(2, "B")]}, {"a loop": [cure(2, "B")]}]
    proof = prove(FakeTrials(rounds, faster={"A": 1.5, "B": 1.5}))
    assert proof.files[0].new == TEXT.replace("line 1", "A").replace("line 2", "B")
    assert proof.rounds == 3


def test_what_makes_a_program_no_faster_is_tried_again_in_the_faster_program():
    class Uneven(FakeTrials):
        def speed(self, request):
            text = request.overlay.get(PATH, TEXT)
            return super().speed(request) * (1.5 if "A" in text and "B" in text else 1.0)

    rounds = [{"a": [cure(1, "A")], "b": [cure(2, "B")]}, {"b": [cure(2, "B")]}]
    proof = prove(Uneven(rounds, faster={"A": 1.5}))
    assert outcomes(proof) == {"a": (IN_THE_PATCH, "safe"), "b": (IN_THE_PATCH, "safe")}
