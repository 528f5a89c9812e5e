"""The rows of every table, made once: each cell has its text, the number that it sorts by, and a mark.

The terminal, the page and the notebook render these tables and compute nothing. A table has a row per variant and
batch size, per phase, per statement or per rung; columns that belong to one batch size form a group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from mlpprof.compare.history import Version
from mlpprof.compare.variant_difference import REST
from mlpprof.machine.roofline import Ceiling, Point, label_points, phase_points
from mlpprof.model import PHASES
from mlpprof.report.numbers import (
    UNKNOWN,
    digits,
    format_change,
    format_number,
    format_percent,
    format_range,
    format_ratio,
    format_size,
    format_time,
    interval_text,
    plain,
    signed_time,
)
from mlpprof.report.sentences import Agreement, agreements, batch_text
from mlpprof.report.story import Measured
from mlpprof.results import (
    BatchResult,
    Comparison,
    Expression,
    ExpressionChange,
    Ladder,
    PhaseChange,
    PhaseSamples,
    Quantiles,
    Verdict,
)

SLOWEST = 3
"""This many of the slowest statements of a batch size are marked."""
SMALL_SHARE = 0.005
"""Statements below this share of the step, at every batch size, are added up in one row unless all are asked for."""
SMALL_ROOFLINE_SHARE = 0.01
"""Statements below this share of the step, at every batch size, are left out of the roofline table."""
SMALL_CHANGE = 0.05
"""Statements that moved less than this share of all that the phases moved are added up in one row of their phase."""
MOST_CHANGES = 6
"""At most this many statements of one phase are shown in a table of changes."""


@dataclass(frozen=True)
class Cell:
    """text: what is read. value: what the cell sorts by, None for words.

    mark: "strong", "slowest" (one of the slowest statements), "good", "bad", "quiet" or "".
    span: where the bar beside the cell begins and ends, in units that all cells of its column share.
    """

    text: str
    value: float | None = None
    mark: str = ""
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Column:
    """is_text: words, which begin at the left. group: the title above several columns, such as 'batch 500'.

    phase: a reader who hides this phase hides the column too. is_outline: where a row has the same word as the row
    above, a table that cannot be sorted leaves the word out.
    """

    title: str
    is_text: bool = False
    group: str = ""
    phase: str = ""
    is_outline: bool = False


@dataclass(frozen=True)
class Row:
    """phase, rung: a reader who hides this phase or variant hides the row. style: "strong", "quiet" or ""."""

    cells: tuple[Cell, ...]
    phase: str = ""
    rung: int | None = None
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """(title, number of columns) from left to right; title "" above columns without a group."""
        return tuple((title, len(list(same))) for title, same in groupby(self.columns, lambda column: column.group))

    @cached_property
    def _scales(self) -> dict[str, tuple[float, float]]:
        """Title of columns with bars -> the least and the greatest value of all their bars."""
        ends: dict[str, list[float]] = {}
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                if cell.span is not None:
                    ends.setdefault(column.title, [0.0]).extend(end for end in cell.span if math.isfinite(end))
        return {title: (min(found), max(found)) for title, found in ends.items()}

    def width(self, column: int) -> int:
        """Characters of the longest text in a column, without its title."""
        return max((len(row.cells[column].text) for row in self.rows), default=0)

    def has_bars(self, column: int) -> bool:
        return any(row.cells[column].span for row in self.rows)

    def bar(self, row: int, column: int) -> tuple[float, float] | None:
        """Where the bar of a cell begins and ends, as shares of the longest in columns of this title; None without."""
        span = self.rows[row].cells[column].span
        if span is None or not all(map(math.isfinite, span)):
            return None
        low, high = self._scales[self.columns[column].title]
        return ((min(span) - low) / (high - low), (max(span) - low) / (high - low)) if high > low else None

    def transposed(self) -> Table:
        """The same with a column per row, for few rows of many figures."""
        heads = [f"{self.columns[0].title} {row.cells[0].text}" for row in self.rows]
        columns = (Column("", is_text=True), *(Column("", group=head) for head in heads))
        rows = tuple(
            Row((Cell(column.title), *(row.cells[i] for row in self.rows)))
            for i, column in enumerate(self.columns)
            if i > 0
        )
        return Table(self.caption, columns, rows)


def time_table(measured: Sequence[Measured], *, with_phases: bool = False) -> Table:
    """A row per variant and batch size: its step, its rate, and either its epoch or the time of every phase."""
    titles = ("step, median", "95 % of steps", "epoch, median", "95 % of epochs", "samples per second", STEPS_MEASURED)
    names = phase_names(one.result for one in measured)
    rows = []
    for one in measured:
        result = one.result
        rate = _rate(result)
        cells = [*_head(one, measured), *_spread(result.step_s, "strong")]
        if with_phases:
            cells += [rate, *(_phase_time(result, name) for name in names)]
        else:
            cells += [*(_spread(result.epoch_s) if result.epoch_s is not None else _absent(2)), rate, _count(result)]
        rows.append(Row(tuple(cells), rung=one.number))
    if not with_phases:
        table = Table("Time without instruments", (*_heads(measured), *map(Column, titles)), tuple(rows))
        return _without_unknown(table, measured)
    columns = (
        *_heads(measured),
        *map(Column, (*titles[:2], titles[4])),
        *(Column(plain(name), phase=name) for name in names),
    )
    table = Table("Time without instruments, from the profile of each variant", columns, tuple(rows))
    return _without_unknown(table, measured)


STEPS_MEASURED = "steps measured"


def phase_names(results: Iterable[BatchResult]) -> list[str]:
    """All phases, in the order in which they run: the five of variants, and those of programs."""
    found = list(results)
    ours = [] if found and all(result.is_one_pass for result in found) else list(PHASES)
    return list(dict.fromkeys([*ours, *(name for result in found for name in result.phases)]))


def _absent(count: int) -> list[Cell]:
    return [Cell(UNKNOWN)] * count


def _rate(result: BatchResult) -> Cell:
    rate = result.samples_per_s
    return Cell(UNKNOWN) if rate is None else Cell(rate_text(rate), rate)


def _without_unknown(table: Table, measured: Sequence[Measured]) -> Table:
    """The table without the columns of which nothing is known in programs, such as epochs and layers."""
    if any(one.run.program is None for one in measured):
        return table
    unknown = ("", UNKNOWN)
    kept = [i for i in range(len(table.columns)) if i == 0 or any(r.cells[i].text not in unknown for r in table.rows)]
    rows = tuple(replace(row, cells=tuple(row.cells[i] for i in kept)) for row in table.rows)
    return replace(table, columns=tuple(table.columns[i] for i in kept), rows=rows)


def _count(result: BatchResult) -> Cell:
    return Cell(format_number(result.steps_measured), result.steps_measured, "quiet")


def _spread(times: Quantiles, mark: str = "") -> list[Cell]:
    return [
        _seconds(times.median, mark),
        Cell(format_range(times.low, times.high), times.high - times.low, "quiet"),
    ]


def rate_text(per_s: float) -> str:
    """'12,300': a rate with three significant digits."""
    return format_number(float(f"{per_s:.3g}"))


def _several_names(measured: Sequence[Measured]) -> bool:
    return len({one.name for one in measured}) > 1


def _heads(measured: Sequence[Measured]) -> list[Column]:
    batch = Column("batch") if any(one.result.batch for one in measured) else Column("", is_text=True)
    return [Column("variant", is_text=True), batch] if _several_names(measured) else [batch]


def _head(one: Measured, measured: Sequence[Measured]) -> list[Cell]:
    m = one.result.batch
    batch = Cell(f"{m:,}", m) if m else Cell("" if any(x.result.batch for x in measured) else "step")
    return [Cell(plain(one.name)), batch] if _several_names(measured) else [batch]


def _group(one: Measured, measured: Sequence[Measured]) -> str:
    """The title above the columns of one batch size; none where there is only one."""
    return batch_text(one.result) if len(measured) > 1 else ""


def _phase_time(result: BatchResult, name: str) -> Cell:
    if name not in result.phases:
        return Cell(UNKNOWN)
    return _seconds(result.phase_s(name), "strong" if name == _slowest_phase(result) else "")


def _slowest_phase(result: BatchResult) -> str:
    return max(result.phases, key=result.phase_share)


def phase_table(measured: Sequence[Measured]) -> Table:
    """A row per phase of one variant: its share and time, and for a single batch size what it asks of memory."""
    shown = [one for one in measured if one.result.phases]
    columns = [Column("phase", is_text=True)]
    for one in shown:
        columns += [Column(title, group=_group(one, shown)) for title in ("share", "time")]
    if len(shown) == 1:
        columns += [Column(title) for title in MEMORY_TITLES]
    rows = []
    for name in dict.fromkeys(name for one in shown for name in one.result.phases):
        cells = [Cell(plain(name))]
        for one in shown:
            cells += _phase_cells(one.result, name)
        if len(shown) == 1:
            cells += _memory_cells(shown[0].result, name)
        rows.append(Row(tuple(cells), phase=name))
    if any(one.result.rest_share >= 0.0005 for one in shown):
        cells = [Cell("rest")]
        for one in shown:
            share = one.result.rest_share
            cells += [_share(share), _seconds(share * one.result.step_s.median)]
        cells += [Cell("")] * (len(columns) - len(cells))
        rows.append(Row(tuple(cells), phase="rest", style="quiet"))
    return _without_unknown(Table("Phases, as shares of the step", tuple(columns), tuple(rows)), shown)


def _phase_cells(result: BatchResult, name: str) -> list[Cell]:
    if name not in result.phases:
        return [Cell(UNKNOWN), Cell(UNKNOWN)]
    mark = "strong" if name == _slowest_phase(result) else ""
    return [_share(result.phase_share(name), mark), _phase_time(result, name)]


MEMORY_TITLES = ("allocated", "peak", "page faults")


def _memory_cells(result: BatchResult, name: str) -> list[Cell]:
    phase: PhaseSamples | None = result.phases.get(name)
    if phase is None:
        return [Cell(UNKNOWN)] * len(MEMORY_TITLES)
    return [
        Cell(format_size(phase.bytes_allocated), phase.bytes_allocated),
        Cell(format_size(phase.peak_bytes), phase.peak_bytes),
        Cell(format_number(phase.page_faults), phase.page_faults),
    ]


def memory_table(measured: Sequence[Measured]) -> Table:
    """A row per phase of one variant: what it asks of memory at several batch sizes."""
    shown = [one for one in measured if one.result.phases]
    columns = [Column("phase", is_text=True)]
    columns += [Column(title, group=_group(one, shown)) for one in shown for title in MEMORY_TITLES]
    names = dict.fromkeys(name for one in shown for name in one.result.phases)
    rows = [
        Row((Cell(plain(name)), *(cell for one in shown for cell in _memory_cells(one.result, name))), phase=name)
        for name in names
    ]
    return Table("Memory of one step: allocated, held at a time, page faults", tuple(columns), tuple(rows))


_Key = tuple[str, int | None, str]


@dataclass(frozen=True)
class _Statement:
    """A row of the table of statements; is_sum: it adds up statements that have no row of their own."""

    phase: str
    layer: int | None
    label: str
    is_sum: bool = False

    @property
    def key(self) -> _Key:
        return self.phase, self.layer, self.label


def statement_table(measured: Sequence[Measured], *, verbose: bool = True) -> Table:
    """A row per labelled statement of one variant, and one per phase for its time without a label.

    verbose: small statements have rows of their own.
    """
    shown = [one for one in measured if one.result.labels]
    if len(shown) == 1 and shown[0].run.program is not None:
        return _expression_table(shown[0], shown[0].run.program.expressions, verbose)
    shares = [_statement_shares(one.result) for one in shown]
    order = list(dict.fromkeys([*PHASES, *(statement.phase for found in shares for statement in found)]))
    statements = sorted(dict.fromkeys(s for found in shares for s in found), key=lambda s: order.index(s.phase))
    small = [s for s in statements if all(found.get(s, 0.0) < SMALL_SHARE for found in shares)]
    if not verbose and len(small) > 1:
        others = _Statement("other", None, f"{len(small)} below {100 * SMALL_SHARE:g} %", is_sum=True)
        shares = [{**found, others: sum(found.get(s, 0.0) for s in small)} for found in shares]
        statements = [*(s for s in statements if s not in small), others]

    lines = {statement: _first_line(shown, statement.key) for statement in statements}
    calls = [{label.key: label.calls for label in one.result.labels} for one in shown]
    same_calls = all(found == calls[0] for found in calls)
    columns = [Column("phase", is_text=True, is_outline=True), Column("layer"), Column("statement", is_text=True)]
    columns += [Column("line")] if any(lines.values()) else []
    columns += [Column("calls")] if same_calls else []
    for one in shown:
        titles = ("share", "time") if same_calls else ("share", "time", "calls")
        columns += [Column(title, group=_group(one, shown)) for title in titles]
    slowest = [
        {label.key for label in sorted(one.result.labels, key=one.result.label_share, reverse=True)[:SLOWEST]}
        for one in shown
    ]
    rows = []
    for statement in statements:
        layer = statement.layer
        cells = [Cell(plain(statement.phase)), Cell("" if layer is None else str(layer), layer)]
        cells.append(Cell(plain(statement.label)))
        cells += [Cell(format_number(lines[statement]) if lines[statement] else "", lines[statement])] * any(
            lines.values()
        )
        cells += [_calls(calls[0], statement)] * same_calls
        for i, one in enumerate(shown):
            mark = "slowest" if statement.key in slowest[i] and not statement.is_sum else ""
            share = shares[i].get(statement)
            if share is None:
                cells += [Cell(UNKNOWN), Cell(UNKNOWN)]
            else:
                cells += [_share(share, mark), _seconds(share * one.result.step_s.median, "strong" if mark else "")]
            cells += [_calls(calls[i], statement)] * (not same_calls)
        rows.append(Row(tuple(cells), phase=statement.phase, style="quiet" if statement.is_sum else ""))
    return Table("Labelled statements, as shares of the step", tuple(columns), tuple(rows))


def _expression_table(one: Measured, expressions: Sequence[Expression], verbose: bool) -> Table:
    """A row per expression of a program's step, by phase, and in each phase as they run."""
    result = one.result
    rated = [
        (label, expression, result.label_share(label))
        for label, expression in zip(result.labels, expressions, strict=True)
    ]
    small = [part for part in rated if part[2] < SMALL_SHARE] if not verbose else []
    slowest = [id(part[0]) for part in sorted(rated, key=lambda part: -part[2])[:SLOWEST]]
    # a line alone is a place if all of them are lines of one file
    with_files = len({one.file for one in expressions}) > 1 or any(one.cell is not None for one in expressions)
    rows = []
    for label, expression, share in rated:
        if len(small) > 1 and share < SMALL_SHARE:
            continue
        mark = "slowest" if id(label) in slowest else ""
        place = plain(expression.place.text) if with_files else str(expression.line)
        cells = (
            Cell(plain(label.phase)),
            Cell(plain(expression.text)),
            Cell(place, expression.line),
            Cell(format_number(label.calls), label.calls),
            _share(share, mark),
            _seconds(share * result.step_s.median, "strong" if mark else ""),
        )
        rows.append(Row(cells, phase=label.phase))
    if len(small) > 1:
        share = sum(part[2] for part in small)
        words = Cell(f"{len(small)} below {100 * SMALL_SHARE:g} % each")
        figures = (Cell(""), Cell(""), _share(share), _seconds(share * result.step_s.median))
        rows.append(Row((Cell("other"), words, *figures), phase="other", style="quiet"))
    columns = (Column("phase", is_text=True, is_outline=True), Column("expression", is_text=True))
    titles = ("place" if with_files else "line", "calls", "share", "time")
    return Table("Expressions, as shares of the step", (*columns, *map(Column, titles)), tuple(rows))


