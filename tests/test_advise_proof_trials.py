"""How often a proof runs a version of the program."""

from __future__ import annotations

import pytest

from mlpprof.advise.proof.trials import MOST_RUNS, ProgramTrials
from mlpprof.compare.entrants import Environment
from mlpprof.errors import VariantCrash, WorkerKilled

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
