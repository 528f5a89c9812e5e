"""Checks how a learner's step is built, from its counted operations.

A fact limits how often a step contains something: `FACTS` has what can be limited, and the exercise has the number. No
clock is involved, so the result is the same on every machine. A fact that is not satisfied is reported with the
statement that is to blame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlpprof.instrument.numpy_costs import ARITHMETIC, COPY, EVALUATION, PRODUCT
from mlpprof.model import Network
from mlpprof.results import Operation
from mlpprof.workshop.python_loops import Loop

SMALL, LARGE = 5, 47
"""Loops are looked for at these two batch sizes, and operations are counted at the larger one.

They are so far apart that a loop over blocks of samples makes a few turns more, and a loop over samples makes 42. No
layer has 47 neurons, so a shape shows which side is m.
"""
VARIANT, PROGRAM = "variant", "program"
"""What learners change: a class with the methods of the interface, or a whole program."""
SAMPLE_LOOPS, FLOAT64_ARRAYS = "sample_loops", "float64_arrays"
"""`check_worker` checks the first of these facts, and a part of the second one, because operations do not show them."""
ARRAY_OPERATIONS = "array_operations"
"""This fact of a variant is not for pairs with a loop over samples, of which the first fact says more."""
FEW = 8
"""A step that makes more new arrays than this does not reuse its arrays."""
LARGE_ARRAY = 4096
"""A new array of a program counts if it has at least this many bytes, because the batch size is not known."""

PLAIN_COPIES = ("copy", "array", "ascontiguousarray", "asfortranarray", "require")
"""Operations whose result has the same elements as their operand, perhaps in another memory order."""


@dataclass(frozen=True)
class Counts:
    """The operations of one step, of a variant at the batch size LARGE. network: None for a program."""

    network: Network | None
    large: Sequence[Operation]

    def is_batch(self, operation: Operation) -> bool:
        """Return whether the result has a row or a column per sample."""
        return LARGE in result_shape(operation)


@dataclass(frozen=True)
class Broken:
    """A fact that is not satisfied: the line of the statement, what it does, and what to do instead."""

    fact: str
    line: int
    what: str
    advice: str


def number_of(name: str, counts: Counts) -> int:
    """Return how often a step contains what a fact limits."""
    return FACTS[name].number(FACTS[name].find(counts))


def broken_fact(counts: Counts, at_most: Mapping[str, int]) -> Broken | None:
    """Return the first fact that is not satisfied. at_most: the limits by the names of the facts."""
    for name, most in at_most.items():
        found = FACTS[name].find(counts)
        number = FACTS[name].number(found)
        if number > most:
            line, what, advice = FACTS[name].explain(counts, found, number, most)
            return Broken(fact_text(name, most), line, what, advice)
    return None


def result_shape(operation: Operation) -> tuple[int, ...]:
    """Return the shape of an operation's result, for instance (p, q) for a product of (p, k) by (k, q)."""
    if operation.kind == PRODUCT and len(operation.shape) == 3:
        return (operation.shape[0], operation.shape[2])
    return operation.shape


def described(operation: Operation) -> str:
    """Return, for example, 'add float32 (70 x 47)', as the profile names the operation."""
    return f"{operation.name} {operation.dtype} {_shape_text(operation)}"


def _shape_text(operation: Operation) -> str:
    return f"({' x '.join(str(n) for n in result_shape(operation))})"


def broken_by_loop(loop: Loop, function: str) -> Broken:
    """Return what is wrong with a loop over samples. function: the name of the function that it is in."""
    runs = f"`{loop.phase}` runs" if function in ("", loop.phase) else f"`{loop.phase}` calls `{function}`, which runs"
    is_loop = "is" if loop.is_header else "is inside"
    return Broken(
        fact_text(SAMPLE_LOOPS, 0),
        loop.line,
        f"{runs} this line again for each sample of the batch, so the line {is_loop} a loop over samples",
        "Put the samples side by side as columns (X[index].T) and use one matrix product for all of them",
    )


Explained = tuple[int, str, str]
"""The line of the statement that is to blame, what it does, and what to do instead."""


