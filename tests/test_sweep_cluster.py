"""Sweeps on dask.distributed."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed.scheduler import KilledWorker
from sweeps import CLASS, cells, trivial

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_USAGE, UsageError, WorkerDied
from mlpprof.results.sweep import DONE
from mlpprof.sweep.cluster import DaskPool, answer_of, local_client, remote_client, require_same_versions
from mlpprof.sweep.grid import Cell
from mlpprof.sweep.measure import Answer
from mlpprof.sweep.run import Sweeping


def killed_once(folder: Path, cell: Cell) -> Answer:
    """The first measurement kills its worker, and then nothing is measured before the progress has shown where."""
    killed, seen = folder / "killed", folder / "seen"
    if not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    while not seen.exists():
        time.sleep(0.01)
    return trivial(cell)


def named_class() -> str:
    return CLASS


@pytest.mark.slow
def test_a_killed_worker_of_a_local_cluster_is_replaced_and_its_cell_measured_again(tmp_path: Path):
    folder = tmp_path / "cells"

    def look(what: str, share: float) -> None:
        if (tmp_path / "killed").exists() and re.search(r"127\.0\.0\.1:\d+: (naive|cached) 20-8-5-3 batch", what):
            (tmp_path / "seen").touch()

    with local_client() as client:
        pool = DaskPool(client, partial(killed_once, tmp_path), named_class, pytest.fail)
        sweeping = Sweeping(cells(), folder, pool)
        sweeping.run(look)
    assert [(one.state, one.tries) for one in sweeping.shown] == [(DONE, 2), (DONE, 1), (DONE, 1), (DONE, 1)]
    assert {path.name for path in folder.iterdir()} == {one.file for one in sweeping.shown}


def test_a_scheduler_that_does_not_answer_is_named():
    with (
        pytest.raises(UsageError, match=r"the scheduler tcp://127.0.0.1:1 cannot be reached within 0 seconds"),
        remote_client("tcp://127.0.0.1:1", None, within_s=0.2),
    ):
        pass


def test_a_missing_scheduler_file_is_named(tmp_path: Path):
    with (
        pytest.raises(UsageError, match=r"cannot read the scheduler's address from .*none.json"),
        remote_client(None, tmp_path / "none.json"),
    ):
        pass


@dataclass(eq=False)
class Future:
    """A future of dask that is done. error: raised when its result is fetched."""

    error: Exception
    status: str = "error"

    def result(self) -> Answer:
        raise self.error


@pytest.mark.parametrize(("allowed_failures", "kind"), [(0, "WorkerKilled"), (3, "WorkerDied")])
def test_a_worker_may_die_with_the_answer_and_dask_may_have_repeated_the_cell(allowed_failures: int, kind: str):
    answer = answer_of(Future(KilledWorker("cell-0-1", SimpleNamespace(address="tcp://a:1"), allowed_failures)))
    assert (answer.content, answer.kind) == (b"", kind)
    assert "the worker tcp://a:1 died" in answer.error


def test_an_unexpected_error_of_a_node_fails_its_cell():
    assert answer_of(Future(ZeroDivisionError("by zero"))).error == "ZeroDivisionError: by zero"


@dataclass
class ClientThatLost:
    """A client that has lost something; of_future: the status that its futures get."""

    of_future: str
    status: str = "connecting"

    def submit(self, *arguments: Any, **options: Any) -> Future:
        return Future(OSError(), self.of_future)


def test_an_answer_that_was_lost_with_its_worker_does_not_mean_that_the_scheduler_is_gone():
    pool = DaskPool(ClientThatLost("lost"), trivial, named_class, pytest.fail)
    pool.submit(0, cells()[0])
    assert not pool.has_lost_scheduler()


def test_a_lost_scheduler_ends_the_sweep_in_one_sentence():
    pool = DaskPool(ClientThatLost("cancelled"), trivial, named_class, pytest.fail)
    assert list(pool.ended(0.0)) == []
    pool.submit(0, cells()[0])
    with pytest.raises(WorkerDied, match="the connection to the scheduler is lost; start it, and run the same"):
        list(pool.ended(0.0))


class ClientOfTwoOnOneHost:
    """A client of a cluster elsewhere, where two workers run on one node and a third has another resource."""

    cluster = None

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        ours = {"host": "node1", "resources": {"mlpprof": 1.0}}
        return {"workers": {"tcp://node1:1": ours, "tcp://node1:2": ours, "tcp://node1:3": {"host": "node1"}}}

    def run(self, function: Callable[..., str], *arguments: Any, workers: list[str], on_error: str) -> dict[str, str]:
        return {worker: function(*arguments) for worker in workers}


def test_two_workers_on_one_node_are_refused():
    pool = DaskPool(ClientOfTwoOnOneHost(), trivial, named_class, pytest.fail)
    assert pool.slots() == 2
    with pytest.raises(UsageError, match="2 workers run on node1, and their cells would disturb each other"):
        pool.classes()


class ClientOfOther:
    """A client that warns of versions as dask's does."""

    def get_versions(self, check: bool, packages: list[str]) -> dict[str, Any]:
        assert check and "mlpprof" in packages
        warnings.warn("Mismatched versions found\n\n| numpy | 2.3 | 2.2 |", stacklevel=1)
        return {}


