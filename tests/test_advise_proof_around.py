"""Edits around the step: both versions of the lines must compute the same, and the new one in less time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from advices import EVALUATION
from test_programs_pause import Texts

from mlpprof.advise.editing.cure import Cure, LineEdit, applied
from mlpprof.advise.proof.around import lines_before_and_after, outcome
from mlpprof.errors import UsageError
from mlpprof.programs.values import LARGEST, MOST_EXECUTIONS, RETURN, Lines, as_array, record_values

pytestmark = pytest.mark.usefixtures("no_hooks_left")

PROGRAM = """\
import numpy as np
data = np.arange(12.0)

def evaluate(data):
    correct, best = 0, 0
    for x in data:
        loss = x * x
        if loss > best:
            correct += 1
    return correct

for epoch in range(99):
    print(evaluate(data))
"""
CURE = Cure(
    "safe",
    (LineEdit("net.py", 1, 1, ("scale = 1\n",)), LineEdit("net.py", 5, 9, ("    correct = 11\n",))),
)
FINDING = replace(EVALUATION, file="net.py", line=6, end_line=9)


def test_both_versions_of_the_lines_are_known_and_what_they_leave():
    old, new = lines_before_and_after(FINDING, CURE, {"net.py": PROGRAM})
    assert old == Lines("net.py", 6, 9, ("correct",))
    assert new == Lines("net.py", 7, 7, ("correct",))
    text = applied({"net.py": PROGRAM}, [CURE])["net.py"]
    ours, theirs = record_values(Texts(PROGRAM), old, None), record_values(Texts(text), new, None)
    assert len(ours.seconds) == len(theirs.seconds) == MOST_EXECUTIONS
    assert [values["correct"] for values in theirs.values] == [11] * MOST_EXECUTIONS
    assert "different" not in outcome(old.names, (ours.values, ours.seconds), (theirs.values, theirs.seconds)).words


def test_lines_that_a_cure_moves_away_are_compared_with_the_statement_after_them():
    text = PROGRAM.replace("    correct, best", "    scale = np.arange(6.0)\n    correct, best")
    cure = Cure("safe", (LineEdit("net.py", 3, 3, ("scale = np.arange(6.0)\n",)), LineEdit("net.py", 4, 5, ())))
    finding = replace(FINDING, line=5, end_line=5)
    text = text.replace("loss = x * x", "loss = x * scale[0]")
    old, new = lines_before_and_after(finding, cure, {"net.py": text})
    assert old == Lines("net.py", 5, 6, ("best", "correct", "scale"))
    assert new == Lines("net.py", 6, 6, ("best", "correct", "scale"))


@pytest.mark.parametrize(
    ("later", "names"),
    [
        ("sum(x for x in data if x)", ("correct",)),
        ("[loss for x, loss in zip(data, data)]", ("correct",)),
        ("[y for y in data if y < x]", ("correct", "x")),
        ("[x for x in (x, loss)]", ("correct", "loss", "x")),
    ],
)
def test_a_variable_of_a_later_comprehension_is_not_what_the_lines_leave(later, names):
    text = PROGRAM.replace("    return correct", f"    {later}\n    return correct")
    old, _ = lines_before_and_after(FINDING, CURE, {"net.py": text})
    assert old.names == names


def test_what_is_returned_is_compared_too():
    text = PROGRAM.replace("    return correct", "    return [correct, epoch]")
    finding = replace(FINDING, line=10, end_line=10)
    cure = Cure("safe", (LineEdit("net.py", 9, 10, ("    n = 1\n", "    return (correct, epoch)\n")),))
    old, new = lines_before_and_after(finding, cure, {"net.py": text})
    assert (old.names, new.first, new.last) == ((RETURN,), 10, 11)
    cured = applied({"net.py": text}, [cure])["net.py"]
    found = [record_values(Texts(one), lines, None).values for one, lines in ((text, old), (cured, new))]
    assert [[values[RETURN].tolist() for values in one[:2]] for one in found] == 2 * [[[11, 0], [11, 1]]]


@pytest.mark.parametrize("line", ["self.correct = loss", "yield loss", "items[0][1] = loss"])
def test_lines_that_leave_what_cannot_be_compared_are_not_proven(line):
    text = PROGRAM.replace("loss = x * x", line)
    assert lines_before_and_after(FINDING, CURE, {"net.py": text}) is None


def test_a_program_that_does_not_come_to_the_lines_says_so():
    with pytest.raises(UsageError, match="did not come to the changed lines"):
        record_values(Texts("def unused():\n    x = 1\n"), Lines("net.py", 2, 2, ("x",)), None)


SLOW, FAST = [0.4, 0.5, 0.6], [0.1, 0.1, 0.2]


@pytest.mark.parametrize(
    ("old", "new", "seconds", "words"),
    [
        (7, 7, FAST, "give the same `n` in 3 executions, 5 times as fast (500 ms -> 100 ms)"),
        (7, 8, FAST, "`n` is different in execution 1"),
        (0.5, 0.5 + 1e-12, FAST, "the same"),
        (0.5, 0.5 + 1e-6, FAST, "`n` is different in execution 1"),
        (np.float32(0.5), np.float32(0.50001), FAST, "the same"),
        (7, 7.0, FAST, "`n` is different in execution 1"),
        (7, 7, SLOW, "not certainly faster"),
        (7, None, FAST, "cannot compare `n`"),
    ],
)
def test_the_same_values_in_less_time_are_a_proof(old, new, seconds, words):
    def executed(value, seconds):
        return [{} if value is None else {"n": np.array(value)} for _ in seconds], seconds

    found = outcome(("n",), executed(old, SLOW), executed(new, seconds))
    assert words in found.words
    assert found.is_proven is ("the same" in words)


def test_large_values_are_compared_by_their_checksum():
    large = np.zeros(LARGEST + 1, np.int8)
    other = large.copy()
    other[-1] = 1
    assert as_array(large[1:]).shape == (LARGEST,)
    assert as_array(large).shape == (2,)
    assert as_array(large).tolist() == as_array(large.copy()).tolist() != as_array(other).tolist()
