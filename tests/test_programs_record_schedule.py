"""Which form each step of a program takes, and when enough is recorded."""

from __future__ import annotations

from itertools import groupby

import pytest

from mlpprof.programs.record import hooks
from mlpprof.programs.record.clocks import Clocks
from mlpprof.programs.record.forms import CLOCKED, OBSERVED, PLAIN
from mlpprof.programs.record.recorder import Recorder
from mlpprof.programs.record.schedule import Enough, Steps


class Switched:
    """Keeps to which form the program was put."""

    def __init__(self):
        self.forms = []

    def to(self, mode):
        self.forms.append(mode)


def ran(clock, step_s, few=0, most=10**6, turns=False, early=None):
    """The form of each step until there is enough, and the steps."""
    switched = Switched()
    steps = Steps(switched, Clocks(clock), Recorder([]), clock, few, early)
    begin, mode, end = (steps.hooks[name] for name in (hooks.BEGIN, hooks.MODE, hooks.END))
    forms = []
    try:
        for _ in range(most):
            if turns:
                begin(True)
            begin(False)
            forms.append(mode())
            begin(False)  # it calls itself
            end(False)
            clock.advance(step_s * (1, 2, 10)[mode()])
            end(False)
            if turns:
                clock.advance(1)
                end(True)
    except Enough:
        pass
    return forms, steps, switched


def runs_of(forms):
    return [form for form, _ in groupby(forms)]


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("step_s", [1e-4, 0.2, 3.0])
def test_steps_begin_undisturbed_alternate_and_end_observed(clock, step_s, turns):
    forms, steps, switched = ran(clock, step_s, turns=turns)
    assert forms[0] == PLAIN
    assert forms[-2:] == [OBSERVED, OBSERVED]
    assert OBSERVED not in forms[:-2]
    assert runs_of(forms)[:3] == [PLAIN, CLOCKED, PLAIN]
    assert switched.forms == runs_of(forms)[1:]
    assert steps.is_done
    assert steps.count == len(forms)
    assert steps.times.plain_s == pytest.approx([step_s] * forms.count(PLAIN))
    assert steps.times.clocked_s == pytest.approx([2 * step_s] * forms.count(CLOCKED))
    assert len(steps.times.sites) == forms.count(CLOCKED)
    assert len(steps.times.faults) == forms.count(PLAIN)


def test_long_steps_are_recorded_after_a_few_and_short_ones_in_blocks(clock, fake_clock):
    endless, steps, _ = ran(clock, 7.0)
    assert endless == [PLAIN, CLOCKED, OBSERVED]
    assert steps.is_long
    long, steps, _ = ran(fake_clock(), 3.0)
    assert len(long) == 5
    assert not steps.is_long
    short, _, _ = ran(fake_clock(), 1e-4)
    blocks = [len(list(block)) for form, block in groupby(short) if form == CLOCKED]
    assert len(blocks) >= 5
    assert min(blocks) > 50


@pytest.mark.parametrize("few", [1, 2, 3, 4, 5, 8, 19, 40, 400])
def test_of_few_steps_the_last_are_observed_in_time(clock, few):
    forms, steps, _ = ran(clock, 1e-6, few=few, most=few)
    assert forms.count(OBSERVED) == min(few, 2)
    assert steps.is_done
    assert len(forms) <= few
    timed = forms[: -min(few, 2)]
    assert OBSERVED not in timed
    assert (PLAIN in timed) == (few > 3)  # the run before has timed some
    assert (CLOCKED in timed) == (few > 2)


@pytest.mark.parametrize(("most", "recorded"), [(4, 1), (5, 2), (12, 2), (10**6, 2)])
def test_two_early_steps_are_observed_in_case_that_the_program_ends(clock, most, recorded):
    early = Recorder([])
    forms, steps, _ = ran(clock, 1e-3, most=most, early=early)
    assert forms[:5] == [PLAIN, CLOCKED, PLAIN, OBSERVED, OBSERVED][:most]
    assert len(early.steps) == recorded
    assert steps.is_done == (most > 12)
    assert steps.is_enough == (most > 4)
    assert (steps.recorded is early) == (most in (5, 12))
    if most >= 12:
        assert forms[5:11] == [CLOCKED] * 3 + [PLAIN] * 3
    if steps.is_done:
        assert forms[-2:] == [OBSERVED, OBSERVED]
        assert len(steps.recorded.steps) == 2


