"""`find` and `profile_step`: run a program in its own process, record its step, and report what is in it.

If the step is named, the program runs once, else twice: to find the step, and to record it; each time only until enough
is known. If the step is named but runs so few times that the program ends too early, the program runs a second time,
because the number of its steps is known then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mlpprof import catalog
from mlpprof.errors import ARGUMENTS_HINT, MlpprofError, ProgramEnded, UsageError
from mlpprof.machine.blas import worker_environment
from mlpprof.process import NOTHING, Progress, Worker
from mlpprof.profile.request import Request
from mlpprof.programs import file_view
from mlpprof.programs.name import is_program
from mlpprof.programs.request import ProgramRequest, request_for
from mlpprof.results.advice import Advice, Finding, Place
from mlpprof.results.step_profile import Expression, StepProfile
from mlpprof.workloads import DEFAULT_WORKLOAD, get_workload

WORKER = "mlpprof.advise.worker"

FEWEST_TIMED = 3
"""If the program makes fewer steps than this, none of them runs without instruments when it is recorded."""


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
    files; else it writes into a copy of its folder that is dropped, and an attempt to write elsewhere ends its run.
    has_copy: whether there may be such a copy; without it, or where the system does not allow it, an attempt to write
    outside temporary folders ends the run.
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
    has_copy: bool = True

    @property
    def how_often(self) -> str:
        """How often the program is run; never more often than this says."""
        return "up to two times" if self.step is None else "once (twice if it makes fewer than 5 steps)"

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
    answer = _recorded(held, "advise", progress)
    findings = tuple(_finding(one) for one in answer.pop("findings"))
    return Advice(**{**answer, "findings": findings, "notes": tuple(answer["notes"])})


def profile_step(subject: Subject, *, progress: Progress | None = None) -> StepProfile:
    """The phases and expressions of a program's step. Raises as `find`."""
    answer = _recorded(subject, "profile", progress)
    expressions = tuple(
        Expression(**{**one, "seconds": tuple(one["seconds"]), "shape": tuple(one["shape"])})
        for one in answer.pop("expressions")
    )
    for name in ("step_s", "clocked_s", "notes"):
        answer[name] = tuple(answer[name])
    phases = {name: tuple(seconds) for name, seconds in answer.pop("phases").items()}
    return StepProfile(**answer, phases=phases, expressions=expressions)


def _recorded(subject: Subject, call: str, progress: Progress | None) -> dict[str, Any]:
    """The worker's answer on the recorded step."""
    message, environment = _message(subject)
    report = progress or (lambda what, share: None)
    name, few = message["step"], 0
    plain_s: list[float] = []
    if name is None:
        sought = _run(subject, environment, "seek", _part(report, 0.0, 0.35), program=message)
        name = message["step"] = sought["step"]
        if sought["is_all"]:
            few = len(sought["seconds"])
            plain_s = sought["seconds"] if few < FEWEST_TIMED else []
    else:
        answer = _run(subject, environment, call, _part(report, 0.0, 0.9), program=message, few=0, plain_s=[])
        if "ended" not in answer:
            return answer
        few, plain_s = answer["ended"], answer["plain_s"]
    try:
        answer = _run(subject, environment, call, _part(report, 0.35, 1.0), program=message, few=few, plain_s=plain_s)
    except MlpprofError as error:
        raise type(error)(f"{error}; {_about_second_run(subject, name, few)}") from error
    if "ended" in answer:
        raise UsageError(
            f"the step {name} ran {answer['ended']} times when the program was run again, too few to be recorded; "
            f"{_about_second_run(subject, name, few)}"
        )
    return answer


def _about_second_run(subject: Subject, step: str, few: int) -> str:
    """What the first run found out, for a program that does not run a second time in the same way."""
    name = subject.program.name.short
    if subject.step is None:
        return (
            f"this was the second run of {name}; the first run found the step {step}. If something that the first run "
            f"left behind is the problem, remove it and add --step {step}, so that one run is enough"
        )
    return (
        f"this was the second run of {name}, because the step ran only {few} times in the first one. If something that "
        "the first run left behind is the problem, remove it and let the program make at least 5 steps"
    )


def _run(
    subject: Subject, environment: dict[str, str], call: str, progress: Progress, **arguments: Any
) -> dict[str, Any]:
    """The answer of a worker that runs the program. Raises as the worker, with the last output of the program."""
    is_contained = subject.is_program and subject.has_copy and not subject.allow_writes
    before = file_view.statement((subject.program.name.folder, Path.cwd())) if is_contained else NOTHING
    with Worker(WORKER, environment, before=before) as worker:
        try:
            return dict(worker.call(call, progress, **arguments))
        except ProgramEnded as error:
            words = worker.last_words()
            printed = f"; the last line that it printed is '{words}'; {ARGUMENTS_HINT}" if words else ""
            raise ProgramEnded(f"{error}{printed}") from error


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


def _part(progress: Progress, low: float, high: float) -> Progress:
    return lambda what, share: progress(what, low + (high - low) * share)


def _finding(message: dict[str, Any]) -> Finding:
    changed: dict[str, Callable[[Any], Any]] = {
        "payoff_s": tuple,
        "payoff_share": tuple,
        "related": lambda places: tuple(Place(**place) for place in places),
    }
    return Finding(**{name: changed.get(name, lambda x: x)(value) for name, value in message.items()})
