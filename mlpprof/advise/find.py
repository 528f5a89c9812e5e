"""`find`: run a program in its own process, record its step, and report what could be faster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mlpprof import catalog
from mlpprof.advise.editing.cure import Cure
from mlpprof.errors import UsageError
from mlpprof.machine.blas import worker_environment
from mlpprof.process import NOTHING, Progress
from mlpprof.profile.program import profile_step as step_of_program
from mlpprof.profile.request import Request
from mlpprof.programs.name import is_program
from mlpprof.programs.request import WAIT_S, ProgramRequest, request_for
from mlpprof.programs.runs import Runs, contained, how_often
from mlpprof.results.advice import Advice, Expensive, Finding
from mlpprof.results.json import decode
from mlpprof.results.program_time import ProgramTime
from mlpprof.results.step_profile import StepProfile
from mlpprof.workloads import DEFAULT_WORKLOAD, get_workload

WORKER = "mlpprof.advise.worker"


@dataclass(frozen=True)
class Subject:
    """The program to analyse.

    target: a program as `ProgramName` reads it ('train.py', 'work.ipynb', '-m package.module', each perhaps with
    '@REF'), or the request for one, or the name of one of the catalog's variants. step: the training step as
    'Class.method', 'function', 'file.py:Class.method', or 'LINE' or 'file.py:LINE' of the loop whose body it is; None
    to have it found. arguments: for the program. include, exclude: file name patterns of modules that are instrumented
    though they are in an installed library, or not although they are the user's.
    request, batch: what a variant trains on; None takes the default workload. threads: of BLAS; None leaves them as
    they are for a program, and takes one for a variant, as `mlpprof profile` does. allow_writes: let a program write
    files; else it writes into a copy of its folder that is dropped, and an attempt to write elsewhere ends its run.
    has_copy: whether there may be such a copy; without it, or where the system does not allow it, an attempt to write
    outside temporary folders ends the run. wait_s: a program is ended if it has not reached its step by then.
    """

    target: str | Path | ProgramRequest
    step: str | None = None
    arguments: Sequence[str] = ()
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    request: Request | None = None
    batch: int | None = None
    threads: int | None = None
    allow_writes: bool = False
    has_copy: bool = True
    wait_s: float = WAIT_S

    @property
    def how_often(self) -> str:
        """How often the program is run; never more often than this says."""
        return how_often(self.step)

    @property
    def is_program(self) -> bool:
        """Whether the target is a program, and not a variant."""
        return isinstance(self.target, ProgramRequest) or is_program(str(self.target))

    @cached_property
    def program(self) -> ProgramRequest:
        """The request for the program, with an open step. Raises UsageError if there is no such file or git ref."""
        if isinstance(self.target, ProgramRequest):
            return replace(
                self.target,
                arguments=tuple(self.arguments),
                include=tuple(self.include),
                exclude=tuple(self.exclude),
                allow_writes=self.allow_writes,
                wait_s=self.wait_s,
            )
        return request_for(
            self.target,
            arguments=self.arguments,
            include=self.include,
            exclude=self.exclude,
            allow_writes=self.allow_writes,
            wait_s=self.wait_s,
        )


def find(
    subject: Subject | str | Path,
    *,
    step: str | None = None,
    arguments: Sequence[str] = (),
    allow_writes: bool = False,
    progress: Progress | None = None,
) -> Advice:
    """Findings on a program's training step, the largest payoff first.

    Raises UsageError (no such file, a step that never runs, no step found, a file that the program wants to write), or
    VariantCrash where the program itself ends with an exception before the step was recorded.
    """
    held = subject if isinstance(subject, Subject) else Subject(subject, step, arguments, allow_writes=allow_writes)
    return analyse(held, progress or (lambda what, share: None)).advice


@dataclass(frozen=True)
class Analysis:
    """The findings on a program, the alternative cures of each, and the texts of all its own files by path."""

    advice: Advice
    cures: tuple[tuple[Cure, ...], ...]
    texts: Mapping[str, str]


def analyse(held: Subject, progress: Progress, how_often: str | None = None) -> Analysis:
    """The findings with their cures. how_often: if the program runs more often than for that. Raises as `find`."""
    message, environment = _message(held)
    message["how_often"] = how_often or held.how_often
    name, before = str(held.target), NOTHING
    if held.is_program:
        name, before = held.program.name.short, contained(held.program) if held.has_copy else NOTHING
    runs = Runs(WORKER, environment, message, name, before)
    answer = runs.recorded("advise", progress)
    known = {name: decode(tuple[Finding, ...], answer.pop(name)) for name in ("findings", "small")}
    expensive = decode(tuple[Expensive, ...], answer.pop("expensive"))
    cures = decode(tuple[tuple[Cure, ...], ...], answer.pop("cures"))
    texts = answer.pop("texts")
    program = decode(ProgramTime, answer["program"]) if answer["program"] is not None else None
    parts = {**known, "expensive": expensive, "notes": tuple(answer["notes"]), "program": program}
    return Analysis(Advice(**{**answer, **parts}), cures, texts)


def profile_step(subject: Subject, *, progress: Progress | None = None) -> StepProfile:
    """The phases and expressions of a program's step. Raises as `find`."""
    return step_of_program(replace(subject.program, step=subject.step), progress, subject.threads)


def _message(subject: Subject) -> tuple[dict[str, Any], dict[str, str]]:
    """The message to the worker, and the environment that it runs in."""
    base = {"MPLBACKEND": "Agg", **os.environ}  # a window would wait until the user closes it
    message: dict[str, Any] = {"step": subject.step}
    if subject.is_program:
        environment = worker_environment(base, subject.threads, False) if subject.threads else base
        return {**message, "program": subject.program.to_json()}, environment
    entry = catalog.find(str(subject.target))
    if subject.arguments:
        raise UsageError(f"'{entry.name}' is a variant and takes no arguments; found {' '.join(subject.arguments)}")
    workload = get_workload(DEFAULT_WORKLOAD)
    request = subject.request or Request(entry.reference, workload.network, workload.source)
    batch = subject.batch or workload.batch
    request = replace(request, variant=entry.reference)
    step = subject.step or f"{entry.path.name}:{catalog.class_name_in(entry)}.train_step"
    message |= {"step": step, "request": request.to_json(), "batch": batch}
    return message, worker_environment(base, subject.threads or 1, False)
