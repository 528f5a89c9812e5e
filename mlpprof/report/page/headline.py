"""The verdict of a page in one sentence, and the figures that stand below it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from mlpprof.report.numbers import digits, format_number, format_range, format_time
from mlpprof.report.roofline import distance
from mlpprof.report.rows import verdict as run_verdict
from mlpprof.report.story import Story, fastest, root_of
from mlpprof.results import Comparison, Ladder, Run, Verdict

MOST_TILES = 4
"""A row on a wide screen."""


@dataclass(frozen=True)
class Tile:
    """One figure with what it is, and a note."""

    value: str
    what: str
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """sentence: the verdict; more: sentences that follow; outcome: of a gate, None where there was none."""

    title: str
    sentence: str
    more: tuple[str, ...] = ()
    tiles: tuple[Tile, ...] = ()
    outcome: str | None = None


def headline(story: Story) -> Headline:
    """Of a ladder, of comparisons, of one run, or of several runs, whichever the story has first."""
    if story.ladders:
        return _of_ladder(story, story.ladders[-1])
    if story.comparisons:
        return _of_comparisons(story)
    if len(story.runs) == 1:
        return _of_run(story.runs[0])
    return _of_runs(story)


def _of_ladder(story: Story, ladder: Ladder) -> Headline:
    root, best = root_of(ladder), fastest(ladder)
    title = f"Ladder on {PurePath(ladder.data.name).name}"
    if best.over_root is None:
        return Headline(title, f"No rung is faster than {root.name} at batch {ladder.batch:,}.")
    sentence = (
        f"{best.name} takes {format_time(best.step_s)} a step where {root.name} takes {format_time(root.step_s)}: "
        f"{times(best.over_root)} as fast at batch {ladder.batch:,}."
    )
    more = []
    steps = [rung for rung in ladder.rungs if rung.over_parent is not None and rung.name not in ladder.race.slow]
    steps = [rung for rung in steps if rung.parent not in ladder.race.slow]
    gains = [rung for rung in steps if rung.over_parent is not None and rung.over_parent.low > 1]
    flat = [rung.name for rung in steps if rung.over_parent and rung.over_parent.low <= 1 <= rung.over_parent.high]
    lost = [rung.name for rung in steps if rung.over_parent and rung.over_parent.high < 1]
    if gains:
        top = max(gains, key=lambda rung: rung.over_parent.ratio if rung.over_parent else 1.0)
        if top.over_parent is not None:
            more.append(f"The largest single gain is {top.name}: {times(top.over_parent)} as fast as {top.parent}.")
    if flat:
        more.append(f"No clear effect here: {', '.join(flat)}.")
    if lost:
        more.append(f"Slower than their parent here: {', '.join(lost)}.")
    profiled = story.find(best.name, ladder.batch)
    if profiled is not None:
        more.append(f"What is left in {best.name}: {run_verdict(profiled.result)}.")
        bound = distance(profiled.run, profiled.result)
        if bound is not None:
            more.append(f"{bound.sentence[0].upper()}{bound.sentence[1:]}.")
    tiles = (
        Tile(f"{digits(best.over_root.ratio)} ×", f"{best.name} over {root.name}", interval(best.over_root)),
        Tile(format_time(best.step_s), "one step", f"batch {ladder.batch:,}"),
        Tile(_rate(ladder.batch, best.step_s), "samples a second", best.name),
        Tile(str(len(ladder.rungs)), "rungs in one race", f"{len(ladder.race.turns_s)} processes"),
    )
    return Headline(title, sentence, tuple(more), tiles)


def _of_comparisons(story: Story) -> Headline:
    first = story.comparisons[0]
    news = list(dict.fromkeys(one.new for one in story.comparisons))
    title = f"{', '.join(news)} against {first.old}"
    best = max(story.comparisons, key=lambda one: one.verdict.ratio)
    shown = first if len(story.comparisons) == 1 else best
    tiles = tuple(
        Tile(
            f"{digits(one.verdict.ratio)} ×",
            f"{one.new} over {one.old}",
            f"{interval(one.verdict)}, batch {one.batch:,}",
        )
        for one in story.comparisons[:MOST_TILES]
    )
    return Headline(title, comparison_sentence(shown), (*_told(shown),), tiles, _worst(story.comparisons))


def comparison_sentence(comparison: Comparison) -> str:
    """'sliced is 1.18 times as fast as cached at batch 500 (95 % interval 1.16 to 1.20): PASS, ...'."""
    verdict = comparison.verdict
    sentence = f"{comparison.new} is {times(verdict)} as fast as {comparison.old} at batch {comparison.batch:,}"
    if verdict.outcome is None or verdict.at_least is None:
        return f"{sentence}."
    required = f"{sentence}: {verdict.outcome.upper()}, required was {verdict.at_least:.4g} times"
    return f"{required}; {verdict.reason}." if verdict.outcome == "inconclusive" else f"{required}."


def _told(comparison: Comparison) -> list[str]:
    phases = [change for change in comparison.waterfall if not change.label]
    if not phases:
        return []
    most = max(phases, key=lambda change: change.share)
    sentence = f"{100 * most.share:.0f} % of the difference is in {most.phase}"
    labels = [c for c in comparison.waterfall if c.label and c.phase == most.phase]
    if labels:
        label = max(labels, key=lambda change: change.share)
        layer = "" if label.layer is None else f" of layer {label.layer}"
        sentence += f", most of all the {label.label}{layer} with {100 * label.share:.0f} %"
    return [f"{sentence}."]


def _worst(comparisons: tuple[Comparison, ...]) -> str | None:
    outcomes = {one.verdict.outcome for one in comparisons}
    return next((outcome for outcome in ("fail", "inconclusive", "pass") if outcome in outcomes), None)


def _of_run(run: Run) -> Headline:
    main = run.results[-1]
    sentences = [f"At batch {result.batch:,}, {run_verdict(result)}." for result in run.results]
    more = sentences[:-1]
    bound = distance(run, main)
    if bound is not None:
        more.append(f"{bound.sentence[0].upper()}{bound.sentence[1:]}.")
    step, epoch = main.step_s, main.epoch_s
    tiles = (
        Tile(format_time(step.median), "one step", f"95 % of steps {format_range(step.low, step.high)}"),
        Tile(format_time(epoch.median), "one epoch", f"{main.steps_per_epoch} steps of {main.batch:,} samples"),
        Tile(_rate(main.batch, step.median), "samples a second", f"batch {main.batch:,}"),
        Tile(format_number(main.total_s.size), "steps measured", "without instruments"),
    )
    return Headline(run.variant.name, sentences[-1], tuple(more), tiles)


def _of_runs(story: Story) -> Headline:
    batch = max(story.batches, key=lambda m: len(story.at(m)))
    steps = sorted(story.at(batch), key=lambda one: one.result.step_s.median)
    first, last = steps[0], steps[-1]
    ratio = last.result.step_s.median / first.result.step_s.median
    shown = steps[:MOST_TILES]
    tiles = tuple(Tile(format_time(one.result.step_s.median), one.name, f"batch {batch:,}") for one in shown)
    if len(steps) == 1:
        sentence = f"At batch {batch:,}, {first.name}: {run_verdict(first.result)}."
    else:
        sentence = (
            f"{first.name} has the shortest step at batch {batch:,}: {format_time(first.result.step_s.median)}, about "
            f"{digits(ratio)} times as fast as {last.name}."
        )
    more = (f"In {first.name}, {run_verdict(first.result)}.",) if len(steps) > 1 else ()
    return Headline(", ".join(dict.fromkeys(name for name, _ in story.profiles)), sentence, more, tiles)


def times(verdict: Verdict) -> str:
    """'9.83 times (9.10 to 10.4)'."""
    return f"{digits(verdict.ratio)} times ({digits(verdict.low)} to {digits(verdict.high)})"


def interval(verdict: Verdict) -> str:
    """'95 % interval 9.10–10.4'."""
    return f"95 % interval {digits(verdict.low)}–{digits(verdict.high)}"


def _rate(batch: int, step_s: float) -> str:
    return format_number(float(f"{batch / step_s:.3g}")) if step_s > 0 else "–"
