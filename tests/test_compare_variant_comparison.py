"""Comparisons in which a framework takes part: which variants race together, and in which settings."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from mlpprof.cli.main import run
from mlpprof.compare.entrants import Environment, all_threads
from mlpprof.compare.live_race import variant_race
from mlpprof.compare.variant_comparison import need_own_processes, settings_of
from mlpprof.errors import EXIT_USAGE, UsageError
from mlpprof.profile.request import Request
from mlpprof.results import Race
from mlpprof.workloads import get_workload

TINY = get_workload("tiny")


def request(name: str) -> Request:
    return Request(name, TINY.network, TINY.source)


def test_only_frameworks_need_processes_of_their_own():
    assert need_own_processes(["chunked", "peers/torch"])
    assert not need_own_processes(["chunked", "naive", "./peers.py"])


def test_a_framework_is_tried_with_one_thread_and_all_and_others_as_asked():
    counts = {one.environment.threads for one in settings_of(request("peers/torch"), 30, 1)}
    assert counts == {1, all_threads()}
    assert [one.environment.threads for one in settings_of(request("chunked"), 30, 1)] == [1]
    assert [one.environment.threads for one in settings_of(request("peers/torch"), 30, 3)] == [3]
    assert all(one.environment.native_blas for one in settings_of(request("chunked"), 30, 1))


def test_the_race_of_a_pair_has_the_first_and_the_one():
    turns = np.array([[[0.3, 0.3], [0.1, 0.1], [0.2, 0.2]]] * 4)
    whole = Race(("a", "b", "c"), ("float32",) * 3, 30, (turns,), ("b",))
    race = whole.pair(2)
    assert race.variants == ("a", "c")
    assert race.trained == ()
    assert race.step_s(1) == pytest.approx(0.2)


def test_a_race_in_one_process_refuses_a_framework_beside_others(capsys):
    with pytest.raises(UsageError, match="'peers/torch' is a framework and shares no process"):
        variant_race([request("naive"), request("peers/torch")], 30, Environment())
    variant_race([request("peers/torch")] * 2, 30, Environment())


@pytest.mark.slow
def test_a_missing_framework_is_reported_in_one_line_with_what_installs_it(capsys):
    if importlib.util.find_spec("jax") is not None:
        pytest.skip("JAX is installed")
    assert run(["compare", "peers/jax_scan", "chunked", "--workload", "tiny"]) == EXIT_USAGE
    error = capsys.readouterr().err
    assert "pip install 'mlpprof[peers]'" in error
    assert "Traceback" not in error
