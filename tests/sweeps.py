"""Sweeps without a cluster: cells, what a node would answer, and a pool that measures at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from runs import MACHINE, make_run

from mlpprof.machine.facts import machine_class
from mlpprof.results.on_disk import run_bytes
from mlpprof.results.sweep import DONE, Sweep, SweepCell
from mlpprof.sweep.grid import Cell, variant_cells
from mlpprof.sweep.measure import Answer
from mlpprof.workloads import resolve

CLASS = machine_class(MACHINE)
COMMON = Cell(SweepCell("", None, None, None, None, None), "", "mlpprof sweep")
CONTENT = run_bytes(make_run(rounds=2, steps=2, labelled=False))


def cells(targets: Sequence[str] = ("naive", "cached"), batches: Sequence[int] = (10, 30)) -> list[Cell]:
    return list(variant_cells(targets, None, [resolve("tiny")], batches, [None], [1], 0, COMMON))


def trivial(cell: Cell) -> Answer:
    """The answer of a node that measured nothing."""
    return Answer(CONTENT, CLASS)


def busy(cell: Cell) -> Answer:
    return replace(trivial(cell), others=1.9, is_busy=True)


class PoolOfOne:
    """One node, in this process."""

    def __init__(self, measure: Callable[[Cell], Answer] = trivial, machine: str = CLASS) -> None:
        self.measured: list[int] = []
        self._measure, self._machine = measure, machine
        self._queue: deque[tuple[int, Cell]] = deque()

    def classes(self) -> Iterable[str]:
        return [self._machine]

    def slots(self) -> int:
        return 1

    def submit(self, number: int, cell: Cell) -> None:
        assert not self._queue
        self._queue.append((number, cell))

    def ended(self, wait_s: float) -> Iterable[tuple[int, Answer]]:
        number, cell = self._queue.popleft()
        self.measured.append(number)
        yield number, self._measure(cell)

    def running(self) -> Mapping[str, Sequence[int]]:
        return {"here": [number for number, _ in self._queue]}


def shown(target: str, over: str | None = None, batch: int = 10, machine: str = CLASS, **changes: Any) -> SweepCell:
    """A cell that is done."""
    cell = SweepCell(target, over, "20-8-5-3", batch, None, 1, DONE, machine, f"{target}.h5", 2e-4, tries=1)
    return replace(cell, **changes)


def sweep(*found: SweepCell) -> Sweep:
    return Sweep("2026-11-30T12:00:00+00:00", "mlpprof sweep", "tiny", found[0].over, found)
