"""Where a program's time goes, in a sentence and a table for all renderers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlpprof.report.numbers import format_number, format_percent, format_time, plain
from mlpprof.report.rows import Cell, Column, Row, Table
from mlpprof.results.program_time import ProgramTime, StatementTime

TITLE = "Where the program's time goes"

LEAST_SHARE = 0.01
"""Statements below this share of an epoch, or of the time before or after the training, are added up in one row."""

MOST_STATEMENTS = 8
"""No more statements of one part of the program are shown one by one."""

SHORT_S = 0.05
"""What the program does before or after the training is one row if it takes less time than this, in seconds."""

LONGEST_TEXT = 60
"""A statement is shown with at most this many characters."""

OTHERS = "other statements"


def program_words(time: ProgramTime) -> str:
    """What the table shows, in one or two sentences."""
    if time.loop is None:
        return (
            "mlpprof found no loop around the steps that it can follow, so it shows only the steps and what comes "
            "before them."
        )
    loop = f"`{plain(time.loop.text).removesuffix(':')}` ({plain(time.loop.place.text)})"
    if time.unit == "step":
        return f"Each turn of the loop {loop} makes one step."
    if time.units:
        seen = "one was" if time.units == 1 else f"{time.units:,} were"
        return f"An epoch is here a turn of the loop {loop}; {seen} seen from beginning to end."
    if any(one.is_open for one in time.statements):
        return (
            f"An epoch is here a turn of the loop {loop}. mlpprof ended the program in a statement after the steps of "
            "one, which takes longer than shown."
        )
    seen = f"{format_number(time.steps)} steps of one"
    if time.planned:
        seen = f"{format_number(time.steps)} of the {time.planned:,} steps of one, and the table counts all of them"
    return (
        f"An epoch is here a turn of the loop {loop}. mlpprof saw {seen}. It ended the program before the end of the "
        "epoch, so what comes after its last step is not in the table."
    )


def longer_than_the_steps(time: ProgramTime) -> str:
    """The sentence about a statement around the steps that takes longer than all steps of an epoch; '' if none does."""
    longest = max(time.statements, key=lambda one: one.seconds, default=None)
    if longest is None or longest.seconds <= time.steps_s:
        return ""
    unit = "an epoch" if time.unit == "epoch" else "the time of a step and what is around it"
    share, steps = (format_percent(seconds / time.unit_s) for seconds in (longest.seconds, time.steps_s))
    return f"The steps take only {steps} of {unit}; {_statement(longest)} takes {share}."


def program_table(time: ProgramTime, step: str) -> Table:
    """A row for the steps and for each statement around them that takes long."""
    rows = list(_once("before the training", time.beginning, time.beginning_s))
    unit = "a step" if time.unit == "step" else "an epoch" if time.units else "part of an epoch"
    count = float(time.planned or time.steps)
    steps = f"{'the step' if count == 1 else format_number(count) + ' steps'} ({plain(step)})"
    rows.append(_row(unit, steps, time.steps_s, time.unit_s, "strong"))
    rows += _statements(unit, time.statements, time.unit_s, re.split(r"[:.]", step)[-1])
    if time.end_s is not None:
        rows += _once("after the training", time.end, time.end_s)
    columns = (Column("when", True, is_outline=True), Column("what", True), Column("time"), Column("share"))
    return Table(TITLE, columns, tuple(rows))


def known_text(time: ProgramTime) -> list[str]:
    """What is known about each expensive statement around the steps."""
    unit = "an epoch" if time.unit == "epoch" else "the time of a step and what is around it"
    parts = (
        ("the time before the training", time.beginning, time.beginning_s),
        (unit, time.statements, time.unit_s),
    )
    return [
        f"{plain(one.place.text)} takes {format_percent(one.seconds / whole_s)} of {name}. {plain(one.does)}"
        for name, statements, whole_s in parts
        for one in statements
        if one.does and (statements is time.statements or whole_s >= SHORT_S)
    ]


def _once(when: str, statements: Sequence[StatementTime], whole_s: float) -> Iterator[Row]:
    """What runs once: a row for each expensive statement, or one for all of them."""
    if whole_s >= SHORT_S:
        yield from _statements(when, statements, whole_s)
    elif statements:
        yield _row(when, "all statements", whole_s, whole_s, "quiet")


def _statement(one: StatementTime) -> str:
    """The place and the text of a statement: 'train.py:12 `W -= rate * dW`'."""
    text = plain(one.text)
    text = text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."
    return f"{plain(one.place.text)} `{text}`"


def _statements(
    when: str, statements: Sequence[StatementTime], whole_s: float, step: str | None = None
) -> Iterator[Row]:
    """step: the name of the function or method that is the step, in whose calls only the time besides it is shown."""
    shown = [one for one in statements if whole_s > 0 and one.seconds >= LEAST_SHARE * whole_s][:MOST_STATEMENTS]
    for one in shown:
        besides = ", besides the step" if step and re.search(rf"\b{re.escape(step)}\(", one.text) else ""
        yield _row(when, f"{_statement(one)}{besides}", one.seconds, whole_s, "", "> " if one.is_open else "")
    if rest := statements[len(shown) :]:
        yield _row(when, OTHERS, sum(one.seconds for one in rest), whole_s, "quiet")


def _row(when: str, what: str, seconds: float, whole_s: float, mark: str, sign: str = "") -> Row:
    share = seconds / whole_s if whole_s > 0 else 0.0
    return Row((Cell(when), Cell(what), Cell(sign + format_time(seconds), seconds, mark), _share(share)))


def _share(share: float) -> Cell:
    return Cell(format_percent(share), share)


@dataclass(frozen=True)
class ProgramView:
    """What pages and notebooks show: words above the table, the table, and what is known about its statements."""

    words: str
    table: Table
    known: list[str]


def program_view(time: ProgramTime | None, step: str) -> ProgramView | None:
    """The view, if the program's time is known."""
    return None if time is None else ProgramView(program_words(time), program_table(time, step), known_text(time))
