"""The runs of a program that a proof needs: with each cure, against the original, and recorded again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from time import get_clock_info
from typing import TypeVar

import numpy as np

from mlpprof.advise.find import Analysis, Subject, analyse
from mlpprof.advise.proof.around import Executed
from mlpprof.advise.proof.prove import Prover
from mlpprof.advise.selection import Selection, selected
from mlpprof.compare.decide import block_log_ratios
from mlpprof.compare.entrants import Environment, ProgramSubject
from mlpprof.compare.programs import ProgramRace, parameters_of, values_of
from mlpprof.compare.verdict import measure
from mlpprof.errors import MlpprofError, UsageError, WorkerKilled
from mlpprof.process import Progress, part_of
from mlpprof.programs.parameters import Parameter
from mlpprof.programs.request import ProgramRequest
from mlpprof.programs.values import Lines
from mlpprof.results.advice import Advice
from mlpprof.results.comparison import Race, Verdict

AT_ONCE = 2
"""So many programs run at once where nothing is timed."""

ESTIMATE_BLOCKS = 4
"""Blocks of the race that estimates what each cure alone gives."""

MOST_RUNS = 120
"""A proof runs the program no more often."""

FINEST_S = 1e-6
"""The processor time is used for the estimates only if its clock is finer than this; otherwise the wall clock is."""

PARTS = 5
"""Finding the cures takes one of so many parts of the time that a proof takes."""

RUNS_OF_A_RACE = 12
"""The final race and the final comparison need so many runs, which are kept in reserve."""


Answer = TypeVar("Answer")


@dataclass
class ProgramTrials:
    """Runs versions of one program in workers.

    analyse_again: records a program, whose step is known, and looks for cures. environment: of the workers. left: how
    often the program may still be run. race_of: makes a race.
    """

    analyse_again: Callable[[ProgramRequest, Progress], Analysis]
    environment: Environment
    how_often: str
    left: int = MOST_RUNS
    race_of: Callable[..., ProgramRace] = ProgramRace

    def __post_init__(self) -> None:
        variables = (*self.environment.variables, ("MPLBACKEND", os.environ.get("MPLBACKEND", "Agg")))
        self.environment = replace(self.environment, variables=variables)

    def analyse(self, request: ProgramRequest, progress: Progress) -> Analysis:
        """Record the program's step, and look for cures. Raises as `mlpprof.advise.find`."""
        self._spend(2)
        return self.analyse_again(request, progress)

    def parameters(
        self, requests: Sequence[ProgramRequest], steps: int, progress: Progress
    ) -> list[tuple[list[Parameter], int] | MlpprofError]:
        """The parameters of several versions after so many steps, or why there are none."""
        self._spend(len(requests))
        done = 0

        def run(request: ProgramRequest) -> tuple[list[Parameter], int] | MlpprofError:
            nonlocal done
            subject = self._subject(request)
            answer = self.answer(lambda: parameters_of(subject, steps, self.environment, lambda what, share: None))
            done += 1
            progress(f"training with each cure, to see whether it stays the same: {done} of {len(requests)}", 0.0)
            return answer

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(run, requests))

    def estimates(
        self, requests: Sequence[ProgramRequest], progress: Progress, around: Collection[int] = ()
    ) -> list[float | MlpprofError]:
        """How many times as fast as the first one each of the others is, from a few blocks of a race, or why it fails.

        around: places of those that change the loop around the step, so that the time between steps counts too.
        One that fails ends the race of all, and then each has a race of its own. Raises MlpprofError if the first one
        itself does not run.
        """
        original, *others = requests
        answer = self._estimated(requests, progress, around)
        if not isinstance(answer, MlpprofError):
            return [*answer]
        found: list[float | MlpprofError] = [answer] * len(others)
        if len(others) > 1:
            for place, one in enumerate(others):
                if self.runs_left() >= 2:
                    alone = self._estimated([original, one], progress, (1,) if place + 1 in around else ())
                    found[place] = alone if isinstance(alone, MlpprofError) else alone[0]
        if all(isinstance(one, MlpprofError) for one in found):
            of_itself = self._estimated([original, original], progress)
            if isinstance(of_itself, MlpprofError):
                raise of_itself
        return found

    def _estimated(
        self, requests: Sequence[ProgramRequest], progress: Progress, around: Collection[int] = ()
    ) -> list[float] | MlpprofError:
        def run() -> list[float]:
            self._spend(len(requests))
            subjects = [replace(self._subject(one), by_processor=self._by_processor) for one in requests]
            live = self.race_of(subjects, self.environment, blocks=ESTIMATE_BLOCKS)
            live.run(progress)
            [turns_s] = live.race().turns_s
            found = [float(np.exp(np.median(block_log_ratios(turns_s, 0, i)))) for i in range(1, len(requests))]
            for place in around:
                whole_s = [float(np.nanmedian(turns_s[:, i])) + live.between_s(i) for i in (0, place)]
                found[place - 1] = whole_s[0] / whole_s[1]
            return found

        return self.answer(run)

    @property
    def _by_processor(self) -> bool:
        """Whether the processor time of one thread says how fast a step is, also where other programs run."""
        # Windows reports 100 ns for this clock, but counts the processor time in ticks of 16 ms.
        is_fine = sys.platform != "win32" and get_clock_info("process_time").resolution < FINEST_S
        return self.environment.threads == 1 and is_fine

    def executed(self, request: ProgramRequest, lines: Lines, progress: Progress) -> Executed | MlpprofError:
        """What some lines compute in their first executions, and how long they take, or why it is not known."""
        self._spend(1)
        return self.answer(lambda: values_of(self._subject(request), lines, self.environment, progress))

    def answer(self, run: Callable[[], Answer]) -> Answer | MlpprofError:
        """What a run of the program answers, or why it does not.

        If its worker was killed, this says nothing about that version of the program, so it is run once more.
        """
        try:
            return run()
        except WorkerKilled:
            self._spend(1)
        except MlpprofError as error:
            return error
        try:
            return run()
        except MlpprofError as error:
            return error

    def race(self, old: ProgramRequest, new: ProgramRequest, progress: Progress) -> tuple[Race, Verdict]:
        """The whole race of two versions; one that fails takes as many runs as one that does not."""
        live = self.race_of([self._subject(old), self._subject(new)], self.environment)
        try:
            [verdict] = measure(live, progress)
        except MlpprofError:
            self._spend(RUNS_OF_A_RACE)
            raise
        return live.race(), verdict

    def runs_left(self) -> int:
        """How often the program may still be run before the last race."""
        return self.left - RUNS_OF_A_RACE

    def _spend(self, runs: int) -> None:
        self.left -= runs

    def _subject(self, request: ProgramRequest) -> ProgramSubject:
        return ProgramSubject(request, self.how_often)


