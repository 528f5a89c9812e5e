"""Operations element by element: the ufunc that does one, its expression in the file, its operands."""

from __future__ import annotations

import ast
import operator
from typing import Any

import numpy as np

from mlpprof.advise.identity import Array
from mlpprof.advise.trace import Event
from mlpprof.instrument.semantics_table import OPERATOR_NAMES

Place = tuple[int, int, int, int]

POWERS = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal}
"""What ``x ** k`` does for these k."""


def elementwise(event: Event) -> np.ufunc | None:
    """The ufunc of an operation on arrays, if it is one and neither a product nor in place."""
    result = event.result
    if type(result) is not np.ndarray or event.is_own or event.options or event.writes:
        return None
    found: Any = event.function
    if found in OPERATOR_NAMES:
        if found is operator.pow:
            power = event.operands[1]
            return POWERS.get(power) if isinstance(power, int | float) and power in POWERS else np.power
        found = getattr(np, OPERATOR_NAMES[found], None)
    is_plain = isinstance(found, np.ufunc) and found.signature is None and found.nout == 1
    return found if is_plain and found.nin == len(event.operands) else None


def result_of(event: Event) -> Array:
    """The array that an elementwise operation gave."""
    assert isinstance(event.result, np.ndarray)
    return event.result


def place(node: ast.expr) -> Place:
    """Where an expression stands."""
    return node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0


def operands_of(node: ast.expr) -> list[ast.expr]:
    """The operands of an operation, as its event has them."""
    match node:
        case ast.BinOp(left=left, right=right):
            return [left, right]
        case ast.Compare(left=left, comparators=[right]):
            return [left, right]
        case ast.UnaryOp(operand=operand):
            return [operand]
        case ast.Call(args=args):
            return list(args)
    return []


def is_alike(a: Any, b: Any) -> bool:
    """Whether both are arrays of one shape and dtype."""
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype
