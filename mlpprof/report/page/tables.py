"""The tables of a page: cells with what they sort by, rows and columns with what they are switched off by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlpprof.model import PHASES
from mlpprof.report.numbers import (
    UNKNOWN,
    digits,
    format_change,
    format_number,
    format_percent,
    format_range,
    format_size,
    format_time,
    plain,
)
from mlpprof.report.roofline import Ceiling, Point, label_points, phase_points
from mlpprof.report.rows import agreements
from mlpprof.report.story import Measured, Story
from mlpprof.results import Ladder, Verdict


@dataclass(frozen=True)
class Cell:
    """text: what is read; value: what is sorted by, where it is a number; mark: "good", "bad", "strong" or ""."""

    text: str
    value: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Column:
    """phase: the one it is switched off with."""

    title: str
    is_text: bool = False
    phase: str = ""


@dataclass(frozen=True)
class Row:
    """phase and rung: what it is switched off with."""

    cells: tuple[Cell, ...]
    phase: str = ""
    rung: int | None = None


@dataclass(frozen=True)
class PageTable:
    """A table that sorts; the first column heads the rows."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def time_table(story: Story) -> PageTable | None:
    """A variant and batch size a row: its step, its rate, and the time of every phase."""
    if not story.measured:
        return None
    titles = ("step, median", "95 % of steps", "samples a second")
    columns = [Column("variant", True), Column("batch"), *map(Column, titles), *(Column(p, phase=p) for p in PHASES)]
    rows = []
    for one in story.measured:
        result, step = one.result, one.result.step_s
        phases = {p: result.phase_median_s(p) for p in PHASES if p in result.phases}
        dearest = max(phases, key=lambda p: phases[p], default="")
        rate = result.batch / step.median if step.median > 0 else math.nan
        cells = (
            Cell(plain(one.name)),
            Cell(f"{result.batch:,}", result.batch),
            _seconds(step.median),
            Cell(format_range(step.low, step.high), step.high - step.low),
            Cell(format_number(float(f"{rate:.3g}")), rate),
            *(_seconds(phases[p], "strong" if p == dearest else "") if p in phases else Cell(UNKNOWN) for p in PHASES),
        )
        rows.append(Row(cells, rung=story.names.index(one.name)))
    return PageTable("Steps without instruments, and the time of each phase", tuple(columns), tuple(rows))


def memory_table(story: Story) -> PageTable | None:
    """What the phases of a single variant ask of memory; None for several variants."""
    if len({one.name for one in story.measured}) != 1:
        return None
    rows = []
    for one in story.measured:
        for name, phase in one.result.phases.items():
            cells = (
                Cell(plain(name)),
                Cell(f"{one.result.batch:,}", one.result.batch),
                Cell(format_percent(one.result.phase_share(name)), one.result.phase_share(name)),
                Cell(format_size(phase.bytes_allocated), phase.bytes_allocated),
                Cell(format_size(phase.peak_bytes), phase.peak_bytes),
                Cell(format_number(phase.page_faults), phase.page_faults),
            )
            rows.append(Row(cells, phase=name))
    if not rows:
        return None
    titles = ("batch", "share of the phases", "allocated", "peak", "page faults")
    caption = "What each phase asks of memory in one step"
    return PageTable(caption, (Column("phase", True), *map(Column, titles)), tuple(rows))


def race_table(ladder: Ladder) -> PageTable:
    """A rung a row: its step in the race, against its parent and against the root."""
    race = ladder.race
    root = next((rung.name for rung in ladder.rungs if rung.over_root is None), ladder.rungs[0].name)
    rows = []
    for number, rung in enumerate(ladder.rungs):
        name = plain(rung.name) + (" †" if rung.name in race.slow else "")
        cells = (
            Cell(name),
            Cell(race.dtypes[race.variants.index(rung.name)]),
            _seconds(rung.step_s),
            *_ratio(rung.over_parent),
            *_ratio(rung.over_root),
        )
        rows.append(Row(cells, rung=number))
    titles = ("step, median", "over its parent", "95 % interval", f"over {plain(root)}", "95 % interval")
    columns = (Column("rung", True), Column("precision", True), *map(Column, titles))
    processes = len(race.turns_s)
    return PageTable(f"The race at batch {ladder.batch:,}, {processes} processes", columns, tuple(rows))


