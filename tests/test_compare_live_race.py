"""Races in processes: the token, settings, deaths, absent entrants, losses; with fake workers, then with real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
import pytest

from mlpprof.compare.entrants import Entrant, Environment, VariantSubject, all_threads
from mlpprof.compare.live_race import EntrantWrong, ProcessRace, loss_deviation, loss_tolerance
from mlpprof.compare.replicate import EntrantDied, Replicate
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


def entrant(name: str, threads: int = 1, process: str | None = None, **constants: int) -> Entrant:
    subject = VariantSubject(request(name), BATCH, constants)
    return Entrant(subject, Environment(threads, native_blas=True), process)


class Office:
    """Starts fake workers, and keeps a record of what each was asked, in order."""

    def __init__(self, run_s: dict[str, float] | None = None) -> None:
        self.log: list[tuple[int, str, Any]] = []
        self.workers: list[FakeWorker] = []
        self.running = 0
        self.run_s = run_s or {}
        self.refuse: dict[str, str] = {}
        self.dies_in: dict[str, str] = {}
        self.losses: dict[str, list[float]] = {}
        self.tries: set[int] = set()

    def __call__(self, entrants: Sequence[Entrant]) -> Any:
        self.workers.append(FakeWorker(self, entrants[0].environment, len(self.workers)))
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

    def call(self, name: str, progress: Any = None, **arguments: Any) -> Any:
        office = self.office
        if name == "load":
            variant = arguments["subject"]["request"]["variant"]
            self.names[arguments["key"]] = variant
            if variant in office.refuse:
                raise UnsupportedNetwork(office.refuse[variant])
            return {"dtype": "float64", "spans_steps": False, "compiles": False}
        assert office.running == 0, "two have the token"
        office.running += 1
        try:
            if name == "race":
                office.log.append((self.number, name, tuple(arguments["keys"])))
                step_s = [[self.step_s(self.names[key])] * 2 for key in arguments["keys"]]
                return {"turns_s": [step_s] * arguments["blocks"]}
            if name == "turn":
                office.tries.add(arguments.get("tries", 1))
            return self.answer(name, self.names[arguments["key"]], arguments["key"])
        finally:
            office.running -= 1

    def step_s(self, variant: str) -> float:
        run_s = self.office.run_s
        return run_s.get(f"{variant}@{self.environment.threads}", run_s.get(variant, 0.1))

    def answer(self, name: str, variant: str, key: int) -> Any:
        office = self.office
        office.log.append((self.number, name, key))
        if office.dies_in.get(variant) == name:
            raise WorkerDied("the worker process was killed by SIGKILL before it answered")
        if name == "first_run":
            return {"engine": "fake", "first_s": 5.0}
        if name == "losses":
            return {"losses": office.losses.get(variant, [0.7, 0.6, 0.5])}
        if name == "describe":
            return {"machine": {}, "data": {}}
        return self.step_s(variant)


def test_entrants_of_one_environment_share_a_worker_if_they_name_the_same_process():
    office = Office()
    field = [
        entrant("naive", process="shared"),
        entrant("cached", process="shared"),
        entrant("sliced", threads=2, process="shared"),
        entrant("buffered"),
    ]
    with Replicate(field, start=office) as replicate:
        replicate.open(quiet)
        assert [sorted(worker.names) for worker in office.workers] == [[0, 1], [2], [3]]
        assert [worker.environment.threads for worker in office.workers] == [1, 2, 1]
    assert all(worker.closed for worker in office.workers)


def test_a_block_goes_through_the_workers_and_back_and_one_has_the_token_at_a_time():
    office = Office()
    with Replicate([entrant(name) for name in ("naive", "cached", "sliced")], start=office) as replicate:
        replicate.open(quiet)
        turns = replicate.race([0, 1, 2], 3, 0, quiet)
    order = [place for _, name, place in office.log if name == "turn"]
    blocks = [order[i : i + 6] for i in range(0, len(order), 6)]
    assert len(blocks) == 3
    assert all(block == block[::-1] and set(block) == {0, 1, 2} for block in blocks)
    assert turns.shape == (3, 3, 2)


def test_entrants_that_share_a_worker_race_within_it():
    office = Office({"cached": 0.2})
    live = ProcessRace([[entrant(name, process="shared")] for name in ("naive", "cached")], start=office)
    live.run(quiet)
    live.run(quiet)
    assert [(number, key) for number, name, key in office.log if name == "race"] == [(0, (0, 1)), (1, (0, 1))]
    assert not any(name in ("warm_up", "turn", "first_run") for _, name, _ in office.log)
    assert live.race().step_s(1) == 0.2


def test_the_death_of_a_worker_names_the_entrant_and_all_workers_end():
    office = Office()
    office.dies_in = {"cached": "turn"}
    with (
        pytest.raises(EntrantDied, match="^cached: the worker process was killed by SIGKILL") as death,
        Replicate([entrant("naive"), entrant("cached")], start=office) as replicate,
    ):
        replicate.open(quiet)
        replicate.race([0, 1], 2, 0, quiet)
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
        Replicate([entrant("naive"), entrant("cached")], start=office) as replicate,
    ):
        replicate.open(quiet)
        replicate.race([0, 1], 2, 0, interrupt)
    assert all(worker.closed for worker in office.workers)


def test_who_cannot_do_the_network_is_absent_with_the_reason_and_the_others_race():
    office = Office()
    office.refuse = {"gram": "gram cannot do that"}
    live = ProcessRace([[entrant(name)] for name in ("naive", "gram")], all_take_part=False, start=office)
    live.run(quiet)
    assert live.absent == {"gram": "gram cannot do that"}
    assert live.race().variants == ("naive",)


def test_where_all_must_take_part_an_absent_one_is_an_error():
    office = Office()
    office.refuse = {"gram": "gram cannot do that"}
    with pytest.raises(UnsupportedNetwork, match="^gram cannot do that$"):
        ProcessRace([[entrant(name)] for name in ("naive", "gram")], start=office).run(quiet)


def test_the_better_setting_of_each_races_and_further_replicates_have_it_alone():
    office = Office({"naive@1": 0.2, "naive@4": 0.1, "cached@1": 0.05, "cached@4": 0.3})
    live = ProcessRace([[entrant(name, 1), entrant(name, 4)] for name in ("naive", "cached")], start=office)
    live.run(quiet)
    assert [one.entrant.name for one in live.chosen] == ["naive, 4 threads", "cached"]
    before = len(office.workers)
    live.run(quiet)
    assert [worker.environment.threads for worker in office.workers[before:]] == [4, 1]
    race = live.race()
    assert len(race.turns_s) == 2
    assert race.step_s(0) == pytest.approx(0.1)
    assert race.step_s(1) == pytest.approx(0.05)


def test_a_setting_that_is_out_of_the_running_goes_after_its_second_run():
    office = Office({"naive@1": 0.1, "naive@4": 2.0})
    live = ProcessRace([[entrant("naive", 1), entrant("naive", 4)]], start=office)
    live.run(quiet)
    assert [one.entrant.environment.threads for one in live.chosen] == [1]
    assert [name for _, name, place in office.log if place == 1 and name in ("warm_up", "turn", "race")] == ["turn"]


def test_what_the_first_run_took_longer_is_reported_beside_the_race():
    live = ProcessRace([[entrant("naive")]], start=Office({"naive": 0.1}))
    live.run(quiet)
    assert live.chosen[0].compile_s == pytest.approx(4.9)


def test_losses_that_deviate_are_reported_before_anything_is_timed():
    office = Office()
    office.losses = {"cached": [0.7, 0.6, 0.501]}
    live = ProcessRace([[entrant(name)] for name in ("naive", "cached")], check="losses", start=office)
    with pytest.raises(
        EntrantWrong, match="^cached: the losses of the first 3 steps deviate .* nothing was timed"
    ) as e:
        live.run(quiet)
    assert e.value.variant == "cached"
    assert isinstance(e.value, CheckFailed)
    assert not any(name in ("warm_up", "turn", "race") for _, name, _ in office.log)


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


@pytest.mark.slow
def test_two_real_workers_race_with_settings_of_their_own_and_leave_no_process():
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    field = [[entrant("sliced")], [entrant("chunked", ROWS=8)]]
    live = ProcessRace(field, check="losses", blocks=2, turn_s=0.002)
    live.run(quiet)
    race = live.race()
    assert race.variants == ("sliced", "chunked ROWS=8")
    assert race.turns_s[0].shape == (2, 2, 2)
    assert (race.turns_s[0] > 0).all()
    assert live.chosen[1].deviation is not None
    assert live.chosen[1].deviation < 1e-8
    assert "thread" in live.chosen[1].engine
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_a_fine_race_between_workers_has_more_blocks_and_tries_interrupted_turns_again():
    office = Office(run_s={"naive": 0.01, "cached": 0.01})
    live = ProcessRace([[entrant("naive")], [entrant("cached")]], start=office, is_fine=True)
    live.run(quiet)
    assert [len(turns_s) for turns_s in live.race().turns_s] == [30]
    assert {worker.environment.variables[-1][0] for worker in office.workers} == {"MLPPROF_PADDING"}
    assert office.tries == {3}
