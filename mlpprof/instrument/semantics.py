"""What an operation on arrays does, from its operands and its result: arithmetic, bytes, copies, new arrays.

Conventions, on which every count rests:

- A product (p, k) by (k, q) is 2 p k q floating-point operations; an outer product p q.
- A ufunc is 1 for every element of its result, if floating-point numbers are in it. An evaluation of exp, tanh, the
  sigmoid (scipy's expit) and their like is 1 as well: what it really costs depends on the library, so its time is
  held against the measured evaluations a second, and never against the arithmetic peak.
- A sum, a maximum or their like is 1 for every element that goes in; a mean 1 more for every element that comes out.
- Bytes are the compulsory traffic: every operand read once and the result written once, a broadcast operand as small
  as it is stored. A view moves nothing. Zeros and such are written once.
- A copy is an operation that only moves: stacking, astype, a gather by an index array, a slice assignment.
- Python's own floats count as arithmetic, its integers (indices) do not.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np

from mlpprof.instrument.semantics_arrays import (
    NOTHING,
    Effect,
    Operands,
    Options,
    arrays_in,
    blas_product,
    bytes_in_memory,
    dtype_of,
    einsum,
    elementwise,
    move,
    order_of,
    product,
    reduction,
    shape_of,
)
from mlpprof.instrument.semantics_table import (
    ARITHMETIC,
    BUILTIN_UFUNCS,
    CHEAP_POWERS,
    COPIES,
    COPY,
    EVALUATION,
    EVALUATIONS,
    FILL,
    FILLS,
    MATH,
    OPERATOR_NAMES,
    REDUCTIONS,
    SILENT,
    UFUNC_LIKE,
)


def effect_of(function: Callable[..., Any], operands: Operands, options: Options, result: Any) -> Effect | None:
    """What an operation did; `NOTHING` where it did nothing; None where arrays are in it and it is not understood."""
    if isinstance(function, FunctionType | MethodType | type) and not _is_numpy(function):
        # what a Python function does is seen inside it; a class of C may hide anything, but not zip and its like
        is_python = isinstance(function, FunctionType | MethodType) or isinstance(
            vars(function).get("__init__"), FunctionType
        )
        known = is_python or function.__module__ == "builtins"
        return NOTHING if known or not arrays_in(operands) else None
    if function is operator.getitem:
        return _read(operands[0], operands[1], result)
    if function is operator.setitem:
        return _stored(*operands)
    name, inputs = _named(function, operands)
    is_operator = function in OPERATOR_NAMES
    arrays = arrays_in(inputs) + [x for x in options.values() if isinstance(x, np.ndarray)]
    is_scalar = not any(isinstance(x, np.ndarray) for x in operands) if is_operator else not arrays
    if is_scalar and not isinstance(result, np.ndarray):
        return _scalar(name, is_operator, operands, result)
    if isinstance(function, np.ufunc):
        inputs = inputs[: function.nin]  # an array for the result may follow
    effect = _array_effect(name, function, inputs, options, result)
    if effect is None or effect is NOTHING:
        return effect
    new = result if isinstance(result, np.ndarray) and not any(np.may_share_memory(result, a) for a in arrays) else None
    return replace(effect, bytes_allocated=0 if new is None else new.nbytes)


def _array_effect(
    name: str, function: Callable[..., Any], inputs: Operands, options: Options, result: Any
) -> Effect | None:
    if name in ("matmul", "dot", "vdot", "inner"):
        return product(name, inputs, result)
    if name in ("gemm", "gemv", "ger"):
        return blas_product(name, inputs, options, result)
    if name == "einsum":
        return einsum(inputs, result)
    if name in ("outer", "multiply.outer"):
        return elementwise("outer", inputs, result)
    if isinstance(function, np.ufunc) or name in UFUNC_LIKE or name in EVALUATIONS:
        return elementwise(name, inputs, result)
    if name.removesuffix(".reduce") in REDUCTIONS or name.endswith((".reduce", ".accumulate", ".at")):
        return reduction(name, inputs, result)
    if name == "take" and isinstance(result, np.ndarray):
        return _gathered(inputs[0], arrays_in(inputs[1:]), result)
    if name in COPIES:
        return move(name, inputs, result)
    if name in FILLS:
        target = inputs[0] if name in ("fill", "shuffle") and inputs else result
        written = 0 if name.startswith("empty") else bytes_in_memory(target)
        return Effect(FILL, name, dtype_of(target), shape_of(target), order_of(target), bytes_moved=written)
    if name == "sum()" and isinstance(inputs[0], list | tuple) and isinstance(result, np.ndarray):
        terms = len(inputs[0])
        flop = terms * result.size
        return Effect(
            ARITHMETIC, "sum", dtype_of(result), result.shape, flop=flop, bytes_moved=3 * terms * result.nbytes
        )
    if name.removesuffix("()") in SILENT or isinstance(result, bool | str | type(None)) or name == "float":
        return NOTHING
    return None


def _named(function: Callable[..., Any], operands: Operands) -> tuple[str, Operands]:
    """The operation's name, and its operands with the array that a method belongs to in front."""
    if function in OPERATOR_NAMES:
        name = OPERATOR_NAMES[function]
        is_cheap = name == "power" and isinstance(operands[1], int | float) and float(operands[1]) in CHEAP_POWERS
        return "square" if is_cheap else name, operands
    name = getattr(function, "__name__", type(function).__name__)
    owner = getattr(function, "__self__", None)
    if isinstance(owner, np.ndarray | np.generic):
        return name, (owner, *operands)
    if isinstance(owner, np.ufunc):
        return f"{owner.__name__}.{name}", operands
    if type(function).__name__ == "fortran":
        # f2py's own routines: 'function sgemm' or 'sgemm', the letter is the precision
        return name.split()[-1][1:], operands
    if isinstance(function, BuiltinFunctionType) and owner is builtins:
        return BUILTIN_UFUNCS.get(name, f"{name}()"), operands
    if name == "power" and len(operands) > 1 and isinstance(operands[1], int | float):
        return ("square" if float(operands[1]) in CHEAP_POWERS else name), operands
    return name, operands