def _statement_shares(result: BatchResult) -> dict[_Statement, float]:
    shares = {_Statement(*label.key): result.label_share(label) for label in result.labels}
    for name in result.phases:
        shares[_Statement(name, None, "(unlabelled)", is_sum=True)] = result.unlabelled_share(name)
    return shares


def _first_line(measured: Sequence[Measured], key: _Key) -> int | None:
    """The first line of the variant's file that is under a label; None where operations were not counted."""
    operations = (operation for one in measured for operation in one.result.operations)
    return min((o.line for o in operations if (o.phase, o.layer, o.label) == key), default=None)


def _calls(calls: dict[_Key, int], statement: _Statement) -> Cell:
    found = calls.get(statement.key)
    return Cell("") if found is None else Cell(format_number(found), found)


def roofline_table(measured: Sequence[Measured], *, verbose: bool = True) -> Table:
    """A row per phase and per statement: what it computes and moves, and what it reaches of its limit."""
    shown = [one for one in measured if one.result.operations]
    points = [_points(one, 0.0 if verbose else SMALL_ROOFLINE_SHARE) for one in shown]
    keys = list(dict.fromkeys(key for found in points for key in found))
    order = list(dict.fromkeys(phase for phase, _, _ in keys))
    keys.sort(key=lambda key: (order.index(key[0]), key[2] is not None))
    columns = [Column("phase", is_text=True, is_outline=True), Column("layer"), Column("statement", is_text=True)]
    titles = ("time", "Mflop", "needed", "moved", "flop/B", "GFLOP/s", "of limit")
    columns += [Column(title, group=_group(one, shown)) for one in shown for title in titles]
    has_operands = len(shown) == 1 and shown[0].run.program is not None
    columns += [Column("operands")] * has_operands
    rows = []
    for phase, layer, label in keys:
        head = (
            Cell(plain(phase)),
            Cell("" if layer is None else str(layer), layer),
            Cell("whole phase" if label is None else plain(label)),
        )
        figures = [cell for found in points for cell in _figures(found.get((phase, layer, label)))]
        if has_operands:
            figures.append(_operands(points[0][phase, layer, label]))
        rows.append(Row((*head, *figures), phase=phase, style="strong" if label is None else ""))
    table = Table("What each statement computes and moves in one step", tuple(columns), tuple(rows))
    return _without_unknown(table, shown)


