"""What each rung changed: its code, and the time that moved, phase by phase."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlpprof.catalog import ladder
from mlpprof.compare.waterfall import REST, waterfall
from mlpprof.report.code_diff import DiffLine, code_diff
from mlpprof.report.story import Measured, Story
from mlpprof.results import Change, Verdict

SMALL_SHARE = 0.03
"""Statements that hold less of the difference than this are left to their phase's row."""
MOST_STATEMENTS = 8


@dataclass(frozen=True)
class RungChange:
    """One variant against the one it came from.

    verdict: the paired ratio; None where the two were measured apart, so that the times are no more than a hint.
    phases: the phases and the rest; statements: the labels that moved most. Empty where nothing was taken apart.
    """

    old: str
    new: str
    number: int
    summary: str
    batch: int
    old_s: float
    new_s: float
    verdict: Verdict | None
    diff: tuple[DiffLine, ...]
    phases: tuple[Change, ...]
    statements: tuple[Change, ...]

    @property
    def has_effect(self) -> bool | None:
        """Whether the interval leaves 1 out; None without a verdict."""
        return None if self.verdict is None else not self.verdict.low <= 1.0 <= self.verdict.high

    @property
    def largest_s(self) -> float:
        """The longest time of any row, which bars are drawn against."""
        return max((max(change.old_s, change.new_s) for change in self.phases), default=0.0)


def rung_changes(story: Story) -> list[RungChange]:
    """Of ladders every rung against its parent; then comparisons; else every run against its parent among the runs."""
    found = [*_of_ladders(story), *_of_comparisons(story)]
    return found or list(_of_runs(story))


def _of_ladders(story: Story) -> Iterator[RungChange]:
    for one in story.ladders:
        steps = {rung.name: rung.step_s for rung in one.rungs}
        for rung in one.rungs:
            if rung.parent not in steps:
                continue
            yield _change(
                story, (rung.parent, rung.name), one.batch, (steps[rung.parent], rung.step_s), rung.over_parent, None
            )


def _of_comparisons(story: Story) -> Iterator[RungChange]:
    for one in story.comparisons:
        times_s = (one.race.step_s(0), one.race.step_s(1))
        yield _change(story, (one.old, one.new), one.batch, times_s, one.verdict, one.waterfall)


def _of_runs(story: Story) -> Iterator[RungChange]:
    for batch in story.batches:
        measured = {one.name: one for one in story.at(batch)}
        order = list(measured)
        for i, (name, one) in enumerate(measured.items()):
            parent = one.run.variant.parent
            old = parent if parent in measured and parent != name else order[i - 1] if i else None
            if old is None:
                continue
            times_s = (measured[old].result.step_s.median, one.result.step_s.median)
            yield _change(story, (old, name), batch, times_s, None, None)


def _change(
    story: Story,
    names: tuple[str, str],
    batch: int,
    times_s: tuple[float, float],
    verdict: Verdict | None,
    changes: tuple[Change, ...] | None,
) -> RungChange:
    old, new = names
    before, after = story.find(old, batch), story.find(new, batch)
    if changes is None and before is not None and after is not None:
        changes = waterfall(before.result, after.result, *times_s)
    changes = changes or ()
    sources = _source(before, old), _source(after, new)
    moved = sorted((c for c in changes if c.label), key=lambda c: -abs(c.share))
    return RungChange(
        old=old,
        new=new,
        number=story.names.index(new),
        summary=_summary(after, new),
        batch=batch,
        old_s=times_s[0],
        new_s=times_s[1],
        verdict=verdict,
        diff=tuple(code_diff(sources[0], sources[1])) if sources[0] and sources[1] else (),
        phases=tuple(c for c in changes if not c.label and not (c.phase == REST and max(c.old_s, c.new_s) == 0)),
        statements=tuple(c for c in moved if abs(c.share) >= SMALL_SHARE)[:MOST_STATEMENTS],
    )


def _source(one: Measured | None, name: str) -> str:
    """The source that was measured; where that was not kept, the catalog's own file of that name."""
    if one is not None:
        return one.run.variant.source
    entry = ladder().get(name)
    return "" if entry is None else entry.source()


def _summary(one: Measured | None, name: str) -> str:
    if one is not None:
        return one.run.variant.summary
    entry = ladder().get(name)
    return "" if entry is None else entry.summary