@dataclass(frozen=True)
class Fact:
    """Something that an exercise can limit in a step.

    none: the fact in words if nothing of it is allowed. counted: what is counted; `{s}` and `{y}` end a plural. find:
    finds the operations that count. explain: says what is wrong, from the operations, their number, and the limit.
    category: what `mlpprof advise` calls a flaw of this kind. kind: 'variant' or 'program' if it is for one of them.
    counts_flop: the floating-point operations inside the operations are counted.

    A pair of versions makes an exercise about it if the slow one has at least `factor` times as much as the fast one,
    which may have at most `largest`. is_exact: the limit is what the fast version has; otherwise the exact number is a
    matter of style, and the limit lies between both versions.
    """

    none: str
    counted: str
    find: Callable[[Counts], list[Operation]]
    explain: Callable[[Counts, list[Operation], int, int], Explained]
    category: str
    kind: str | None = None
    counts_flop: bool = False
    factor: float = 1.3
    is_exact: bool = True
    largest: float = math.inf

    def number(self, found: Iterable[Operation]) -> int:
        """Return how much the operations are that `find` has found."""
        return sum(o.flop if self.counts_flop else o.times for o in found)


def fact_text(name: str, most: int) -> str:
    """Return a fact with its limit in words."""
    fact = FACTS[name]
    return f"at most {most:,} {_in_number(fact.counted, most)}" if most else fact.none


def counted_text(name: str) -> str:
    """Return what a fact counts, as the beginning of a sentence."""
    words = _in_number(FACTS[name].counted, 2)
    return words[0].upper() + words[1:]


def _in_number(counted: str, number: int) -> str:
    return counted.format(s="", y="y") if number == 1 else counted.format(s="s", y="ies")


def _none_counted(counts: Counts) -> list[Operation]:
    return []  # `python_loops` finds loops over samples, because a loop is not an operation on arrays


def _doubles(counts: Counts) -> list[Operation]:
    return [o for o in counts.large if _makes_double(o)]


def _double_words(counts: Counts, found: list[Operation], number: int, most: int) -> Explained:
    arriving = "" if counts.network is None else "Data and weights arrive as float32. "
    return (
        found[0].line,
        f"{found[0].name} makes a float64 array {_shape_text(found[0])} in {found[0].phase}, and everything that is "
        "computed from it is float64 too",
        f"{arriving}np.ones, np.zeros and np.array without a dtype make float64, and so does "
        "an operation with np.float64(...) or with a float64 array. A Python number does no harm",
    )


def _makes_double(operation: Operation) -> bool:
    """Return whether the result is float64, which its recorded dtype hides if one operand is float32."""
    size = math.prod(result_shape(operation))
    widened = (
        operation.kind in (ARITHMETIC, EVALUATION)
        and operation.dtype == "float32"
        and operation.bytes_allocated == 8 * size * operation.times
    )
    return size > 1 and (operation.dtype == "float64" or widened)


def _input_deltas(counts: Counts) -> list[Operation]:
    if counts.network is None:
        return []
    inputs = (counts.network.layers[0], counts.network.layers[0] + 1)
    return [
        o
        for o in counts.large
        if o.phase == "backward" and o.kind != COPY and sorted(result_shape(o)) in _with(inputs, LARGE)
    ]


def _input_delta_words(counts: Counts, found: list[Operation], number: int, most: int) -> Explained:
    largest = max(found, key=lambda o: (o.kind == EVALUATION, o.flop))
    return (
        largest.line,
        f"{described(largest)} in backward is as large as the input",
        "delta[l] is needed for dW[l] and for delta[l - 1], but layer 0 has neither. End the loop at layer 1",
    )


def _evaluations_in_backward(counts: Counts) -> list[Operation]:
    return [o for o in _evaluations(counts) if o.phase == "backward"]


def _evaluation_words(counts: Counts, found: list[Operation], number: int, most: int) -> Explained:
    return (
        found[0].line,
        f"{described(found[0])} in backward evaluates the activation again",
        "forward has already computed A[l]: keep it, and compute the derivative from it, as A[l] * (1 - A[l]) for the "
        "sigmoid, or with derivative_from_A(A[l])",
    )


