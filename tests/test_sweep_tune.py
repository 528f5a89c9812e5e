"""`mlpprof autotune` on a cluster, with an injected search and no cluster."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from runs import MACHINE
from sweeps import CLASS, PoolOfOne
from test_compare_autotune import tuning

from mlpprof.data import DataSource
from mlpprof.errors import DataError, UnsupportedNetwork, UsageError, WorkerKilled
from mlpprof.profile.request import Request
from mlpprof.results.json import encode
from mlpprof.results.tuning import Tuning
from mlpprof.sweep import tune
from mlpprof.sweep.grid import Cell
from mlpprof.sweep.measure import Answer
from mlpprof.sweep.tune import one_machine, tune_cell, tune_on_node
from mlpprof.workloads import resolve

TINY = resolve("tiny")


def tuned(pool: PoolOfOne, said: list[str] | None = None, source: DataSource = TINY.source) -> Tuning:
    request = Request("sliced", TINY.network, source, "float32")
    say = pytest.fail if said is None else said.append
    return tune_on_node(pool, CLASS, request, TINY, 12.0, lambda what, share: None, say)


def answered(cell: Cell) -> Answer:
    assert (cell.workload, cell.shown.batch) == ("tiny", TINY.batch)
    return Answer(json.dumps(encode(tuning())).encode(), CLASS)


def test_the_result_of_the_node_comes_back_whole():
    assert tuned(PoolOfOne(answered)) == tuning()


def test_a_worker_that_dies_costs_one_more_try():
    tries: list[Cell] = []

    def dies_once(cell: Cell) -> Answer:
        tries.append(cell)
        return answered(cell) if len(tries) == 2 else Answer(error="it died", kind=WorkerKilled.__name__)

    assert tuned(PoolOfOne(dies_once)) == tuning()
    with pytest.raises(WorkerKilled, match="it died"):
        tuned(PoolOfOne(lambda cell: Answer(error="it died", kind=WorkerKilled.__name__)))


def test_a_busy_node_is_reported_and_an_error_of_the_search_is_raised_here():
    said: list[str] = []
    tuned(PoolOfOne(lambda cell: replace(answered(cell), others=1.9, is_busy=True)), said)
    assert said == ["other programs used 1.9 CPUs of the node meanwhile; --again measures again"]
    with pytest.raises(UnsupportedNetwork, match="no candidate can do it"):
        tuned(PoolOfOne(lambda cell: Answer(error="no candidate can do it", kind="UnsupportedNetwork")))


def test_data_that_the_node_does_not_have_is_named_with_the_node():
    with pytest.raises(DataError, match=r"on .+: there is no data file 'gone.h5'.*; every node needs the data at the"):
        tuned(PoolOfOne(lambda cell: tune_cell(1.0, cell)), source=DataSource(path="gone.h5"))


def test_nodes_of_different_classes_are_refused():
    assert one_machine([MACHINE, dict(MACHINE)]) == MACHINE
    with pytest.raises(UsageError, match=f"different classes of machines: .*{CLASS}.*use a scheduler whose workers"):
        one_machine([MACHINE, {**MACHINE, "cpu_core_count": 96}])
    with pytest.raises(UsageError, match=f"different classes of machines: .*{CLASS}.*use a scheduler whose workers"):
        tuned(PoolOfOne(lambda cell: replace(answered(cell), machine="that of a worker that joined later")))


def test_workers_that_do_not_answer_are_reported():
    with pytest.raises(UsageError, match="no worker could describe its machine; .*what the dask workers have printed"):
        one_machine([])


def test_the_answer_of_a_search_has_the_class_of_its_node(monkeypatch):
    monkeypatch.setattr(tune, "autotune", lambda *arguments: tuning())
    monkeypatch.setattr(tune, "class_of_node", lambda native_blas: f"native {native_blas}")
    seen: list[Answer] = []
    with pytest.raises(UsageError, match="different classes"):
        tuned(PoolOfOne(lambda cell: seen.append(tune_cell(1.0, cell)) or seen[0]))
    assert seen[0].machine == "native True"
