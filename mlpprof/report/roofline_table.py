"""The roofline as tables for the terminal: what each phase and statement computes, moves and reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.padding import Padding

from mlpprof.report.format import UNKNOWN, digits, format_percent, format_size, format_time, plain
from mlpprof.report.grid import Column, Group, group_tables
from mlpprof.report.roofline import Ceiling, Point, label_points, phase_points
from mlpprof.report.tables import batch_text
from mlpprof.results import BatchResult, Run

SMALL_SHARE = 0.01
"""Statements below this share of the step, at every batch size, are left out unless verbose."""

Row = tuple[str, int | None, str | None]


def roofline_tables(run: Run, width: int, verbose: bool) -> Iterator[Padding]:
    """A row for every phase, and beneath it one for each of its statements; nothing where nothing was counted."""
    results = [result for result in run.results if result.operations]
    if not results:
        return
    ceiling = Ceiling.of(run)
    points = [_points(result, ceiling, verbose) for result in results]
    phases = dict.fromkeys(row[0] for found in points for row in found)
    rows = [row for phase in phases for row in dict.fromkeys(r for found in points for r in found) if row[0] == phase]
    rows.sort(key=lambda row: (list(phases).index(row[0]), row[2] is not None))
    left = [
        Column("phase", [plain(phase) if label is None else "" for phase, _, label in rows], is_text=True),
        Column("layer", ["" if layer is None else str(layer) for _, layer, _ in rows]),
        Column("label", ["" if label is None else plain(label) for _, _, label in rows], is_text=True),
    ]
    groups = [
        Group(batch_text(result) if len(results) > 1 else "", _columns([found.get(row) for row in rows]))
        for result, found in zip(results, points, strict=True)
    ]
    yield from group_tables(left, groups, ["bold" if label is None else "" for _, _, label in rows], width)


def _points(result: BatchResult, ceiling: Ceiling | None, verbose: bool) -> dict[Row, Point]:
    least_s = 0.0 if verbose else SMALL_SHARE * result.step_s.median
    shown = [*phase_points(result, ceiling), *(p for p in label_points(result, ceiling) if p.time_s >= least_s)]
    return {(p.phase, p.layer, p.label): p for p in shown}


def _columns(points: Sequence[Point | None]) -> list[Column]:
    return [
        Column("time", [UNKNOWN if p is None else format_time(p.time_s) for p in points]),
        Column("Mflop", [UNKNOWN if p is None or not p.operations else digits(1e-6 * p.flop) for p in points]),
        Column(
            "needed", [UNKNOWN if p is None or not p.flop else format_percent(p.useful_flop / p.flop) for p in points]
        ),
        Column("moved", [UNKNOWN if p is None or not p.operations else format_size(p.bytes_moved) for p in points]),
        Column("flop/B", [UNKNOWN if p is None else digits(p.intensity) for p in points]),
        Column("GFLOP/s", [UNKNOWN if p is None or p.gflops is None else digits(p.gflops) for p in points]),
        Column("of limit", [UNKNOWN if p is None else format_percent(p.share_of_limit) for p in points]),
    ]
