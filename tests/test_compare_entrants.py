"""Races between processes: the token, the environments, who dies, who is absent; with fake workers, then with real."""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil
import pytest

from mlpprof.compare.entrants import (
    Contest,
    Entrant,
    EntrantDied,
    EntrantWrong,
    Environment,
    Participant,
    Relay,
    all_threads,
    loss_deviation,
    loss_tolerance,
)
from mlpprof.compare.worker import SETTLING_S, replace_constants, settling
from mlpprof.errors import CheckFailed, UnsupportedNetwork, WorkerDied
from mlpprof.model import Network
from mlpprof.profile.request import Request
from mlpprof.workloads import get_workload

TINY = get_workload("tiny")
BATCH = 30


def quiet(what: str, share: float) -> None:
    pass


def request(name: str, dtype: str | None = "float64") -> Request:
    return Request(name, TINY.network, TINY.source, dtype)


def entrant(name: str, threads: int = 1, apart: bool = True, **constants: int) -> Entrant:
    return Entrant(request(name), Environment(threads, native_blas=True), constants, apart)


class Office:
    """Starts fake workers, and keeps a record of what each was asked, in order."""

    def __init__(self, run_s: dict[str, float] | None = None) -> None:
        self.log: list[tuple[int, str, int]] = []
        self.workers: list[FakeWorker] = []
        self.running = 0
        self.run_s = run_s or {}
        self.refuse: dict[str, str] = {}
        self.dies_in: dict[str, str] = {}
        self.losses: dict[str, list[float]] = {}

    def __call__(self, entrant: Entrant) -> Any:
        self.workers.append(FakeWorker(self, entrant.environment, len(self.workers)))
        return self.workers[-1]


class FakeWorker:
    def __init__(self, office: Office, environment: Environment, number: int) -> None:
        self.office, self.environment, self.number = office, environment, number
        self.names: dict[int, str] = {}
        self.closed = 0

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed += 1

    def call(self, name: str, place: int, **arguments: Any) -> Any:
        office = self.office
        if name == "load":
            self.names[place] = arguments["request"]["variant"]
            if self.names[place] in office.refuse:
                raise UnsupportedNetwork(office.refuse[self.names[place]])
            return {}
        assert office.running == 0, "two have the token"
        office.running += 1
        try:
            return self.answer(name, self.names[place], place, arguments)
        finally:
            office.running -= 1

    def answer(self, name: str, variant: str, place: int, arguments: dict[str, Any]) -> Any:
        office = self.office
        office.log.append((self.number, name, place))
        if office.dies_in.get(variant) == name:
            raise WorkerDied("the worker process was killed by SIGKILL before it answered")
        step_s = office.run_s.get(f"{variant}@{self.environment.threads}", office.run_s.get(variant, 0.1))
        if name == "enter":
            return {"dtype": "float64", "engine": "fake", "first_s": 5.0, "spans_steps": False, "compiles": False}
        if name == "losses":
            return {"losses": office.losses.get(variant, [0.7, 0.6, 0.5])}
        if name == "facts":
            return {"machine": {}, "data": {}}
        return step_s


def test_entrants_of_one_environment_share_a_worker_unless_they_are_apart():
    office = Office()
    field = [
        entrant("naive", apart=False),
        entrant("cached", apart=False),
        entrant("sliced", threads=2, apart=False),
        entrant("buffered"),
    ]
    with Relay(field, BATCH, start=office) as relay:
        relay.open(quiet)
        assert [sorted(worker.names) for worker in office.workers] == [[0, 1], [2], [3]]
        assert [worker.environment.threads for worker in office.workers] == [1, 2, 1]
    assert all(worker.closed for worker in office.workers)


def test_a_block_goes_through_the_workers_and_back_and_one_has_the_token_at_a_time():
    office = Office()
    with Relay([entrant(name) for name in ("naive", "cached", "sliced")], BATCH, start=office) as relay:
        relay.open(quiet)
        turns = relay.race([0, 1, 2], 3, 0, quiet)
    order = [place for _, name, place in office.log if name == "turn"]
    blocks = [order[i : i + 6] for i in range(0, len(order), 6)]
    assert len(blocks) == 3
    assert all(block == block[::-1] and set(block) == {0, 1, 2} for block in blocks)
    assert turns.shape == (3, 3, 2)


def test_the_death_of_a_worker_names_the_entrant_and_all_workers_end():
    office = Office()
    office.dies_in = {"cached": "turn"}
    with (
        pytest.raises(EntrantDied, match="^cached: the worker process was killed by SIGKILL") as death,
        Relay([entrant("naive"), entrant("cached")], BATCH, start=office) as relay,
    ):
        relay.open(quiet)
        relay.race([0, 1], 2, 0, quiet)
    assert death.value.variant == "cached"
    assert death.value.exit_code == WorkerDied("").exit_code
    assert all(worker.closed for worker in office.workers)


def test_ctrl_c_between_two_turns_ends_all_workers():
    office = Office()

    def interrupt(what: str, share: float) -> None:
        if what == "racing":
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        Relay([entrant("naive"), entrant("cached")], BATCH, start=office) as relay,
    ):
        relay.open(quiet)
        relay.race([0, 1], 2, 0, interrupt)
    assert all(worker.closed for worker in office.workers)


