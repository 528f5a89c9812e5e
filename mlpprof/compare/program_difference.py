"""Where the difference between the steps of two programs lies: by phase, and by expression.

The profiles are made under clocks, so only their shares are used, and applied to the steps of the race.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from mlpprof.compare.variant_difference import REST, interval_s
from mlpprof.results import ExpressionChange, PhaseChange
from mlpprof.results.step_profile import ITERATOR, Expression, StepProfile

LEAST_SHARE = 0.005
"""A change of less than this share of the older step is not worth a line."""

MOST = 12
"""No more expressions are kept."""


def phase_changes(old: StepProfile, new: StepProfile, step_s: tuple[float, float]) -> tuple[PhaseChange, ...]:
    """The phases of both steps; empty where they have no phase in common, as in a program without comments and calls.

    step_s: seconds of a step of each in the race.
    """
    if not set(old.phases) & set(new.phases) or "statements" in (old.phases_from, new.phases_from):
        return ()
    difference_s = step_s[0] - step_s[1]
    before, after = (
        {name: share * whole_s for name, share in profile.phase_shares.items()}
        for profile, whole_s in zip((old, new), step_s, strict=True)
    )
    rows = [(name, before.get(name, 0.0), after.get(name, 0.0)) for name in dict.fromkeys([*before, *after])]
    rest = [whole_s - sum(parts.values()) for whole_s, parts in zip(step_s, (before, after), strict=True)]
    if max(map(abs, rest)) > LEAST_SHARE * step_s[0]:
        rows.append((REST, rest[0], rest[1]))
    return tuple(
        PhaseChange(name, None, "", old_s, new_s, (old_s - new_s) / difference_s if difference_s else 0.0)
        for name, old_s, new_s in rows
    )


@dataclass
class Group:
    """The expressions of one text in one program, added up. first: the one that takes longest."""

    first: Expression
    seconds: float = 0.0
    flop: int = 0
    bytes_allocated: int = 0
    bytes_copied: int = 0


Pair = tuple[Group | None, Group | None]
"""What belongs together in the older and in the newer program; None where one of them does not have it."""


def expression_changes(
    profiles: Sequence[tuple[StepProfile, StepProfile]], step_s: tuple[float, float]
) -> tuple[ExpressionChange, ...]:
    """The expressions whose time changed the most, the largest change first; times as in `phase_changes`.

    profiles: one or several pairs of the older and the newer program. Several give the means, and an interval.
    """
    found: dict[tuple[str, str], list[ExpressionChange]] = defaultdict(list)
    for old, new in profiles:
        for pair in paired(old, new, step_s):
            one = _change(*pair)
            found[one.text, one.old_text].append(one)
    changes = [_averaged(same) for same in found.values()]
    worth = [one for one in changes if abs(one.lost_s) >= LEAST_SHARE * step_s[0]]
    return tuple(sorted(worth, key=lambda one: -abs(one.lost_s))[:MOST])


def paired(old: StepProfile, new: StepProfile, step_s: tuple[float, float]) -> list[Pair]:
    """The expressions of both programs that belong together.

    Expressions of the same text belong together. Of the others, those belong together that perform the same operation
    on arrays of the same shape, in their order: their text was changed. So do those that the training loops run over.
    """
    before, after = _groups(old, step_s[0]), _groups(new, step_s[1])
    pairs: list[Pair] = [(before.pop(text), after.pop(text)) for text in list(before) if text in after]
    left: dict[object, list[Group]] = defaultdict(list)
    for group in _in_order(before.values()):
        left[_operation(group.first)].append(group)
    for group in _in_order(after.values()):
        earlier = left[_operation(group.first)]
        pairs.append((earlier.pop(0) if earlier and any(_operation(group.first)) else None, group))
    return pairs + [(group, None) for groups in left.values() for group in groups]


def _averaged(same: Sequence[ExpressionChange]) -> ExpressionChange:
    """One change from those of several pairs of profiles."""
    if len(same) == 1:
        return same[0]
    old_s, new_s = (
        None if getattr(same[0], name) is None else mean(getattr(one, name) or 0.0 for one in same)
        for name in ("old_s", "new_s")
    )
    low_s, high_s = interval_s([one.lost_s for one in same])
    return replace(same[0], old_s=old_s, new_s=new_s, low_s=low_s, high_s=high_s)


def _groups(profile: StepProfile, whole_s: float) -> dict[str, Group]:
    found: dict[str, Group] = {}
    for one, share in sorted(zip(profile.expressions, profile.shares, strict=True), key=lambda pair: -pair[1]):
        group = found.setdefault(" ".join(one.text.split()), Group(one))
        group.seconds += share * whole_s
        group.flop += one.flop
        group.bytes_allocated += one.bytes_allocated
        group.bytes_copied += one.bytes_copied
    return found


def _in_order(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: (group.first.file, group.first.line, group.first.column))


def _operation(one: Expression) -> tuple[str, str, tuple[int, ...]]:
    if one.phase == ITERATOR:
        return one.phase, "", ()
    return (one.kind, one.name, one.shape) if one.name else ("", "", ())


def _change(old: Group | None, new: Group | None) -> ExpressionChange:
    shown = new or old
    assert shown is not None
    one = shown.first
    changed = old is not None and new is not None and old.first.text != new.first.text
    return ExpressionChange(
        file=one.file,
        line=one.line,
        cell=one.cell,
        text=one.text,
        old_text=old.first.text if changed and old is not None else "",
        old_s=None if old is None else old.seconds,
        new_s=None if new is None else new.seconds,
    )
