"""Variants that span steps are timed through `train`, a block at a time, and the reports say so."""

from __future__ import annotations

import io
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from runs import make_run

from mlpprof.catalog import find, load
from mlpprof.compare.steppers import VariantStepper
from mlpprof.instrument.clocks import instrumented_module
from mlpprof.model.gradcheck import deviations, random_cases, training_deviations
from mlpprof.profile.passes import BLOCK_S, Subject, TimedPass, profile_batch
from mlpprof.report.terminal.profile import print_run
from mlpprof.results.on_disk import load_run, save_run

SPANNING = '''
class MLP:
    """A step by itself takes 8 ms; in a block a step takes 2 ms, and a block 4 ms besides."""

    def __init__(self, clock, log):
        self.clock, self.log = clock, log

    def fetch_batch(self, X, Y, index): ...
    def forward(self): ...
    def loss(self): ...
    def backward(self): ...
    def update(self): ...

    def train_step(self, X, Y, index):
        self.log.append("train_step")
        self.clock.advance(0.008)
        return 1.0

    def train(self, X, Y, indices):
        self.log.append(len(indices))
        self.clock.advance(0.004)  # phase: once
        for index in indices:
            self.clock.advance(0.002)  # phase: steps
        return [0.5] * len(indices)
'''


def quiet(what: str, share: float) -> None:
    pass


def subject(clock: Any, log: list[Any]) -> Subject:
    module = ModuleType("mine")
    module.__file__ = "mine.py"
    exec(SPANNING, vars(module))
    return Subject(
        X=np.zeros((10, 3)),
        Y=np.zeros((10, 2)),
        seed=0,
        make=lambda: module.MLP(clock, log),
        make_labelled=lambda label_clock: instrumented_module(module, SPANNING, label_clock).MLP(clock, log),
    )


def test_a_block_of_a_form_that_spans_steps_is_one_sample_the_mean_of_its_steps(clock):
    log: list[Any] = []
    result = profile_batch(subject(clock, log), 5, 40, quiet, clock)
    assert "train_step" not in log
    assert result.steps_a_sample > 1
    expected = 0.002 + 0.004 / result.steps_a_sample
    assert result.total_s.shape == (40 // result.steps_a_sample, 1)
    assert result.total_s == pytest.approx(expected)
    assert len(result.losses) == 40
    assert not result.separable
    assert result.phases == {}


def test_labels_within_train_are_shown_by_the_step_and_their_time_adds_up(clock):
    result = profile_batch(subject(clock, []), 5, 40, quiet, clock)
    labels = {label.label: label for label in result.labels}
    assert labels["steps"].step_s == pytest.approx(0.002)
    assert labels["once"].step_s == pytest.approx(0.004 / result.steps_a_sample)
    assert labels["steps"].calls == labels["once"].calls == 1
    assert sum(label.step_s for label in result.labels) == pytest.approx(result.labels_pass_s)


def test_the_warm_up_takes_twice_as_many_steps_each_time_until_a_block_is_long_enough(clock):
    log: list[Any] = []
    it = subject(clock, log)
    timed = TimedPass(it, it.make(), it.walk(5), lambda: None, clock)
    for _ in range(6):
        timed.warming_s()
    assert log == [1, 2, 4, 8, 8, 8]
    assert BLOCK_S < 0.004 + 0.002 * 8


def test_a_turn_goes_through_train_after_one_that_is_not_timed(clock):
    log: list[Any] = []
    stepper = VariantStepper(find("cached"), subject(clock, log), 5)
    assert stepper.turn(8, clock) == pytest.approx(0.0025)
    assert stepper.turn(8, clock) == pytest.approx(0.0025)
    assert log == [8, 8, 8]


def test_the_number_of_steps_in_a_sample_survives_storing_and_the_report_shows_it(tmp_path):
    run = make_run()
    run = replace(run, results=tuple(replace(result, steps_a_sample=64) for result in run.results))
    save_run(run, tmp_path / "run.h5")
    again = load_run(tmp_path / "run.h5")
    assert {result.steps_a_sample for result in again.results} == {64}
    console = Console(file=io.StringIO(), width=120)
    print_run(again, console)
    assert "of blocks of 64 steps through train" in " ".join(console.file.getvalue().split())


def test_a_train_that_does_other_steps_than_train_step_is_found_wrong():
    naive: Any = load(find("naive"))

    class Wrong(naive):
        """Takes the first batch again for every 7th."""

        def train(self, X: Any, Y: Any, indices: Any) -> list[float]:
            return [self.train_step(X, Y, indices[i] if i % 7 else indices[0]) for i in range(len(indices))]

    case = next(case for case in random_cases(30, 0) if len(case.index) > 2 and case.network.hidden != "relu")
    assert max(d.severity for d in training_deviations(Wrong, case)) > 1
    found = deviations(Wrong, naive, replace(case, network=replace(case.network, l1=0.0)))
    assert any("by train against train_step" in d.what and d.severity > 1 for d in found)
