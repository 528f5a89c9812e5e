"""Speedups and training of a user's own programs, for tests."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from mlpprof.compare.entrants import Environment
from mlpprof.compare.error_bounds import REPLICATED, RESOLUTION, Procedure
from mlpprof.compare.programs import ProgramComparer, Wanted, announcement
from mlpprof.compare.same_code import require_different
from mlpprof.process import Progress
from mlpprof.profile.program import profile_step
from mlpprof.profile.variant import DEFAULT_THREADS
from mlpprof.programs.request import ProgramRequest, request_for
from mlpprof.results import Comparison, Speedup, Training


@dataclass(frozen=True)
class Programs:
    """Two programs of a test.

    arguments: of both. step: the training step of both, None to have it found; over_step: that of the older one, if it
    is another. allow_writes: let them write files.
    """

    new: str
    over: str
    arguments: tuple[str, ...] = ()
    step: str | None = None
    over_step: str | None = None
    allow_writes: bool = False

    def requests(self) -> list[ProgramRequest]:
        """The requests, the older one first. Raises UsageError as `request_for`, and if both are the same code."""
        steps = (self.over_step or self.step, self.step)
        requests = [
            request_for(name, arguments=self.arguments, step=step, allow_writes=self.allow_writes)
            for name, step in zip((self.over, self.new), steps, strict=True)
        ]
        require_different(requests[0], requests[1])
        return requests

    def command(self, word: str, environment: Environment, resolution: float = RESOLUTION) -> str:
        """The command line for the same measurement."""
        words = ["mlpprof", word]
        for name in (self.over, self.new):
            words += shlex.split(name) if name.startswith("-m ") else [name]
        words += [] if environment.threads is None else ["--threads", str(environment.threads)]
        for step in self._steps():
            words += ["--step", step]
        words += [] if resolution == RESOLUTION else ["--resolution", f"{resolution:g}"]
        words += ["--allow-writes"] if self.allow_writes else []
        words += ["--", *self.arguments] if self.arguments else []
        return shlex.join(words)

    def _steps(self) -> list[str]:
        """The values of --step: with the program before it, if the two programs have different ones."""
        if self.over_step in (None, self.step):
            return [] if self.step is None else [self.step]
        named = ((self.over, self.over_step), (self.new, self.step))
        return [step if step.startswith(f"{name}:") else f"{name}:{step}" for name, step in named if step is not None]

    def key(self, threads: int | None) -> str:
        """The name of a stored claim about them."""
        key = f"{self.new} over {self.over}"
        if self.arguments:
            key += f", {shlex.join(self.arguments)}"
        return key if threads == DEFAULT_THREADS else f"{key}, {threads or 'all'} threads"


def program_speedup(
    programs: Programs,
    at_least: float | None,
    *,
    check: bool,
    environment: Environment,
    budget_s: float | None,
    progress: Progress,
    procedure: Procedure = REPLICATED,
) -> Speedup:
    """Measure how many times as fast a program is as an older one, and which expression lost the time if that fails.

    Raises CheckFailed if they do not train the same.
    """
    wanted = _wanted(at_least, budget_s, procedure, check=check, threads=environment.threads)
    comparer = ProgramComparer(programs.requests(), environment, wanted, lambda text: None)
    [found] = comparer.compare("", progress)
    return Speedup(
        new=programs.new,
        old=programs.over,
        subject=_subject(found),
        verdict=found.verdict,
        waterfall=found.waterfall,
        command=programs.command("compare", environment, procedure.share),
        notes=_notes(found),
        lost=found.lost,
        counted=found.counted,
    )


def announced(programs: Programs, budget_s: float | None, procedure: Procedure = REPLICATED) -> list[str]:
    """Sentences that say how often the programs will be run at most. Raises as `Programs.requests`."""
    return announcement(programs.requests(), _wanted(1.0, budget_s, procedure, check=True, threads=None))


def _wanted(
    at_least: float | None, budget_s: float | None, procedure: Procedure, *, check: bool, threads: int | None
) -> Wanted:
    return Wanted(
        at_least,
        budget_s,
        check=check,
        profile_step=partial(profile_step, threads=threads),
        only_failed=True,
        procedure=procedure,
    )


def _subject(found: Comparison) -> str:
    assert found.programs is not None
    training = found.programs.training
    steps = " and ".join(dict.fromkeys(found.programs.steps))
    return f"the step {steps}" + ("" if training is None else f"; {training.reason}")


def _notes(found: Comparison) -> tuple[str, ...]:
    assert found.programs is not None
    training = found.programs.training
    return (*(() if training is None else training.notes), *found.programs.notes)


def training_of(programs: Programs, environment: Environment, progress: Progress) -> Training:
    """Whether two programs train the same."""
    comparer = ProgramComparer(programs.requests(), environment, Wanted(), lambda text: None)
    old, new = comparer.subjects(progress)
    return comparer.training(old, new, progress)


def assert_same_training(
    new: str,
    old: str,
    *,
    arguments: Sequence[str] = (),
    step: str | None = None,
    old_step: str | None = None,
    allow_writes: bool = False,
    threads: int | None = DEFAULT_THREADS,
    progress: Progress = lambda what, share: None,
) -> Training:
    """Assert that two programs train the same: their parameters agree after 20 steps from the same random seeds.

    new, old: 'train.py', 'work.ipynb' or '-m package.module', each perhaps with '@REF'. arguments: of both. step,
    old_step: the training step, if it has to be named. Raises AssertionError with the parameter that differs, and if
    the parameters of both cannot be matched.
    """
    programs = Programs(new, old, tuple(arguments), step, old_step, allow_writes)
    training = training_of(programs, Environment(threads), progress)
    require_same(programs, training)
    return training


def require_same(programs: Programs, training: Training) -> None:
    """Raise AssertionError unless both train the same."""
    if not training.is_same:
        lines = (f"{programs.new} {training.relation} {programs.over}: {training.reason}", *training.notes)
        raise AssertionError("\n  ".join(lines))
