"""What `mlpprof autotune` has found for one network on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlpprof.model import Network
from mlpprof.results.comparison import Change, Verdict


@dataclass(frozen=True)
class Trial:
    """One candidate: its name with the settings, the last round that it took part in, and its step there.

    rounds 0: it was dropped for its first run, and step_s is that.
    """

    name: str
    rounds: int
    step_s: float


@dataclass(frozen=True)
class Tuning:
    """The fastest variant and setting.

    variant: its reference; constants: of its file, where they differ; threads: of BLAS. variables: of
    the environment, beside those of BLAS. step_s: its median step.
    over_runner_up: its speed over the second, paired in fresh processes; None where it was the only one. phases: where
    the difference to the second lies, empty where a step has no phases. trials: all candidates, the fastest first.
    absent: who could not do the network -> why.
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
    phases: tuple[Change, ...]
    trials: tuple[Trial, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
