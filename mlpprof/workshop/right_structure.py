"""Structural facts about a step, from its counted operations: no clock, so they hold on every machine.

A fact that does not hold is told with the statement that breaks it.
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

SMALL, LARGE = 23, 47
"""Batch sizes of the two counts; no layer has so many neurons, so a shape tells what it belongs to."""
GROWS = 1.5
"""A loop over samples runs LARGE / SMALL = 2.04 times as often in the larger batch; all else as often."""
ARRAYS_ALLOWED = 4
"""New arrays of a batch's size a step that still count as none."""


@dataclass(frozen=True)
class Counts:
    """What one step does at the two batch sizes; operations of the larger one lie in `large`."""

    network: Network
    small: Sequence[Operation]
    large: Sequence[Operation]

    def is_batch(self, operation: Operation) -> bool:
        """Whether the result has a number for every sample, or more."""
        return LARGE in result_shape(operation)


@dataclass(frozen=True)
class Broken:
    """A fact that does not hold: the statement's line, and what it does there."""

    fact: str
    line: int
    what: str
    advice: str


def broken_fact(counts: Counts, facts: Iterable[str]) -> Broken | None:
    """The first of the facts that does not hold; raises UsageError for a fact that nobody knows."""
    for fact in facts:
        if fact not in FACTS:
            raise UsageError(f"no structural fact '{fact}'; known: {', '.join(FACTS)}")
        broken = FACTS[fact](counts)
        if broken is not None:
            return broken
    return None


def result_shape(operation: Operation) -> tuple[int, ...]:
    """Of what an operation makes: (p, q) for a product of (p, k) by (k, q)."""
    if operation.kind == PRODUCT and len(operation.shape) == 3:
        return (operation.shape[0], operation.shape[2])
    return operation.shape


def described(operation: Operation) -> str:
    """'add float32 (70 x 47)', as the profile names it."""
    return f"{operation.name} {operation.dtype} {_shape_text(operation)}"


def _shape_text(operation: Operation) -> str:
    return f"({' x '.join(str(n) for n in result_shape(operation))})"


def _loop(counts: Counts) -> Broken | None:
    small = _times_by_line(counts.small)
    grown = {
        place: times - small.get(place, 0)
        for place, times in _times_by_line(counts.large).items()
        if times > GROWS * small.get(place, 0) and times > 1
    }
    if not grown:
        return None
    (line, phase), more = max(grown.items(), key=lambda item: item[1])
    what = f"{phase} runs it {more} times more often for {LARGE - SMALL} more samples: it stands in a loop over samples"
    return Broken(
        exercises.NO_LOOP,
        line,
        what,
        "let the samples stand side by side as columns, X[index].T, and one product do the work for all of them",
    )


def _double(counts: Counts) -> Broken | None:
    found = [o for o in counts.large if _makes_double(o)]
    if not found:
        return None
    return Broken(
        exercises.SINGLE,
        found[0].line,
        f"{found[0].name} makes a float64 array {_shape_text(found[0])} in {found[0].phase}: double precision from "
        "here on",
        "data and weights come as float32; np.ones, np.zeros and np.array without a dtype make float64, and so does a "
        "product with np.float64(...) or with an array that is float64 (a Python number is harmless)",
    )


def _makes_double(operation: Operation) -> bool:
    """Whether an array of doubles comes out; a float32 operand beside a double may have given the dtype its name."""
    size = math.prod(result_shape(operation))
    widened = (
        operation.kind in (ARITHMETIC, EVALUATION)
        and operation.dtype == "float32"
        and operation.bytes_allocated == 8 * size * operation.times
    )
    return size > 1 and (operation.dtype == "float64" or widened)


def _input_delta(counts: Counts) -> Broken | None:
    inputs = (counts.network.layers[0], counts.network.layers[0] + 1)
    found = [o for o in counts.large if o.phase == "backward" and sorted(result_shape(o)) in _with(inputs, LARGE)]
    if not found:
        return None
    dearest = max(found, key=lambda o: (o.kind == EVALUATION, o.flop))
    return Broken(
        exercises.NO_INPUT_DELTA,
        dearest.line,
        f"{described(dearest)} in backward: as large as the input",
        "delta[l] is needed for dW[l] and for delta[l - 1]; layer 0 has neither: end the loop at layer 1",
    )


def _evaluation(counts: Counts) -> Broken | None:
    found = [o for o in counts.large if o.phase == "backward" and o.kind == EVALUATION]
    if not found:
        return None
    return Broken(
        exercises.NO_EVALUATION,
        found[0].line,
        f"{described(found[0])} in backward: the activation is evaluated again",
        "forward has kept A[l]; the derivative is A[l] * (1 - A[l]): derivative_from_A(A[l])",
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
            f"{described(first)} in {first.phase}: BLAS cannot read a factor as it lies, so NumPy copies it first",
            "the elements of a row (or of a column) have to be neighbours in memory; slices with a step are not",
        )
    return Broken(
        exercises.NO_COPY,
        first.line,
        f"{described(first)} in {first.phase}: only copied, nothing is computed",
        "instead of a row of ones on A[l], cut W[l] apart: W[l][:, 1:] @ A[l - 1], then += W[l][:, :1]; a view is free",
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
        f"a step makes {made} new arrays, the largest here: {described(first)} in {first.phase}; at most "
        f"{ARRAYS_ALLOWED} are let pass",
        "make each array once, when the batch size is known, and write into it: np.matmul(..., out=), X.take(index, "
        'axis=0, out=..., mode="clip"), `*=`, `+=`',
    )


FACTS: dict[str, Callable[[Counts], Broken | None]] = {
    exercises.NO_LOOP: _loop,
    exercises.SINGLE: _double,
    exercises.NO_INPUT_DELTA: _input_delta,
    exercises.NO_EVALUATION: _evaluation,
    exercises.NO_COPY: _copy,
    exercises.FEW_ARRAYS: _new_arrays,
}


def mixed_orders(counts: Counts) -> list[tuple[int, str]]:
    """Lines where rows of one array meet columns of another in an elementwise pass or a copy, the largest first.

    Such a pass hops through memory. Only arrays of a batch with at least a hidden layer's neurons count.
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


def _times_by_line(operations: Iterable[Operation]) -> dict[tuple[int, str], int]:
    found: dict[tuple[int, str], int] = {}
    for operation in operations:
        place = (operation.line, operation.phase)
        found[place] = found.get(place, 0) + operation.times
    return found


def _with(sizes: Iterable[int], m: int) -> list[list[int]]:
    return [sorted((size, m)) for size in sizes]
