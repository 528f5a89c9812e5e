"""`find` and `profile_step`: run a program in a process of its own, record its step, and say what is in it.

The program runs up to three times, each time only until enough is known: to find its step, unless it is named; to time
and observe the step; and once more if it has ended before that, since now the number of its steps is known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlpprof import catalog
from mlpprof.errors import UsageError
from mlpprof.machine.blas import worker_environment
from mlpprof.process import Progress, Worker
from mlpprof.profile.request import Request
from mlpprof.results.advice import Advice, Finding, Place
from mlpprof.results.step_profile import Expression, StepProfile
from mlpprof.workloads import DEFAULT_WORKLOAD, get_workload

WORKER = "mlpprof.advise.worker"


@dataclass(frozen=True)
class Subject:
    """The program to look at.

    target: a script's path, or the name of one of the catalog's variants. step: the training step as
    'Class.method', 'function', 'file.py:Class.method', or 'LINE' or 'file.py:LINE' of the loop whose body it is; None
    to have it found. arguments: for the script. include, exclude: file name patterns of modules that are instrumented
    though they are in an installed library, or not although they are the user's.
    request, batch: what a variant trains on; None takes the default workload. threads: of BLAS; None leaves them as
    they are for a script, and takes one for a variant, as `mlpprof profile` does.
    """

    target: str | Path
    step: str | None = None
    arguments: Sequence[str] = ()
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    request: Request | None = None
    batch: int | None = None
    threads: int | None = None

    @property
    def is_script(self) -> bool:
        """Whether the target is a file of its own, and not one of the catalog's variants."""
        return str(self.target).endswith(".py")


def find(
    subject: Subject | str | Path,
    *,
    step: str | None = None,
    arguments: Sequence[str] = (),
    progress: Progress | None = None,
) -> Advice:
    """Findings on a program's training step, the largest payoff first.

    Raises UsageError (no such file, a step that never runs, no step found), or VariantCrash where the program itself
    ends with an exception before the step was recorded.
    """
    held = subject if isinstance(subject, Subject) else Subject(subject, step, arguments)
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
    """What the worker says of the recorded step."""
    message, environment = _message(subject)
    tell = progress or (lambda what, share: None)
    if message["step"] is None:
        with Worker(WORKER, environment) as worker:
            message["step"] = worker.call("seek", _part(tell, 0.0, 0.35), program=message)
    with Worker(WORKER, environment) as worker:
        answer = worker.call(call, _part(tell, 0.35, 0.9), program=message, few=0, plain_s=[])
    if "ended" in answer:
        with Worker(WORKER, environment) as worker:
            answer = worker.call(
                call, _part(tell, 0.5, 1.0), program=message, few=answer["ended"], plain_s=answer["plain_s"]
            )
    if "ended" in answer:
        raise UsageError(
            f"the step {message['step']} ran {answer['ended']} times when the program was run again, and at least one "
            "step must end; is its number of steps left to chance?"
        )
    return dict(answer)


def _message(subject: Subject) -> tuple[dict[str, Any], dict[str, str]]:
    """What the worker is asked, and the environment that it runs in."""
    base = {"MPLBACKEND": "Agg", **os.environ}  # a window would wait for somebody to close it
    message: dict[str, Any] = {
        "step": subject.step,
        "arguments": list(subject.arguments),
        "include": list(subject.include),
        "exclude": list(subject.exclude),
    }
    if subject.is_script:
        path = Path(subject.target)
        if not path.is_file():
            raise UsageError(
                f"no script '{path}'; expected a Python file, or a variant's name (mlpprof list shows them)"
            )
        environment = worker_environment(base, subject.threads, False) if subject.threads else base
        return {**message, "script": str(subject.target)}, environment
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