def _points(one: Measured, least_share: float) -> dict[tuple[str, int | None, str | None], Point]:
    result, ceiling = one.result, Ceiling.of(one.run)
    least_s = least_share * result.step_s.median
    labels = (point for point in label_points(result, ceiling) if point.time_s >= least_s)
    return {(p.phase, p.layer, p.label): p for p in (*phase_points(result, ceiling), *labels)}


def _operands(point: Point) -> Cell:
    """'matmul float64 (70, 784, 500) C·F': the operation of an expression with the most work, on what."""
    if point.label is None or not point.operations:
        return Cell("")
    one = max(point.operations, key=lambda operation: operation.flop + operation.bytes_moved)
    shape = f"({', '.join(map(str, one.shape))})" if one.shape else ""
    return Cell(plain(" ".join(filter(None, (one.name, one.dtype, shape, one.orders)))))


def _figures(point: Point | None) -> tuple[Cell, ...]:
    if point is None:
        return (Cell(UNKNOWN),) * 7
    if not point.operations:
        return (_seconds(point.time_s), *(Cell(UNKNOWN),) * 6)
    useful = point.useful_flop
    needed = useful / point.flop if point.flop and useful is not None else None
    gflops, share = point.gflops, point.share_of_limit
    return (
        _seconds(point.time_s),
        Cell(digits(1e-6 * point.flop), point.flop),
        Cell(format_percent(needed), needed),
        Cell(format_size(point.bytes_moved), point.bytes_moved),
        Cell(digits(point.intensity), point.intensity),
        Cell(UNKNOWN if gflops is None else digits(gflops), gflops),
        Cell(format_percent(share), share),
    )


