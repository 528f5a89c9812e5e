"""What `assert_speedup` compares, what it refuses, and what its message shows."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from mlpprof.catalog import ladder
from mlpprof.compare.decide import not_slower_than
from mlpprof.compare.live_race import distinct_names
from mlpprof.errors import CheckFailed, UsageError
from mlpprof.report.terminal.compare import speedup_table
from mlpprof.results import PhaseChange, Race, Speedup, Verdict
from mlpprof.testing import (
    InconclusiveWarning,
    Measuring,
    assert_not_slower,
    assert_speedup,
    measure_speedup,
    speedup,
)
from mlpprof.testing.speedup import require_equivalent

pytestmark = pytest.mark.usefixtures("fresh_imports")

HURRY = Measuring(budget_s=0.01, check=False)
"""Three replicates, which decide only what is clear."""


def numbers():
    return (np.arange(2_000.0),)


def vectorized(x):
    return x.sum()


def loop(x):
    return sum(x.tolist())


def slow_loop(x):
    total = 0.0
    for value in x.tolist():
        for _ in range(20):
            pass
        total += value
    return total


def test_at_least_becomes_the_claim_and_the_message_shows_everything():
    verdict = Verdict("fail", 1.02, 1.0, 1.04, 1.15, 5, "below 1.15")
    changes = (
        PhaseChange("forward", None, "", 1e-3, 1e-3, 0.0),
        PhaseChange("backward", None, "", 1e-3, 2e-3, 1.0),
        PhaseChange("backward", 2, "gradient", 1e-4, 9e-4, 0.8),
        PhaseChange("backward", 1, "gradient", 1e-4, 2e-4, 0.1),
    )
    table = speedup_table(Speedup("new", "old", "tiny", verdict, changes, "mlpprof compare old new", ("a note",)))
    assert table.splitlines()[0] == "new is 1.02x as fast as old (95 %: 1.00-1.04), but the test requires 1.15x"
    for text in (
        *("tiny", "1.020 x as fast (95 %: 1.000–1.040), 5 processes", "FAIL: below 1.15"),
        *("slower    backward: 1.00 ms → 2.00 ms; most in gradient of layer 2", "mlpprof compare old new", "a note"),
    ):
        assert text in table


def test_a_phase_that_became_faster_is_not_called_slower():
    verdict = Verdict("fail", 1.3, 1.2, 1.4, 2.0, 5, "")
    changes = (
        PhaseChange("forward", None, "", 30e-6, 20e-6, 0.7),
        PhaseChange("update", None, "", 18e-6, 13.3e-6, 0.3),
        PhaseChange("update", 3, "descend", 1.42e-6, 1.5e-6, 0.0),
    )
    table = speedup_table(Speedup("new", "old", "tiny", verdict, changes))
    assert "phase with the smallest gain: update, 18.0 µs → 13.3 µs" in table
    assert "slower" not in table


def test_two_callables_of_the_same_name_are_told_apart_by_their_modules():
    assert distinct_names([("old", "step"), ("new", "step")]) == ["old.step", "new.step"]
    assert distinct_names([("old", "step"), ("new", "fast_step")]) == ["step", "fast_step"]


def test_a_tuple_of_arguments_is_copied_for_every_call(monkeypatch: pytest.MonkeyPatch):
    made = []

    class FakeRace:
        def __init__(self, functions, make):
            made.extend(make()[0] for _ in range(2))

        def race(self):
            return Race(("vectorized", "loop"), ("", ""), 0, ())

    monkeypatch.setattr(speedup, "LocalRace", FakeRace)
    monkeypatch.setattr(speedup, "measure", lambda *rest: [Verdict("pass", 9.0, 8.0, 10.0, 2.0, 5, "")])
    given = numbers()
    found = measure_speedup(vectorized, over=loop, at_least=2.0, args=given)
    assert "cannot import a tuple of arguments" in found.notes[0]
    assert all(np.array_equal(one, given[0]) and one is not given[0] for one in made)
    assert made[0] is not made[1]


def test_a_fine_resolution_is_refused_for_what_only_this_process_can_call():
    with pytest.raises(UsageError, match="the resolution 2 % needs several processes.*top level of a module"):
        measure_speedup(lambda: None, over=loop, args=(numbers()[0],), equivalent=False, resolution=0.02)
    with pytest.raises(UsageError, match="expected 1 to 50 %"):
        measure_speedup(vectorized, over=loop, args=numbers, resolution=0.001)


@pytest.mark.parametrize("args", [[5000], 5000, np.ones(3)])
def test_arguments_that_are_neither_a_function_nor_a_tuple_are_refused(args):
    with pytest.raises(UsageError, match="expected a tuple of arguments"):
        measure_speedup(vectorized, over=loop, args=args)


def test_equivalent_is_refused_for_variants():
    with pytest.raises(UsageError, match="equivalent is for callables"):
        measure_speedup("sliced", over="naive", equivalent=False)


@pytest.mark.timing
@pytest.mark.slow
def test_variants_by_path_and_class_are_raced_in_processes(rungs, tmp_path: Path):
    (tmp_path / "mine.py").write_text(ladder()["sliced"].source(), encoding="utf-8")
    new, over = str(tmp_path / "mine.py"), rungs["per_sample"]
    found = measure_speedup(new, over=over, at_least=1.0, workload="tiny", measuring=HURRY)
    assert (found.new, found.old) == ("mine", "per_sample")
    assert found.verdict.processes == 2, "20 times as fast is clear after two"
    assert not found.verdict.in_process
    assert found.verdict.ratio > 2
    assert "--workload tiny --batch 30" in found.command


@pytest.mark.timing
@pytest.mark.slow
def test_importable_functions_get_processes_of_their_own():
    found = measure_speedup(vectorized, over=loop, at_least=2.0, args=numbers, measuring=HURRY)
    assert (found.new, found.old) == ("vectorized", "loop")
    assert found.verdict.processes == 2, "more than 20 times as fast is clear after two"
    assert not found.verdict.in_process
    assert found.verdict.ratio > 2


@pytest.mark.timing
@pytest.mark.slow
def test_closures_are_measured_in_this_process_and_the_message_says_so():
    x = np.arange(2_000.0)
    found = assert_speedup(lambda: x.sum(), over=lambda: sum(x.tolist()), at_least=2.0, measuring=HURRY)
    assert found.verdict.outcome == "pass"
    assert found.verdict.in_process
    assert "in this process" in speedup_table(found)
    assert "s, and the budget is 0.01 s: " in found.notes[-1]


@pytest.mark.timing
@pytest.mark.slow
def test_a_clear_loss_fails_with_claim_measurement_and_verdict():
    x = numbers()[0]
    with pytest.raises(AssertionError, match=r"the test requires 1x\n +measured .*95 %.*\n +verdict +FAIL"):
        assert_speedup(lambda: slow_loop(x), over=lambda: loop(x), at_least=1.0, measuring=Measuring(check=False))


@pytest.mark.timing
@pytest.mark.slow
def test_what_is_undecided_at_the_budget_is_a_warning_and_no_silent_pass(tmp_path):
    copy = tmp_path / "copy.py"
    copy.write_text(ladder()["sliced"].source() + "# a copy with another comment\n", encoding="utf-8")
    with pytest.warns(InconclusiveWarning, match=r"INCONCLUSIVE.*budget of 0.01 s is spent"):
        found = assert_speedup(str(copy), over="sliced", at_least=1.05, workload="tiny", measuring=HURRY)
    assert found.verdict.outcome == "inconclusive"


def test_not_slower_is_a_claim_of_the_inverse(monkeypatch: pytest.MonkeyPatch):
    claimed = []

    def measured(new, *, over, at_least, **options):
        claimed.append((new, over, at_least, options))
        return Speedup(new, over, "", Verdict("pass", 1.0, 0.9, 1.1, at_least, 5, ""))

    monkeypatch.setattr(speedup, "measure_speedup", measured)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_not_slower("a", than="b", tolerance=0.25, workload="tiny")
    assert claimed == [("a", "b", 0.8, {"workload": "tiny"})]
    assert not_slower_than(0.25) == 0.8


@pytest.mark.parametrize(
    ("new", "over", "options", "said"),
    [
        ("slicd", "naive", {}, "no variant 'slicd'; did you mean 'sliced'"),
        ("sliced", loop, {}, "expected two variants or two callables"),
        ("sliced", "sliced", {}, "'sliced' is given twice"),
        (loop, loop, {"args": numbers}, "loop is given twice"),
        (3, loop, {}, "3 is neither a variant nor callable"),
        ("sliced", "naive", {"at_least": 0.0}, "at_least 0.0 is not a speedup"),
        ("sliced", "naive", {"at_least": float("nan")}, "at_least nan is not a speedup"),
        ("sliced", "naive", {"at_least": "base"}, "at_least 'base' is not a speedup"),
        ("sliced", "naive", {"workload": "tinny"}, "did you mean 'tiny'"),
        ("sliced", "naive", {"workload": "tiny", "batch": 301}, "batch 301 is out of range"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_measured(new, over, options, said):
    with pytest.raises(UsageError, match=said):
        measure_speedup(new, over=over, **options)


def test_a_class_of_a_function_is_refused(rungs):
    class Local(rungs["sliced"]):
        pass

    with pytest.raises(UsageError, match="is local to a function"):
        measure_speedup(Local, over="naive")


def test_functions_that_compute_something_else_are_not_timed():
    for measured in (measure_speedup, require_equivalent):
        with pytest.raises(AssertionError, match="compute different results"):
            measured(np.zeros_like, over=vectorized, args=numbers)


def test_functions_may_change_their_arguments_if_both_do_or_nobody_minds():
    def in_place(x):
        x += 1
        return x

    require_equivalent(in_place, over=lambda x: in_place(x), args=numbers)
    with pytest.raises(AssertionError, match="leave different values in their arguments"):
        require_equivalent(in_place, over=lambda x: x + 1, args=numbers)
    require_equivalent(in_place, over=lambda x: x + 1, args=numbers, equivalent=np.array_equal)


@pytest.mark.timing
@pytest.mark.slow
def test_a_wrong_variant_is_not_timed(plain: str, tmp_path: Path):
    path = tmp_path / "mine.py"
    right = "delta = (self.A[-1] - self.Y) / len(self.Y)"
    assert plain.count(right) == 1
    path.write_text(plain.replace(right, f"{right} * 2"), encoding="utf-8")
    for measured in (measure_speedup, require_equivalent):
        with pytest.raises(CheckFailed, match="nothing was timed"):
            measured(str(path), over="naive", workload="tiny", measuring=Measuring(budget_s=0.01))
