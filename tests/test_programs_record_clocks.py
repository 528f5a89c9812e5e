"""What an expression takes without the clocks on it, from what it took under them."""

from __future__ import annotations

from itertools import count
from statistics import median

import pytest

from mlpprof.advise.worker import busy_note
from mlpprof.programs.record import clocks as module
from mlpprof.programs.record.clocks import HookTime, Rounds, calm_step_s, undisturbed, usual_step_s
from mlpprof.programs.record.schedule import merged
from mlpprof.programs.record.trace import OwnTime, Part, Times

LOOP = HookTime(inside_s=0.1e-6, outside_s=0.3e-6)
"""What hooks take in a tight loop."""

STEPS = 9


@pytest.fixture(autouse=True)
def hooks_of_a_loop(monkeypatch):
    monkeypatch.setattr(module, "hook_time", lambda: LOOP)


def program(true, executions, inner, hooks=LOOP, beside_s=0.0, jitter=lambda site: 0.0):
    """Times of steps of a program whose expressions truly take so much, in all of their executions."""
    top = sum(executions.values()) - sum(inner.values())
    times = Times()
    for _ in range(STEPS):
        step = {
            site: OwnTime(
                seconds + executions[site] * hooks.inside_s + inner[site] * hooks.outside_s + jitter(site),
                executions[site],
                inner[site],
            )
            for site, seconds in true.items()
        }
        times.sites.append(step)
        times.around.append({})
        times.clocked_s.append(sum(own.seconds for own in step.values()) + top * hooks.outside_s + beside_s)
        times.plain_s.append(sum(true.values()) + beside_s)
    return times, median(times.plain_s)


def told(*args, **options):
    inside, _ = undisturbed(*program(*args, **options), lambda site: site)
    return inside


PRODUCT, CALL, SCALAR, OTHER = 0, 1, 2, 3


def test_expressions_are_reported_without_the_time_of_the_hooks():
    true = {PRODUCT: 3e-3, CALL: 1e-3, OTHER: 20e-6}
    assert told(true, {PRODUCT: 1, CALL: 4, OTHER: 30}, {PRODUCT: 0, CALL: 30, OTHER: 0}) == pytest.approx(true)


@pytest.mark.parametrize("slower", [0.8, 1.0, 1.5, 2.5])
def test_hooks_that_take_more_or_less_than_in_a_loop_change_nothing(slower):
    hooks = HookTime(slower * LOOP.inside_s, slower * LOOP.outside_s)
    true = {PRODUCT: 3e-3, CALL: 9e-4, SCALAR: 30e-6 * 20}
    inner = {PRODUCT: 0, CALL: 1200, SCALAR: 0}
    found = told(true, {PRODUCT: 1, CALL: 4, SCALAR: 1200}, inner, hooks=hooks, beside_s=1e-4)
    assert found == pytest.approx(true)


def test_what_is_mostly_hooks_shares_what_remains_and_large_expressions_keep_theirs():
    n = 100_000
    true = {PRODUCT: 5e-3, SCALAR: n * 20e-9, OTHER: n * 20e-9}
    uneven = {PRODUCT: 0.0, SCALAR: n * 10e-9, OTHER: n * -10e-9}  # the clocks are not that exact
    executions, inner = {PRODUCT: 1, SCALAR: n, OTHER: n}, {PRODUCT: 0, SCALAR: 0, OTHER: 0}
    found = told(true, executions, inner, jitter=uneven.__getitem__)
    assert found[PRODUCT] == pytest.approx(true[PRODUCT], rel=1e-3)
    assert found[SCALAR] == pytest.approx(true[SCALAR], rel=0.1)
    assert found[OTHER] == pytest.approx(true[OTHER], rel=0.1)


def test_a_call_does_not_get_the_time_of_the_hooks_within_its_function():
    n = 1_000_000
    hooks = HookTime(2 * LOOP.inside_s, 2 * LOOP.outside_s)
    true = {CALL: 1e-3, SCALAR: n * 20e-9}
    found = told(true, {CALL: 10, SCALAR: n}, {CALL: n, SCALAR: 0}, hooks=hooks)
    assert sum(found.values()) == pytest.approx(sum(true.values()))
    assert found[CALL] < 0.8 * sum(true.values())


def test_interruptions_of_single_steps_change_nothing():
    calls = count()
    true = {PRODUCT: 3e-3, CALL: 1e-3, OTHER: 20e-6}
    found = told(
        true,
        {PRODUCT: 1, CALL: 4, OTHER: 30},
        {PRODUCT: 0, CALL: 30, OTHER: 0},
        jitter=lambda site: 4e-3 if next(calls) % 4 == 0 else 0.0,
    )
    assert found == pytest.approx(true, rel=0.02)


def test_the_expressions_of_a_step_never_take_more_than_the_step():
    true = {PRODUCT: 3e-3, SCALAR: 1e-3}
    times, step_s = program(true, {PRODUCT: 1, SCALAR: 9}, {PRODUCT: 0, SCALAR: 0})
    times.plain_s = [step_s / 4] * STEPS
    inside, _ = undisturbed(times, step_s / 4, lambda site: site)
    assert sum(inside.values()) <= step_s / 4 * (1 + 1e-9)


def test_sites_of_the_same_place_are_one_expression():
    times, step_s = program({PRODUCT: 3e-3, OTHER: 1e-3}, {PRODUCT: 1, OTHER: 1}, {PRODUCT: 0, OTHER: 0})
    inside, around = undisturbed(times, step_s, lambda site: "here")
    assert inside == pytest.approx({"here": 4e-3})
    assert around == {}


