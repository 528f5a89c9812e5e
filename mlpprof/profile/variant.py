"""`profile` and `check` in the parent process: they start workers, and make records of their answers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import mlpprof
from mlpprof.catalog import find, find_all
from mlpprof.engines.members import RANKS_VARIABLE, WORKERS_VARIABLE, members_wanted
from mlpprof.engines.mpi_hosts import require_same_hosts
from mlpprof.engines.mpiexec import EXTRA, find_mpiexec, has_mpi4py, mpiexec_command
from mlpprof.errors import CheckFailed, MissingExtra, VariantCrash, WorkerDied, WorkerKilled
from mlpprof.machine.blas import worker_environment
from mlpprof.machine.facts import commit_facts
from mlpprof.machine.limits import Limits, limits_for, names_for, tile_names
from mlpprof.machine.linux import affinity
from mlpprof.process import Progress, Worker, part_of
from mlpprof.profile.request import Request
from mlpprof.results import BatchResult, CheckResult, DataRecord, LineProfile, Run, StackProfile, VariantRecord
from mlpprof.results.json import decode


def mpiexec_for(variants: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """The command that starts a worker as rank 0 of several, if one of these variants is an MPI program; else empty.

    There are as many ranks as --ranks says, else as other variants have workers. Raises MissingExtra without mpiexec,
    and UsageError if the machines of --hostfile cannot be used. Without mpi4py the command is empty too: the variant
    itself reports what is missing.
    """
    if not any(find(variant).extra == EXTRA for variant in variants) or not has_mpi4py():
        return []
    cpus = len(affinity() or ()) or os.cpu_count() or 1
    ranks = members_wanted(environment, RANKS_VARIABLE, members_wanted(environment, WORKERS_VARIABLE, cpus))
    if ranks == 1:
        return []
    command = mpiexec_command(ranks, environment)
    require_same_hosts(command, environment)
    return command


def start_worker(
    module: str, environment: Mapping[str, str], variants: Iterable[str], limit_s: float | None = None
) -> Worker:
    """A worker for these variants; raises what `mpiexec_for` raises. limit_s: as for `Worker`."""
    names = list(variants)
    runs = " and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} other variants"
    return Worker(module, environment, mpiexec_for(names, environment), limit_s=limit_s, runs=runs)


WORKER = "mlpprof.profile.worker"

DEFAULT_THREADS = 1


@dataclass(frozen=True)
class Settings:
    """How to measure: batch sizes, timed steps a pass (None: as the time allows), BLAS threads, extra views."""

    batches: Sequence[int]
    steps: int | None = None
    threads: int | None = DEFAULT_THREADS
    native_blas: bool = False
    check: bool = True
    lines: bool = False
    stacks: bool = False
    limits: bool = True
    """Compare the steps with the machine's limits; those that are not in the cache yet are measured at the end."""


def profile(request: Request, workload: str, settings: Settings, command: str, progress: Progress) -> Run:
    """Measure one variant at every batch size, each in a worker of its own, and return the Run.

    With a fresh process for each batch size, the state of the allocator and of BLAS does not pass from one to the next.
    Raises CheckFailed before anything is timed if the variant is wrong, and whatever `Worker.call` raises.
    """
    results: list[BatchResult] = []
    environment = worker_environment(os.environ, settings.threads, settings.native_blas)
    checked: CheckResult | None = None
    opened: dict[str, Any] = {}
    lines = stacks = None
    share = 1 / len(settings.batches)
    for i, batch in enumerate(settings.batches):
        part = part_of(progress, i * share, share, f"batch {batch}")
        with start_worker(WORKER, environment, [request.variant]) as worker:
            answer = worker.call("prepare", part, request=request.to_json())
            if not opened:
                opened = {**answer, **worker.call("describe", part, key=request.variant)}
                if settings.check:
                    checked = CheckResult(**worker.call("quick_check", part, key=request.variant))
                    if checked.ok is False:
                        raise CheckFailed(f"{checked.message}; nothing was timed (mlpprof check shows more)")
            results.append(
                decode(
                    BatchResult,
                    worker.call("profile", part, key=request.variant, batch=batch, steps=settings.steps),
                )
            )
            if i == 0 and settings.lines:
                lines = decode(LineProfile, worker.call("lines", part, key=request.variant, batch=batch))
            if i == 0 and settings.stacks:
                stacks = StackProfile(**worker.call("stacks", part, key=request.variant, batch=batch))
    limits: Limits = {}
    notes: list[str] = []
    if settings.limits:
        operations = [operation for result in results for operation in result.operations]
        names = names_for(request.network, opened["dtype"], settings.batches, operations)
        names += tile_names(request.network, opened["dtype"], settings.batches)
        limits = limits_for(names, opened["machine"], environment, progress, notes.append)
    source = opened["variant"]["source"]
    return Run(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        mlpprof_version=mlpprof.__version__,
        command=command,
        variant=VariantRecord(**opened["variant"], source_sha256=hashlib.sha256(source.encode()).hexdigest()),
        workload=workload,
        network=request.network,
        dtype=opened["dtype"],
        seed=request.seed,
        threads=settings.threads,
        native_blas=settings.native_blas,
        data=DataRecord(**opened["data"]),
        check=checked,
        machine={**opened["machine"], **commit_facts(Path.cwd())},
        results=tuple(results),
        lines=lines,
        stacks=stacks,
        warnings=(*opened["warnings"], *_check_warnings(checked), *_loss_warnings(results), *notes),
        limits=dict(limits),
    )


def check(variants: Sequence[str], cases: int, seed: int, progress: Progress) -> list[CheckResult]:
    """Check each variant in a worker of its own; if its extra is not installed, it is skipped, with a hint.

    A variant of several ranks is checked with a single rank if there is no mpiexec.
    """
    found = []
    environment = worker_environment(os.environ, DEFAULT_THREADS, False)
    for i, (name, entry) in enumerate(zip(variants, find_all(variants), strict=True)):
        part = part_of(progress, i / len(variants), 1 / len(variants))
        part(f"checking {name}", 0.0)
        with start_worker(WORKER, environment, [name] if find_mpiexec() else []) as worker:
            try:
                answer = worker.call("check", part, variant=name, cases=cases, seed=seed, called=entry.name)
            except MissingExtra as missing:
                found.append(CheckResult(name, None, skipped=str(missing)))
            except WorkerKilled as killed:
                found.append(CheckResult(name, None, skipped="not checked", message=f"{name}: {killed}"))
            except (VariantCrash, WorkerDied) as crash:
                found.append(CheckResult(name, False, message=f"{name}: {crash}"))
            else:
                found.append(CheckResult(**answer))
    return found


def _check_warnings(checked: CheckResult | None) -> list[str]:
    return [checked.message] if checked is not None and checked.message else []


def _loss_warnings(results: Sequence[BatchResult]) -> list[str]:
    return [
        f"batch {result.batch}: the loss became NaN or infinite, so the times may be those of arithmetic on NaN; "
        "use a smaller --rate"
        for result in results
        if not np.isfinite(result.losses).all()
    ]
