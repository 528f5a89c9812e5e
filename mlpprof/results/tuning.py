"""The result of `mlpprof autotune` for one network on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlpprof.model import Network
from mlpprof.results.comparison import PhaseChange, Verdict


@dataclass(frozen=True)
class Trial:
    """One candidate: its name with the settings, the last round in which it took part, and its step there.

    rounds 0: it was dropped after its first run, and step_s is the time of that run.
    """

    name: str
    rounds: int
    step_s: float


@dataclass(frozen=True)
class Tuning:
    """The fastest variant and setting.

    variant: its reference; constants: those of its file that differ; threads: BLAS threads. variables: environment
    variables other than those of BLAS. step_s: its median step.
    over_runner_up: how many times as fast it is as the second, paired in fresh processes; None if it was the only one.
    phases: where the difference from the second lies, empty where a step has no phases. trials: all candidates, the
    fastest first. absent: candidate -> why it cannot train the network.
    """

    created: str
    workload: str
    network: Network
    batch: int
    dtype: str
    seed: int
    winner: str
    variant: str
    constants: Mapping[str, int]
    threads: int
    variables: Mapping[str, str]
    step_s: float
    runner_up: str | None
    over_runner_up: Verdict | None
    phases: tuple[PhaseChange, ...]
    trials: tuple[Trial, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
