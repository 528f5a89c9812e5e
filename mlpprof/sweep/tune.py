"""`mlpprof autotune` on a node of a cluster: the whole search is one cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mlpprof.compare.autotune import autotune
from mlpprof.errors import UsageError
from mlpprof.machine.facts import machine_class
from mlpprof.process import Progress, revive
from mlpprof.profile.request import Request
from mlpprof.results.json import decode, encode
from mlpprof.results.sweep import SweepCell
from mlpprof.results.tuning import Tuning
from mlpprof.sweep.grid import Cell
from mlpprof.sweep.measure import Answer, answer, class_of_node, quietly
from mlpprof.sweep.run import Pool, measure_one
from mlpprof.workloads import Workload


def one_machine(machines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The machine of all nodes.

    Raises UsageError if there is none, or if they are not of one class, because a result is for one class.
    """
    by_class = {machine_class(machine): machine for machine in machines}
    if not by_class:
        raise UsageError(
            "no worker could describe its machine; expected an answer of one at least. See what the dask workers have "
            "printed, and run the same command again"
        )
    require_one_class(by_class)
    [machine] = by_class.values()
    return machine


def require_one_class(classes: Iterable[str]) -> None:
    """Raise UsageError if there is more than one."""
    found = sorted(set(classes))
    if len(found) > 1:
        raise UsageError(
            f"the workers run on different classes of machines: {'; '.join(found)}. A result is for one class; use a "
            "scheduler whose workers are all of the same one"
        )


def tune_cell(budget_s: float, cell: Cell) -> Answer:
    """Find the fastest variant and setting in place of the only variant of a cell; the content is a Tuning as JSON."""

    def tuned() -> tuple[bytes, str]:
        [request], batch = cell.variants, cell.shown.batch
        assert batch is not None
        found = autotune(request, cell.workload, batch, budget_s, quietly)
        return json.dumps(encode(found)).encode(), class_of_node(native_blas=True)

    return answer(cell, tuned)


def tune_on_node(
    pool: Pool,
    machine: str,
    request: Request,
    workload: Workload,
    budget_s: float,
    progress: Progress,
    say: Callable[[str], None],
) -> Tuning:
    """Search on a node of a pool that measures with `tune_cell`. machine: the class that the result is for.

    Raises what the search raises there, and UsageError if the node is of another class, since it may have joined later.
    """
    shown = SweepCell("autotune", None, workload.network.text, workload.batch, request.dtype, None)
    cell = Cell(shown, str(Path.cwd()), "", (request,), workload=workload.name)
    found = measure_one(cell, pool, progress, budget_s)
    if not found.content:
        raise revive({"kind": found.kind, "message": found.error})
    require_one_class((machine, found.machine))
    if found.is_busy:
        say(f"other programs used {found.others:.1f} CPUs of the node meanwhile; --again measures again")
    return decode(Tuning, json.loads(found.content))