def _batch_copies(counts: Counts) -> list[Operation]:
    found = [
        o
        for o in counts.large
        if o.phase in ("forward", "backward") and o.kind == COPY and o.bytes_copied and counts.is_batch(o)
    ]
    return found + [o for o in counts.large if o.kind == PRODUCT and o.bytes_copied]


def _batch_copy_words(counts: Counts, found: list[Operation], number: int, most: int) -> Explained:
    first = max(found, key=lambda o: o.bytes_copied)
    if first.kind == PRODUCT:
        return (
            first.line,
            f"{described(first)} in {first.phase}: BLAS cannot read a factor in its memory order, so NumPy copies it",
            "The elements of a row (or of a column) have to be neighbours in memory, so do not use slices with a step",
        )
    if first.name in PLAIN_COPIES:
        advice = "Use the array itself: BLAS reads an array and its transpose (.T) without a copy, and .T costs nothing"
    else:
        advice = (
            "Slice W[l] instead of putting a row of ones on A[l]: W[l][:, 1:] @ A[l - 1], then += W[l][:, :1]. A slice "
            "is a view and costs nothing"
        )
    return first.line, f"{described(first)} in {first.phase} only copies and computes nothing", advice


def _new_batch_arrays(counts: Counts) -> list[Operation]:
    return [o for o in counts.large if o.bytes_allocated >= 8 * LARGE * o.times]


def _new_large_arrays(counts: Counts) -> list[Operation]:
    return [o for o in counts.large if o.bytes_allocated >= LARGE_ARRAY * o.times]


def _new_array_words(counts: Counts, found: list[Operation], number: int, most: int) -> Explained:
    first = max(found, key=lambda o: o.bytes_allocated)
    return (
        first.line,
        f"a step makes {number:,} new arrays, and at most {most:,} are allowed; the largest is made here: "
        f"{described(first)} in {first.phase}",
        "Make each array once, when the batch size is known, and write into it: np.matmul(..., out=), X.take(index, "
        'axis=0, out=..., mode="clip"), `*=`, `+=`',
    )


def _all(counts: Counts) -> list[Operation]:
    return list(counts.large)


def _operation_words(counts: Counts, found: list[Operation], number: int, most: int) -> Explained:
    often = max(o.times for o in found) / 10
    shown = max((o for o in found if o.times >= often), key=lambda o: o.flop)
    return (
        shown.line,
        f"a step makes {number:,} operations on arrays, and the limit is {most:,}; {described(shown)} runs "
        f"{shown.times:,} times",
        "Put what a Python loop does one by one into one array, and compute with the whole array",
    )


def _flop_words(counts: Counts, found: list[Operation], number: int, most: int) -> Explained:
    largest = max(found, key=lambda o: o.flop)
    return (
        largest.line,
        f"a step makes {number:,} floating-point operations, and the limit is {most:,}; most of them are in "
        f"{described(largest)}",
        "Look for a result that nothing uses, or that is computed twice",
    )


def _evaluations(counts: Counts) -> list[Operation]:
    return [o for o in counts.large if o.kind == EVALUATION]


def _evaluations_words(counts: Counts, found: list[Operation], number: int, most: int) -> Explained:
    last = found[-1]
    return (
        last.line,
        f"a step evaluates functions such as exp, tanh or the sigmoid {number:,} times, and the limit is "
        f"{most:,}; the last one is {described(last)}",
        "Store a result that you need again, and compute a derivative from the stored activation",
    )


def _copies(counts: Counts) -> list[Operation]:
    return [o for o in counts.large if o.bytes_copied]


def _copy_words(counts: Counts, found: list[Operation], number: int, most: int) -> Explained:
    largest = max(found, key=lambda o: o.bytes_copied)
    return (
        largest.line,
        f"a step copies arrays {number:,} times, and the limit is {most:,}; the largest copy is {described(largest)}",
        "A slice is a view and costs nothing. Do not stack, pad or convert arrays in every step",
    )