def _is_numpy(function: Callable[..., Any]) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] in ("numpy", "scipy")


def _scalar(name: str, is_operator: bool, operands: Operands, result: Any) -> Effect:
    """Arithmetic of single floating-point numbers; comparisons are free."""
    short = name.removesuffix("()")
    if not isinstance(result, float | np.floating) or not (is_operator or short in MATH):
        return NOTHING
    if not any(isinstance(operand, float | np.floating) for operand in operands):
        return NOTHING
    return Effect(EVALUATION if short in EVALUATIONS else ARITHMETIC, short, "float64", (), flop=1)


def _read(container: Any, key: Any, result: Any) -> Effect:
    if not isinstance(result, np.ndarray):
        return NOTHING
    if not isinstance(container, np.ndarray):
        # np.c_[...] and np.r_[...] stack; a list of arrays is only looked into
        parts = key if isinstance(key, tuple) else (key,)
        if not _is_stacker(container):
            return NOTHING
        return replace(move("concatenate", parts, result), bytes_allocated=result.nbytes)
    if np.may_share_memory(container, result):
        return NOTHING
    return _gathered(container, arrays_in(key if isinstance(key, tuple) else (key,)), result)


def _gathered(container: Any, indices: Sequence[np.ndarray[Any, Any]], result: np.ndarray[Any, Any]) -> Effect:
    """Rows or elements by an index array, as ``X[index]`` or ``X.take(index)``: what is left in X is not read."""
    moved = 2 * result.nbytes + sum(x.nbytes for x in indices)
    orders = order_of(container)
    return Effect(COPY, "gather", dtype_of(result), result.shape, orders, 0, moved, result.nbytes, result.nbytes)


def _is_stacker(container: Any) -> bool:
    return any(base.__name__ == "AxisConcatenator" for base in type(container).__mro__)


def _stored(target: Any, key: Any, value: Any) -> Effect:
    if not isinstance(target, np.ndarray):
        return NOTHING
    region = target[key]
    if isinstance(value, np.ndarray) and value.size > 1:
        if _is_same_view(value, region):
            return NOTHING  # the end of an augmented assignment
        orders = f"{order_of(value)}>{order_of(region)}"
        written = region.nbytes
        return Effect(COPY, "store", dtype_of(target), region.shape, orders, 0, value.nbytes + written, 0, written)
    return Effect(FILL, "fill", dtype_of(target), np.shape(region), bytes_moved=int(np.asarray(region).nbytes))


def _is_same_view(a: Any, b: Any) -> bool:
    """Whether two arrays are the same elements of the same memory."""
    starts = [x.__array_interface__["data"][0] for x in (a, b)]
    return bool(starts[0] == starts[1] and a.shape == b.shape and a.strides == b.strides)
