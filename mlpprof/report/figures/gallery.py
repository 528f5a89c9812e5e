"""Every figure that runs, comparisons and ladders have data for, each by its name.

| name                | what                                                                                        |
| ------------------- | ------------------------------------------------------------------------------------------- |
| speedup             | how many times as fast: rungs compared with their root, or new variants with the old one    |
| history             | the step of several versions of a program, which ran in one race                            |
| phases              | steps by phase: of variants at one batch size, or of one variant at several                 |
| layers              | one step by phase, layer and labelled statement                                             |
| waterfall           | what every phase adds to the time that one variant saves over another                       |
| differences         | the expressions, or the statements, whose time changed: old and new beside each other       |
| roofline            | how close each statement comes to the limits of the machine                                 |
| scaling             | time per sample by batch size                                                               |
| samples             | every raw sample of a run as a dot                                                          |
| turns               | every raw sample of a race as a dot                                                         |

Where there are several of a kind, batch sizes and names follow: phases-500, layers-cached-500, waterfall-sliced-500.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mlpprof.compare.history import history
from mlpprof.errors import UsageError, did_you_mean
from mlpprof.files import write_atomically
from mlpprof.report.figures.canvas import WIDE, Sheet, png_bytes, standalone_svg, style
from mlpprof.report.figures.phases import Bar, bar_parts, layer_bars, share_bars, time_bars
from mlpprof.report.figures.ratios import Difference, Ratio, difference_rows, history_rows, ratio_rows, waterfall_rows
from mlpprof.report.figures.roofline import has_roofline, roofline_sheet, roofline_text, roofline_title
from mlpprof.report.figures.spread import Curve, Strip, scaling_curves, strip_rows
from mlpprof.report.numbers import digits, format_percent, format_time, of_layer
from mlpprof.report.story import Measured, Story
from mlpprof.results import Comparison, Ladder, Verdict


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn at any width; description: what it shows, for readers who cannot see it.

    subject: the variant and batch size that it shows, None where it shows several.
    """

    name: str
    title: str
    description: str
    draw: Callable[[float], Sheet]
    subject: Measured | None = None

    def sheet(self, width: float = WIDE) -> Sheet:
        with style():
            return self.draw(width)


KINDS = (
    "history",
    "speedup",
    "phases",
    "layers",
    "waterfall",
    "differences",
    "roofline",
    "scaling",
    "samples",
    "turns",
)
MOST_CURVES = 14
"""At most this many variants are in one picture of scaling; more lines cannot be distinguished."""


def drawings(story: Story) -> dict[str, Drawing]:
    """Every figure that the story has data for, by name, the most important one first."""
    kinds = (_histories, _speedups, _waterfalls, _differences, _phases, _layers, _rooflines, _scaling, _samples, _turns)
    found = [drawing for kind in kinds for drawing in kind(story)]
    return {drawing.name: drawing for drawing in found}


def require_known_kind(name: str) -> None:
    """Raise UsageError for the name of an unknown kind of figure, before time is spent on measuring."""
    if name.partition("-")[0] not in KINDS:
        raise UsageError(f"there is no figure '{name}'{did_you_mean(name, KINDS)} (known: {', '.join(KINDS)})")


def select(story: Story, name: str | None) -> Drawing:
    """The figure of a name, else the most important one. Raises UsageError that lists the names."""
    known = drawings(story)
    if name is None:
        return next(iter(known.values()))
    if name not in known:
        raise UsageError(f"there is no figure '{name}'{did_you_mean(name, known)} (there are: {', '.join(known)})")
    return known[name]


def write_figure(path: Path, story: Story, name: str | None = None, picture: str | None = None) -> Path:
    """Write one figure as "png" or "svg", else by the path's extension; returns the path.

    Raises UsageError for a name that the story has no figure of, and where the file cannot be written.
    """
    drawing = select(story, name)
    sheet = drawing.sheet()
    if (picture or path.suffix.lower().removeprefix(".")) == "png":
        content = png_bytes(sheet)
    else:
        content = standalone_svg(sheet, drawing.title, drawing.description).encode()
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)
    return path


