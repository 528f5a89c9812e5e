"""The yardsticks of `advise`: flaws are planted where they should be, and findings are counted right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlpprof.advise.editing.cure import diff
from mlpprof.results.advice import Advice, Finding
from reports.advise import opt95
from reports.advise.calibration import Stated, measured
from reports.advise.forms import FORMS
from reports.advise.mutants import Answer, Clean, Outcome, Result, in_turns, judged, planted, table
from reports.advise.opt95 import Patched, applied, merged
from reports.advise.subjects import Subject, numbers

TEXT = """import numpy as np

rng = np.random.default_rng(0)
X = rng.standard_normal((40, 6))
W = rng.standard_normal((6, 3))
b = np.zeros(3)


def step(x):  # step
    h = np.tanh(x @ W + b)
    return x.T @ (h * (1 - h * h))


for start in range(0, 40, 10):
    W -= 0.1 * step(X[start : start + 10])
print(abs(W).sum())
"""


COUNTS = {**dict.fromkeys((1, 3, 4, 5, 6, 9, 16), 1), 10: 4, 11: 4, 14: 5, 15: 4}
"""How often each line of it runs."""


@pytest.fixture
def clean() -> Subject:
    return Subject("small", {"net.py": TEXT}, "net.py", counts={("net.py", n): k for n, k in COUNTS.items()})


def form(name):
    return next(one for one in FORMS if one.name == name)


def test_a_flaw_is_planted_where_the_step_runs_and_nothing_else_changes(clean):
    made = list(planted(clean, form("hstack")))
    assert [mutant.program.files["net.py"] for mutant in made] == [
        TEXT.replace("x @ W + b", "np.hstack([x, np.ones((len(x), 1), x.dtype)]) @ np.vstack([W, b])")
    ]
    assert made[0].places == (("net.py", 10, 10),)


def test_statements_of_a_flaw_stand_before_the_line_that_needs_them(clean):
    [mutant] = planted(clean, form("loop that fills rows"))
    lines = mutant.program.files["net.py"].splitlines()
    assert lines[9:13] == [
        "    made = np.zeros((len(x), W.shape[1]), x.dtype)",
        "    for n in range(len(x)):",
        "        made[n] = x[n] @ W",
        "    h = np.tanh(made + b)",
    ]
    assert mutant.places == (("net.py", 10, 13),)


def test_a_flaw_around_the_step_is_planted_there(clean):
    [mutant] = planted(clean, form("rows in a list"))
    assert "step(np.array([X[i] for i in range(start, start + 10)]))" in mutant.program.files["net.py"]


def test_every_mutant_is_made_of_its_own_program(clean):
    counts = {("other.py", line): count for (_, line), count in clean.counts.items()}
    other = replace(clean, name="other", files={"other.py": TEXT}, main="other.py", counts=counts)
    mutants = list(in_turns([clean, other], 0))
    assert {mutant.clean.name for mutant in mutants} == {clean.name, "other"}
    assert all(mutant.program.files.keys() == mutant.clean.files.keys() for mutant in mutants)


def test_lines_are_counted_as_they_run(clean):
    assert clean.traced().counts == clean.counts


def test_a_mutant_that_trains_otherwise_is_no_mutant(clean):
    wanted = clean.run()
    assert wanted is not None
    [same] = planted(clean, form("hstack"))
    assert same.program.trains_like(wanted)
    other = replace(clean, files={"net.py": TEXT.replace("0.1 *", "0.1001 *")})
    assert not other.trains_like(wanted)


def test_the_step_of_a_program_is_timed_and_one_that_does_not_run_has_no_time(clean):
    broken = replace(clean, files={"net.py": TEXT.replace("x.T @", "x @")})
    seconds, none = measured([clean, broken], lambda what, share: None)
    assert seconds is not None
    assert 0 < seconds < 0.1
    assert none is None


def test_numbers_are_read_from_the_last_line_without_checksums():
    assert numbers("1.5 -2e-3 loss 12.25:0fe3a1b2 7") == [1.5, -2e-3, 12.25, 7.0]


def finding(category, line, title="t"):
    return Finding(category, "net.py", line, line, 1, title, "", "", (0.0, 0.0), (0.1, 0.2), "certain")


def test_a_finding_is_right_on_a_changed_line_and_wrong_elsewhere_unless_the_clean_program_has_it(clean):
    [mutant] = planted(clean, form("hstack"))
    found = [finding("bias-stacking", 10), finding("layout", 10), finding("gather", 15, "known"), finding("gather", 11)]
    answers = iter([Answer(Advice("step", 2.0, 5, tuple(found), (), {}, {}), "", 1.0)])
    before = Answer(Advice("step", 1.0, 5, (finding("gather", 15, "known"),), (), {}, {}), "", 1.0)
    times = {clean.files["net.py"]: 3.0, mutant.program.files["net.py"]: 4.0}
    result = judged(
        mutant,
        Clean(clean, [], before),
        lambda subject: next(answers),
        lambda programs, progress, runs: [times[one.files["net.py"]] for one in programs],
    )
    assert result.is_found
    assert result.worth == 0.25
    assert [len(told) for told in (result.named, result.beside, result.wrong)] == [1, 1, 1]
    assert result.wrong[0].startswith("gather net.py:11")


def test_the_table_counts_recall_for_all_flaws_and_for_those_that_matter():
    results = [
        Result("p", "gather", "a", (), is_found, worth, "", 1.0)
        for is_found, worth in ((True, 0.5), (False, 0.05), (False, 0.0), (True, 0.0))
    ]
    assert "| gather | 1 | 4 | 2 | 50% | 2 | 50% | 1 | 100% |" in table(Outcome(results))


def test_every_form_has_a_name_of_its_own():
    assert len({(one.category, one.name) for one in FORMS}) == len(FORMS)


def test_several_flaws_are_planted_together_where_their_lines_differ(clean):
    one, other = (next(planted(clean, form(name))).program for name in ("hstack", "rows in a list"))
    both = merged(clean, one, other)
    assert both is not None
    assert "hstack" in both.files["net.py"]
    assert "for i in range(start, start + 10)" in both.files["net.py"]
    assert merged(clean, one, next(planted(clean, form("concatenate"))).program) is None


def test_a_patch_that_git_does_not_take_counts_as_one_that_does_not_apply(clean):
    patch = diff(clean.files, {"net.py": TEXT.replace("h * h", "h**2")}, str, lambda path: "\n")
    assert applied(clean, patch, is_precise=True) == (True, True)
    assert applied(clean, patch.replace("x.T", "x.T.T"), is_precise=True) == (False, False)


def test_the_table_of_patches_counts_programs_at_the_goal_and_intervals_that_hold():
    stated = (Stated("gather", "a", 0.1, 0.2, 0.15), Stated("gather", "b", 0.1, 0.2, 0.25))
    reached, missed = Patched("p", 2.0, 1.95, True, True, True, True, stated), Patched("q", 2.0, failure="")
    text = opt95.table(opt95.Outcome([reached, missed, Patched("r", 1.01)]))
    assert "Bounds 1.80 times as wide as stated hold 90% of the measured savings." in text
    assert "- 1 of 2 flawed programs reach 95% of the twin's speed: 50%." in text
    assert "| p | 2.00 | 1.95 | 98% | yes | yes | 0 |" in text
    assert "| r | 1.01 | none | nothing to gain |  |  | 0 |" in text
    assert "| gather | 2 | 1 | 0 | 1 | +5.0 points |" in text