def agreement_table(measured: Sequence[Measured]) -> Table:
    """A row per variant and batch size: the difference between each measuring pass and the unprofiled step."""
    titles = {title_of(figure): None for one in measured for figure in agreements(one.result)}
    rows = []
    for one in measured:
        found = {title_of(figure): figure for figure in agreements(one.result)}
        cells = [_agreement(found.get(title)) for title in titles]
        counts = [_count(one.result)] * _several_names(measured)
        rows.append(Row((*_head(one, measured), *counts, *cells), rung=one.number))
    counted = [STEPS_MEASURED] * _several_names(measured)
    caption = "Difference between each measuring pass and the unprofiled step"
    return Table(caption, (*_heads(measured), *map(Column, (*counted, *titles))), tuple(rows))


def title_of(figure: Agreement) -> str:
    """'sum of the phases (limit 3 %)'."""
    return f"{figure.name} (limit {100 * figure.limit:.0f} %)"


def _agreement(figure: Agreement | None) -> Cell:
    """The difference of a figure from 1; a program has other figures than a variant."""
    if figure is None:
        return Cell(UNKNOWN)
    return Cell(
        ("" if figure.is_within else "! ") + format_change(figure.ratio),
        None if figure.ratio is None else figure.ratio - 1,
        "" if figure.is_within else "bad",
    )


