"""The runs of a program in worker processes, in the parent: to find its step, to record it, to look at it otherwise.

If the step is named, the program is run once, else twice: to find the step, and to record it; each time only until
enough is known. If the step is named but runs so few times that the program ends too early, it is run a second time,
because the number of its steps is known then.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlpprof.errors import ARGUMENTS_HINT, MlpprofError, ProgramEnded, TimeLimit, UsageError
from mlpprof.process import NOTHING, Progress, Worker, part_of
from mlpprof.programs import file_view
from mlpprof.programs.request import ProgramRequest
from mlpprof.programs.why_no_step import FAILED

FEWEST_TIMED = 3
"""If the program makes fewer steps than this, none of them runs without instruments when it is recorded."""

SEEK_WORKER = "mlpprof.programs.seek_worker"

SHOWN_LINES = 20
"""So many of the last lines of a program that ended too early are shown, so that a usual `--help` fits."""

TIMES = {1: "once", 2: "two times", 3: "three times", 4: "four times"}


def how_often(step: str | None, views: int = 0) -> str:
    """How often a program is run; never more often than this says. views: further views, each with its own run."""
    if step is None:
        return f"up to {TIMES[2 + views]}"
    more = TIMES[2 + views].replace("two times", "twice")
    return f"{TIMES[1 + views]} ({more} if it makes fewer than 5 steps)"


def contained(request: ProgramRequest) -> str:
    """What the worker of a program does first, so that what the program writes stays in a copy, unless it may write."""
    return NOTHING if request.allow_writes else file_view.statement((request.name.folder, Path.cwd()))


class Runs:
    """Runs a program in workers. message: for the worker, with "step", which is None if it has to be found.

    worker: the module of the worker, for all runs but those that find the step. name: of the program in sentences.
    before: what each worker does first, see `contained`. count: how often it was run.
    """

    def __init__(
        self,
        worker: str,
        environment: Mapping[str, str],
        message: Mapping[str, Any],
        name: str,
        before: str = NOTHING,
    ) -> None:
        self._worker, self._environment, self._message, self._name = worker, environment, dict(message), name
        self._before = before
        self._is_named = message["step"] is not None
        self.count = 0

    @property
    def step(self) -> str:
        """The step, once it is named or found."""
        return str(self._message["step"])

    def recorded(self, call: str, progress: Progress) -> dict[str, Any]:
        """The worker's answer on the recorded step. Raises UsageError, ProgramEnded or VariantCrash as the worker."""
        few, failure = 0, None
        plain_s: list[float] = []
        if not self._is_named:
            sought = self.sought(part_of(progress, 0.0, 0.35))
            self._message["step"], failure = sought["step"], sought["failure"]
            if sought["is_all"]:
                few = len(sought["seconds"])
                plain_s = sought["seconds"] if few < FEWEST_TIMED else []
        else:
            answer = self.run(call, part_of(progress, 0.0, 0.9), few=0, plain_s=[])
            if "ended" not in answer:
                return answer
            few, plain_s = answer["ended"], answer["plain_s"]
        try:
            answer = self.run(call, part_of(progress, 0.35, 0.65), few=few, plain_s=plain_s)
        except TimeLimit:  # the first run ended before it came to this
            raise
        except MlpprofError as error:
            raise type(error)(f"{error}; {self._about_second_run(few)}") from error
        if "ended" in answer:
            raise UsageError(
                f"the step {self.step} ran {answer['ended']} times when the program was run again, too few to be "
                f"recorded; {self._about_second_run(few)}"
            )
        if failure is not None:
            answer["notes"] = [failure, *(note for note in answer["notes"] if FAILED not in note)]
        return answer

    def sought(self, progress: Progress) -> dict[str, Any]:
        """The step that is found, as JSON of `Sought`. Raises as `run`."""
        return self._answer(SEEK_WORKER, "seek", progress)

    def run(self, call: str, progress: Progress, **arguments: Any) -> dict[str, Any]:
        """The answer of a worker that runs the program. Raises as the worker, with the program's last output."""
        return self._answer(self._worker, call, progress, **arguments)

    def _answer(self, module: str, call: str, progress: Progress, **arguments: Any) -> dict[str, Any]:
        self.count += 1
        with Worker(module, self._environment, before=self._before, runs=self._name) as worker:
            try:
                return dict(worker.call(call, progress, program=self._message, **arguments))
            except ProgramEnded as error:
                raise ProgramEnded(f"{error}{self._said(worker.last_lines(SHOWN_LINES))}") from error

    def _said(self, lines: Sequence[str]) -> str:
        """The last lines that the program has printed, such as its own error, and what it needs to train."""
        if not lines:
            return ""
        hint = "change its arguments after --" if self._message["program"]["arguments"] else ARGUMENTS_HINT
        return "\n".join(
            ["; it printed:", *(f"    {line}" for line in lines), f"mlpprof needs a run that trains; {hint}"]
        )

    def _about_second_run(self, few: int) -> str:
        """What the first run found out, for a program that does not run a second time in the same way."""
        if not self._is_named:
            return (
                f"this was the second run of {self._name}; the first run found the step {self.step}. If something that "
                f"the first run left behind is the problem, remove it and add --step {shlex.quote(self.step)}, so that "
                "one run is enough"
            )
        return (
            f"this was the second run of {self._name}, because the step ran only {few} times in the first one. If "
            "something that the first run left behind is the problem, remove it and let the program make at least 5 "
            "steps"
        )
