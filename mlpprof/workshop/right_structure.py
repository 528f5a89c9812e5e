"""Checks how a learner's step is built, from its counted operations.

No clock is involved, so the result is the same on every machine. A fact that is not satisfied is reported with the
statement that is to blame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mlpprof.errors import UsageError
from mlpprof.instrument.numpy_costs import ARITHMETIC, COPY, EVALUATION, PRODUCT
from mlpprof.model import Network
from mlpprof.results import Operation
from mlpprof.workshop import exercises
from mlpprof.workshop.python_loops import Loop

SMALL, LARGE = 5, 47
"""Loops are looked for at these two batch sizes, and operations are counted at the larger one.

They are so far apart that a loop over blocks of samples makes a few turns more, and a loop over samples makes 42. No
layer has 47 neurons, so a shape shows which side is m.
"""
ARRAYS_ALLOWED = 4
"""A step may make so many new arrays with a number per sample."""


@dataclass(frozen=True)
class Counts:
    """The operations of one step, at the batch size LARGE."""

    network: Network
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


def broken_fact(counts: Counts, facts: Iterable[str]) -> Broken | None:
    """Return the first fact that is not satisfied; raise UsageError for an unknown fact."""
    for fact in facts:
        if fact not in FACTS:
            raise UsageError(f"there is no structural fact '{fact}'; known: {', '.join(FACTS)}")
        broken = FACTS[fact](counts)
        if broken is not None:
            return broken
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
        exercises.NO_LOOP,
        loop.line,
        f"{runs} this line again for each sample of the batch, so the line {is_loop} a loop over samples",
        "Put the samples side by side as columns (X[index].T) and use one matrix product for all of them",
    )


def _double(counts: Counts) -> Broken | None:
    found = [o for o in counts.large if _makes_double(o)]
    if not found:
        return None
    return Broken(
        exercises.SINGLE,
        found[0].line,
        f"{found[0].name} makes a float64 array {_shape_text(found[0])} in {found[0].phase}, and everything that is "
        "computed from it is float64 too",
        "Data and weights arrive as float32. np.ones, np.zeros and np.array without a dtype make float64, and so does "
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


def _input_delta(counts: Counts) -> Broken | None:
    inputs = (counts.network.layers[0], counts.network.layers[0] + 1)
    found = [
        o
        for o in counts.large
        if o.phase == "backward" and o.kind != COPY and sorted(result_shape(o)) in _with(inputs, LARGE)
    ]
    if not found:
        return None
    largest = max(found, key=lambda o: (o.kind == EVALUATION, o.flop))
    return Broken(
        exercises.NO_INPUT_DELTA,
        largest.line,
        f"{described(largest)} in backward is as large as the input",
        "delta[l] is needed for dW[l] and for delta[l - 1], but layer 0 has neither. End the loop at layer 1",
    )


def _evaluation(counts: Counts) -> Broken | None:
    found = [o for o in counts.large if o.phase == "backward" and o.kind == EVALUATION]
    if not found:
        return None
    return Broken(
        exercises.NO_EVALUATION,
        found[0].line,
        f"{described(found[0])} in backward evaluates the activation again",
        "forward has stored A[l], and the derivative is A[l] * (1 - A[l]). Use derivative_from_A(A[l])",
    )


def _copy(counts: Counts) -> Broken | None:
    found = [
        o
        for o in counts.large
        if o.phase in ("forward", "backward") and o.kind == COPY and o.bytes_copied and counts.is_batch(o)
    ]
    found += [o for o in counts.large if o.kind == PRODUCT and o.bytes_copied]
    if not found:
        return None
    first = max(found, key=lambda o: o.bytes_copied)
    if first.kind == PRODUCT:
        return Broken(
            exercises.NO_COPY,
            first.line,
            f"{described(first)} in {first.phase}: BLAS cannot read a factor in its memory order, so NumPy copies it",
            "The elements of a row (or of a column) have to be neighbours in memory, so do not use slices with a step",
        )
    return Broken(
        exercises.NO_COPY,
        first.line,
        f"{described(first)} in {first.phase} only copies and computes nothing",
        "Slice W[l] instead of putting a row of ones on A[l]: W[l][:, 1:] @ A[l - 1], then += W[l][:, :1]. A slice is "
        "a view and costs nothing",
    )


def _new_arrays(counts: Counts) -> Broken | None:
    found = [o for o in counts.large if o.bytes_allocated >= 8 * LARGE * o.times]
    made = sum(o.times for o in found)
    if made <= ARRAYS_ALLOWED:
        return None
    first = max(found, key=lambda o: o.bytes_allocated)
    return Broken(
        exercises.FEW_ARRAYS,
        first.line,
        f"a step makes {made} new arrays, and at most {ARRAYS_ALLOWED} are allowed; the largest is made here: "
        f"{described(first)} in {first.phase}",
        "Make each array once, when the batch size is known, and write into it: np.matmul(..., out=), X.take(index, "
        'axis=0, out=..., mode="clip"), `*=`, `+=`',
    )


FACTS: dict[str, Callable[[Counts], Broken | None]] = {
    exercises.SINGLE: _double,
    exercises.NO_INPUT_DELTA: _input_delta,
    exercises.NO_EVALUATION: _evaluation,
    exercises.NO_COPY: _copy,
    exercises.FEW_ARRAYS: _new_arrays,
}


def mixed_orders(counts: Counts) -> list[tuple[int, str]]:
    """Return the lines, largest array first, where an elementwise operation or a copy mixes C and F order.

    NumPy then jumps through memory. Only arrays with a number per sample, and as large as a hidden layer, count.
    """
    least = LARGE * min(counts.network.layers[1:-1], default=1)
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
