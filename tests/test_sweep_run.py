"""The loop of a sweep, with an injected measurement and no cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import pytest
from pages import make_comparison
from sweeps import CLASS, CONTENT, PoolOfOne, busy, cells, trivial

from mlpprof.cli.sweep import swept
from mlpprof.errors import EXIT_USAGE, UsageError, WorkerDied, WorkerKilled
from mlpprof.results.races_on_disk import races_bytes
from mlpprof.results.sweep import DONE, FAILED, INVALID, WAITING
from mlpprof.sweep.grid import Cell
from mlpprof.sweep.measure import Answer, is_crowded
from mlpprof.sweep.run import REPEATS, Sweeping


def quietly(what: str, share: float) -> None:
    pass


def run(folder: Path, pool: PoolOfOne, grid: list[Cell] | None = None) -> Sweeping:
    sweeping = Sweeping(grid or cells(), folder, pool)
    sweeping.run(quietly)
    return sweeping


def test_every_cell_is_kept_in_a_file_of_its_own(tmp_path: Path):
    shown: list[str] = []
    sweeping = Sweeping(cells(), tmp_path, PoolOfOne())
    sweeping.run(lambda what, share: shown.append(what))
    assert [one.state for one in sweeping.shown] == 4 * [DONE]
    assert {path.name for path in tmp_path.iterdir()} == {one.file for one in sweeping.shown}
    assert {one.machine for one in sweeping.shown} == {CLASS}
    assert all(one.step_s and one.step_s > 0 for one in sweeping.shown)
    assert shown[1] == "1 of 4 cells; here: cached 20-8-5-3 batch 10 threads 1"


def test_a_cell_that_is_done_is_not_measured_again_and_shows_the_same_figures(tmp_path: Path):
    before = run(tmp_path, PoolOfOne(), cells(["naive"]))
    pool = PoolOfOne()
    after = run(tmp_path, pool)
    assert pool.measured == [1, 3]
    assert [replace(one, tries=1) for one in after.shown[::2]] == before.shown


def test_a_damaged_file_and_one_of_another_class_of_machine_are_measured_again(tmp_path: Path):
    first = run(tmp_path, PoolOfOne(), cells(["naive"])).shown[0]
    assert first.file is not None
    (tmp_path / first.file).write_bytes(CONTENT[:-1])
    pool = PoolOfOne()
    run(tmp_path, pool, cells(["naive"]))
    assert pool.measured == [0]
    other = PoolOfOne(lambda cell: Answer(CONTENT, "another class"), "another class")
    run(tmp_path, other, cells(["naive"]))
    assert other.measured == [0, 1]
    assert len(list(tmp_path.iterdir())) == 4


def test_a_cell_of_a_busy_node_is_repeated_twice_and_then_invalid(tmp_path: Path):
    pool = PoolOfOne(busy)
    [cell] = run(tmp_path, pool, cells(["naive"], [10])).shown
    assert len(pool.measured) == 1 + REPEATS == 3
    assert (cell.state, cell.tries) == (INVALID, 3)
    assert cell.error is not None and "1.9 CPUs" in cell.error
    [kept] = tmp_path.iterdir()
    assert kept.name.endswith("-busy.h5")
    [cell] = run(tmp_path, PoolOfOne(), cells(["naive"], [10])).shown
    assert cell.state == DONE
    assert [path.name for path in tmp_path.iterdir()] == [cell.file]


@pytest.mark.parametrize(("kind", "tries"), [(WorkerKilled, 2), (WorkerDied, 1), (UsageError, 1)])
def test_a_killed_worker_costs_one_retry_and_other_errors_none(tmp_path: Path, kind: type[Exception], tries: int):
    def fails(cell: Cell) -> Answer:
        return Answer(error="it broke", kind=kind.__name__) if cell.shown.target == "naive" else trivial(cell)

    pool = PoolOfOne(fails)
    failed, done = run(tmp_path, pool, cells(batches=[10])).shown
    assert (failed.state, failed.tries, failed.error) == (FAILED, tries, "it broke")
    assert done.state == DONE
    again = PoolOfOne()
    run(tmp_path, again, cells(batches=[10]))
    assert again.measured == [0]


def test_a_race_shows_its_ratio_with_the_interval(tmp_path: Path):
    race = make_comparison()
    [cell] = run(tmp_path, PoolOfOne(lambda cell: Answer(races_bytes([race]), CLASS)), cells(["naive"], [10])).shown
    assert (cell.ratio, cell.low, cell.high) == (race.verdict.ratio, race.verdict.low, race.verdict.high)
    assert (cell.over_s, cell.step_s) == (race.race.step_s(0), race.race.step_s(1))


def test_an_interruption_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path, capsys):
    def interrupted(cell: Cell) -> Answer:
        if cell.shown.batch == 30:
            raise KeyboardInterrupt
        return trivial(cell)

    grid = cells()
    with pytest.raises(
        click.Abort, match="2 of 4 cells are done, 2 waiting. What is done is kept in .*, and the same command"
    ):
        options = {"workload": "tiny", "out": tmp_path, "as_json": True}
        swept(Sweeping(grid, tmp_path, PoolOfOne(interrupted)), grid, options)
    printed = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in printed["cells"]] == [DONE, DONE, WAITING, WAITING]
    assert json.loads((tmp_path / "sweep.json").read_text()) == printed


def test_a_file_that_cannot_be_written_ends_the_sweep_in_one_sentence(tmp_path: Path):
    def fills(cell: Cell) -> Answer:
        (tmp_path / cell.file_name(CLASS)).mkdir()  # root may write anywhere, but not over a folder
        return trivial(cell)

    with pytest.raises(UsageError, match="cannot write .*; 0 of 4 cells are done and kept. Free some space") as error:
        run(tmp_path, PoolOfOne(fills))
    assert error.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    ("others", "threads", "cpus", "crowded"),
    [(0.1, None, 2, False), (0.5, None, 2, True), (1.0, 1, 2, False), (1.5, 1, 2, True), (0.5, 1, 1, True)],
)
def test_a_node_is_busy_if_others_used_cpus_that_the_cell_needed(
    others: float, threads: int | None, cpus: int, crowded: bool
):
    assert is_crowded(others, threads, cpus) is crowded
