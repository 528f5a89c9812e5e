"""The tuner: who is a candidate, how the slower half drops out, what is kept; with fake races."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from mlpprof.cli.main import run
from mlpprof.compare.autotune import (
    CACHE,
    CHUNKS,
    WITH_ALL_THREADS,
    Kept,
    candidates,
    halve,
    slow_starters,
    tuned_key,
)
from mlpprof.compare.entrants import all_threads
from mlpprof.compare.replicate import FirstRun, Loaded
from mlpprof.data.source import DataSource
from mlpprof.errors import EXIT_OK
from mlpprof.model import Network
from mlpprof.profile.request import Request
from mlpprof.report.terminal.autotune import three_lines
from mlpprof.results import PhaseChange, Verdict
from mlpprof.results.tuning import Trial, Tuning
from mlpprof.workloads import get_workload

TINY = get_workload("tiny")
REQUEST = Request("sliced", TINY.network, TINY.source, "float32")
PATIENT = lambda: False  # noqa: E731 - a clock that never runs out


class Track:
    """Races in which every place has its speed, on a machine that gets slower from block to block."""

    def __init__(self, step_s: list[float], drift: float = 1.5) -> None:
        self.step_s, self.drift = step_s, drift
        self.rounds: list[tuple[list[int], int]] = []
        self.slowness = 1.0

    def __call__(self, places: list[int], blocks: int, seed: int) -> np.ndarray:
        self.rounds.append((list(places), blocks))
        turns = np.empty((blocks, len(places), 2))
        for block in range(blocks):
            turns[block] = self.slowness * np.array([self.step_s[place] for place in places])[:, None]
            self.slowness *= self.drift
        return turns


def tuning(**changes: object) -> Tuning:
    plain = Tuning(
        created="2026-01-02T03:04:05+00:00",
        workload="tiny",
        network=TINY.network,
        batch=30,
        dtype="float32",
        seed=0,
        winner="chunked ROWS=8",
        variant="chunked",
        constants={"ROWS": 8},
        threads=1,
        variables={},
        step_s=1e-3,
        runner_up="buffered",
        over_runner_up=Verdict(None, 1.2, 1.1, 1.3, None, 5, ""),
        phases=(
            PhaseChange("forward", None, "", 5e-4, 3.5e-4, 0.6),
            PhaseChange("backward", None, "", 7e-4, 6e-4, 0.4),
        ),
        trials=(Trial("chunked ROWS=8", 3, 1e-3), Trial("buffered", 3, 1.2e-3)),
        absent={"gram": "too many samples"},
    )
    return replace(plain, **changes)


def test_every_round_drops_the_slower_half_and_doubles_the_blocks():
    track = Track([0.5, 0.1, 0.4, 0.2, 0.3, 0.6, 0.7, 0.8])
    halving = halve(range(8), track, PATIENT)
    assert halving.left == (1, 3)
    assert [(len(places), blocks) for places, blocks in track.rounds] == [(8, 1), (4, 2), (2, 4)]
    assert {place: halving.rounds[place] for place in (1, 3, 4, 7)} == {1: 3, 3: 3, 4: 2, 7: 1}


def test_a_machine_that_slows_down_does_not_change_who_stays():
    assert halve(range(5), Track([5, 4, 3, 2, 1], drift=10.0), PATIENT).left == (4, 3)


def test_a_single_candidate_wins_without_a_rival():
    assert halve([0], Track([1.0]), PATIENT).left == (0,)


def test_when_the_time_is_spent_the_two_fastest_go_on_at_once():
    track = Track([float(i + 1) for i in range(16)])
    halving = halve(range(16), track, lambda: len(track.rounds) >= 1)
    assert halving.left == (0, 1)
    assert len(track.rounds) == 1


def test_a_slow_candidate_that_sat_out_is_judged_by_the_blocks_that_it_was_in():
    def race_of(places, blocks, seed):
        turns = Track([3.0, 1.0, 2.0, 4.0])(places, blocks, seed)
        turns[1:, places.index(0) if 0 in places else 0] = np.nan if 0 in places else turns[1:, 0]
        return turns

    assert halve(range(4), race_of, PATIENT).left == (1, 2)


def test_a_first_run_far_slower_than_the_fastest_drops_out_at_once_unless_it_compiles():
    loaded = {place: Loaded("float32", False, compiles=place == 3) for place in range(4)}
    first_runs = {place: FirstRun(first_s, "fake") for place, first_s in enumerate((0.1, 0.3, 5.0, 9.0))}
    assert slow_starters(loaded, first_runs) == [2]
    assert slow_starters({2: loaded[2]}, first_runs) == []


def test_candidates_are_rungs_times_settings_and_chunks_are_below_the_batch():
    found = candidates(REQUEST, 500)
    names = [one.name for one in found]
    assert len(names) == len(set(names))
    assert {"buffered", "chunked", "tanh_sigmoid", "fused_update", "blocked"} <= set(names)
    assert f"blocked_team, {all_threads()} workers" in names
    assert {one.subject.constants["ROWS"] for one in found if one.subject.constants} == {
        rows for rows in CHUNKS if rows < 500
    }
    assert all(one.environment.native_blas for one in found)
    together = {one.subject.variant for one in found if one.environment.threads == all_threads()}
    assert all_threads() == 1 or together == set(WITH_ALL_THREADS)
    assert not any(one.subject.variant.startswith("peers/") for one in found)


def test_what_is_kept_is_read_again_for_the_same_machine_network_batch_precision_and_data_alone(tmp_path):
    machine = {"cpu_model_name": "a", "blas": []}
    file = tmp_path / "X.npy"
    file.touch()
    key = tuned_key(machine, TINY.network, 30, "float32", TINY.source)
    CACHE.write(key, Kept(tuning()), tmp_path)
    assert CACHE.read(key, pytest.fail, tmp_path) == Kept(tuning())
    others = [
        tuned_key({**machine, "cpu_model_name": "b"}, TINY.network, 30, "float32", TINY.source),
        tuned_key(machine, Network((20, 3)), 30, "float32", TINY.source),
        tuned_key(machine, TINY.network, 31, "float32", TINY.source),
        tuned_key(machine, TINY.network, 30, "float64", TINY.source),
        tuned_key(machine, TINY.network, 30, "float32", DataSource(path=str(file))),
    ]
    file.write_text("other")
    others.append(tuned_key(machine, TINY.network, 30, "float32", DataSource(path=str(file))))
    assert all(one != other for one, other in itertools.combinations([key, *others], 2))


def test_three_lines_show_what_won_by_how_much_and_why():
    won, ratio, why = three_lines(tuning())
    assert won == "chunked ROWS=8: 1.00 ms per step, the fastest of 2 candidates"
    assert ratio == "1.200 x as fast (95 %: 1.100–1.300) as buffered"
    assert why.startswith("why: forward 500 µs → 350 µs, backward 700 µs → 600 µs; ")
    assert "of the step saved" in why


def test_a_difference_that_the_interval_does_not_show_is_not_claimed():
    _, ratio, _ = three_lines(tuning(over_runner_up=Verdict(None, 1.02, 0.97, 1.07, None, 5, "")))
    assert ratio.endswith("as buffered; this machine cannot measure a difference")


def test_where_only_one_has_phases_no_time_is_said_to_have_moved():
    half = (PhaseChange("forward", None, "", 4e-4, 0.0, 0.4), PhaseChange("(rest)", None, "", 1e-4, 4e-4, 0.6))
    why = three_lines(tuning(phases=half))[2]
    assert why.startswith("why: chunked ROWS=8 fuses its steps, so its phases cannot be separated; ")
    assert why.endswith("; buffered spends forward 400 µs")


def test_a_fused_step_has_no_reason_by_phase_and_a_lone_candidate_no_runner_up():
    fused = (PhaseChange("forward", None, "", 0.0, 0.0, 0.0), PhaseChange("(rest)", None, "", 2e-3, 1e-3, 1.0))
    assert "cannot be separated" in three_lines(tuning(phases=fused))[2]
    assert "the time for the search was spent" in three_lines(tuning(phases=()))[2]
    assert "no runner-up" in three_lines(tuning(over_runner_up=None, runner_up=None))[1]


@pytest.mark.parametrize(("variant", "is_noted"), [("sparse", True), ("blocked", False)])
def test_a_winner_whose_gain_depends_on_the_data_is_shown_with_the_data(
    variant, is_noted, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("mlpprof.cli.autotune.autotune", lambda *_: tuning(variant=variant))
    assert run(["autotune", "--workload", "tiny"]) == EXIT_OK
    note = f"What {variant} gains depends on the data, and this is for tiny"
    assert (note in " ".join(capsys.readouterr().out.split())) == is_noted
