"""Made-up results of learners, for the tests of the workshop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlpprof.results import Race
from mlpprof.workshop.result import Ratio, Result, Speed

SPEED = Speed(
    outcome="pass",
    over_start=Ratio(2.0, 1.9, 2.1),
    over_reference=Ratio(0.98, 0.93, 1.03),
    over_first=Ratio(10.0, 9.5, 10.5),
    reference_over_start=Ratio(2.1, 2.0, 2.2),
    target=1.5,
    step_s=0.001,
    processes=3,
)


def result(
    exercise: int = 3, learner: str = "Anna", place: str = "0123abcd", ratio: float = 10.0, **changes: Any
) -> Result:
    """A passed exercise with the given changes; ratio: the speedup compared with the first version."""
    speed = replace(SPEED, over_first=Ratio(ratio, 0.95 * ratio, 1.05 * ratio))
    return replace(
        Result(
            exercise=exercise,
            learner=learner,
            place=place,
            created="2026-11-21T10:00:00+00:00",
            mlpprof_version="0.1.0",
            workload="workshop, 784-40-40-40-40-10, batch 200",
            outcome="pass",
            stage="speed",
            networks=6,
            facts=("no Python loop over samples",),
            speed=speed,
        ),
        **changes,
    )


class FakeRace:
    """A race of versions with known step times; each process multiplies the last one by its factor of `scatter`."""

    def __init__(self, step_ms: list[float], scatter: tuple[float, ...] = (1.0, 1.004, 0.996)) -> None:
        self._step_s = np.array(step_ms) / 1e3
        self._scatter = scatter
        self._turns: list[np.ndarray] = []

    def run(self, progress: Any) -> None:
        progress("racing", 0.5)
        step_s = self._step_s.copy()
        step_s[-1] *= self._scatter[len(self._turns) % len(self._scatter)]
        self._turns.append(np.broadcast_to(step_s[None, :, None], (8, len(step_s), 2)).copy())

    def race(self) -> Race:
        names = tuple(str(i) for i in range(len(self._step_s)))
        return Race(names, ("float32",) * len(names), 200, tuple(self._turns))
