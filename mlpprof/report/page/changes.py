"""The change of each rung: its code, and the time that every phase saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mlpprof.catalog import ladder
from mlpprof.compare.variant_difference import waterfall
from mlpprof.report.claims import counted_text
from mlpprof.report.code_diff import DiffLine, code_diff
from mlpprof.report.rows import Table, change_table, expression_change_table
from mlpprof.report.story import Measured, Story
from mlpprof.results import PhaseChange, Verdict


@dataclass(frozen=True)
class RungChange:
    """One variant against its parent; number: the variant's place among the names of the story.

    verdict: the paired ratio; None where the two were measured at different times, so that the times are only a hint.
    moved: the table of changes, without rows where no phases were measured. expressions: those of programs whose time
    changed; None for variants. facts: the counted ones that differ, in words.
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
    moved: Table
    expressions: Table | None = None
    facts: tuple[str, ...] = ()


def rung_changes(story: Story) -> list[RungChange]:
    """Every rung of ladders against its parent, then comparisons; without both, every run against its parent."""
    found = [*_of_ladders(story), *_of_comparisons(story)]
    return found or list(_of_runs(story))


def _of_ladders(story: Story) -> Iterator[RungChange]:
    for one in story.ladders:
        steps = {rung.name: rung.step_s for rung in one.rungs}
        for rung in one.rungs:
            if rung.parent not in steps:
                continue
            yield _change(
                story, (rung.parent, rung.name), one.batch, (steps[rung.parent], rung.step_s), rung.over_parent, ()
            )


def _of_comparisons(story: Story) -> Iterator[RungChange]:
    for one in story.comparisons:
        times_s = (one.race.step_s(0), one.race.step_s(1))
        change = _change(story, (one.old, one.new), one.batch, times_s, one.verdict, one.waterfall)
        if one.programs is not None and one.programs.expressions:
            change = replace(change, expressions=expression_change_table(one.programs.expressions))
        yield replace(change, facts=tuple(map(counted_text, one.counted)))


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
            yield _change(story, (old, name), batch, times_s, None, ())


def _change(
    story: Story,
    names: tuple[str, str],
    batch: int,
    times_s: tuple[float, float],
    verdict: Verdict | None,
    changes: tuple[PhaseChange, ...],
) -> RungChange:
    old, new = names
    before, after = story.find(old, batch), story.find(new, batch)
    if not changes and before is not None and after is not None:
        changes = waterfall(before.result, after.result, *times_s)
    sources = _source(before, old), _source(after, new)
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
        moved=change_table(changes, *times_s),
    )


def _source(one: Measured | None, name: str) -> str:
    """The source that was measured; without a profile, the file of that name in the catalog."""
    if one is not None:
        return one.run.variant.source
    entry = ladder().get(name)
    return "" if entry is None else entry.source()


def _summary(one: Measured | None, name: str) -> str:
    if one is not None:
        return one.run.variant.summary
    entry = ladder().get(name)
    return "" if entry is None else entry.summary
