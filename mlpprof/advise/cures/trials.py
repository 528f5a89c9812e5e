"""The runs of a program that a proof needs: with each cure, against the original, and recorded again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from mlpprof.advise.find import Analysis
from mlpprof.compare.decide import block_log_ratios
from mlpprof.compare.entrants import Environment, ProgramSubject
from mlpprof.compare.programs import ProgramRace, parameters_of
from mlpprof.compare.verdict import measure
from mlpprof.errors import MlpprofError
from mlpprof.process import Progress
from mlpprof.programs.parameters import Parameter
from mlpprof.programs.request import ProgramRequest
from mlpprof.results.comparison import Race, Verdict

AT_ONCE = 2
"""So many programs run at once where nothing is timed."""

ESTIMATE_BLOCKS = 4
"""Blocks of the race that estimates what each cure alone gives."""

MOST_RUNS = 120
"""A proof runs the program no more often."""

RUNS_OF_A_RACE = 12
"""The final race and the final comparison need so many runs, which are kept in reserve."""


@dataclass
class ProgramTrials:
    """Runs versions of one program in workers.

    analyse_again: records a program, whose step is known, and looks for cures. environment: of the workers. left: how
    often the program may still be run.
    """

    analyse_again: Callable[[ProgramRequest, Progress], Analysis]
    environment: Environment
    how_often: str
    left: int = MOST_RUNS

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
            try:
                answer = parameters_of(self._subject(request), steps, self.environment, lambda what, share: None)
            except MlpprofError as error:
                return error
            finally:
                done += 1
                progress(f"training with each cure, to see whether it stays the same: {done} of {len(requests)}", 0.0)
            return answer

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(run, requests))

    def estimates(self, requests: Sequence[ProgramRequest], progress: Progress) -> list[float]:
        """How many times as fast as the first one each of the others is, from a few blocks of one race."""
        self._spend(len(requests))
        live = ProgramRace([self._subject(one) for one in requests], self.environment, blocks=ESTIMATE_BLOCKS)
        live.run(progress)
        [turns_s] = live.race().turns_s
        return [float(np.exp(np.median(block_log_ratios(turns_s, 0, i)))) for i in range(1, len(requests))]

    def race(self, old: ProgramRequest, new: ProgramRequest, progress: Progress) -> tuple[Race, Verdict]:
        """The whole race of two versions."""
        live = ProgramRace([self._subject(old), self._subject(new)], self.environment)
        [verdict] = measure(live, progress)
        return live.race(), verdict

    def has_runs_for(self, count: int) -> bool:
        """Whether so many runs may still be made, with those of the final race in reserve."""
        return self.left - RUNS_OF_A_RACE >= count

    def _spend(self, runs: int) -> None:
        self.left -= runs

    def _subject(self, request: ProgramRequest) -> ProgramSubject:
        return ProgramSubject(request, self.how_often)
