"""Array expressions in index notation: which index each axis of an array stands for, and the NumPy text of it.

``W[j] @ x`` for all j is an array with the axis j. In this notation, the product of an array with the axes (j, k) and
one with the axes (k, i), summed over k, has the axes (j, i); its text is `A @ B`, and with the axes (i, j) it is
`B.T @ A.T`. So a loop's operations on single rows, columns or numbers become operations on the whole arrays.

An axis is a string, which stands for a loop's index, or a negative number: the axes that a value has in a single turn
of the loops are counted from the last one, as NumPy broadcasts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import count

Axis = str | int
Axes = tuple[Axis, ...]

ATOM, POWER, SIGN, PRODUCT, SUM, LOOSE = 100, 90, 80, 70, 60, 10
"""How tightly a text holds together, in the order of Python's operators."""

OPERATORS = {"*": PRODUCT, "/": PRODUCT, "+": SUM, "-": SUM, "**": POWER}

WHOLE = "whole"
"""The kind of integers and booleans together, which NumPy adds up and multiplies in other ways than floats."""

Text = tuple[str, int]

_NUMBERS = count()
"""They make the names of axes distinct that are only needed within one product."""


class NotLifted(Exception):
    """An expression has no form for all turns of its loops at once."""


@dataclass(frozen=True)
class Tensor:
    """An expression. axes: those of its value, in the order in which it is written most simply."""

    axes: Axes

    def text(self, axes: Axes, numpy: str) -> Text:
        """The expression with its axes in another order, and how tightly it holds. numpy: the name of NumPy."""
        raise NotImplementedError

    def renamed(self, names: dict[Axis, Axis]) -> Tensor:
        """The same with other names for some axes."""
        raise NotImplementedError

    def kind(self) -> str:
        """The name of its dtype, `bool` or `whole`, or `int` or `float` for a number of Python; '' if unknown."""
        raise NotImplementedError

    def aligned(self, axes: Axes, numpy: str) -> Text:
        """The expression so that it broadcasts to more axes."""
        own = tuple(axis for axis in axes if axis in self.axes)
        found = self.text(own, numpy)
        if not own:
            return found
        needed = axes[axes.index(own[0]) :]
        if needed == own:
            return found
        keys = [":" if axis in own else "None" for axis in needed]
        while keys[0] == ":" and len(keys) > 1 and keys[-1] == ":":
            keys.pop()
        return f"{held(found, ATOM)}[{', '.join(keys)}]", ATOM


@dataclass(frozen=True)
class Leaf(Tensor):
    """An array or a number as it is written. tightness: how tightly the text holds together. of: its kind."""

    written: str
    tightness: int = ATOM
    of: str = ""

    def text(self, axes: Axes, numpy: str) -> Text:
        """As above."""
        if axes == self.axes:
            return self.written, self.tightness
        if axes == self.axes[::-1] and len(axes) == 2:
            return transposed((self.written, self.tightness)), ATOM
        order = ", ".join(str(self.axes.index(axis)) for axis in axes)
        return f"{held((self.written, self.tightness), ATOM)}.transpose({order})", ATOM

    def renamed(self, names: dict[Axis, Axis]) -> Tensor:
        """As above."""
        return Leaf(_named(self.axes, names), self.written, self.tightness, self.of)

    def kind(self) -> str:
        """As above."""
        return self.of


