"""Where the time goes: a step by phase, for variants or batch sizes, and one step by phase, layer and label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.patches import Rectangle

from mlpprof.model import PHASES
from mlpprof.report.anatomy import PhasePart, anatomy
from mlpprof.report.figures.canvas import MUTED, PAPER, REST, Sheet, phase_color, short, text_on, text_width
from mlpprof.report.figures.rows import RowPlot, row_plot, time_axis
from mlpprof.report.numbers import format_percent, format_time
from mlpprof.results import BatchResult

TOO_LONG = 6.0
"""A bar that is more than this many times as long as the next one is cut, so that the others stay readable."""
CUT = 1.12
"""A cut bar is drawn this many times as long as the longest one to scale."""


@dataclass(frozen=True)
class Bar:
    """A step to draw; number: the variant's in its story. parts: (phase, share of the step)."""

    name: str
    number: int
    step_s: float
    parts: tuple[tuple[str, float], ...]


def bar_parts(result: BatchResult) -> tuple[tuple[str, float], ...]:
    """Phases and their shares of the step, and the rest that no phase covers."""
    return (*result.phase_shares.items(), ("rest", result.rest_share))


def time_bars(bars: Sequence[Bar], width: float) -> Sheet:
    """Steps of several variants at one batch size below each other; the length of a bar is its time."""
    limit = _limit([bar.step_s for bar in bars])
    plot = _bar_plot(bars, width, "time of one step")
    time_axis(plot.axes, limit * (CUT if any(bar.step_s > limit for bar in bars) else 1.0))
    for i, bar in enumerate(bars):
        is_cut = bar.step_s > limit
        length = limit * CUT if is_cut else bar.step_s
        _stack(plot, i, bar, length, f"{format_time(bar.step_s)}")
        if is_cut:
            _tear(plot, i, length)
    return plot.sheet


def share_bars(bars: Sequence[Bar], width: float) -> Sheet:
    """Steps at several batch sizes below each other, each 100 % long, its time at the right."""
    plot = _bar_plot(bars, width, "share of one step")
    plot.axes.set_xlim(0, 1)
    plot.axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    for i, bar in enumerate(bars):
        _stack(plot, i, bar, 1.0, f"{format_time(bar.step_s)}")
    return plot.sheet


def _bar_plot(bars: Sequence[Bar], width: float, xlabel: str) -> RowPlot:
    names = [bar.name for bar in bars]
    tags = [{"rung": bar.number} for bar in bars]
    return row_plot(names, width, right=1.0, narrow_right=0.62, xlabel=xlabel, phases=_present(bars), tags=tags)


def _stack(plot: RowPlot, i: int, bar: Bar, length: float, figure: str) -> None:
    begin, y = 0.0, plot.y(i)
    for phase, share in bar.parts:
        size = share * length
        title = f"{bar.name}: {phase} {format_time(share * bar.step_s)}, {format_percent(share)} of the step"
        _segment(plot, i, begin, size, phase, title, bar.number)
        label = format_percent(share) if share >= 0.1 else ""
        if label and _points(plot, size) > text_width(label, 7):
            text = plot.axes.text(
                begin + size / 2, y, label, size=7, ha="center", va="center", color=text_on(phase), clip_on=True
            )
            plot.sheet.tag(text, phase=phase, rung=bar.number, bar=i)
        begin += size
    text = plot.after_bar(i, length, figure)
    plot.sheet.tag(text, rung=bar.number, bar=i)


def _segment(plot: RowPlot, i: int, begin: float, size: float, phase: str, title: str, number: int) -> None:
    """Draw a part of bar i; its width in points lets a script close the gap where the part is hidden."""
    y, color = plot.y(i) - plot.half, phase_color(phase)
    patch = Rectangle((begin, y), size, 2 * plot.half, facecolor=color, edgecolor=PAPER, lw=0.6)
    plot.axes.add_patch(patch)
    plot.sheet.tag(patch, title, phase=phase, rung=number, bar=i, width=f"{_points(plot, size):.2f}")


def _points(plot: RowPlot, size: float) -> float:
    """A length along the axis in points."""
    to_pixels = plot.axes.transData
    return float(to_pixels.transform((size, 0))[0] - to_pixels.transform((0, 0))[0])