def race_table(ladder: Ladder) -> Table:
    """A row per rung: its step in the race, and how many times as fast it is as its parent and as the root."""
    race, root = ladder.race, ladder.root
    rows = []
    for number, rung in enumerate(ladder.rungs):
        over_root = 1.0 if rung.over_root is None else rung.over_root.ratio
        has_parent = rung.parent is not None and rung is not root
        cells = (
            Cell(plain(rung.name) + (" †" if rung.name in race.slow else "")),
            Cell(race.dtype(rung.name)),
            _seconds(rung.step_s),
            _ratio(rung.over_parent, UNKNOWN if has_parent else ""),
            replace(_ratio(rung.over_root, ""), span=(0.0, over_root)),
        )
        rows.append(Row(cells, rung=number))
    titles = ("raced step", "times parent", f"times {plain(root.name)}")
    columns = (Column("variant", is_text=True), Column("dtype", is_text=True), *map(Column, titles))
    processes = f"{len(race.turns_s)} processes"
    caption = f"The race at batch {ladder.batch:,} in {processes}: how many times as fast, with 95 % intervals"
    return Table(caption, columns, tuple(rows))


def history_table(versions: Sequence[Version]) -> Table:
    """A row per version of a program, in their order: its step, and how many times as fast it is."""
    rows = []
    for one in versions:
        times = 1.0 if one.over_first is None else one.over_first.ratio
        first = replace(_ratio(one.over_first, ""), span=(0.0, times))
        rows.append(Row((Cell(plain(one.name)), _seconds(one.step_s), _ratio(one.over_previous, ""), first)))
    columns = (Column("version", is_text=True), *map(Column, ("step", "times the one before", "times the first")))
    return Table("The versions in one race: how many times as fast, with 95 % intervals", columns, tuple(rows))