@dataclass(frozen=True)
class Elementwise(Tensor):
    """An operation element by element.

    operation: an operator, `neg` for the sign, or the text of a call with `{}` in place of the arguments.
    """

    operation: str
    parts: tuple[Tensor, ...]

    def text(self, axes: Axes, numpy: str) -> Text:
        """As above."""
        texts = [part.aligned(axes, numpy) for part in self.parts]
        if self.operation in OPERATORS:
            tightness = OPERATORS[self.operation]
            left, right = texts
            is_power = self.operation == "**"
            before = held(left, tightness + is_power)
            after = held(right, tightness + (not is_power))
            return f"{before}{'**' if is_power else f' {self.operation} '}{after}", tightness
        if self.operation == "neg":
            return f"-{held(texts[0], SIGN)}", SIGN
        if "{}" in self.operation:
            return self.operation.format(", ".join(text for text, _ in texts)), ATOM
        return f" {self.operation} ".join(held(text, SUM) for text in texts), LOOSE

    def renamed(self, names: dict[Axis, Axis]) -> Tensor:
        """As above."""
        return Elementwise(_named(self.axes, names), self.operation, tuple(part.renamed(names) for part in self.parts))

    def kind(self) -> str:
        """As above."""
        if self.is_comparison:
            return "bool"
        if self.operation in OPERATORS or self.operation == "neg":
            return _common(self.parts)
        if self.operation.endswith(".where({})"):
            return _common(self.parts[1:])
        if self.operation.endswith("dtype=float)"):
            return "float64"
        found = _common(self.parts)
        return found if found.startswith("float") and "." in self.operation.removeprefix("self.") else ""

    @property
    def is_comparison(self) -> bool:
        """Whether its values are true or false."""
        return self.operation in (">", "<", ">=", "<=")


@dataclass(frozen=True)
class Contraction(Tensor):
    """The sum of a product over an axis that both factors have, as one matrix product."""

    left: Tensor
    right: Tensor
    over: Axis

    def text(self, axes: Axes, numpy: str) -> Text:
        """As above."""
        first, second = (self.left, self.right) if axes == self.axes else (self.right, self.left)
        before, after = (tuple(axis for axis in one.axes if axis != self.over) for one in (first, second))
        left = first.text((*before, self.over), numpy)
        right = second.text((self.over, *after), numpy)
        return f"{held(left, PRODUCT)} @ {held(right, PRODUCT + 1)}", PRODUCT

    def renamed(self, names: dict[Axis, Axis]) -> Tensor:
        """As above."""
        over = names.get(self.over, self.over)
        return Contraction(_named(self.axes, names), self.left.renamed(names), self.right.renamed(names), over)

    def kind(self) -> str:
        """As above."""
        return _common((self.left, self.right))


@dataclass(frozen=True)
class Total(Tensor):
    """The sum over some axes."""

    part: Tensor
    over: Axes

    def text(self, axes: Axes, numpy: str) -> Text:
        """As above."""
        own = tuple(axis for axis in self.part.axes if axis not in self.over)
        order = self.part.axes if own == axes else (*self.over, *axes)
        text, tightness = self.part.text(order, numpy)
        places = [place for place, axis in enumerate(order) if axis in self.over]
        named = str(places[0] if len(places) == 1 else tuple(places))
        options = "" if len(places) == len(order) else f"axis={named}"
        if tightness == ATOM and isinstance(self.part, Leaf):
            return f"{text}.sum({options})", ATOM
        return f"{numpy}.sum({', '.join(filter(None, (text, options)))})", ATOM

    def renamed(self, names: dict[Axis, Axis]) -> Tensor:
        """As above."""
        return Total(_named(self.axes, names), self.part.renamed(names), _named(self.over, names))

    def kind(self) -> str:
        """As above."""
        return WHOLE if self.part.kind() == "bool" else self.part.kind()


def number(text: str, of: str) -> Leaf:
    """A number of a kind."""
    return Leaf((), text, ATOM, of)


def elementwise(operation: str, *parts: Tensor) -> Tensor:
    """An operation element by element; the axes are those of all parts."""
    if operation in ("+", "-", "neg") and all(isinstance(one, Elementwise) and one.is_comparison for one in parts):
        raise NotLifted  # Python adds up what NumPy's booleans only combine
    axes = max((part.axes for part in parts), key=len)
    for part in parts:
        axes = (*(axis for axis in part.axes if axis not in axes), *axes)
    own = sorted(axis for axis in axes if isinstance(axis, int))
    if [axis for axis in axes if isinstance(axis, int)] != own:  # what a turn broadcasts stays in order
        axes = (*(axis for axis in axes if isinstance(axis, str)), *own)
    return Elementwise(axes, operation, parts)