def statement_table(one: Measured) -> PageTable:
    """A labelled statement a row: its time and its share of the step."""
    rows = [
        Row(
            (
                Cell(plain(label.label)),
                Cell(plain(label.phase)),
                Cell("" if label.layer is None else str(label.layer), label.layer),
                Cell(format_number(label.calls), label.calls),
                _seconds(float(np.median(label.step_s))),
                Cell(format_percent(one.result.label_share(label)), one.result.label_share(label)),
            ),
            phase=label.phase,
        )
        for label in one.result.labels
    ]
    columns = (Column("statement", True), Column("phase", True), *map(Column, ("layer", "calls", "time", "share")))
    return PageTable(f"Labelled statements of {_subject(one)}", columns, tuple(rows))


def roofline_table(one: Measured) -> PageTable:
    """A phase or statement a row: what it computes and moves, and what it reaches of its limit."""
    ceiling = Ceiling.of(one.run)
    points = [*phase_points(one.result, ceiling), *label_points(one.result, ceiling)]
    order = list(dict.fromkeys(point.phase for point in points))
    points.sort(key=lambda point: (order.index(point.phase), point.label is not None))
    rows = tuple(Row(_figures(point), phase=point.phase) for point in points if point.operations)
    titles = ("layer", "time", "Mflop", "needed", "moved", "flop a byte", "GFLOP/s", "of its limit")
    columns = (Column("statement", True), Column("phase", True), *map(Column, titles))
    return PageTable(f"What {_subject(one)} computes and moves", columns, rows)


def agreement_table(story: Story) -> PageTable | None:
    """How far each pass is from the step that it should equal."""
    rows = []
    for one in story.measured:
        figures = agreements(one.result)
        cells = [
            Cell(
                format_change(figure.ratio),
                None if figure.ratio is None else figure.ratio - 1,
                "" if figure.is_within else "bad",
            )
            for figure in figures
        ]
        samples = one.result.total_s.size * one.result.steps_a_sample
        head = (Cell(plain(one.name)), Cell(f"{one.result.batch:,}", one.result.batch))
        rows.append(Row((*head, Cell(format_number(samples), samples), *cells), rung=story.names.index(one.name)))
    if not rows:
        return None
    titles = ("batch", "steps measured", "sum of the phases", "with clocks on phases", "with clocks on labels")
    columns = (Column("variant", True), *map(Column, titles))
    return PageTable("Agreement of the passes with the step without instruments", columns, tuple(rows))


def _figures(point: Point) -> tuple[Cell, ...]:
    needed = point.useful_flop / point.flop if point.flop else None
    share = point.share_of_limit
    texts: Sequence[Cell] = (
        Cell("whole phase", mark="strong") if point.label is None else Cell(plain(point.label)),
        Cell(plain(point.phase)),
        Cell("" if point.layer is None else str(point.layer), point.layer),
        _seconds(point.time_s),
        Cell(digits(1e-6 * point.flop), point.flop),
        Cell(format_percent(needed), needed),
        Cell(format_size(point.bytes_moved), point.bytes_moved),
        Cell(digits(point.intensity), point.intensity),
        Cell(UNKNOWN if point.gflops is None else digits(point.gflops), point.gflops),
        Cell(format_percent(share), share),
    )
    return tuple(texts)


def _ratio(verdict: Verdict | None) -> tuple[Cell, Cell]:
    if verdict is None:
        return Cell(UNKNOWN), Cell("")
    mark = "good" if verdict.low > 1 else "bad" if verdict.high < 1 else ""
    ratio = Cell(f"{digits(verdict.ratio)} ×", verdict.ratio, mark)
    return ratio, Cell(f"{digits(verdict.low)}–{digits(verdict.high)}", verdict.high - verdict.low)


def _seconds(seconds: float, mark: str = "") -> Cell:
    return Cell(format_time(seconds), seconds, mark)


def _subject(one: Measured) -> str:
    return f"{plain(one.name)}, batch {one.result.batch:,}"