@pytest.mark.parametrize(
    ("step_s", "most", "expected"),
    [
        (3.0, 10**6, [PLAIN, CLOCKED, OBSERVED, OBSERVED, PLAIN]),
        (1.1, 4, [PLAIN, CLOCKED, OBSERVED, OBSERVED]),
        (1.1, 3, [PLAIN, CLOCKED, OBSERVED]),
        (7.0, 10**6, [PLAIN, CLOCKED, OBSERVED]),
    ],
)
def test_of_long_steps_the_first_are_recorded_since_the_program_may_make_no_more(clock, step_s, most, expected):
    forms, steps, _ = ran(clock, step_s, most=most, early=Recorder([]))
    assert forms == expected
    assert len(steps.recorded.steps) == expected.count(OBSERVED)
    assert steps.is_done == (most > 4)
    assert steps.is_enough == (most != 3)
    assert steps.is_long == (step_s > 4)


def test_the_time_of_the_loops_item_is_a_part_of_the_step_in_every_form_at_its_own_site(clock):
    switched = Switched()
    steps = Steps(switched, Clocks(clock), Recorder([]), clock, forms=iter([PLAIN, PLAIN, CLOCKED, CLOCKED, PLAIN]))
    begin, end = steps.hooks[hooks.BEGIN], steps.hooks[hooks.END]

    def batches():
        while True:
            clock.advance(3)
            yield

    for count in (3, 2):  # the second loop begins under clocks
        for _, _ in zip(range(count), steps.hooks[hooks.FED](7)(batches()), strict=False):
            begin(False)
            clock.advance(2)
            end(False)
    assert steps.times.plain_s == [2, 5, 5]
    assert steps.times.clocked_s == [5, 5]
    assert [own[7].seconds for own in steps.times.sites] == [3, 3]
    assert steps.times.feeds == {7}
    assert switched.forms == [CLOCKED, PLAIN, CLOCKED, PLAIN]  # a generator begins as it was written


def test_an_exception_that_leaves_a_step_is_not_covered_by_the_end(clock):
    steps = Steps(Switched(), Clocks(clock), Recorder([]), clock, 1)
    begin, end = steps.hooks[hooks.BEGIN], steps.hooks[hooks.END]
    with pytest.raises(ZeroDivisionError):
        try:
            begin(False)
            raise ZeroDivisionError
        finally:
            end(False)
    assert steps.is_done
    begin(False)
    with pytest.raises(Enough):
        end(False)


def test_of_a_loop_that_makes_several_steps_a_turn_each_step_is_looked_at_by_itself(clock):
    steps = Steps(Switched(), Clocks(clock), Recorder([]), clock, 0)
    begin, end = steps.hooks[hooks.BEGIN], steps.hooks[hooks.END]
    with pytest.raises(Enough):
        for _ in range(100):
            begin(True)
            for _ in range(3):
                begin(False)
                clock.advance(1)
                end(False)
            clock.advance(5)
            end(True)
    assert set(steps.times.plain_s) == set(steps.times.clocked_s) == {1.0}
    assert len(steps._recorder.steps) == 2


def test_turns_without_a_step_are_no_steps(clock):
    steps = Steps(Switched(), Clocks(clock), Recorder([]), clock, 0)
    begin, end = steps.hooks[hooks.BEGIN], steps.hooks[hooks.END]
    with pytest.raises(Enough):
        for turn in range(100):
            begin(True)
            if turn % 3 == 0:
                begin(False)
                clock.advance(2)
                end(False)
            end(True)
    assert set(steps.times.plain_s) == set(steps.times.clocked_s) == {2.0}
    assert steps.count == len(steps.times.plain_s) + len(steps.times.clocked_s) + 2
