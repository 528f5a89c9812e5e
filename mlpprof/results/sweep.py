"""A sweep: the cells of a grid with their state and figures, and the fastest target of every setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DONE, FAILED, INVALID, WAITING = "done", "failed", "invalid", "waiting"
"""The states of a cell. invalid: the node was busy each time that it was measured. waiting: it was not measured."""


@dataclass(frozen=True)
class SweepCell:
    """One cell of a sweep.

    target: the variant or program. over: what it was raced with; None if it was profiled. layers, batch, dtype: None
    for a program, and dtype also for a variant's own. threads: of BLAS, None where the BLAS or the program decides.
    machine: the class of the machine that measured it, None before that. file: in the folder of the sweep. step_s:
    median seconds of a step; over_s is that of `over` in the same race. ratio, low, high: how many times as fast as
    `over` the target is, with the 95 % interval. tries: how often it was measured now, 0 if it was done before.
    """

    target: str
    over: str | None
    layers: str | None
    batch: int | None
    dtype: str | None
    threads: int | None
    state: str = WAITING
    machine: str | None = None
    file: str | None = None
    step_s: float | None = None
    over_s: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    tries: int = 0
    error: str | None = None

    @property
    def setting(self) -> tuple[str | None, int | None, str | None, int | None]:
        """What the cells of different targets share if they can be compared."""
        return (self.layers, self.batch, self.dtype, self.threads)


@dataclass(frozen=True)
class Winner:
    """The fastest target of a setting on one class of machine; in a race it is `over` if no interval is above 1.

    cell: of the target, None if `over` has won. step_s: of the fastest; ratio: over `over`, None without a race.
    """

    name: str
    cell: SweepCell | None
    setting: tuple[str | None, int | None, str | None, int | None]
    step_s: float
    ratio: float | None


@dataclass(frozen=True)
class Sweep:
    """A sweep. over: the baseline of its races, None if its cells are profiles."""

    created: str
    command: str
    workload: str | None
    over: str | None
    cells: tuple[SweepCell, ...]

    def count(self, state: str) -> int:
        return sum(cell.state == state for cell in self.cells)

    @property
    def machines(self) -> tuple[str, ...]:
        """The classes of machines that measured cells; cells of different classes are never compared."""
        return tuple(dict.fromkeys(cell.machine for cell in self.cells if cell.machine is not None))

    def on(self, machine: str | None) -> tuple[SweepCell, ...]:
        """The cells that a class of machine measured; None for those that no machine did."""
        return tuple(cell for cell in self.cells if cell.machine == machine)

    def winners(self, machine: str) -> tuple[Winner, ...]:
        """The fastest target of each setting among the cells that are done, in the order of the settings."""
        groups: dict[tuple[str | None, int | None, str | None, int | None], list[SweepCell]] = {}
        for cell in self.on(machine):
            if cell.state == DONE and cell.step_s is not None:
                groups.setdefault(cell.setting, []).append(cell)
        return tuple(_winner(cells) for cells in groups.values())


def _winner(cells: Sequence[SweepCell]) -> Winner:
    faster = [cell for cell in cells if cell.over is None or (cell.low or 0.0) > 1]
    best = min(faster or cells, key=lambda cell: (-(cell.ratio or 0.0), cell.step_s or 0.0))
    assert best.step_s is not None
    if not faster and best.over is not None and best.over_s is not None:
        return Winner(best.over, None, best.setting, best.over_s, 1.0)
    return Winner(best.target, best, best.setting, best.step_s, best.ratio)
