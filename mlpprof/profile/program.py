"""`profile` of a user's own program: it runs unchanged in workers, and what its step does becomes a Run."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import mlpprof
from mlpprof.errors import MlpprofError
from mlpprof.machine.blas import worker_environment
from mlpprof.machine.facts import commit_facts
from mlpprof.machine.limits import DTYPES, Limits, limits_for, names_for
from mlpprof.process import Progress, part_of
from mlpprof.programs.request import ProgramRequest
from mlpprof.programs.runs import Runs, contained, how_often
from mlpprof.results import (
    BatchResult,
    Expression,
    LineProfile,
    Operation,
    ProgramRecord,
    Run,
    StackProfile,
    StepProfile,
    VariantRecord,
)
from mlpprof.results.json import decode
from mlpprof.results.program_time import ProgramTime

WORKER = "mlpprof.profile.program_worker"

View = TypeVar("View", LineProfile, StackProfile)


@dataclass(frozen=True)
class ProgramSettings:
    """How to measure a program. threads: of BLAS, None for its own. lines, stacks: views with runs of their own.

    limits: compare the step with the machine's limits; those that are not in the cache yet are measured at the end.
    """

    threads: int | None = None
    native_blas: bool = False
    lines: bool = False
    stacks: bool = False
    limits: bool = True

    def how_often(self, request: ProgramRequest) -> str:
        """How often the program is run; never more often than this says."""
        return how_often(request.step, self.lines + self.stacks)


def profile_program(request: ProgramRequest, settings: ProgramSettings, command: str, progress: Progress) -> Run:
    """Record the step of a program, and return the Run.

    Raises UsageError (a step that never runs, no step found, a file that the program wants to write), ProgramEnded, or
    VariantCrash where the program itself ends with an exception before the step was recorded.
    """
    begun_s = time.perf_counter()
    base = {"MPLBACKEND": "Agg", **os.environ}  # a window would wait until the user closes it
    environment = base
    if settings.threads or settings.native_blas:
        environment = worker_environment(base, settings.threads, settings.native_blas)
    message = {"program": request.to_json(), "step": request.step, "how_often": settings.how_often(request)}
    runs = Runs(WORKER, environment, message, request.name.short, contained(request))
    views = settings.lines + settings.stacks
    answer = runs.recorded("profile", part_of(progress, 0.0, 1 - 0.2 * views))
    notes: list[str] = []
    lines = _view(LineProfile, "lines", settings.lines, runs, part_of(progress, 1 - 0.2 * views, 0.2), notes)
    stacks = _view(StackProfile, "stacks", settings.stacks, runs, part_of(progress, 0.8, 0.2), notes)
    result = decode(BatchResult, answer["result"])
    dtype = dtype_of(result.operations)
    limits: Limits = {}
    if settings.limits and result.operations:
        same = worker_environment(base, _threads(answer["machine"]) or settings.threads, settings.native_blas)
        names = names_for(None, dtype, (), result.operations)
        limits = limits_for(names, answer["machine"], same, progress, notes.append)
    source = answer["source"]
    return Run(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        mlpprof_version=mlpprof.__version__,
        command=command,
        variant=VariantRecord(
            name=request.name.text,
            summary=answer["summary"],
            parent=None,
            source=source,
            source_sha256=hashlib.sha256(source.encode()).hexdigest(),
        ),
        workload=None,
        network=None,
        dtype=dtype,
        seed=None,
        threads=settings.threads,
        native_blas=settings.native_blas,
        data=None,
        check=None,
        machine={**answer["machine"], **commit_facts(Path.cwd())},
        results=(result,),
        lines=lines,
        stacks=stacks,
        warnings=(*answer["notes"], *crowded(answer["machine"]), *notes),
        limits=dict(limits),
        program=ProgramRecord(
            step=answer["step"],
            phases_from=answer["phases_from"],
            expressions=decode(tuple[Expression, ...], answer["expressions"]),
            sources=answer["sources"],
            arguments=request.arguments,
            is_found=request.step is None,
            loading_s=answer["loading_s"],
            runs=runs.count,
            measuring_s=time.perf_counter() - begun_s,
            page_faults=answer["page_faults"],
            notes=tuple(answer["notes"]),
            time=None if answer["time"] is None else decode(ProgramTime, answer["time"]),
        ),
    )


def _view(
    kind: type[View], call: str, is_wanted: bool, runs: Runs, progress: Progress, notes: list[str]
) -> View | None:
    """A further view; if its own run of the program fails, a note says so, and what was measured before is kept."""
    if not is_wanted:
        return None
    try:
        return decode(kind, runs.run(call, progress))
    except MlpprofError as error:
        notes.append(f"there is no view of the {call}: {error}")
        return None


def profile_step(request: ProgramRequest, progress: Progress | None = None, threads: int | None = None) -> StepProfile:
    """The phases and expressions of a program's step, not compared with any limit. Raises as `profile_program`."""
    settings = ProgramSettings(threads=threads, limits=False)
    return profile_program(request, settings, "", progress or (lambda what, share: None)).step_profile


def dtype_of(operations: tuple[Operation, ...]) -> str:
    """float32 or float64: that of most arithmetic; Python's own numbers are float64."""
    flop = dict.fromkeys(DTYPES, 0)
    for one in operations:
        if one.dtype in flop:
            flop[one.dtype] += one.flop
    return max(reversed(DTYPES), key=lambda dtype: flop[dtype])


def crowded(machine: Mapping[str, Any]) -> list[str]:
    """A warning if BLAS had several threads while other programs kept the CPUs busy: all wait for the slowest."""
    load, cpus, threads = machine.get("load_avg_1min"), machine.get("cpu_count"), _threads(machine) or 1
    if load is None or not cpus or threads == 1 or load <= cpus:
        return []
    return [
        f"other programs kept the CPUs busy (load {load:.1f} on {cpus} CPUs), and the {threads} threads of BLAS wait "
        "for each other then: measure again when the machine is idle, or add --threads 1"
    ]


def _threads(machine: Mapping[str, Any]) -> int | None:
    """The threads of NumPy's BLAS in the program, which may have set them itself."""
    found = [one.get("threads") for one in machine.get("blas") or [] if one.get("loaded_by") != "scipy"]
    return max((int(one) for one in found if one), default=None)
