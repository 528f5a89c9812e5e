"""The loop of a sweep: it hands out the cells that are not done yet, and keeps each one's file as it arrives.

A cell is done if its file is in the folder, so that nothing but the files has to survive: after Ctrl-C, a crash or a
full disk the same command continues with the cells that are missing.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mlpprof.errors import RunFileError, UsageError, WorkerKilled
from mlpprof.files import make_folder, write_atomically
from mlpprof.machine.facts import machine_class
from mlpprof.process import Progress
from mlpprof.results import Comparison
from mlpprof.results.on_disk import OF_RACES, intact_schema, load_run
from mlpprof.results.races_on_disk import load_races
from mlpprof.results.sweep import DONE, FAILED, INVALID, WAITING, SweepCell
from mlpprof.sweep.grid import Cell
from mlpprof.sweep.measure import Answer

REPEATS = 2
"""A cell is measured so many times again if the node was busy with other programs."""

RETRIES = 1
"""A cell gets so many further workers if one dies while it runs."""

LOOK_EVERY_S = 1.0
"""The progress is shown anew after so many seconds, if no cell ends before."""

BUSY_FILE = "-busy.h5"
"""The ending of the file of a cell that was measured on a busy node only; it does not count as done."""


class Pool(Protocol):
    """The nodes that measure cells."""

    def classes(self) -> Iterable[str]:
        """The classes of the machines that are there."""

    def slots(self) -> int:
        """How many cells can run at once now."""

    def submit(self, number: int, cell: Cell) -> None:
        """Measure a cell; number: under which it is returned. A number that is submitted again runs again."""

    def ended(self, wait_s: float) -> Iterable[tuple[int, Answer]]:
        """The cells that have ended, after waiting for the first one up to a time limit."""

    def running(self) -> Mapping[str, Sequence[int]]:
        """Node -> the numbers of the cells that it has."""


def measure_one(cell: Cell, pool: Pool, progress: Progress, expected_s: float) -> Answer:
    """Measure a cell that is no part of a sweep, again if a worker dies. expected_s: its usual time, for progress."""
    begun_s = time.monotonic()
    for _ in range(1 + RETRIES):
        pool.submit(0, cell)
        while not (answers := [answer for _, answer in pool.ended(LOOK_EVERY_S)]):
            node = next(iter(pool.running()), "the cluster")
            progress(f"{node}: {cell.text}", min(1.0, (time.monotonic() - begun_s) / expected_s))
        if answers[0].kind != WorkerKilled.__name__:
            break
    return answers[0]


class Sweeping:
    """A sweep that runs; `shown` has the cells with their state at any time, also after an interruption."""

    def __init__(self, cells: Sequence[Cell], folder: Path, pool: Pool) -> None:
        self._cells, self._folder, self._pool = cells, folder, pool
        self.shown: list[SweepCell] = [cell.shown for cell in cells]
        self._deaths = [0] * len(cells)

    @property
    def done(self) -> int:
        return sum(one.state == DONE for one in self.shown)

    def run(self, progress: Progress) -> None:
        """Measure the cells that are not done, and keep their files.

        Raises UsageError if a file cannot be written, after which nothing that was kept is lost.
        """
        make_folder(self._folder)
        self._find_done()
        waiting = deque(number for number, one in enumerate(self.shown) if one.state != DONE)
        under_way: set[int] = set()
        while waiting or under_way:
            # No worker gets a second cell: if it died, dask would blame the one that waits there too.
            for _ in range(min(len(waiting), self._pool.slots() - len(under_way))):
                number = waiting.popleft()
                under_way.add(number)
                self._pool.submit(number, self._cells[number])
            progress(self._where(), self._ended / len(self._cells))
            for number, answer in self._pool.ended(LOOK_EVERY_S):
                under_way.discard(number)
                if self._is_to_repeat(number, answer):
                    waiting.append(number)

    @property
    def _ended(self) -> int:
        return sum(one.state in (DONE, FAILED, INVALID) for one in self.shown)

    def _where(self) -> str:
        """'3 of 40 cells; 2 to repeat, because ...; 127.0.0.1:4711: cached batch 8'."""
        running = [
            f"{node}: {', '.join(self._cells[number].text for number in numbers)}"
            for node, numbers in self._pool.running().items()
            if numbers
        ]
        repeated = sum(one.state == WAITING and one.tries > 0 for one in self.shown)
        busy = [f"{repeated} to repeat, because the node was busy or has ended"] * (repeated > 0)
        return "; ".join([f"{self._ended} of {len(self._cells)} cells", *busy, *(running or ["waiting for a worker"])])

    def _find_done(self) -> None:
        """Mark the cells whose file an earlier sweep has left here, measured on a class of machine that is there."""
        classes = sorted(set(self._pool.classes()))
        for number, cell in enumerate(self._cells):
            for machine in classes:
                path = self._folder / cell.file_name(machine)
                with contextlib.suppress(RunFileError):  # a damaged file is measured again
                    if path.exists():
                        self.shown[number] = read_cell(cell.shown, path)
                        break

    def _is_to_repeat(self, number: int, answer: Answer) -> bool:
        """Take what a node has answered; whether the cell has to be measured again."""
        cell = self._cells[number]
        tries = self.shown[number].tries + 1
        if not answer.content:
            self.shown[number] = replace(cell.shown, state=FAILED, tries=tries, error=answer.error)
            if answer.kind == WorkerKilled.__name__ and self._deaths[number] < RETRIES:
                self._deaths[number] += 1
                self.shown[number] = replace(cell.shown, tries=tries)
                return True
            return False
        path = self._folder / cell.file_name(answer.machine)
        busy = path.with_name(path.stem + BUSY_FILE)
        kept = busy if answer.is_busy else path
        try:
            with write_atomically(kept) as temporary:
                temporary.write_bytes(answer.content)
        except UsageError as error:
            raise UsageError(
                f"{error}; {self.done} of {len(self._cells)} cells are done and kept. Free some space, and run the "
                "same command again for the rest"
            ) from error
        found = replace(read_cell(cell.shown, kept), tries=tries)
        if not answer.is_busy:
            with contextlib.suppress(OSError):  # what was measured before on a busy node
                busy.unlink(missing_ok=True)
            self.shown[number] = found
            return False
        again = tries - self._deaths[number] <= REPEATS
        words = f"other programs used {answer.others:.1f} CPUs of the node each time; run it again when it is idle"
        self.shown[number] = replace(cell.shown, tries=tries) if again else replace(found, state=INVALID, error=words)
        return again


def read_cell(shown: SweepCell, path: Path) -> SweepCell:
    """A cell with the figures of its file. Raises RunFileError for a file that is no run and no race."""
    if intact_schema(path) != OF_RACES:
        run = load_run(path)
        return replace(
            shown,
            state=DONE,
            machine=machine_class(run.machine),
            file=path.name,
            step_s=run.results[0].step_s.median,
        )
    race = load_races(path)[0].record
    if not isinstance(race, Comparison):
        raise RunFileError(f"{path} holds a ladder; expected a comparison of two")
    verdict = race.verdict
    return replace(
        shown,
        state=DONE,
        machine=machine_class(race.machine),
        file=path.name,
        step_s=race.race.step_s(1),
        over_s=race.race.step_s(0),
        ratio=verdict.ratio,
        low=verdict.low,
        high=verdict.high,
    )