def slug(*parts: str | int) -> str:
    """Parts of a figure's name, in characters that a shell and a file name take."""
    return "-".join(re.sub(r"[^A-Za-z0-9_]+", "-", str(part)).strip("-") or "unnamed" for part in parts)


def _suffixed(kind: str, count: int, *parts: str | int) -> str:
    return slug(kind, *parts) if count > 1 else kind


def _histories(story: Story) -> Iterator[Drawing]:
    versions = history(story.comparisons)
    if versions:
        texts = (f"{one.name} {format_time(one.step_s)}" for one in versions)
        yield Drawing(
            "history",
            f"A step of {len(versions)} versions, in one race",
            f"Dots, one below the other: {'; '.join(texts)}",
            partial(history_rows, versions),
        )


def _speedups(story: Story) -> Iterator[Drawing]:
    for ladder in story.ladders:
        yield _ladder_speedup(story, ladder)
    if story.comparisons:
        ratios = [_ratio(_against(c, story), story.names.index(c.new), c.verdict) for c in story.comparisons]
        yield Drawing(
            _suffixed("speedup", 1 + len(story.ladders), "compared"),
            "How many times as fast",
            _ratios_text(ratios),
            partial(ratio_rows, ratios, baseline=_baseline(story.comparisons)),
        )


def _baseline(comparisons: Sequence[Comparison]) -> str:
    """The old variant of all comparisons, or the words for several."""
    olds = {comparison.old for comparison in comparisons}
    return olds.pop() if len(olds) == 1 else "the old variant"


def _ladder_speedup(story: Story, ladder: Ladder) -> Drawing:
    root = ladder.root
    ratios = [
        _ratio(rung.name, story.names.index(rung.name), rung.over_root)
        if rung.over_root is not None
        else Ratio(rung.name, story.names.index(rung.name), 1.0, 1.0, 1.0)
        for rung in ladder.rungs
    ]
    return Drawing(
        _suffixed("speedup", len(story.ladders), ladder.batch),
        f"How many times as fast as {root.name}, batch {ladder.batch:,}",
        _ratios_text(ratios),
        partial(ratio_rows, ratios, baseline=root.name),
    )


def _against(comparison: Comparison, story: Story) -> str:
    batch = f", batch {comparison.batch:,}" if len({c.batch for c in story.comparisons}) > 1 else ""
    old = f" / {comparison.old}" if len({c.old for c in story.comparisons}) > 1 else ""
    return f"{comparison.new}{old}{batch}"


def _ratio(name: str, number: int, verdict: Verdict) -> Ratio:
    return Ratio(name, number, verdict.ratio, verdict.low, verdict.high, verdict.at_least)


def _ratios_text(ratios: Sequence[Ratio]) -> str:
    return "Dots on a logarithmic axis: " + "; ".join(
        f"{one.name} {digits(one.ratio)} times"
        + ("" if one.low == one.high else f" ({digits(one.low)} to {digits(one.high)})")
        for one in ratios
    )


def _waterfalls(story: Story) -> Iterator[Drawing]:
    shown = [comparison for comparison in story.comparisons if comparison.waterfall]
    for comparison in shown:
        phases = [change for change in comparison.waterfall if not change.label]
        yield Drawing(
            _suffixed("waterfall", len(shown), comparison.new, comparison.batch),
            f"From {comparison.old} to {comparison.new}{_comma_batch(comparison.batch)}",
            f"Waterfall from {format_time(comparison.race.step_s(0))} to {format_time(comparison.race.step_s(1))}: "
            + "; ".join(f"{c.phase} {format_percent(c.share)} of the difference" for c in phases),
            partial(waterfall_rows, comparison),
        )


MOST_DIFFERENCES = 10


