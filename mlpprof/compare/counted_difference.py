"""Counted facts that differ between two steps: allocations, copies, arithmetic, dtypes and memory orders.

They do not depend on the clock, so they explain a difference that a time only shows.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlpprof.compare.program_difference import Group, paired
from mlpprof.results import CountedChange, Operation, PhaseChange
from mlpprof.results.step_profile import StepProfile

AMOUNTS = {
    "bytes_allocated": "bytes allocated",
    "bytes_copied": "bytes copied",
    "flop": "floating-point operations",
}
"""What is added up, and its name in a report."""

WORTH = 0.01
"""An amount has changed if it differs by more than this share of the amount of the whole step."""

MANY = 3
"""If so many statements have changed their dtype in the same way, that is one fact about the whole step."""

MOST = 8
"""No more facts about single expressions are kept, besides those about the whole step."""


@dataclass(frozen=True)
class _Counted:
    """What is counted of an expression or of a statement. operation: of the one with the most work."""

    where: str
    text: str
    operation: tuple[str, tuple[int, ...]]
    dtype: str
    orders: str
    amounts: dict[str, int]


def counted_of_programs(old: StepProfile, new: StepProfile) -> tuple[CountedChange, ...]:
    """The facts that differ between the steps of two programs, those about the whole step first."""
    pairs = sorted(paired(old, new, (1.0, 1.0)), key=lambda pair: _seconds(pair[0]) - _seconds(pair[1]))
    return _differences([(_of_group(before), _of_group(after)) for before, after in pairs])


def _seconds(group: Group | None) -> float:
    return 0.0 if group is None else group.seconds


def _of_group(group: Group | None) -> _Counted | None:
    if group is None:
        return None
    one, amounts = group.first, {name: getattr(group, name) for name in AMOUNTS}
    return _Counted(one.place.text, one.text, (one.name, one.shape), one.dtype, one.orders, amounts)


def counted_of_variants(
    old: Sequence[Operation], new: Sequence[Operation], changes: Sequence[PhaseChange] = ()
) -> tuple[CountedChange, ...]:
    """The facts that differ between the steps of two variants; statements belong together by phase, layer and label.

    changes: their times; the facts about the statement that lost the most time come first.
    """
    lost_s: dict[tuple[str, int | None, str | None], float] = {
        (one.phase, one.layer, one.label): one.lost_s for one in changes if one.label
    }
    before, after = _statements(old), _statements(new)
    keys = sorted(dict.fromkeys([*before, *after]), key=lambda key: -lost_s.get(key, 0.0))
    return _differences([(before.get(key), after.get(key)) for key in keys])


def _statements(operations: Iterable[Operation]) -> dict[tuple[str, int | None, str | None], _Counted]:
    found: dict[tuple[str, int | None, str | None], list[Operation]] = defaultdict(list)
    for one in operations:
        found[one.phase, one.layer, one.label].append(one)
    return {key: _of_statement(*key, same) for key, same in found.items()}


def _of_statement(phase: str, layer: int | None, label: str | None, same: Sequence[Operation]) -> _Counted:
    largest = max(same, key=lambda one: one.flop + one.bytes_moved)
    text = (label or "other statements") + ("" if layer is None else f" of layer {layer}")
    amounts = {name: sum(getattr(one, name) for one in same) for name in AMOUNTS}
    return _Counted(phase, text, (largest.name, largest.shape), largest.dtype, largest.orders, amounts)


def _differences(pairs: Sequence[tuple[_Counted | None, _Counted | None]]) -> tuple[CountedChange, ...]:
    if not pairs:  # nothing was counted
        return ()
    whole = {
        name: tuple(sum(one.amounts[name] for one in side if one is not None) for side in zip(*pairs, strict=True))
        for name in AMOUNTS
    }
    found = [
        CountedChange("", "", AMOUNTS[name], old, new)
        for name, (old, new) in whole.items()
        if abs(new - old) > WORTH * max(old, new)
    ]
    single = [change for pair in pairs for change in _of_pair(*pair, {name: max(both) for name, both in whole.items()})]
    dtypes = [(one.old, one.new) for one in single if one.what == "dtype"]
    if len(dtypes) >= MANY and len(set(dtypes)) == 1:
        found.insert(0, CountedChange("", "", "dtype", *dtypes[0]))
        single = [one for one in single if one.what != "dtype"]
    return (*found, *single[:MOST])


def _of_pair(before: _Counted | None, after: _Counted | None, whole: dict[str, int]) -> Iterator[CountedChange]:
    shown = after or before
    assert shown is not None
    if before is not None and after is not None:
        if before.dtype != after.dtype and before.dtype and after.dtype:
            yield CountedChange(after.where, after.text, "dtype", before.dtype, after.dtype)
        if before.operation[0] == after.operation[0] and before.orders != after.orders:
            operand = _operand(after.text, before.orders.split("·"), after.orders.split("·"))
            yield CountedChange(after.where, after.text, "memory order", before.orders, after.orders, operand)
    for name, what in AMOUNTS.items():
        old, new = (0 if one is None else one.amounts[name] for one in (before, after))
        explained = old * _growth(before, after) if name.startswith("bytes") else old
        if min(abs(new - old), abs(new - explained)) > WORTH * whole[name]:
            yield CountedChange(shown.where, shown.text, what, old, new)
            if before is None or after is None:  # it is new or gone, which one fact is enough to show
                return


def _growth(before: _Counted | None, after: _Counted | None) -> float:
    """How many times as many bytes the newer one needs only because of its dtype, which is a fact of its own."""
    if before is None or after is None or before.dtype == after.dtype:
        return 1.0
    try:
        return np.dtype(after.dtype).itemsize / np.dtype(before.dtype).itemsize
    except TypeError:  # Python's own numbers have other names
        return 1.0


def _operand(text: str, before: Sequence[str], after: Sequence[str]) -> str:
    """The source of the operand whose memory order differs; "" if there are several, or if it cannot be known."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:  # a statement, or the label of one
        return ""
    if isinstance(node, ast.BinOp):
        operands = [node.left, node.right]
    elif isinstance(node, ast.Call):
        operands = list(node.args)
    else:
        return ""
    operands = [one for one in operands if not isinstance(one, ast.Constant)]
    differing = [place for place, (old, new) in enumerate(zip(before, after, strict=False)) if old != new]
    if len(differing) != 1 or not len(operands) == len(before) == len(after):
        return ""
    return ast.unparse(operands[differing[0]])
