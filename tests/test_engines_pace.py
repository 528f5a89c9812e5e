"""Who makes the next steps, a team or a single worker: the one that is faster now."""

from __future__ import annotations

import pytest

from mlpprof.engines.pace import LONGEST_PAUSE, Pace


class Machine:
    """A clock that goes on while steps are made, and the list of who made them."""

    def __init__(self, team_s: float, alone_s: float) -> None:
        self.team_s, self.alone_s, self.now = team_s, alone_s, 0.0
        self.made: list[str] = []

    def team(self, first: int, end: int) -> None:
        self._make("team", first, end, self.team_s)

    def alone(self, first: int, end: int) -> None:
        self._make("alone", first, end, self.alone_s)

    def _make(self, who: str, first: int, end: int, step_s: float) -> None:
        assert first == self.next
        self.next = end
        self.made += [who] * (end - first)
        self.now += step_s * (end - first)

    def run(self, pace: Pace, steps: int) -> list[str]:
        self.made, self.next = [], 0
        pace.run(steps, self.team, self.alone)
        assert len(self.made) == steps
        return self.made


@pytest.mark.parametrize("steps_in_a_call", [1, 7, 1000])
def test_the_faster_one_makes_nearly_all_steps(steps_in_a_call):
    for team_s, alone_s, faster in ((0.001, 0.0017, "team"), (0.002, 0.001, "alone")):
        machine = Machine(team_s, alone_s)
        pace = Pace(lambda machine=machine: machine.now)
        made = [who for _ in range(7000 // steps_in_a_call) for who in machine.run(pace, steps_in_a_call)]
        assert made[-2000:].count(faster) >= 1900


def test_a_team_that_loses_its_cores_pauses_and_comes_back_when_it_has_them_again():
    machine = Machine(0.001, 0.0017)
    pace = Pace(lambda: machine.now)
    machine.run(pace, 1000)
    machine.team_s = 0.003  # another program has begun
    assert machine.run(pace, 3000).count("alone") > 2700
    machine.team_s = 0.001
    waiting = machine.run(pace, 1000).index("team")
    assert waiting <= LONGEST_PAUSE * 12  # a block of 20 ms has 11 steps of the single worker
    assert set(machine.run(pace, 1000)) == {"team"}


def test_the_first_block_of_each_is_not_timed_because_it_may_be_compiled():
    machine = Machine(0.001, 9.0)
    pace = Pace(lambda: machine.now)
    assert [*machine.run(pace, 1), *machine.run(pace, 1), *machine.run(pace, 1)] == ["team", "team", "alone"]
    machine.alone_s = 0.0005
    assert machine.run(pace, 1000).count("alone") > 800


@pytest.mark.parametrize("before", [0, 20])
def test_a_try_of_the_team_that_is_too_short_to_be_timed_is_not_taken_for_a_failure(before):
    machine = Machine(0.003, 0.001)
    pace = Pace(lambda: machine.now)
    machine.run(pace, 3000 + before)
    machine.team_s = 0.0005
    calls = [set(machine.run(pace, 21)) for _ in range(LONGEST_PAUSE)]  # a block of the single worker has 20 steps
    first = calls.index({"team"})
    assert first <= LONGEST_PAUSE / 2 + 1
    assert calls[first:] == [{"team"}] * (LONGEST_PAUSE - first)