def _tear(plot: RowPlot, i: int, length: float) -> None:
    """Two gaps near the end of a bar that is cut."""
    y, half = plot.y(i), plot.half
    for k in (0.93, 0.95):
        line = plot.axes.plot(
            (length * (k - 0.006), length * (k + 0.006)), (y + 1.3 * half, y - 1.3 * half), color=PAPER, lw=2.2
        )[0]
        line.set_clip_on(False)


def _limit(times_s: Sequence[float]) -> float:
    ordered = sorted(times_s, reverse=True)
    while len(ordered) > 2 and ordered[0] > TOO_LONG * ordered[1]:
        ordered.pop(0)
    return ordered[0]


def _present(bars: Sequence[Bar]) -> list[str]:
    """The visible phases, in the order in which they run."""
    present = {phase for bar in bars for phase, share in bar.parts if share > 0.002}
    others = dict.fromkeys(phase for bar in bars for phase, _ in bar.parts if phase in present)
    order = [*(phase for phase in PHASES if phase in present), *(p for p in others if p not in (*PHASES, "rest"))]
    return [*order, "rest"] if "rest" in present else order


def layer_bars(result: BatchResult, width: float) -> Sheet:
    """A row per phase: its length is the time, its parts are statements, and layers are marked below."""
    parts = anatomy(result)
    names = [part.phase for part in parts]
    tags = [{"phase": name} for name in names]
    plot = row_plot(names, width, below=0.2, right=1.15, xlabel="time of one step", tags=tags)
    time_axis(plot.axes, max(part.time_s for part in parts))
    for i, part in enumerate(parts):
        _phase_row(plot, i, part)
    return plot.sheet


def _phase_row(plot: RowPlot, i: int, phase: PhasePart) -> None:
    y, half = plot.y(i), plot.half
    begin = 0.0
    for layer, parts in phase.layers():
        start = begin
        for part in parts:
            title = f"{phase.phase}, {part.text}: {format_time(part.time_s)}, {format_percent(part.share)} of the step"
            color = phase_color(phase.phase) if part.label else REST
            patch = Rectangle((begin, y - half), part.time_s, 2 * half, facecolor=color, edgecolor=PAPER, lw=0.7)
            plot.axes.add_patch(patch)
            plot.sheet.tag(patch, title, phase=phase.phase)
            _inside(plot, begin, y, part.time_s, part.label, phase.phase)
            begin += part.time_s
        if layer is not None:
            _bracket(plot, start, begin, y + half + 0.05 / plot.row, layer, phase.phase)
    figure = f"{format_time(phase.time_s)}, {format_percent(phase.share)}"
    plot.sheet.tag(plot.figure(i, phase.time_s, figure), phase=phase.phase)


def _inside(plot: RowPlot, begin: float, y: float, size: float, label: str, phase: str) -> None:
    """Write the label into its part of the bar, where it fits."""
    label = short(label)
    room = _points(plot, size) - 8  # so that no letter touches the end of its part
    if label and room > text_width(label, 7):
        text = plot.axes.text(
            begin + size / 2, y, label, size=7, ha="center", va="center", color=text_on(phase), clip_on=True
        )
        plot.sheet.tag(text, phase=phase)


def _bracket(plot: RowPlot, begin: float, end: float, y: float, layer: int, phase: str) -> None:
    """Draw a line under all parts of a layer, with its name where it fits."""
    inset = min(1.0 / _points(plot, 1.0), 0.2 * (end - begin))
    line = plot.axes.plot((begin + inset, end - inset), (y, y), color=MUTED, lw=0.8, solid_capstyle="butt")[0]
    plot.sheet.tag(line, phase=phase)
    room = _points(plot, end - begin)
    for text in (f"layer {layer}", str(layer)):
        if room > text_width(text, 6.5) * 0.9:
            artist = plot.axes.text(
                (begin + end) / 2, y + 0.02 / plot.row, text, size=6.5, ha="center", va="top", color=MUTED
            )
            plot.sheet.tag(artist, phase=phase)
            return