def test_who_cannot_do_the_network_is_absent_with_the_reason_and_the_others_race():
    office = Office()
    office.refuse = {"gram": "gram cannot do that"}
    contest = Contest([Participant((entrant(name),)) for name in ("naive", "gram")], BATCH, start=office)
    contest.run(quiet)
    assert contest.absent == {"gram": "gram cannot do that"}
    assert contest.race().variants == ("naive",)


def test_where_everybody_is_wanted_an_absent_one_is_an_error():
    office = Office()
    office.refuse = {"gram": "gram cannot do that"}
    field = [Participant((entrant(name),)) for name in ("naive", "gram")]
    with pytest.raises(UnsupportedNetwork, match="gram cannot do that"):
        Contest(field, BATCH, everybody=True, start=office).run(quiet)


def test_the_better_setting_of_each_races_and_further_replicates_have_it_alone():
    office = Office({"naive@1": 0.2, "naive@4": 0.1, "cached@1": 0.05, "cached@4": 0.3})
    field = [Participant((entrant(name, 1), entrant(name, 4))) for name in ("naive", "cached")]
    contest = Contest(field, BATCH, start=office)
    contest.run(quiet)
    assert [one.entrant.name for one in contest.chosen] == ["naive, 4 threads", "cached"]
    before = len(office.workers)
    contest.run(quiet)
    assert [worker.environment.threads for worker in office.workers[before:]] == [4, 1]
    race = contest.race()
    assert len(race.turns_s) == 2
    assert race.step_s(0) == pytest.approx(0.1)
    assert race.step_s(1) == pytest.approx(0.05)


def test_a_setting_that_is_out_of_the_running_goes_after_its_second_run():
    office = Office({"naive@1": 0.1, "naive@4": 2.0})
    contest = Contest([Participant((entrant("naive", 1), entrant("naive", 4)))], BATCH, start=office)
    contest.run(quiet)
    assert [one.entrant.environment.threads for one in contest.chosen] == [1]
    assert [name for _, name, place in office.log if place == 1 and name in ("warm", "turn")] == ["turn"]


def test_what_the_first_run_took_longer_is_told_beside_the_race():
    contest = Contest([Participant((entrant("naive"),))], BATCH, start=Office({"naive": 0.1}))
    contest.run(quiet)
    assert contest.chosen[0].compile_s == pytest.approx(4.9)


def test_losses_that_deviate_are_told_before_anything_is_timed():
    office = Office()
    office.losses = {"cached": [0.7, 0.6, 0.501]}
    contest = Contest([Participant((entrant(name),)) for name in ("naive", "cached")], BATCH, start=office)
    with pytest.raises(
        EntrantWrong, match="^cached: the losses of the first 3 steps deviate .* nothing was timed"
    ) as e:
        contest.run(quiet)
    assert e.value.variant == "cached"
    assert isinstance(e.value, CheckFailed)
    assert not any(name in ("warm", "turn") for _, name, _ in office.log)


def test_a_loss_that_is_no_number_deviates_without_limit():
    assert loss_deviation([0.5, float("nan")], [0.5, 0.5]) == np.inf
    assert loss_deviation([], [0.5]) == np.inf
    assert loss_deviation([0.5, 0.25, 0.1], [0.5, 0.5]) == pytest.approx(0.5)


def test_float32_losses_may_deviate_by_rounding_and_float64_by_next_to_nothing():
    network = Network((784, 10))
    assert 1e-6 < loss_tolerance(network, 500, "float32") < 1e-3
    assert loss_tolerance(network, 500, "float64") <= 1e-8


@pytest.mark.parametrize(("share", "naps"), [(0.0, 1), (0.05, 1), (1.0, SETTLING_S / 0.1)])
def test_a_worker_gives_the_token_back_when_its_threads_sleep_and_waits_no_longer_than_it_must(clock, share, naps):
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(0.1)

    settling(lambda: share * clock.now, clock, sleep)()
    assert len(slept) == pytest.approx(naps, abs=1)


def test_there_is_at_least_one_thread():
    assert 1 <= all_threads() <= (psutil.cpu_count() or 1)


class Module:
    ROWS = 500


class Loaded:
    module = Module
    entry = type("Entry", (), {"path": type("Path", (), {"name": "chunked.py"})})


def test_a_constant_that_the_file_lacks_is_refused_with_the_nearest():
    with pytest.raises(Exception, match="chunked.py has no constant ROW; did you mean 'ROWS'"):
        replace_constants(Loaded, {"ROW": 3})  # type: ignore[arg-type]  # a stand-in


def test_two_real_workers_race_with_settings_of_their_own_and_leave_no_process():
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    field = [Participant((entrant("sliced"),)), Participant((entrant("chunked", ROWS=8),))]
    contest = Contest(field, BATCH, blocks=2, turn_s=0.002)
    contest.run(quiet)
    race = contest.race()
    assert race.variants == ("sliced", "chunked ROWS=8")
    assert race.turns_s[0].shape == (2, 2, 2)
    assert (race.turns_s[0] > 0).all()
    assert contest.chosen[1].deviation is not None
    assert contest.chosen[1].deviation < 1e-8
    assert "thread" in contest.chosen[1].entered.engine
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
