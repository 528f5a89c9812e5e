"""Where the time of a program goes: what it does before its first step, its steps, and the statements around them."""

from __future__ import annotations

from dataclasses import dataclass

from mlpprof.results.place import Place


@dataclass(frozen=True)
class StatementTime:
    """One statement outside the step: its first line as text, its executions, and their seconds in all.

    is_open: it had not ended when mlpprof ended the program, so it takes longer. cell: as in `Place`. does: what is
    known about an expensive one, as sentences.
    """

    file: str
    line: int
    text: str
    seconds: float
    times: float
    is_open: bool = False
    cell: int | None = None
    does: str = ""

    @property
    def place(self) -> Place:
        """Where it begins."""
        return Place(self.file, self.line, self.cell)


@dataclass(frozen=True)
class ProgramTime:
    """Seconds by statement, the most expensive first.

    beginning_s, beginning: before the training, once. unit: what the other times are for: 'epoch', a turn of the loop
    `loop` with several steps, or 'step' where no loop around the steps has such turns. loop: None if no loop that
    mlpprof can follow leads to the step. steps: in a unit, or those that were seen of one. statements: the others in a
    unit. units: how many were seen from their beginning to their end; if 0, what comes after the last step of one is
    not known. planned: how many steps a unit has, if it was not seen to its end but this is known; the seconds are then
    those of as many steps. steps_s: seconds of the steps. end_s, end: after the training;
    None if the program was ended before.
    """

    beginning_s: float
    beginning: tuple[StatementTime, ...]
    unit: str
    loop: StatementTime | None
    steps: float
    steps_s: float
    statements: tuple[StatementTime, ...]
    units: int
    planned: int | None = None
    end_s: float | None = None
    end: tuple[StatementTime, ...] = ()

    @property
    def around_s(self) -> float:
        """Seconds of a unit outside the steps."""
        return sum(one.seconds for one in self.statements)

    @property
    def unit_s(self) -> float:
        """Seconds of a unit, or of the part of it that was seen."""
        return self.steps_s + self.around_s