OPERATIONS = Fact(
    "no operation on arrays",
    "operation{s} on arrays",
    _all,
    _operation_words,
    "sample-loop",
    PROGRAM,
    factor=3.0,
    is_exact=False,
)

FACTS: dict[str, Fact] = {
    SAMPLE_LOOPS: Fact(
        "no Python loop over samples",
        "Python loop{s} over samples",
        _none_counted,
        _operation_words,
        "sample-loop",
        VARIANT,
        largest=0,
    ),
    FLOAT64_ARRAYS: Fact("no float64 array", "float64 array{s}", _doubles, _double_words, "float64", largest=0),
    "input_deltas": Fact(
        "no array as large as the input in backward",
        "array{s} as large as the input in backward",
        _input_deltas,
        _input_delta_words,
        "dead-computation",
        VARIANT,
    ),
    "evaluations_in_backward": Fact(
        "no evaluation of the sigmoid in backward",
        "evaluation{s} of the activation in backward",
        _evaluations_in_backward,
        _evaluation_words,
        "recomputation",
        VARIANT,
    ),
    "copies_of_batch": Fact(
        "no copy of a batch in forward and backward",
        "cop{y} of a batch in forward and backward",
        _batch_copies,
        _batch_copy_words,
        "bias-stacking",
        VARIANT,
    ),
    "new_batch_arrays": Fact(
        "no new array",
        "new array{s} with a number per sample",
        _new_batch_arrays,
        _new_array_words,
        "temporaries",
        VARIANT,
        factor=1.5,
        is_exact=False,
        largest=FEW,
    ),
    "operations": OPERATIONS,
    ARRAY_OPERATIONS: replace(OPERATIONS, category="neuron-loop", kind=VARIANT),
    "evaluations": Fact(
        "no evaluation of exp, tanh or the like",
        "evaluation{s} of exp, tanh or the like",
        _evaluations,
        _evaluations_words,
        "recomputation",
        PROGRAM,
    ),
    "flop": Fact(
        "no floating-point operation",
        "floating-point operation{s}",
        _all,
        _flop_words,
        "dead-computation",
        PROGRAM,
        counts_flop=True,
        factor=1.1,
        is_exact=False,
    ),
    "copies": Fact("no copy of an array", "cop{y} of an array", _copies, _copy_words, "bias-stacking", PROGRAM),
    "new_large_arrays": Fact(
        "no new array of 4 KB or more",
        "new array{s} of 4 KB or more",
        _new_large_arrays,
        _new_array_words,
        "temporaries",
        PROGRAM,
        factor=1.5,
        is_exact=False,
        largest=FEW,
    ),
}
"""What can be limited, by its name in `course.toml`, in the order in which it is checked."""


def facts_for(kind: str) -> list[str]:
    """Return the names of the facts that an exercise about a variant, or about a program, can limit."""
    return [name for name, fact in FACTS.items() if fact.kind in (None, kind)]


def mixed_orders(counts: Counts) -> list[tuple[int, str]]:
    """Return the lines, largest array first, where an elementwise operation or a copy mixes C and F order.

    NumPy then jumps through memory. Only arrays with a number per sample, and as large as a hidden layer, count.
    """
    hidden = () if counts.network is None else counts.network.layers[1:-1]
    least = LARGE * min(hidden, default=1)
    found = [
        o
        for o in counts.large
        if o.kind in (ARITHMETIC, COPY, EVALUATION)
        and counts.is_batch(o)
        and math.prod(o.shape) >= least
        and {"C", "F"} <= set(o.orders.replace("*", "").replace(">", "·").split("·"))
    ]
    lines: dict[int, str] = {}
    for operation in sorted(found, key=lambda o: -math.prod(o.shape)):
        lines.setdefault(operation.line, f"{described(operation)} with operands in order {operation.orders}")
    return list(lines.items())


def _with(sizes: Iterable[int], m: int) -> list[list[int]]:
    return [sorted((size, m)) for size in sizes]