def product(left: Tensor, right: Tensor) -> Tensor:
    """The product of two matrices or vectors, as `@` gives it in a turn."""
    ranks = [sum(isinstance(axis, int) for axis in one.axes) for one in (left, right)]
    if not all(rank in (1, 2) for rank in ranks):
        raise NotLifted
    over, rows, columns = (f"{name} {next(_NUMBERS)}" for name in ("over", "rows", "columns"))
    left = left.renamed({-1: over, -2: rows})
    right = right.renamed({-1: over} if ranks[1] == 1 else {-2: over, -1: columns})
    return contraction(left, right, over).renamed({rows: -2 if ranks[1] == 2 else -1, columns: -1})


def contraction(left: Tensor, right: Tensor, over: Axis) -> Tensor:
    """The sum over an axis of the product of two arrays."""
    free = [tuple(axis for axis in one.axes if axis != over) for one in (left, right)]
    if set(free[0]) & set(free[1]) or max(map(len, free)) > 1:
        raise NotLifted
    return Contraction((*free[0], *free[1]), left, right, over)


def total(part: Tensor, over: Axis) -> Tensor:
    """The sum of an expression over an axis: a matrix product where it is the sum of a product of two arrays."""
    if over not in part.axes:
        raise NotLifted
    match part:
        case Elementwise(operation="neg", parts=(inner,)):
            return elementwise("neg", total(inner, over))
        case Elementwise(operation="/", parts=(above, below)) if over not in below.axes and over in above.axes:
            return elementwise("/", total(above, over), below)
        case Elementwise(operation="*"):
            factors = _factors(part)
            summed = [one for one in factors if over in one.axes]
            rest = [one for one in factors if over not in one.axes]
            return _multiplied([*rest, _summed(summed, over)])
        case Total(part=inner, over=others):
            return Total(tuple(axis for axis in part.axes if axis != over), inner, (*others, over))
    return Total(tuple(axis for axis in part.axes if axis != over), part, (over,))


def _summed(factors: Sequence[Tensor], over: Axis) -> Tensor:
    for place in range(1, len(factors)):
        left, right = _multiplied(factors[:place]), _multiplied(factors[place:])
        if not any(one.kind().startswith("float") for one in (left, right)):
            continue  # a product of matrices of booleans is an OR, and small integers overflow in it
        try:
            return contraction(left, right, over)
        except NotLifted:
            continue
    part = _multiplied(factors)
    return Total(tuple(axis for axis in part.axes if axis != over), part, (over,))


def _multiplied(factors: Sequence[Tensor]) -> Tensor:
    return reduce(partial(elementwise, "*"), factors)


def _factors(part: Tensor) -> list[Tensor]:
    match part:
        case Elementwise(operation="*", parts=(left, right)):
            return [*_factors(left), *_factors(right)]
    return [part]


def _common(parts: Sequence[Tensor]) -> str:
    """The kind of a result of some operands."""
    kinds = {part.kind() for part in parts}
    if "float64" in kinds:
        return "float64"
    of_arrays = kinds - {"int", "float"}
    if "" in kinds or not of_arrays:
        return "float" if kinds == {"int", "float"} else next(iter(kinds)) if len(kinds) == 1 else ""
    if of_arrays <= {"bool", WHOLE}:
        return "float64" if "float" in kinds else "bool" if kinds == {"bool"} else WHOLE
    return of_arrays.pop() if len(of_arrays) == 1 else ""


def held(text: Text, least: int) -> str:
    """A text, in parentheses unless it holds together as tightly as needed."""
    return text[0] if text[1] >= least else f"({text[0]})"


def transposed(text: Text) -> str:
    """The text of the transposed matrix."""
    found = held(text, ATOM)
    return found.removesuffix(".T") if found.endswith(".T") else f"{found}.T"


def _named(axes: Axes, names: dict[Axis, Axis]) -> Axes:
    return tuple(names.get(axis, axis) for axis in axes)
