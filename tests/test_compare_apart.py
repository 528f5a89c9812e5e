"""Comparisons in which a framework takes part: who is raced with whom, in which settings, and when it is decided."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from mlpprof.cli.main import run
from mlpprof.compare import REPLICATED
from mlpprof.compare.entrants import Environment, VariantRacer, all_threads
from mlpprof.compare.verdict import measure_all, need_apart, pair_of, settings_of
from mlpprof.errors import EXIT_USAGE, UsageError
from mlpprof.profile.request import Request
from mlpprof.results import Race
from mlpprof.workloads import get_workload

TINY = get_workload("tiny")


def request(name: str) -> Request:
    return Request(name, TINY.network, TINY.source)


def quiet(what: str, share: float) -> None:
    pass


class Steady:
    """A contest whose entrants always take the same time, but for a little noise."""

    def __init__(self, *step_s: float) -> None:
        self.step_s = step_s
        self.turns: list[np.ndarray] = []
        self.rng = np.random.default_rng(0)

    def run(self, progress: Any) -> None:
        noise = np.exp(0.002 * self.rng.standard_normal((4, len(self.step_s), 2)))
        self.turns.append(np.array(self.step_s)[None, :, None] * noise)

    def race(self) -> Race:
        names = tuple("abcdef"[: len(self.step_s)])
        return Race(names, ("float32",) * len(names), 30, tuple(self.turns), ("b",))


def test_only_frameworks_need_processes_of_their_own():
    assert need_apart(["chunked", "peers/torch"])
    assert not need_apart(["chunked", "naive", "./peers.py"])


def test_a_framework_is_tried_with_one_thread_and_all_and_others_as_asked():
    counts = {one.environment.threads for one in settings_of(request("peers/torch"), 1).settings}
    assert counts == {1, all_threads()}
    assert [one.environment.threads for one in settings_of(request("chunked"), 1).settings] == [1]
    assert [one.environment.threads for one in settings_of(request("peers/torch"), 3).settings] == [3]
    assert all(one.environment.native_blas for one in settings_of(request("chunked"), 1).settings)


def test_without_a_claim_each_newer_one_gets_a_ratio_over_the_first():
    contest: Any = Steady(0.3, 0.1, 0.2)
    verdicts = measure_all(contest, 2, quiet)
    assert [verdict.ratio for verdict in verdicts] == pytest.approx([3.0, 1.5], rel=0.01)
    assert {verdict.outcome for verdict in verdicts} == {None}


def test_a_claim_is_decided_for_each_of_them():
    contest: Any = Steady(0.3, 0.1, 0.2, 0.6)
    verdicts = measure_all(contest, 3, quiet, at_least=1.4)
    assert [verdict.outcome for verdict in verdicts] == ["pass", "pass", "fail"]
    assert len(contest.turns) == REPLICATED.looks[0]


def test_a_spent_budget_decides_what_is_clear():
    contest: Any = Steady(0.3, 0.02)
    now = iter(range(0, 10_000, 50))
    (verdict,) = measure_all(contest, 1, quiet, at_least=1.5, budget_s=60, clock=lambda: next(now))
    assert (verdict.outcome, len(contest.turns)) == ("pass", 3)


def test_a_spent_budget_leaves_a_close_claim_inconclusive():
    contest: Any = Steady(0.3, 0.215)
    now = iter(range(0, 10_000, 50))
    (verdict,) = measure_all(contest, 1, quiet, at_least=1.5, budget_s=60, clock=lambda: next(now))
    assert verdict.outcome == "inconclusive"
    assert "the budget of 60 s is spent" in verdict.reason
    assert len(contest.turns) == 3


def test_the_race_of_a_pair_has_the_first_and_the_one():
    contest: Any = Steady(0.3, 0.1, 0.2)
    contest.run(quiet)
    race = pair_of(contest.race(), 2)
    assert race.variants == ("a", "c")
    assert race.trained == ()
    assert race.step_s(1) == pytest.approx(0.2, rel=0.01)


def test_a_race_in_one_process_refuses_a_framework_beside_others(capsys):
    with pytest.raises(UsageError, match="'peers/torch' is a framework and shares no process"):
        VariantRacer([request("naive"), request("peers/torch")], 30, Environment())
    VariantRacer([request("peers/torch")] * 2, 30, Environment())


def test_a_missing_framework_is_told_in_one_line_with_what_installs_it(capsys):
    if importlib.util.find_spec("jax") is not None:
        pytest.skip("JAX is installed")
    assert run(["compare", "peers/jax_scan", "chunked", "--workload", "tiny"]) == EXIT_USAGE
    error = capsys.readouterr().err
    assert "pip install 'mlpprof[peers]'" in error
    assert "Traceback" not in error
