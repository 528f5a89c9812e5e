"""The tables of a run: times, phases, what phases ask of memory, statements by layer and label, agreement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.padding import Padding

from mlpprof.model import PHASES
from mlpprof.report.numbers import (
    UNKNOWN,
    bar,
    format_change,
    format_number,
    format_percent,
    format_range,
    format_size,
    format_time,
    plain,
)
from mlpprof.report.terminal.console import GAP, GROUP_GAP, INDENT, Column, Group, group_tables
from mlpprof.results import BatchResult, LabelSamples, PhaseSamples

# What a batch's figures say, in one sentence, and how far they can be trusted.


PHASES_LIMIT = 0.03
LABELS_LIMIT = 0.05

NOT_SEPARABLE = "not separable: train_step fuses the phases"


def not_separable(result: BatchResult) -> str:
    """Why no phase can be told from another."""
    return NOT_SEPARABLE if result.steps_a_sample == 1 else "not separable: train spans steps"


def verdict(result: BatchResult) -> str:
    """'backward takes 48 % of the step; its dearest statement is the derivative of layer 1, 22 %'."""
    labels = result.labels
    sentence = f"{not_separable(result)}; the dearest statement is"
    if result.phases:
        phase = max(result.phases, key=result.phase_share)
        sentence = f"{phase} takes {100 * result.phase_share(phase):.0f} % of the step"
        labels = tuple(label for label in labels if label.phase == phase)
        if not labels:
            return sentence
        sentence += "; its dearest statement is"
    elif not labels:
        return not_separable(result)
    dearest = max(labels, key=result.label_share)
    return f"{sentence} {label_text(dearest)}, {100 * result.label_share(dearest):.0f} %"


def label_text(label: LabelSamples) -> str:
    """'the derivative of layer 1'."""
    return f"the {label.label}" + ("" if label.layer is None else f" of layer {label.layer}")


@dataclass(frozen=True)
class Agreement:
    """One figure on how well the passes agree: its ratio, which would best be 1, and the distance it may have."""

    name: str
    ratio: float | None
    limit: float
    meaning: str
    """What it means for the reader when the ratio is further from 1 than the limit."""

    @property
    def is_within(self) -> bool:
        """True also where there is nothing to judge."""
        return self.ratio is None or abs(self.ratio - 1) <= self.limit


def agreements(result: BatchResult) -> tuple[Agreement, Agreement, Agreement]:
    """The three figures of a batch: phases against the step, and what the clocks on phases and on labels cost."""
    return (
        Agreement(
            "sum of the phases",
            result.phases_over_total,
            PHASES_LIMIT,
            "the step does work outside its five phases, or phases overlap: shares are of the phases, not of the step",
        ),
        Agreement(
            "with clocks on phases",
            result.phases_disturbance,
            PHASES_LIMIT,
            "the clocks on phases change what they time, or the machine was busy: read the shares as rough",
        ),
        Agreement(
            "with clocks on labels",
            result.labels_disturbance,
            LABELS_LIMIT,
            "the clocks on labels change what they time, or the machine was busy: short statements look too dear",
        ),
    )


BAR_STYLE = "cyan"
TOP = 3
"""So many statements of a batch are emphasised."""
SMALL_SHARE = 0.005
"""Statements below this share of the step, at every batch size, are added up in one line."""
UNLABELLED = "(unlabelled)"


def batch_text(result: BatchResult) -> str:
    """'batch 20,000'."""
    return f"batch {result.batch:,}"


def time_tables(results: Sequence[BatchResult], width: int) -> Iterator[Padding]:
    """Time per step and per epoch with spread, samples per second, and how many steps that is from."""
    names = ("step, median", "95 % of steps", "epoch, median", "95 % of epochs", "samples per second", "steps measured")
    groups = []
    for result in results:
        step, epoch = result.step_s, result.epoch_s
        cells = (
            format_time(step.median),
            format_range(step.low, step.high),
            format_time(epoch.median),
            format_range(epoch.low, epoch.high),
            format_number(float(f"{result.batch / step.median:.3g}")) if step.median > 0 else UNKNOWN,
            format_number(result.total_s.size * result.steps_a_sample),
        )
        groups.append(Group("", [Column(batch_text(result), cells)], frozenset({0})))
    styles = ("", "dim", "", "dim", "", "dim")
    yield from group_tables([Column("", names, is_text=True)], groups, styles, width)


def phase_tables(results: Sequence[BatchResult], width: int) -> Iterator[Padding]:
    """A phase a row, in execution order: share and time; with a single batch size memory beside it."""
    names = _phase_names(results)
    dominant = [names.index(max(result.phases, key=result.phase_share)) for result in results]
    bar_width = _bar_width(len(results), width)
    largest = max(result.phase_share(name) for result in results for name in result.phases)
    columns = [_share_columns(result, names, bar_width, largest) for result in results]
    if len(results) == 1:
        columns[0] += _memory_columns(results[0], names, "allocated")
    groups = [
        Group(batch_text(result) if len(results) > 1 else "", same, frozenset({strong}))
        for result, same, strong in zip(results, columns, dominant, strict=True)
    ]
    yield from group_tables([_name_column(names)], groups, [""] * len(names), width)


def memory_tables(results: Sequence[BatchResult], width: int) -> Iterator[Padding]:
    """A phase a row: what it asks of memory at several batch sizes."""
    names = _phase_names(results)
    groups = [Group(batch_text(result), _memory_columns(result, names, "bytes")) for result in results]
    yield from group_tables([_name_column(names)], groups, [""] * len(names), width)


def _phase_names(results: Sequence[BatchResult]) -> list[str]:
    return list(dict.fromkeys(name for result in results for name in result.phases))


def _name_column(names: Sequence[str]) -> Column:
    return Column("phase", [plain(name) for name in names], is_text=True)


def _bar_width(n_batches: int, width: int) -> int:
    """Characters for bars: generous beside one batch; with several, what lets all of them stand in one table."""
    if n_batches == 1:
        return 10 if width < 100 else 20
    left = width - INDENT - max(map(len, PHASES)) - GAP - (n_batches - 1) * GROUP_GAP
    bar_width = left // n_batches - len("48.1 %") - len("48.1 ms") - 2 * GAP
    return min(bar_width, 10) if bar_width >= 4 else 0


def _share_columns(result: BatchResult, names: Sequence[str], bar_width: int, largest: float) -> list[Column]:
    shares = [result.phase_share(name) if name in result.phases else math.nan for name in names]
    times = [result.phase_median_s(name) if name in result.phases else math.nan for name in names]
    return [
        Column("share", [format_percent(share) for share in shares]),
        Column("", [bar(share, largest, bar_width) for share in shares], is_text=True, style=BAR_STYLE),
        Column("time", [format_time(time_s) for time_s in times]),
    ]


def _memory_columns(result: BatchResult, names: Sequence[str], bytes_title: str) -> list[Column]:
    unknown = PhaseSamples(np.empty((0, 0)))
    phases = [result.phases.get(name, unknown) for name in names]
    return [
        Column(bytes_title, [format_size(phase.bytes_allocated) for phase in phases]),
        Column("peak", [format_size(phase.peak_bytes) for phase in phases]),
        Column("faults", [format_number(phase.page_faults) for phase in phases]),
    ]


@dataclass(frozen=True)
class _Statement:
    """What identifies a row of the label table at every batch size; `is_rest` where it adds up what has no label."""

    phase: str
    layer: int | None
    label: str
    is_rest: bool = False


@dataclass(frozen=True)
class _Figures:
    share: float
    time_s: float
    calls: int | None


_ABSENT = _Figures(math.nan, math.nan, None)


def label_tables(results: Sequence[BatchResult], width: int, verbose: bool) -> Iterator[Padding]:
    """A statement a row, phases in execution order; small ones in one line at the end unless verbose."""
    figures = [_label_figures(result) for result in results]
    order = list(dict.fromkeys([*PHASES, *(statement.phase for rows in figures for statement in rows)]))
    statements = sorted(dict.fromkeys(s for rows in figures for s in rows), key=lambda s: order.index(s.phase))
    small = [s for s in statements if all(rows[s].share < SMALL_SHARE for rows in figures if s in rows)]
    if not verbose and len(small) > 1:
        other = _Statement("other", None, f"{len(small)} below {100 * SMALL_SHARE:g} %", is_rest=True)
        figures = [{**rows, other: _sum([rows[s] for s in small if s in rows])} for rows in figures]
        statements = [*(s for s in statements if s not in small), other]
    first_of_phase = {s.phase: s for s in reversed(statements)}
    calls = [[_calls_text(rows.get(s, _ABSENT)) for s in statements] for rows in figures]
    left = [
        Column("phase", [plain(s.phase) if first_of_phase[s.phase] is s else "" for s in statements], is_text=True),
        Column("layer", ["" if s.layer is None else str(s.layer) for s in statements]),
        Column("label", [plain(s.label) for s in statements], is_text=True),
        Column("calls", calls[0]),
    ]
    groups = [_label_group(result, rows, statements) for result, rows in zip(results, figures, strict=True)]
    if len(results) == 1:
        bars = _label_bars(figures[0], statements, _bar_width(1, width))
        groups = [Group("", [groups[0].columns[0], bars, groups[0].columns[1]], groups[0].strong)]
    elif any(cells != calls[0] for cells in calls):
        groups = [
            Group(group.title, [*group.columns, Column("calls", cells)], group.strong)
            for group, cells in zip(groups, calls, strict=True)
        ]
        left.pop()
    yield from group_tables(left, groups, ["dim" if s.is_rest else "" for s in statements], width)


def _label_figures(result: BatchResult) -> dict[_Statement, _Figures]:
    """The labels of a batch, and after them what is left of every phase.

    The rest is the phase's share in its own pass less the shares of its labels in theirs, so that it is as exact as
    the passes agree; never below zero.
    """
    rows = {
        _Statement(x.phase, x.layer, x.label): _Figures(result.label_share(x), float(np.median(x.step_s)), x.calls)
        for x in result.labels
    }
    pass_s = float(np.median(result.labels_pass_s))
    for name, phase in result.phases.items():
        labelled = sum(figures.share for statement, figures in rows.items() if statement.phase == name)
        share = max(0.0, float(np.median(phase.step_s / result.phases_pass_s)) - labelled)
        rows[_Statement(name, None, "(unlabelled)", is_rest=True)] = _Figures(share, share * pass_s, None)
    return rows


def _sum(figures: Sequence[_Figures]) -> _Figures:
    return _Figures(sum(f.share for f in figures), sum(f.time_s for f in figures), None)


def _label_group(result: BatchResult, rows: Mapping[_Statement, _Figures], statements: Sequence[_Statement]) -> Group:
    figures = [rows.get(statement, _ABSENT) for statement in statements]
    labelled = [i for i, statement in enumerate(statements) if statement in rows and not statement.is_rest]
    dearest = sorted(labelled, key=lambda i: figures[i].share, reverse=True)[:TOP]
    columns = [
        Column("share", [("*" if row in dearest else "") + format_percent(f.share) for row, f in enumerate(figures)]),
        Column("time", [format_time(f.time_s) for f in figures]),
    ]
    return Group(batch_text(result), columns, frozenset(dearest))


def _label_bars(rows: Mapping[_Statement, _Figures], statements: Sequence[_Statement], bar_width: int) -> Column:
    shares = [rows[statement].share for statement in statements]
    return Column("", [bar(share, max(shares), bar_width) for share in shares], is_text=True, style=BAR_STYLE)


def _calls_text(figures: _Figures) -> str:
    return "" if figures.calls is None else format_number(figures.calls)


def agreement_tables(results: Sequence[BatchResult], width: int) -> Iterator[Padding]:
    """How well the passes agree: the distance of each ratio from 1, its limit, and a mark where it is beyond."""
    rows = [agreements(result) for result in results]
    left = [
        Column("", [row.name for row in rows[0]], is_text=True),
        Column("limit", [f"{100 * row.limit:.0f} %" for row in rows[0]]),
    ]
    groups = []
    for result, figures in zip(results, rows, strict=True):
        changes = [("" if figure.is_within else "! ") + format_change(figure.ratio) for figure in figures]
        beyond = frozenset(row for row, figure in enumerate(figures) if not figure.is_within)
        groups.append(Group("", [Column(batch_text(result), changes)], beyond))
    yield from group_tables(left, groups, [""] * len(rows[0]), width)
