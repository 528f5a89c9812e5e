"""An event performed again on its own operands, or on converted ones."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from mlpprof.advise.trace import Event
from mlpprof.instrument.rewriting import IN_PLACE_OPERATORS

Action = Callable[[], object]
Convert = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


def same(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array as it is."""
    return array


def again(event: Event, convert: Convert = same) -> Action | None:
    """The operation as a function without arguments; None where it cannot be performed again.

    What it changes is a copy, so that the program's own state stays. convert: applied to every array, once, before.
    """
    function, operands, options = event.function, event.operands, dict(event.options)
    owner = getattr(function, "__self__", None)
    if function is None or event.is_own or not (operands or isinstance(owner, np.ndarray)):
        return None
    if isinstance(owner, np.ndarray):
        changed = _converted(owner, convert, bool(event.writes))
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
