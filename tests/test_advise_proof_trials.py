"""How often a proof runs a version of the program."""

from __future__ import annotations

import numpy as np
import pytest

from mlpprof.advise.proof.trials import MOST_RUNS, ProgramTrials
from mlpprof.compare.entrants import Environment
from mlpprof.errors import VariantCrash, WorkerKilled
from mlpprof.results import Race

KILLED, CRASHED = WorkerKilled("killed by SIGTERM"), VariantCrash("train.py:3: ZeroDivisionError")


def never(*_):
    raise AssertionError


@pytest.mark.parametrize(
    ("ends", "answer", "again"),
    [
        ([5], 5, 0),
        ([CRASHED, 5], CRASHED, 0),
        ([KILLED, 5], 5, 1),
        ([KILLED, KILLED, 5], KILLED, 1),
    ],
)
def test_a_version_is_run_once_more_if_its_worker_was_killed_and_not_if_it_crashed(ends, answer, again):
    trials = ProgramTrials(never, Environment(1), "up to 120 times")
    left = list(ends)

    def run():
        end = left.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    assert trials.answer(run) == answer
    assert MOST_RUNS - trials.left == again


class FakeRace:
    """A race of programs, of which those with a `crash` in their name raise; the others take 1 s a step."""

    def __init__(self, subjects, environment, blocks):
        self.names = [one.request for one in subjects]

    def run(self, progress):
        for name in self.names:
            if "crash" in name:
                raise CRASHED

    def race(self):
        return Race(tuple(self.names), ("",) * len(self.names), 0, (np.ones((2, len(self.names), 2)),))


@pytest.mark.parametrize(
    ("names", "answers"), [(["old", "a", "crash", "b"], [1.0, CRASHED, 1.0]), (["old", "crash"], [CRASHED])]
)
def test_a_version_that_crashes_in_a_race_does_not_cost_the_estimates_of_the_others(names, answers):
    trials = ProgramTrials(never, Environment(1), "up to 120 times", race_of=FakeRace)
    assert trials.estimates(names, never) == answers


def test_a_race_in_which_the_program_itself_crashes_ends_the_proof():
    trials = ProgramTrials(never, Environment(1), "up to 120 times", race_of=FakeRace)
    with pytest.raises(VariantCrash, match="ZeroDivisionError"):
        trials.estimates(["crash of old", "a"], never)


class RaceWithLoops(FakeRace):
    """The loop around the step takes 3 s with `old`, and 1 s with the others."""

    def between_s(self, place):
        return 3.0 if self.names[place] == "old" else 1.0


def test_the_time_between_steps_counts_for_versions_that_change_the_loop_around_the_step():
    trials = ProgramTrials(never, Environment(1), "up to 120 times", race_of=RaceWithLoops)
    assert trials.estimates(["old", "a", "b"], never, around=[2]) == [1.0, 2.0]
