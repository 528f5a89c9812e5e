"""Whether evaluating an expression does nothing but give its value, so that a cure may leave it out or move it."""

from __future__ import annotations

import ast
import builtins
from typing import Any

import numpy as np

from mlpprof.advise.editing.recorded_code import RecordedCode, inside
from mlpprof.programs.record.trace import Event

HARMLESS = frozenset(("str", "len", "range", "float", "int", "abs", "max", "min", "sum", "zip", "tuple", "list"))
"""Built-in functions that do nothing but give a result."""


def has_no_effect_but_its_value(expression: ast.expr, code: RecordedCode, dead: frozenset[int] = frozenset()) -> bool:
    """Whether evaluating an expression does nothing but give its value.

    dead: operations whose result nothing uses, also where they write it into a buffer.
    """
    if any(isinstance(one, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom) for one in ast.walk(expression)):
        return False
    for call in (one for one in ast.walk(expression) if isinstance(one, ast.Call)):
        events = code.executions(call)
        if not events and not _is_harmless(call, code):
            return False
        is_dead = call is expression and any(event.index in dead for event in events)
        if not all(
            _is_numpy(event) if is_dead and not event.is_own else _has_no_effect(event, code) for event in events
        ):
            return False
    return True


def _is_harmless(call: ast.Call, code: RecordedCode) -> bool:
    """Whether it calls a function of numbers, which is not recorded."""
    match call.func:
        case ast.Name(id=name):
            return name in HARMLESS and hasattr(builtins, name)
        case ast.Attribute(value=ast.Name(id=module)):
            return module in ("math", code.numpy_name(code.file(call)))
    return False


def _has_no_effect(event: Event, code: RecordedCode) -> bool:
    if event.is_own:
        parts = code.graph.events[event.index + 1 : event.end]
        made = {part.output.root for part in parts if part.output is not None}
        writes = {root for part in parts for root in part.writes}
        called = [code.function(one) for one in (event, *parts) if one.is_own]
        is_pure = all(function is not None and not _stores(function) for function in called)
        return is_pure and writes <= made and all(map(_is_numpy, parts))
    return _is_numpy(event) and not event.writes


def _stores(function: ast.AST) -> bool:
    """Whether a function stores into something that may live on: an attribute, an item, or a name outside of it."""
    return any(
        isinstance(one, ast.Global | ast.Nonlocal)
        or (isinstance(one, ast.Attribute | ast.Subscript) and isinstance(one.ctx, ast.Store))
        for one in inside(function)
    )


def _is_numpy(event: Event) -> bool:
    """Whether it is an operation on arrays, or the program's own; drawing random numbers changes the generator."""
    owner: Any = getattr(event.function, "__self__", None)
    if event.is_own or isinstance(owner, np.ndarray):
        return True
    if isinstance(owner, np.random.Generator | np.random.RandomState):
        return False
    module = str(getattr(event.function, "__module__", None) or "")
    return isinstance(event.function, np.ufunc) or module.split(".")[0] in ("numpy", "scipy", "_operator", "builtins")
