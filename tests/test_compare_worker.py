"""What the worker of a race answers and refuses, called in this process."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest

from mlpprof.compare.entrants import FunctionSubject, VariantSubject
from mlpprof.compare.functions import reference_to
from mlpprof.compare.worker import LedIn, Ready, Session
from mlpprof.errors import UsageError
from mlpprof.profile.request import Request
from mlpprof.workloads import get_workload

pytestmark = pytest.mark.usefixtures("fresh_imports")

TINY = get_workload("tiny")


def quiet(what: str, share: float) -> None:
    pass


def subject(name: str, batch: int = 30, **fields: object) -> VariantSubject:
    return VariantSubject(Request(name, TINY.network, TINY.source), batch, **fields)  # type: ignore[arg-type]


def opened(*subjects: VariantSubject | FunctionSubject) -> Session:
    session = Session()
    for place, one in enumerate(subjects):
        session.load(quiet, place, one.to_json())
    return session


def add_up(numbers: list[int]) -> int:
    return sum(numbers)


def numbers() -> tuple[list[int]]:
    return (list(range(1000)),)


def test_a_race_answers_with_seconds_for_every_block_entrant_and_way():
    session = opened(subject("cached"), subject("sliced"))
    turns = np.array(session.race(quiet, [0, 1], blocks=3, seed=0, turn_s=0.001)["turns_s"])
    assert turns.shape == (3, 2, 2)
    assert (turns > 0).all()


def test_functions_race_as_variants_do():
    function, making = reference_to(add_up), reference_to(numbers)
    assert function is not None
    session = opened(*(FunctionSubject(name, function, making) for name in ("old", "new")))
    turns = np.array(session.race(quiet, [0, 1], blocks=2, seed=0, turn_s=0.001)["turns_s"])
    assert turns.shape == (2, 2, 2)
    assert (turns > 0).all()


def test_an_entrant_between_workers_runs_once_warms_up_and_takes_its_turn():
    session = opened(subject("cached", steps=2))
    first = session.first_run(quiet, 0)
    assert first["first_s"] > 0
    assert "thread" in first["engine"]
    warm_s = session.warm_up(quiet, 0)
    assert session.warm_up(quiet, 0) == warm_s > 0  # it is warm already
    assert session.turn(quiet, 0, runs=2) > 0


def test_the_losses_are_those_of_a_fresh_instance_each_time():
    session = opened(subject("cached"))
    assert session.losses(quiet, 0, steps=3) == session.losses(quiet, 0, steps=3)


def test_constants_replace_those_of_one_entrant_alone():
    session = opened(subject("chunked"), subject("chunked", constants={"ROWS": 8}), subject("chunked"))
    whole, pieces, again = (session._prepared[place].module for place in range(3))
    assert pieces.ROWS == 8
    assert whole.ROWS == again.ROWS == 500
    assert whole is again  # the same entrant twice runs the same code


def test_a_batch_larger_than_the_data_is_refused_when_it_is_loaded():
    with pytest.raises(UsageError, match="batch 301 is larger than the 300 samples; use --batch 300 or fewer"):
        opened(subject("cached", batch=301))


def test_in_a_fine_race_every_part_has_instances_of_its_own():
    session = opened(subject("cached"), subject("cached"))
    made = []
    usual = session.stepper
    session.stepper = lambda it, one: made.append(one) or usual(it, one)
    turns = np.array(session.race(quiet, [0, 1], blocks=2, seed=0, turn_s=0.0005, instances=3)["turns_s"])
    assert turns.shape == (6, 2, 2)
    assert len(made) == 6


class Step:
    """Takes a second when the system interrupts it, else a millisecond."""

    def __init__(self, *interrupted):
        self.interrupted, self.count, self.made = list(interrupted), 0, 0

    def warm_up(self, clock):
        return 0.02

    def turn(self, runs, clock):
        self.made += 1
        is_interrupted = self.interrupted.pop(0)
        self.count += is_interrupted
        return 1.0 if is_interrupted else 0.001


def test_a_turn_that_another_program_has_interrupted_is_made_again_a_few_times():
    for interrupted, seconds, made in (((0,), 0.001, 1), ((1, 1, 0), 0.001, 3), ((1, 1, 1, 0), 1.0, 3)):
        step = Step(*interrupted)
        entrant = LedIn(Ready(step, run_s=0.02), tries=3, interruptions=lambda step=step: step.count)
        assert (entrant.turn(1, perf_counter), step.made) == (seconds, made)