def _ratio(verdict: Verdict | None, absent: str) -> Cell:
    if verdict is None:
        return Cell(absent)
    mark = "good" if verdict.is_faster else "bad" if verdict.is_slower else "quiet"
    return Cell(format_ratio(verdict.ratio, verdict.low, verdict.high), verdict.ratio, mark)


def change_table(changes: Sequence[PhaseChange], old_s: float, new_s: float) -> Table:
    """A row per phase, and beneath it one per statement that moved: its time before and after, and its share.

    old_s, new_s: seconds per step. The shares of the phases and the rest add up to the difference of the two.
    """
    phases = [change for change in changes if not change.label]
    moved_s = sum(abs(change.old_s - change.new_s) for change in phases)
    rows, level = [], 0.0
    for phase in phases:
        if phase.phase == REST and max(phase.old_s, phase.new_s) <= 0:
            continue
        name = phase_name(phase.phase)
        rows.append(Row(_change_cells((name, None, ""), phase, (level, level + phase.share)), phase=name))
        level += phase.share
        labels = [change for change in changes if change.label and change.phase == phase.phase]
        rows += [
            Row(_change_cells((name, change.layer, change.label), change), phase=name, style="quiet")
            for change in _moved(phase, labels, moved_s)
        ]
    if rows:
        whole = PhaseChange("step", None, "", old_s, new_s, 1.0)
        rows.append(Row(_change_cells(("step", None, ""), whole, (0.0, 1.0)), style="strong"))
    columns = (
        Column("phase", is_text=True, is_outline=True),
        Column("layer"),
        Column("statement", is_text=True),
        *map(Column, ("old", "new", "share")),
    )
    if any(change.low_s is not None for change in changes):
        columns = (*columns, Column("95 % of the change"))
    else:
        rows = [replace(row, cells=row.cells[:-1]) for row in rows]
    return Table("Where the difference lies", columns, tuple(rows))


