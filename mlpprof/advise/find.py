"""`find`: run a program in its own process, record its step, and report what could be faster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mlpprof import catalog
from mlpprof.errors import UsageError
from mlpprof.machine.blas import worker_environment
from mlpprof.process import Progress
from mlpprof.profile.program import profile_step as step_of_program
from mlpprof.profile.request import Request
from mlpprof.programs.name import is_program
from mlpprof.programs.request import ProgramRequest, request_for
from mlpprof.programs.runs import Runs, how_often
from mlpprof.results.advice import Advice, Finding, Place
from mlpprof.results.step_profile import StepProfile
from mlpprof.workloads import DEFAULT_WORKLOAD, get_workload

WORKER = "mlpprof.advise.worker"


@dataclass(frozen=True)
class Subject:
    """The program to analyse.

    target: a program as `ProgramName` reads it ('train.py', 'work.ipynb', '-m package.module', each perhaps with
    '@REF'), or the name of one of the catalog's variants. step: the training step as
    'Class.method', 'function', 'file.py:Class.method', or 'LINE' or 'file.py:LINE' of the loop whose body it is; None
    to have it found. arguments: for the program. include, exclude: file name patterns of modules that are instrumented
    though they are in an installed library, or not although they are the user's.
    request, batch: what a variant trains on; None takes the default workload. threads: of BLAS; None leaves them as
    they are for a program, and takes one for a variant, as `mlpprof profile` does. allow_writes: let a program write
    files outside temporary folders; else the attempt ends its run.
    """

    target: str | Path
    step: str | None = None
    arguments: Sequence[str] = ()
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    request: Request | None = None
    batch: int | None = None
    threads: int | None = None
    allow_writes: bool = False

    @property
    def how_often(self) -> str:
        """How often the program is run; never more often than this says."""
        return how_often(self.step)

    @property
    def is_program(self) -> bool:
        """Whether the target is a program, and not a variant."""
        return is_program(str(self.target))

    @cached_property
    def program(self) -> ProgramRequest:
        """The request for the program, with an open step. Raises UsageError if there is no such file or git ref."""
        return request_for(
            self.target,
            arguments=self.arguments,
            include=self.include,
            exclude=self.exclude,
            allow_writes=self.allow_writes,
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
    message, environment = _message(held)
    runs = Runs(WORKER, environment, message, held.program.name.short if held.is_program else str(held.target))
    answer = runs.recorded("advise", progress or (lambda what, share: None))
    findings = tuple(_finding(one) for one in answer.pop("findings"))
    return Advice(**{**answer, "findings": findings, "notes": tuple(answer["notes"])})


def profile_step(subject: Subject, *, progress: Progress | None = None) -> StepProfile:
    """The phases and expressions of a program's step. Raises as `find`."""
    return step_of_program(replace(subject.program, step=subject.step), progress, subject.threads)


def _message(subject: Subject) -> tuple[dict[str, Any], dict[str, str]]:
    """The message to the worker, and the environment that it runs in."""
    base = {"MPLBACKEND": "Agg", **os.environ}  # a window would wait until the user closes it
    message: dict[str, Any] = {"step": subject.step, "how_often": subject.how_often}
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
    step = subject.step or f"{entry.path.name}:{entry.class_name or catalog.CLASS_NAME}.train_step"
    message |= {"step": step, "request": request.to_json(), "batch": batch}
    return message, worker_environment(base, subject.threads or 1, False)


def _finding(message: dict[str, Any]) -> Finding:
    changed: dict[str, Callable[[Any], Any]] = {
        "payoff_s": tuple,
        "payoff_share": tuple,
        "related": lambda places: tuple(Place(**place) for place in places),
    }
    return Finding(**{name: changed.get(name, lambda x: x)(value) for name, value in message.items()})
