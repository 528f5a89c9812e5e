"""The verdict of a page in one sentence, and the tiles with figures below it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from mlpprof.report.distance import distance
from mlpprof.report.numbers import digits, format_number, format_percent, format_range, format_time, of_layer
from mlpprof.report.program_rows import longer_than_the_steps
from mlpprof.report.rows import phase_name, rate_text
from mlpprof.report.sentences import at_batch, slowest_part
from mlpprof.report.story import Story
from mlpprof.results import Comparison, Ladder, Run, Verdict

MOST_TILES = 4
"""This many tiles fit in a row on a wide screen."""


@dataclass(frozen=True)
class Tile:
    """One figure, its name, and a note."""

    value: str
    what: str
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """sentence: the verdict; more: the sentences after it; outcome: the gate's, None where there was no gate."""

    title: str
    sentence: str
    more: tuple[str, ...] = ()
    tiles: tuple[Tile, ...] = ()
    outcome: str | None = None


def headline(story: Story) -> Headline:
    """The headline of the ladder, else of the comparisons, else of the runs of a story."""
    if story.ladders:
        return _of_ladder(story, story.ladders[-1])
    if story.comparisons:
        return _of_comparisons(story)
    if len(story.runs) == 1:
        return _of_run(story.runs[0])
    return _of_runs(story)


def _of_ladder(story: Story, ladder: Ladder) -> Headline:
    root, best = ladder.root, ladder.fastest
    title = f"Ladder on {PurePath(ladder.data.name).name}"
    if best.over_root is None:
        return Headline(title, f"No rung is faster than {root.name} at batch {ladder.batch:,}.")
    sentence = (
        f"At batch {ladder.batch:,}, {best.name} takes {format_time(best.step_s)} per step and {root.name} "
        f"{format_time(root.step_s)}: {best.name} is {times(best.over_root)} as fast."
    )
    more = _steps_of_the_ladder(ladder)
    profiled = story.find(best.name, ladder.batch)
    if profiled is not None:
        more.append(f"In {best.name}, {slowest_part(profiled.result)}.")
        bound = distance(profiled.run, profiled.result)
        if bound is not None:
            more.append(f"{bound.sentence[0].upper()}{bound.sentence[1:]}.")
    tiles = (
        Tile(f"{digits(best.over_root.ratio)} ×", f"{best.name} compared with {root.name}", interval(best.over_root)),
        Tile(format_time(best.step_s), "per step", f"batch {ladder.batch:,}"),
        Tile(rate_text(ladder.batch / best.step_s), "samples per second", best.name),
        Tile(str(len(ladder.rungs)), "rungs in one race", f"{len(ladder.race.turns_s)} processes"),
    )
    return Headline(title, sentence, tuple(more), tiles)


def _steps_of_the_ladder(ladder: Ladder) -> list[str]:
    """The largest gain of a single rung, and the rungs that gain nothing or lose; slow rungs are left out."""
    slow = ladder.race.slow
    steps = [
        (rung.name, str(rung.parent), rung.over_parent)
        for rung in ladder.rungs
        if rung.over_parent is not None and rung.name not in slow and rung.parent not in slow
    ]
    found = []
    gains = [step for step in steps if step[2].is_faster]
    if gains:
        name, parent, verdict = max(gains, key=lambda step: step[2].ratio)
        found.append(f"The largest single gain is {name}: {times(verdict)} as fast as {parent}.")
    flat = [name for name, _, verdict in steps if not verdict.has_effect]
    if flat:
        found.append(f"{_listed(flat)} {'makes' if len(flat) == 1 else 'make'} no measurable difference.")
    found += [f"{name} is slower than the version before it." for name, _, verdict in steps if verdict.is_slower]
    return found