def comparison_table(comparison: Comparison) -> Table:
    """The table of changes of a comparison."""
    race = comparison.race
    return change_table(comparison.waterfall, race.step_s(0), race.step_s(1))


def expression_change_table(changes: Sequence[ExpressionChange]) -> Table:
    """A row for each expression of two programs whose time changed; what it was before follows in a row of its own."""
    rows = []
    has_intervals = any(one.low_s is not None for one in changes)
    for one in changes:
        mark = "bad" if one.lost_s > 0 else "good"
        cells = (
            Cell(plain(one.place.text)),
            Cell(plain(one.text)),
            *(_new_or_gone(seconds) for seconds in (one.old_s, one.new_s)),
            Cell(signed_time(one.lost_s), one.lost_s, mark),
            *([Cell(interval_text(one.low_s, one.high_s), one.low_s, "quiet")] if has_intervals else []),
        )
        rows.append(Row(cells))
        if one.old_text:
            cells = (Cell(""), Cell(f"was: {plain(one.old_text)}"), *[Cell("")] * (len(cells) - 2))
            rows.append(Row(cells, style="quiet"))
    titles = ("old", "new", "change", *(["95 % of the change"] if has_intervals else []))
    columns = (Column("line", is_text=True), Column("expression", is_text=True), *map(Column, titles))
    return Table("Expressions whose time changed", columns, tuple(rows))


def _new_or_gone(seconds: float | None) -> Cell:
    return Cell("-") if seconds is None else _seconds(seconds)


def phase_name(phase: str) -> str:
    """A phase as it is shown; time in no phase is called rest."""
    return "rest" if phase == REST else plain(phase)


def _moved(phase: PhaseChange, labels: Sequence[PhaseChange], moved_s: float) -> Iterable[PhaseChange]:
    """The statements that moved most, in the order of the code, and the rest of their phase as one change."""
    large = [change for change in labels if abs(change.old_s - change.new_s) >= SMALL_CHANGE * moved_s]
    most = sorted(large, key=lambda change: -abs(change.old_s - change.new_s))[:MOST_CHANGES]
    shown = [change for change in labels if change in most]
    if shown:
        yield from shown
        yield PhaseChange(
            phase.phase,
            None,
            "(others)",
            phase.old_s - sum(change.old_s for change in shown),
            phase.new_s - sum(change.new_s for change in shown),
            phase.share - sum(change.share for change in shown),
        )


def _change_cells(
    names: tuple[str, int | None, str], change: PhaseChange, span: tuple[float, float] | None = None
) -> tuple[Cell, ...]:
    phase, layer, label = names
    shown_share = round(change.share, 3) + 0.0  # + 0.0 turns -0.0 into 0.0
    is_slower = change.new_s > change.old_s and shown_share != 0
    return (
        Cell(phase),
        Cell("" if layer is None else str(layer), layer),
        Cell(plain(label)),
        *(Cell(format_time(s), s) if s > 0 else Cell(UNKNOWN) for s in (change.old_s, change.new_s)),
        Cell(format_percent(shown_share), change.share, "bad" if is_slower else "", span),
        Cell(interval_text(change.low_s, change.high_s), change.low_s, "quiet"),
    )


def _share(share: float, mark: str = "") -> Cell:
    return Cell(format_percent(share), share, mark, (0.0, share))


def _seconds(seconds: float, mark: str = "") -> Cell:
    return Cell(format_time(seconds), seconds, mark)
