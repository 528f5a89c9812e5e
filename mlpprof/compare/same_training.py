"""Do two programs train the same? Their parameters are compared after some steps from the same seeds.

The programs may name and shape their parameters differently. Therefore parameters belong together if they start from
the same values; among several such, those with the same name, and then those that end closest to each other. What one
program holds as one array, the other one may hold in parts, such as the rows of a matrix, or all layers in one vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlpprof.model.gradcheck import SINGLE_PRECISION_FACTOR, TRAJECTORY_TOLERANCE
from mlpprof.programs.parameters import Parameter
from mlpprof.results import Training

STEPS = 20
"""The parameters are compared after so many steps; after fewer, if a program makes fewer."""

START_FACTOR = 4.0
"""Starting values may differ by this times the rounding of their precision, if one program has rounded them."""

ROUNDING_FACTOR = 64.0
"""Every step rounds the parameters once: 20 steps by at most 20 times eps / 2 of their size, and some margin."""

MOST_PAIRS = 40_000
"""If more pairs of one size would have to be looked at, the parameters are paired in their order."""

MOST_ROUNDED = 1e-3
"""A value before the first step that one of the programs has rounded differs by at most this share of it."""

MOST_STARTS = 2_000
"""In a larger parameter, no more places are tried for a part of it: many zeros give many places."""

TINY = 1e-300
"""Takes the place of a norm of 0 in a quotient."""

SHOWN = 4
"""A sentence lists at most so many parameters."""

Values = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Pair:
    """A parameter of the old program and the one of the new program that it belongs to.

    old, new: their values, (1 + steps, n), elements in the same order. dtype: the lower precision of both. is_sum:
    whether one of them seems to be a running sum, such as a velocity.
    """

    name: str
    is_sum: bool
    old: Values
    new: Values
    dtype: str
    longest_sum: int

    @property
    def eps(self) -> float:
        """The rounding of the lower precision."""
        return float(np.finfo(np.dtype(self.dtype)).eps)

    def starts_same(self) -> bool:
        """Whether both start from the same values."""
        return _norm(self.old[0] - self.new[0]) <= START_FACTOR * self.eps * _norm(self.old[0])

    def deviation(self, step: int) -> float:
        """The norm of the difference after a step."""
        return _norm(self.old[step] - self.new[step])

    def allowed(self, step: int) -> float:
        """What rounding explains: of the values, and of what the steps have added to them.

        In float64 the latter is the tolerance for the losses of the same number of steps of two variants; in float32 it
        is that for gradients, eps * sqrt(longest sum) with a margin. A learning rate that is off by a thousandth gives
        a thousandth of the change.
        """
        changed = _norm(self.old[step] - self.old[0])
        is_double = self.eps == np.finfo(np.float64).eps
        earned = SINGLE_PRECISION_FACTOR * self.eps * math.sqrt(self.longest_sum)
        return (
            ROUNDING_FACTOR * self.eps * _norm(self.old[step])
            + (TRAJECTORY_TOLERANCE if is_double else earned) * changed
        )

    def differs(self, step: int) -> bool:
        """Whether they differ by more than rounding."""
        return not self.deviation(step) <= self.allowed(step)

    def changed(self, step: int) -> float:
        """The norm of what training has changed."""
        return max(_norm(self.old[step] - self.old[0]), TINY)

    def relative(self, step: int) -> float:
        """The difference as a share of what training has changed."""
        return self.deviation(step) / self.changed(step)


def same_training(names: tuple[str, str], old: Sequence[Parameter], new: Sequence[Parameter], steps: int) -> Training:
    """The answer for parameters that were recorded over the same number of steps. names: of the programs."""
    pairs, left = matched(old, new)
    everything = pairs
    # A program may scale its running sums as it likes; what they do to the parameters is compared.
    pairs = [pair for pair in pairs if not pair.is_sum] or pairs
    if not pairs:
        return Training(
            None,
            steps,
            f"cannot compare the training of both: {names[0]} changes {_listed(old)}; {names[1]} changes "
            f"{_listed(new)}, and neither the shapes nor the values before the first step show which belong together. "
            "The verdict is about time only; to leave this check out, add --no-check",
        )
    notes = [
        f"{name} also changes {_listed(rest)}, and nothing in the other program corresponds to that"
        for name, rest in zip(names, left, strict=True)
        if rest
    ]
    finite = next((k for k in range(steps + 1) if not all(_is_finite(pair, k) for pair in pairs)), steps + 1) - 1
    if 0 <= finite < steps:
        notes.append(f"a parameter is infinite or not a number after step {finite + 1}")
        if any(_is_finite_in_one(pair, finite + 1) for pair in pairs):
            return Training(
                False,
                finite + 1,
                f"after step {finite + 1} only one of them has finite parameters",
                tuple(notes),
                first_step=finite + 1,
            )
        steps = finite
    strangers = [pair for pair in pairs if not pair.starts_same()]
    if strangers:
        share, worst = max(
            ((pair.deviation(0) / max(_norm(pair.old[0]), TINY), pair) for pair in strangers), key=lambda one: one[0]
        )
        return Training(
            False,
            0,
            f"they start from different parameters: {worst.name} differs by {share:.2g} of its size before the first "
            "step, although both have the same seeds. If both draw the same random numbers, draw them in the same "
            "order; --no-check compares the time only",
            tuple(notes),
            worst.name,
            share,
            START_FACTOR * worst.eps,
            0,
        )
    lowest = max(pairs, key=lambda pair: pair.eps).dtype
    if lowest != "float64":
        notes.append(f"{lowest} is involved, so training was compared within what {lowest} can keep")
    wrong = [pair for pair in pairs if pair.differs(steps)]
    other = [pair.name for pair in everything if pair not in pairs and (not pair.starts_same() or pair.differs(steps))]
    if other:
        notes.append(f"not compared, since they seem to be running sums and differ: {', '.join(other[:SHOWN])}")
    if not wrong:
        largest = max(pair.relative(steps) for pair in pairs)
        are_same = f"{_counted(len(everything) - len(other))} the same"
        how_far = f"largest difference {largest:.0e} of the change" if largest else "to the last bit"
        return Training(
            True,
            steps,
            f"after {_steps(steps)} from the same seeds, {are_same} ({how_far})",
            tuple(notes),
        )
    worst = max(wrong, key=lambda pair: pair.relative(steps))
    first = next(step for step in range(1, steps + 1) if any(pair.differs(step) for pair in pairs))
    explained = worst.allowed(steps) / worst.changed(steps)
    reason = (
        f"after {_steps(steps)} from the same seeds, {worst.name} differs by {worst.relative(steps):.2g} times what "
        f"training has changed in it (rounding explains at most {explained:.0e} times); the first difference is after "
        f"step {first}"
    )
    return Training(False, steps, reason, tuple(notes), worst.name, worst.relative(steps), explained, first)


def matched(
    old: Sequence[Parameter], new: Sequence[Parameter]
) -> tuple[list[Pair], tuple[list[Parameter], list[Parameter]]]:
    """The parameters that belong together, and those of each program that are left over.

    Those that start from the same values belong together, and those of one name.
    """
    ours, theirs = list(old), list(new)
    found: list[tuple[tuple[float, ...], int, int, Pair]] = []
    for i, j in _candidates(ours, theirs):
        for pair in _pairs(ours[i], theirs[j]):
            starts = pair.starts_same()
            has_name = ours[i].name == theirs[j].name
            if starts or has_name:
                score = (not starts, not has_name, ours[i].key != theirs[j].key, pair.relative(-1), abs(i - j))
                found.append((tuple(map(float, score)), i, j, pair))
    if not found:
        pieces, rest = _in_parts(ours, theirs)
        if pieces:
            return pieces, rest
        found = [  # the shape is all that is left
            ((float(abs(i - j)),), i, j, pair)
            for i, j in _candidates(ours, theirs)
            for pair in _pairs(ours[i], theirs[j])
        ]
    pairs: dict[int, Pair] = {}
    taken: set[int] = set()
    for _, i, j, pair in sorted(found, key=lambda one: one[0]):
        if i not in pairs and j not in taken:
            pairs[i] = pair
            taken.add(j)
    left = (
        [one for i, one in enumerate(ours) if i not in pairs],
        [one for j, one in enumerate(theirs) if j not in taken],
    )
    pieces, left = _in_parts(*left)
    return [*(pairs[i] for i in sorted(pairs)), *pieces], left


def _in_parts(
    ours: list[Parameter], theirs: list[Parameter]
) -> tuple[list[Pair], tuple[list[Parameter], list[Parameter]]]:
    """Pairs of a parameter with a part of a larger one of the other program; and those that are left over."""
    pairs: list[Pair] = []
    left = [list(ours), list(theirs)]
    for side in (0, 1):
        for whole in [one for one in left[side] if one.size > 1]:
            found, covers = _parts_of(whole, left[1 - side], is_old=side == 0)
            pairs += found.values()
            left[1 - side] = [one for place, one in enumerate(left[1 - side]) if place not in found]
            if covers:
                left[side].remove(whole)
    return pairs, (left[0], left[1])


def _parts_of(whole: Parameter, others: Sequence[Parameter], is_old: bool) -> tuple[dict[int, Pair], bool]:
    """Which of the others are parts of a larger parameter, by their place; and whether these cover all of it.

    A part is a run of elements, along the rows or along the columns. What starts from zeros may fit in several places;
    it gets the one where it ends closest. is_old: whether the larger one is of the older program.
    """
    count = whole.size
    shape = _squeezed(whole.shape)
    orders = [np.arange(count)]
    if len(shape) == 2:
        orders.append(orders[0].reshape(shape).T.ravel())
    is_free = np.ones(count, dtype=bool)
    found: dict[int, Pair] = {}
    largest_first = sorted(range(len(others)), key=lambda place: _is_zero(others[place]) * count - others[place].size)
    for place in largest_first:
        part = others[place]
        fitting: list[tuple[float, int, NDArray[np.intp], Pair]] = []
        for turned in _turned(part):
            for order in orders:
                for start in _starts(whole, order, turned[0], is_free):
                    elements = order[start : start + turned.shape[1]]
                    steps = min(len(whole.values), len(turned))
                    inner = whole.values[:steps].reshape(steps, -1)[:, elements].astype(np.float64)
                    pair = _pair_of(part, whole, (inner, turned[:steps]) if is_old else (turned[:steps], inner))
                    if pair.starts_same():
                        fitting.append((pair.deviation(-1), start, elements, pair))
        if fitting:
            _, _, elements, found[place] = min(fitting, key=lambda one: one[:2])
            is_free[elements] = False
    return found, bool(found) and not is_free.any()


def _turned(part: Parameter) -> Iterator[Values]:
    """The flat values of a parameter, as they are and transposed."""
    steps = len(part.values)
    yield part.values.reshape(steps, -1).astype(np.float64)
    shape = _squeezed(part.shape)
    if len(shape) == 2:
        yield part.values.reshape(steps, *shape).transpose(0, 2, 1).reshape(steps, -1).astype(np.float64)


def _starts(whole: Parameter, order: NDArray[np.intp], first: Values, is_free: NDArray[np.bool_]) -> Iterator[int]:
    """Where a part may begin in a larger parameter, by its largest value before the first step."""
    last = len(order) - len(first)
    if last < 0:
        return
    peak = int(np.argmax(np.abs(first)))
    values = whole.values[0].ravel()[order][peak : peak + last + 1]
    near = np.abs(values - first[peak]) <= MOST_ROUNDED * abs(first[peak])
    taken = np.concatenate(([0], np.cumsum(~is_free[order])))
    yield from np.flatnonzero(near & (taken[len(first) :] == taken[: last + 1]))[:MOST_STARTS].tolist()


def _pair_of(part: Parameter, whole: Parameter, values: tuple[Values, Values]) -> Pair:
    dtype = _lower(part, whole)
    return Pair(part.text, part.is_sum and whole.is_sum, *values, dtype, max((1, *_squeezed(part.shape))))


def _is_zero(one: Parameter) -> bool:
    return not one.values[0].any()


def _lower(one: Parameter, other: Parameter) -> str:
    """The lower precision of both."""
    return max(one.dtype, other.dtype, key=lambda name: np.finfo(np.dtype(name)).eps)


def _candidates(ours: Sequence[Parameter], theirs: Sequence[Parameter]) -> Iterator[tuple[int, int]]:
    """Pairs of the same number of elements."""
    sizes: dict[int, tuple[list[int], list[int]]] = {}
    for side, group in enumerate((ours, theirs)):
        for place, one in enumerate(group):
            sizes.setdefault(one.size, ([], []))[side].append(place)
    for first, second in sizes.values():
        if len(first) * len(second) > MOST_PAIRS:
            yield from zip(first, second, strict=False)
        else:
            yield from ((i, j) for i in first for j in second)


def _pairs(one: Parameter, other: Parameter) -> Iterator[Pair]:
    """Both as pairs of flat values, as they are and transposed, where the shapes allow it."""
    steps = min(len(one.values), len(other.values))
    ours, theirs = one.values[:steps], other.values[:steps]
    shape, given = _squeezed(one.shape), _squeezed(other.shape)
    dtype = _lower(one, other)
    longest = max((1, *shape))
    is_sum = one.is_sum or other.is_sum
    flat = ours.reshape(steps, -1).astype(np.float64)
    if shape == given:
        yield Pair(one.text, is_sum, flat, theirs.reshape(steps, -1).astype(np.float64), dtype, longest)
    if len(shape) == 2 and shape == given[::-1]:
        turned = theirs.reshape(steps, *given).transpose(0, 2, 1)
        yield Pair(one.text, is_sum, flat, turned.reshape(steps, -1).astype(np.float64), dtype, longest)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _norm(values: Values) -> float:
    return float(np.linalg.norm(values))


def _is_finite(pair: Pair, step: int) -> bool:
    return bool(np.isfinite(pair.old[step]).all() and np.isfinite(pair.new[step]).all())


def _is_finite_in_one(pair: Pair, step: int) -> bool:
    return bool(np.isfinite(pair.old[step]).all() != np.isfinite(pair.new[step]).all())


def _listed(parameters: Sequence[Parameter]) -> str:
    if not parameters:
        return "nothing that lasts from step to step"
    more = f" and {len(parameters) - SHOWN} more" if len(parameters) > SHOWN else ""
    return ", ".join(one.text for one in parameters[:SHOWN]) + more


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _counted(count: int) -> str:
    return "its parameter is" if count == 1 else f"all {count} parameters are"
