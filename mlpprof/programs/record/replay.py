"""Operations performed again on their own operands, and timed against a faster form.

The two alternate, so that a change of the machine's speed affects both. The saved share is applied to the time that the
operation took in the step, because caches and the allocator are in another state here.

All measuring of a program has one budget, so that large operations do not make it endless: operations that take a tenth
of a second are performed once, and when the budget is spent, no more savings are reported.
"""

from __future__ import annotations

import gc
import operator
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import numpy as np

from mlpprof.instrument.rewriting import IN_PLACE_OPERATORS
from mlpprof.programs.record.trace import Event

Action = Callable[[], object]
Of = ParamSpec("Of")

IMPOSSIBLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, MemoryError)
"""An operation raises one of these if it cannot be performed again, or not on other operands."""

PAIRS, LONGEST_S, SHORTEST_S = 15, 0.25, 2e-4
"""The two forms are timed in so many pairs, for no longer than `LONGEST_S` seconds in total. A short operation is
repeated until it takes `SHORTEST_S` seconds."""

LARGEST_SHARE = 0.05
"""The pairs of one operation may use this share of the budget."""

SINGLE_S, UNSURE = 0.1, 0.05
"""An operation that takes `SINGLE_S` seconds is performed once. The share that a single pair saves may be too large by
`UNSURE`."""


@dataclass
class Budget:
    """Seconds that measuring may still take; at first there is no real limit. left_out: how often none were left."""

    left_s: float = 1e9
    left_out: int = 0

    @contextmanager
    def part(self, share: float) -> Iterator[None]:
        """Within the block, no more than a share of them."""
        kept_s = self.left_s * (1 - share)
        self.left_s -= kept_s
        try:
            yield
        finally:
            self.left_s += kept_s


BUDGET = Budget()
"""The budget of this process, which analyses one program."""


def saved_share(
    slow: Action, fast: Action, clock: Callable[[], float] = time.perf_counter, before_slow: Action | None = None
) -> tuple[float, float]:
    """The share of `slow`'s time that `fast` saves, as the quartiles of interleaved pairs; (0, 0) if either fails.

    before_slow: done before `slow` each time, untimed; it then runs once in a pair.
    """
    if BUDGET.left_s <= 0:
        BUDGET.left_out += 1
        return 0.0, 0.0
    start_s = clock()
    try:
        with np.errstate(all="ignore"):
            return _share_of_pairs(slow, fast, clock, before_slow)
    except IMPOSSIBLE:
        return 0.0, 0.0
    finally:
        BUDGET.left_s -= clock() - start_s


def nothing_if_impossible(measure: Callable[Of, tuple[float, float]]) -> Callable[Of, tuple[float, float]]:
    """What `measure` finds that is saved; (0, 0) if an operation cannot be performed again, which concerns only it."""

    @wraps(measure)
    def measured(*args: Of.args, **options: Of.kwargs) -> tuple[float, float]:
        try:
            return measure(*args, **options)
        except IMPOSSIBLE:
            return 0.0, 0.0

    return measured


def _share_of_pairs(
    slow: Action, fast: Action, clock: Callable[[], float], before_slow: Action | None
) -> tuple[float, float]:
    fast_s = _timed(fast, 1, clock)
    if before_slow is not None:
        before_slow()
    slow_s = _timed(slow, 1, clock)
    if max(fast_s, slow_s) >= SINGLE_S:
        share = 1 - fast_s / slow_s
        return share - UNSURE, share
    once = max(_timed(slow, 1, clock), 1e-9)
    repeats = max(1, int(SHORTEST_S / once)) if before_slow is None else 1
    longest_s = min(LONGEST_S, BUDGET.left_s * LARGEST_SHARE)
    pairs = max(3, min(PAIRS, int(longest_s / (2 * once * repeats))))
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        found = []
        for _ in range(pairs):
            fast_s = _timed(fast, repeats, clock)
            if before_slow is not None:
                before_slow()
            found.append(1 - fast_s / _timed(slow, repeats, clock))
    finally:
        if was_enabled:
            gc.enable()
    low, high = np.quantile(found, (0.25, 0.75))
    return float(low), float(high)


def seconds_of(action: Action, clock: Callable[[], float] = time.perf_counter) -> float:
    """The time of one execution, as the median of a few."""
    start_s = clock()
    with np.errstate(all="ignore"):
        first_s = _timed(action, 1, clock)
        if first_s >= SINGLE_S or BUDGET.left_s <= 0:
            BUDGET.left_s -= first_s
            return first_s
        once = max(_timed(action, 1, clock), 1e-9)
        repeats = max(1, int(SHORTEST_S / once))
        times = max(3, min(9, int(0.1 / (once * repeats))))
        found = float(np.median([_timed(action, repeats, clock) for _ in range(times)]))
    BUDGET.left_s -= clock() - start_s
    return found


def of_time(share: tuple[float, float], seconds: float) -> tuple[float, float]:
    """The saved part of some seconds; nothing if the share is negative."""
    return max(0.0, share[0]) * seconds, max(0.0, share[1]) * seconds


def _timed(action: Action, repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        action()
    return (clock() - start) / repeats


Performed = Callable[[], object]
Convert = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


def same(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array as it is."""
    return array


def again(event: Event, convert: Convert = same) -> Performed | None:
    """The operation as a function without arguments; None if it cannot be performed again.

    It changes a copy, so that the program's own state stays. convert: is applied to every array once, before.
    """
    function, operands, options = event.function, event.operands, dict(event.options)
    owner = getattr(function, "__self__", None)
    if function is None or event.is_own or not (operands or isinstance(owner, np.ndarray)):
        return None
    if isinstance(owner, np.ndarray):
        is_changed = bool(event.inputs) and event.inputs[0].root in event.writes
        changed = _converted(owner, convert, is_changed)
        method = getattr(changed, function.__name__, None)
        if method is None:
            return None
        function = method
    if function is operator.setitem:
        target, key, value = operands
        target, value = _converted(target, convert, True), _converted(value, convert, False)
        return lambda: operator.setitem(target, key, value)
    is_changing = function in IN_PLACE_OPERATORS
    held = tuple(_converted(x, convert, is_changing and k == 0) for k, x in enumerate(operands))
    if "out" in options:
        out = options["out"]
        options["out"] = (
            tuple(_converted(x, convert, True) for x in out)
            if isinstance(out, tuple)
            else (_converted(out, convert, True))
        )
    elif isinstance(function, np.ufunc) and len(held) > function.nin:
        held = (*held[: function.nin], *(_converted(x, convert, True) for x in held[function.nin :]))
    dtype = options.get("dtype")
    if convert is not same and dtype is not None and np.dtype(dtype) == np.float64:
        options["dtype"] = np.float32
    if function.__class__.__name__ == "builtin_function_or_method" and getattr(function, "__name__", "") == "astype":
        held = tuple(np.float32 if convert is not same and x in (float, np.float64, "float64") else x for x in held)
    return lambda: function(*held, **options)


def _converted(thing: Any, convert: Convert, is_changed: bool) -> Any:
    if isinstance(thing, np.ndarray):
        converted = convert(thing)
        return converted.copy(order="K") if is_changed else converted
    if isinstance(thing, list | tuple) and any(isinstance(x, np.ndarray) for x in thing):
        return type(thing)(convert(x) if isinstance(x, np.ndarray) else x for x in thing)
    if isinstance(thing, np.float64) and convert is not same:
        return float(thing)
    return thing