def _differences(story: Story) -> Iterator[Drawing]:
    shown = [(one, rows) for one in story.comparisons if (rows := _differing(one))]
    for comparison, rows in shown:
        texts = (f"{row.name} {format_time(row.old_s)} before, {format_time(row.new_s)} after" for row in rows)
        yield Drawing(
            _suffixed("differences", len(shown), comparison.new, comparison.batch),
            f"What takes a different time in {comparison.new} than in {comparison.old}{_comma_batch(comparison.batch)}",
            f"Pairs of bars: {'; '.join(texts)}",
            partial(difference_rows, rows),
        )


def _differing(comparison: Comparison) -> list[Difference]:
    """The expressions of programs, or the labelled statements of variants, whose time changed the most."""
    if comparison.programs is not None:
        return [
            Difference(f"{one.line}: {one.text}", one.old_s or 0.0, one.new_s or 0.0, one.low_s, one.high_s)
            for one in comparison.programs.expressions[:MOST_DIFFERENCES]
        ]
    labels = sorted((one for one in comparison.waterfall if one.label), key=lambda one: -abs(one.lost_s))
    return [
        Difference(f"{one.phase}: {of_layer(one.label, one.layer)}", one.old_s, one.new_s, one.low_s, one.high_s)
        for one in labels[:MOST_DIFFERENCES]
    ]


def _phases(story: Story) -> Iterator[Drawing]:
    shown = [one for one in story.measured if one.result.phases]
    by_name = list(dict.fromkeys(one.name for one in shown))
    by_batch = sorted({one.result.batch for one in shown})
    if len(by_name) == 1 and len(by_batch) > 1:
        ordered = sorted(shown, key=lambda one: one.result.batch)
        bars = [_bar(story, one, f"batch {one.result.batch:,}") for one in ordered]
        title = f"Share of each phase in a step of {by_name[0]}, by batch size"
        yield Drawing("phases", title, _bars_text(bars), partial(share_bars, bars))
        return
    for batch in by_batch:
        bars = [_bar(story, one, one.name) for one in shown if one.result.batch == batch]
        name = _suffixed("phases", len(by_batch), batch)
        yield Drawing(name, f"A step by phase{_comma_batch(batch)}", _bars_text(bars), partial(time_bars, bars))


def _comma_batch(batch: int) -> str:
    """', batch 500'; empty where the batch size is not known."""
    return f", batch {batch:,}" if batch else ""


def _bar(story: Story, one: Measured, name: str) -> Bar:
    return Bar(name, story.names.index(one.name), story.step_s(one), bar_parts(one.result))


def _bars_text(bars: Sequence[Bar]) -> str:
    texts = []
    for bar in bars:
        slowest = sorted(bar.parts, key=lambda part: -part[1])[:2]
        shares = ", ".join(f"{phase} {format_percent(share)}" for phase, share in slowest)
        texts.append(f"{bar.name} {format_time(bar.step_s)} per step, mostly {shares}")
    return "Stacked bars: " + "; ".join(texts)


def _layers(story: Story) -> Iterator[Drawing]:
    shown = [one for one in story.measured if one.result.labels]
    names = {one.name for one in shown}
    for one in shown:
        batch = one.result.batch
        at, by_layer = (f" at batch {batch:,}", " by layer") if batch else ("", "")
        parts = _name_parts(one, names)
        top = sorted(one.result.labels, key=one.result.label_share, reverse=True)[:3]
        texts = (
            f"{of_layer(label.label, label.layer)} in {label.phase} {format_percent(one.result.label_share(label))}"
            for label in top
        )
        yield Drawing(
            _suffixed("layers", len(shown), *parts),
            f"A step of {one.name}{at}, by phase and {'layer' if one.run.program is None else 'expression'}",
            f"Bars by phase, divided into statements{by_layer}. The slowest: {', '.join(texts)} of the step",
            partial(layer_bars, one.result),
            one,
        )


def _name_parts(one: Measured, names: set[str]) -> tuple[str | int, ...]:
    """What distinguishes a figure of one variant or program from others of its kind."""
    batch = (one.result.batch,) if one.result.batch else ()
    return (one.name, *batch) if len(names) > 1 else batch


