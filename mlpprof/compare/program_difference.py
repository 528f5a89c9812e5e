"""Where the difference between the steps of two programs lies: by phase, and by expression.

The profiles are made under clocks, so only their shares are used, and applied to the steps of the race.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from mlpprof.compare.variant_difference import REST
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
class _Group:
    """The expressions of one text in one program. first: the one that takes longest."""

    first: Expression
    seconds: float = 0.0


def expression_changes(old: StepProfile, new: StepProfile, step_s: tuple[float, float]) -> tuple[ExpressionChange, ...]:
    """The expressions whose time changed the most, the largest change first; times as in `phase_changes`.

    Expressions of the same text belong together. Of the others, those belong together that perform the same operation
    on arrays of the same shape, in their order: their text was changed. So do those that the training loops run over.
    """
    before, after = _groups(old, step_s[0]), _groups(new, step_s[1])
    pairs = [(before.pop(text), after.pop(text)) for text in list(before) if text in after]
    left: dict[object, list[_Group]] = defaultdict(list)
    for group in _in_order(before.values()):
        left[_operation(group.first)].append(group)
    changes = [_change(one, other) for one, other in pairs]
    for group in _in_order(after.values()):
        earlier = left[_operation(group.first)]
        changes.append(_change(earlier.pop(0) if earlier and any(_operation(group.first)) else None, group))
    changes += [_change(group, None) for groups in left.values() for group in groups]
    worth = [one for one in changes if abs(one.lost_s) >= LEAST_SHARE * step_s[0]]
    return tuple(sorted(worth, key=lambda one: -abs(one.lost_s))[:MOST])


def _groups(profile: StepProfile, whole_s: float) -> dict[str, _Group]:
    found: dict[str, _Group] = {}
    for one, share in sorted(zip(profile.expressions, profile.shares, strict=True), key=lambda pair: -pair[1]):
        group = found.setdefault(" ".join(one.text.split()), _Group(one))
        group.seconds += share * whole_s
    return found


def _in_order(groups: Iterable[_Group]) -> list[_Group]:
    return sorted(groups, key=lambda group: (group.first.file, group.first.line, group.first.column))


def _operation(one: Expression) -> tuple[str, str, tuple[int, ...]]:
    if one.phase == ITERATOR:
        return one.phase, "", ()
    return (one.kind, one.name, one.shape) if one.name else ("", "", ())


def _change(old: _Group | None, new: _Group | None) -> ExpressionChange:
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