def proven(
    subject: Subject, progress: Progress, *, safe_only: bool = False, selection: Selection | None = None
) -> Advice:
    """The findings on a program, with the proof of their cures.

    safe_only: leave out cures that change the precision. selection: the findings that are wanted. Raises as
    `mlpprof.advise.find`, and UsageError for a variant.
    """
    if not subject.is_program:
        raise UsageError(f"--prove needs a program, and '{subject.target}' is a variant; its next rung is its cure")
    wanted = selection or Selection()
    # The threads of BLAS wait for each other where other programs use the processors: then nothing can be proven.
    subject = replace(subject, threads=subject.threads or 1)
    first = chosen(analyse(subject, part_of(progress, 0.0, 1 / PARTS), how_often_proven()), wanted)
    request = replace(subject.program, step=first.advice.step)
    if not any(first.cures):
        return first.advice

    def analyse_again(version: ProgramRequest, report: Progress) -> Analysis:
        return chosen(analyse(replace(subject, target=version, step=version.step), report, how_often_proven()), wanted)

    trials = ProgramTrials(analyse_again, Environment(subject.threads), how_often_proven())
    prover = Prover(trials, progress, safe_only)
    return replace(first.advice, proof=prover.prove(request, first, shown_in_patch))


def chosen(analysis: Analysis, selection: Selection) -> Analysis:
    """The analysis with the findings that are wanted."""
    wanted = selection.wanted(analysis.advice)
    cures = tuple(compress(analysis.cures, wanted))
    return replace(analysis, advice=selected(analysis.advice, wanted), cures=cures)


def how_often_proven() -> str:
    """How often a proof runs the program; never more often than this says."""
    return f"up to {MOST_RUNS} times"


def shown_in_patch(path: str) -> str:
    """The path of a file in a patch: from the working directory, as `git apply` takes it there."""
    return Path(os.path.relpath(path)).as_posix()