def _rooflines(story: Story) -> Iterator[Drawing]:
    shown = [one for one in story.measured if has_roofline(one.run, one.result)]
    names = {one.name for one in shown}
    for one in shown:
        parts = _name_parts(one, names)
        yield Drawing(
            _suffixed("roofline", len(shown), *parts),
            roofline_title(one.run, one.result),
            roofline_text(one.run, one.result),
            partial(roofline_sheet, one.run, one.result),
            one,
        )


def _scaling(story: Story) -> Iterator[Drawing]:
    curves = []
    for number, name in enumerate(story.names):
        points = {}
        for ladder in story.ladders:
            step_s = story.raced_step_s(name, ladder.batch)
            if step_s is not None:
                points[ladder.batch] = (ladder.batch, *((step_s / ladder.batch,) * 3))
        for one in story.measured:
            if one.name == name and one.result.batch and one.result.batch not in points:
                step, m = one.result.step_s, one.result.batch
                points[m] = (m, step.median / m, step.low / m, step.high / m)
        if len(points) > 1:
            curves.append(Curve(name, number, tuple(points[m] for m in sorted(points))))
    if not curves:
        return
    curves = curves[-MOST_CURVES:]
    texts = (
        f"{curve.name} from {format_time(curve.points[0][1])} at batch {curve.points[0][0]:,} to "
        f"{format_time(curve.points[-1][1])} at {curve.points[-1][0]:,}"
        for curve in curves
    )
    description = f"Lines on logarithmic axes, time per sample: {'; '.join(texts)}"
    yield Drawing("scaling", "Time per sample by batch size", description, partial(scaling_curves, curves))


def _samples(story: Story) -> Iterator[Drawing]:
    several = len({one.name for one in story.measured}) > 1
    batches = sorted({one.result.batch for one in story.measured})
    for batch in batches:
        strips = [strip for one in story.at(batch) for strip in _strips(story, one, several)]
        yield Drawing(
            _suffixed("samples", len(batches), batch),
            f"Single steps{f' at batch {batch:,}' if batch else ''}, as a share of the median step",
            _strips_text(strips),
            partial(strip_rows, strips, xlabel="100 % is the median without instruments"),
        )


def _turns(story: Story) -> Iterator[Drawing]:
    races = [(ladder.race, f"ladder, batch {ladder.batch:,}") for ladder in story.ladders]
    races += [(c.race, f"{c.old} and {c.new}{_comma_batch(c.batch)}") for c in story.comparisons]
    for n, (race, title) in enumerate(races, start=1):
        strips = []
        for i, name in enumerate(race.variants):
            turns = np.concatenate([turns[:, i].ravel() for turns in race.turns_s])
            strips.append(Strip(name, story.names.index(name), turns, race.step_s(i)))
        yield Drawing(
            _suffixed("turns", len(races), n),
            f"Turns of the race: {title}",
            _strips_text(strips),
            partial(strip_rows, strips, xlabel="100 % is the variant's median"),
        )


def _strips(story: Story, one: Measured, several: bool) -> Iterator[Strip]:
    result, number = one.result, story.names.index(one.name)
    reference_s = result.step_s.median
    if several:
        yield Strip(one.name, number, result.total_s.ravel(), reference_s)
        return
    yield Strip("without instruments", number, result.total_s.ravel(), reference_s)
    if result.is_one_pass:
        yield Strip("clocks on expressions", number, result.labels_pass_s.ravel(), reference_s)
        return
    if result.phases:
        yield Strip("clocks on phases", number, result.phases_pass_s.ravel(), reference_s)
    if result.labels:
        yield Strip("clocks on labels", number, result.labels_pass_s.ravel(), reference_s)


def _strips_text(strips: Sequence[Strip]) -> str:
    texts = []
    for strip in strips:
        low, high = np.nanquantile(strip.samples_s / strip.reference_s, (0.025, 0.975))
        texts.append(f"{strip.name} from {format_percent(low)} to {format_percent(high)}")
    return "Strips of dots, one dot per sample; 95 % of them lie: " + "; ".join(texts)
