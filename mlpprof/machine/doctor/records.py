"""What an examination finds: the machine, its limits, advice with measured gains, and what could not be known."""

from __future__ import annotations

from dataclasses import dataclass

from mlpprof.machine.keys import Json
from mlpprof.machine.limits.names import Limits

LEAST_GAIN = 1.03
"""A gain below 3 % is no advice."""


@dataclass(frozen=True)
class Task:
    """What a gain is measured on, in words and for the worker: kind step, product or two_pools.

    batch: samples of a step or rows of a product. variant: whose step. threads: of BLAS; None leaves it to the setting.
    """

    text: str
    kind: str
    batch: int
    variant: str = "sliced"
    threads: int | None = None


@dataclass(frozen=True)
class Setting:
    """Something to try: variables to set or (None) to unset, and the line that a user would type.

    beside: variables of the process without the setting. with_neighbour: both run beside a process that keeps a core
    busy.
    """

    what: str
    line: str
    change: tuple[tuple[str, str | None], ...]
    task: Task
    beside: tuple[tuple[str, str | None], ...] = ()
    with_neighbour: bool = False


@dataclass(frozen=True)
class Gain:
    """Time without a setting over time with it, above 1 is faster: median of the pairs of processes, 95 % interval."""

    ratio: float
    low: float
    high: float
    pairs: int

    @property
    def is_advice(self) -> bool:
        """Whether it is at least 3 % and the interval leaves no doubt that it is a gain."""
        return self.ratio >= LEAST_GAIN and self.low > 1


@dataclass(frozen=True)
class Tried:
    """A setting and what it gave."""

    setting: Setting
    gain: Gain


@dataclass(frozen=True)
class Examination:
    """Everything `mlpprof doctor` found. steal_share: CPU time that a hypervisor took while it looked."""

    machine: dict[str, Json]
    limits: Limits
    tried: tuple[Tried, ...]
    not_known: tuple[str, ...]
    notes: tuple[str, ...]
    steal_share: float | None
    quick: bool

    @property
    def advice(self) -> tuple[Tried, ...]:
        """What is worth setting, the largest gain first."""
        worth = [tried for tried in self.tried if tried.gain.is_advice]
        return tuple(sorted(worth, key=lambda tried: -tried.gain.ratio))