def _listed(names: list[str]) -> str:
    """'a, b and c'."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _of_comparisons(story: Story) -> Headline:
    first = story.comparisons[0]
    news = list(dict.fromkeys(one.new for one in story.comparisons))
    title = f"{', '.join(news)} against {first.old}"
    best = max(story.comparisons, key=lambda one: one.verdict.ratio)
    shown = first if len(story.comparisons) == 1 else best
    tiles = tuple(
        Tile(
            f"{digits(one.verdict.ratio)} ×",
            f"{one.new} compared with {one.old}",
            interval(one.verdict) + ("" if one.network is None else f", batch {one.batch:,}"),
        )
        for one in story.comparisons[:MOST_TILES]
    )
    return Headline(title, comparison_sentence(shown), tuple(_largest_change(shown)), tiles, _worst(story.comparisons))


def comparison_sentence(comparison: Comparison) -> str:
    """'sliced is 1.18 times as fast as cached at batch 500 (95 % interval 1.16 to 1.20): PASS, ...'."""
    verdict = comparison.verdict
    at = "" if comparison.network is None else f" at batch {comparison.batch:,}"
    sentence = f"{comparison.new} is {times(verdict)} as fast as {comparison.old}{at}"
    if verdict.outcome is None or verdict.at_least is None:
        return f"{sentence}."
    required = f"{sentence}: {verdict.outcome.upper()}, required was {verdict.at_least:.4g} times"
    return f"{required}; {verdict.reason}." if verdict.outcome == "inconclusive" else f"{required}."


def _largest_change(comparison: Comparison) -> list[str]:
    phases = [change for change in comparison.waterfall if not change.label]
    if not phases:
        return []
    most = max(phases, key=lambda change: change.share)
    sentence = f"{100 * most.share:.0f} % of the difference is in {phase_name(most.phase)}"
    labels = [c for c in comparison.waterfall if c.label and c.phase == most.phase]
    if labels:
        label = max(labels, key=lambda change: change.share)
        share = f"{100 * label.share:.0f} % of the difference"
        sentence += f"; most of it is in the {of_layer(label.label, label.layer)} ({share})"
    return [f"{sentence}."]


def _worst(comparisons: tuple[Comparison, ...]) -> str | None:
    outcomes = {one.verdict.outcome for one in comparisons}
    return next((outcome for outcome in ("fail", "inconclusive", "pass") if outcome in outcomes), None)


def _of_run(run: Run) -> Headline:
    main = run.results[-1]
    sentences = [f"{at_batch(result)}{slowest_part(result)}." for result in run.results]
    more = sentences[:-1]
    bound = distance(run, main)
    if bound is not None:
        more.append(f"{bound.sentence[0].upper()}{bound.sentence[1:]}.")
    if run.program is not None and run.program.time is not None and (words := longer_than_the_steps(run.program.time)):
        more.insert(0, words)
    step, epoch, rate = main.step_s, main.epoch_s, main.samples_per_s
    tiles = [Tile(format_time(step.median), "per step", f"95 % of steps {format_range(step.low, step.high)}")]
    if epoch is not None:
        tiles.append(
            Tile(format_time(epoch.median), "per epoch", f"{main.steps_per_epoch} steps of {main.batch:,} samples")
        )
    if rate is not None:
        tiles.append(Tile(rate_text(rate), "samples per second", f"batch {main.batch:,}"))
    tiles.append(Tile(format_number(main.steps_measured), "steps measured", "without instruments"))
    if run.program is not None:
        slowest = max(main.labels, key=main.label_share, default=None)
        if slowest is not None:
            share = format_percent(main.label_share(slowest))
            tiles.append(Tile(share, "in the most expensive expression", slowest.label))
        loading = "from the start of the program to its first step"
        tiles.append(Tile(format_time(run.program.loading_s), loading, f"step {run.program.step}"))
    return Headline(run.variant.name, sentences[-1], tuple(more), tuple(tiles))


def _of_runs(story: Story) -> Headline:
    batch = max(story.batches, key=lambda m: len(story.at(m)))
    steps = sorted(story.at(batch), key=lambda one: one.result.step_s.median)
    first, last = steps[0], steps[-1]
    ratio = last.result.step_s.median / first.result.step_s.median
    shown = steps[:MOST_TILES]
    note = f"batch {batch:,}" if batch else "per step"
    at = f" at batch {batch:,}" if batch else ""
    tiles = tuple(Tile(format_time(one.result.step_s.median), one.name, note) for one in shown)
    if len(steps) == 1:
        sentence = f"{at_batch(first.result)}{first.name}: {slowest_part(first.result)}."
    else:
        sentence = (
            f"{first.name} has the shortest step{at}: {format_time(first.result.step_s.median)}, about "
            f"{digits(ratio)} times as fast as {last.name}."
        )
    more = (f"In {first.name}, {slowest_part(first.result)}.",) if len(steps) > 1 else ()
    return Headline(", ".join(dict.fromkeys(name for name, _ in story.profiles)), sentence, more, tiles)


def times(verdict: Verdict) -> str:
    """'9.83 times (9.10 to 10.4)'."""
    return f"{digits(verdict.ratio)} times ({digits(verdict.low)} to {digits(verdict.high)})"


def interval(verdict: Verdict) -> str:
    """'95 % interval 9.10–10.4'."""
    return f"95 % interval {digits(verdict.low)}–{digits(verdict.high)}"
