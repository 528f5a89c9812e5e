"""The workloads that a goal was set for, and what was measured on one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpprof.measure.gate import log_ratios
from mlpprof.measure.relay import SHARING
from mlpprof.results import Race

BASE = "sliced"
RUNGS = (BASE, "tanh_sigmoid", "buffered", "chunked", "fused_update", "compiled")


@dataclass(frozen=True)
class Work:
    """A workload with a goal: so many times the bound at most, and so many microseconds (None where there is none).

    rungs: besides the usual ones.
    """

    name: str
    workload: str
    batch: int
    goal: float | None
    goal_us: Mapping[str, float] = field(default_factory=dict)
    dtype: str | None = None
    rungs: tuple[str, ...] = ()


S1_GOALS = {32: 4.0, 128: 2.7, 500: 1.6, 20_000: 1.35}
WORKS = (
    *(Work(f"S1 batch {m:,}", "digits", m, goal) for m, goal in S1_GOALS.items()),
    Work("1000-900-900-900-10 batch 100", "persample", 100, 1.4),
    Work("39-39-39-1 full batch of 10,000", "forever", 10_000, 2.2),
    Work("cats 12288-20-7-5-1 full batch, float64", "optprop", 209, 3.0, dtype="float64", rungs=("gram",)),
    Work("784-16-16-10 single samples", "liu", 1, None, {"delayed": 7.9, "compiled": 1.3}, rungs=("delayed",)),
)
GRAM_OVER_DIRECT = 30.0


@dataclass(frozen=True)
class Result:
    """One workload: the race, the bounds in seconds on one core and on all, and what did not take part and why."""

    work: Work
    network: str
    dtype: str
    race: Race
    bound_s: float
    bound_all_s: float
    refused: Mapping[str, str]

    def over_base(self, name: str) -> tuple[float, float]:
        """Speedup over `sliced`, and its standard error as a factor: paired within processes."""
        logs = log_ratios(self.race, self.race.variants.index(BASE), self.race.variants.index(name))
        spread = float(np.std(logs, ddof=1) / math.sqrt(len(logs))) if len(logs) > 1 else math.nan
        return float(np.exp(np.mean(logs))), math.exp(spread)

    def step_s(self, name: str) -> float:
        """Median seconds a step."""
        return self.race.step_s(self.race.variants.index(name))

    def times_bound(self, name: str) -> float:
        """Step over the bound of the cores that the rung works on."""
        return self.step_s(name) / (self.bound_all_s if name in SHARING else self.bound_s)


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """All figures, with every turn of every race."""
    return [
        {
            "work": result.work.name,
            "network": result.network,
            "dtype": result.dtype,
            "batch": result.work.batch,
            "goal_times_bound": result.work.goal,
            "goal_us": dict(result.work.goal_us),
            "bound_one_core_s": result.bound_s,
            "bound_all_cores_s": result.bound_all_s,
            "not_taking_part": dict(result.refused),
            "rungs": [
                {
                    "name": name,
                    "step_s": result.step_s(name),
                    "times_bound": result.times_bound(name),
                    "over_sliced": result.over_base(name)[0],
                    "turns_s": [_plain(turns_s[:, i]) for turns_s in result.race.turns_s],
                }
                for i, name in enumerate(result.race.variants)
            ],
        }
        for result in results
    ]


def _plain(turns_s: NDArray[np.float64]) -> list[list[float | None]]:
    """(blocks, 2) as lists; None where a slow rung sat out."""
    return [[None if math.isnan(turn) else float(turn) for turn in block] for block in turns_s]