def test_a_step_that_is_always_interrupted_is_reported_without_the_interruptions():
    true = {PRODUCT: 3e-3, CALL: 1e-3}
    calls = count()
    times, _ = program(
        true, {PRODUCT: 1, CALL: 4}, {PRODUCT: 0, CALL: 0}, jitter=lambda site: 24e-3 * (next(calls) % 5 == 0)
    )
    times.plain_s = [4e-3 + 24e-3] * STEPS
    step_s = calm_step_s(times)
    assert step_s == pytest.approx(4e-3, rel=0.01)
    (note,) = busy_note(times)
    assert "7.0 times as long" in note
    times.plain_s = [4e-3] * STEPS
    assert not list(busy_note(times))


def test_expressions_that_not_every_step_executes_are_a_part_of_a_calm_step():
    true = {PRODUCT: 3e-3, OTHER: 3e-3}
    times, _ = program(true, {PRODUCT: 1, OTHER: 1}, {PRODUCT: 0, OTHER: 0})
    for number, (step, clocked_s) in enumerate(zip(times.sites, times.clocked_s, strict=True)):
        left_out = step.pop((PRODUCT, OTHER)[number % 2])
        times.clocked_s[number] = clocked_s - left_out.seconds
    times.plain_s = [3e-3] * STEPS
    assert calm_step_s(times) == pytest.approx(3e-3, rel=0.01)


def test_a_statement_of_one_step_in_nine_counts_a_ninth():
    times, _ = program({PRODUCT: 3e-3, OTHER: 9e-4}, {PRODUCT: 1, OTHER: 1}, {PRODUCT: 0, OTHER: 0})
    for number in range(1, STEPS):
        times.clocked_s[number] -= times.sites[number].pop(OTHER).seconds
        times.plain_s[number] -= 9e-4
    inside, _ = undisturbed(times, calm_step_s(times), lambda site: site)
    assert inside == pytest.approx({PRODUCT: 3e-3, OTHER: 1e-4}, rel=0.05)


def test_a_single_step_under_clocks_shows_no_interruptions():
    times, _ = program({PRODUCT: 3e-3}, {PRODUCT: 1}, {PRODUCT: 0})
    del times.sites[1:], times.clocked_s[1:]
    times.plain_s = [8e-3]
    assert calm_step_s(times) == 8e-3


def long_step(plain_s, *parts):
    """Times of a step of so many seconds that was timed in parts."""
    own = merged([part.own for part in parts])
    clocked_s = sum(one.seconds for one in own.values())
    return Times(plain_s=[plain_s], clocked_s=[clocked_s], sites=[own], around=[{}], parts=list(parts))


def parted(*args):
    times = long_step(*args)
    inside, around = undisturbed(times, calm_step_s(times), lambda site: site)
    assert around == {}
    return inside


def test_a_long_step_is_reported_from_its_parts_and_what_was_done_between_them():
    n = 600_000
    hooked = 1.5 * n * LOOP.inside_s
    forward, backward = OwnTime(0.1 + hooked, n), OwnTime(0.1 + hooked, n)
    found = parted(
        2.0,
        Part({SCALAR: forward}, 0.2, 0.4),
        Part({SCALAR: forward}, 0.2, 0.4),
        Part({OTHER: backward}, 0.2, 0.4),
        Part({OTHER: backward}, 0.2, 0.4),
    )
    assert sum(found.values()) == pytest.approx(2.0)
    assert found[SCALAR] == pytest.approx(0.9, abs=0.11)  # the second pause may have been of either
    assert found[OTHER] == pytest.approx(1.1, abs=0.11)


def test_what_is_done_once_in_a_long_step_does_not_stand_for_what_was_not_seen():
    n = 600_000
    scalar = OwnTime(0.02 + n * LOOP.inside_s, n)
    found = parted(
        0.96, Part({PRODUCT: OwnTime(0.02, 1), SCALAR: scalar}, 0.1, 0.45), Part({SCALAR: scalar}, 0.1, 0.45)
    )
    assert found[PRODUCT] == pytest.approx(0.02, rel=0.1)
    assert found[SCALAR] == pytest.approx(0.94, rel=0.01)


def test_pauses_that_took_longer_than_an_undisturbed_step_are_no_more_than_it():
    found = parted(1.0, Part({PRODUCT: OwnTime(0.1, 1), OTHER: OwnTime(0.3, 1)}, 0.4, 3.0))
    assert found == pytest.approx({PRODUCT: 0.25, OTHER: 0.75}, rel=1e-4)  # less the hooks


def test_rounds_pair_neighbouring_blocks_and_keep_as_many_steps_as_possible():
    times = Times(
        plain_s=[9.0, 1, 1, 1, 2, 2, 3, 3, 3],
        clocked_s=[5.0, 6, 6, 7, 7, 7],
        plain_blocks=[-1, 1, 1, 1, 2, 2, 3, 3, 3],
        clocked_blocks=[1, 2, 2, 3, 3, 3],
    )
    rounds = Rounds.of(times)
    assert rounds.plain.tolist() == [[4, 5], [6, 7]], "the warm-up has no partner, and the first block is too short"
    assert rounds.clocked.tolist() == [[1, 2], [3, 4]]
    assert usual_step_s(times) == 2.5


def test_without_blocks_all_steps_are_one_round():
    rounds = Rounds.of(Times(plain_s=[1.0, 2.0, 3.0], clocked_s=[4.0]))
    assert rounds.plain.tolist() == [[0, 1, 2]]
    assert rounds.clocked.tolist() == [[0]]