def test_other_versions_at_a_worker_are_refused_in_the_words_of_dask():
    with pytest.raises(
        UsageError, match=r"different versions.*\n  Mismatched versions found\n  \| numpy \| 2.3 \| 2.2 \|"
    ):
        require_same_versions(ClientOfOther())


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("cachd", "there is no variant 'cachd'; did you mean 'cached'"),
        ("", "there is nothing to measure"),
        ("cached --over cached", "--over cached is the only target"),
        ("cached --batch 8,x", "'x' is not a batch size"),
        ("cached --threads 1,-2", "--threads -2: expected numbers from 0 to 1024"),
        ("cached --dtype float16", "--dtype float16: expected float32 or float64"),
        ("cached --layers 784-10,20-10", "layers 20-10 have 20 inputs"),
        ("cached --scheduler tcp://a:1 --scheduler-file b", "name two schedulers"),
        ("cached --budget 5", "--budget 5 is for races; add --over TARGET"),
        ("cached --grid none.toml", "cannot read the grid in none.toml"),
        ("cached --grid wrong.toml", "wrong.toml has 'bacth'; did you mean 'batch'"),
        ("train.py --batch 8", "--batch cannot be used with programs"),
        ("train.py --over naive", "'train.py' is a program, but 'naive' is not"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(typed: str, words: str, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("wrong.toml").write_text("bacth = [8]\n")
    Path("train.py").write_text("for _ in range(9):\n    pass\n")
    assert run(["sweep", *typed.split(), "-o", str(tmp_path / "out")]) == EXIT_USAGE
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_grid_file_has_the_options_and_what_is_typed_has_priority(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("grid.toml").write_text('targets = ["naive"]\nworkload = "tiny"\nbatch = [8, 999]\ndtype = "float32"\n')
    assert run(["sweep", "--grid", "grid.toml"]) == EXIT_USAGE
    assert "batch 999 is out of range" in capsys.readouterr().err
    assert run(["sweep", "--grid", "grid.toml", "--batch", "8", "--over", "naive"]) == EXIT_USAGE
    assert "--over naive is the only target" in capsys.readouterr().err


def test_the_grid_of_the_study_can_be_swept(tmp_path: Path, capsys):
    grid = Path(__file__).parents[1] / "reports" / "studies" / "sweep.toml"
    two = ["--scheduler", "tcp://a:1", "--scheduler-file", "b"]  # what is refused after the cells
    assert run(["sweep", "--grid", str(grid), *two, "-o", str(tmp_path / "out")]) == EXIT_USAGE
    assert "name two schedulers" in capsys.readouterr().err


def test_without_dask_the_command_shows_the_line_that_installs_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run(["sweep", "naive"]) == EXIT_USAGE
    assert "pip install 'mlpprof[cluster]'" in capsys.readouterr().err
