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
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np

PRODUCT, EVALUATION, ARITHMETIC, COPY, FILL = "product", "evaluation", "arithmetic", "copy", "fill"
KINDS = (PRODUCT, EVALUATION, ARITHMETIC, COPY, FILL)

EVALUATIONS = frozenset(
    (
        *("exp", "exp2", "expm1", "expit", "log", "log2", "log10", "log1p", "logaddexp", "log_expit", "logit", "erf"),
        *("sin", "cos", "tan", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "arctan2", "power", "float_power"),
        *("cbrt", "hypot", "xlogy", "softmax", "log_softmax"),
    )
)
"""Functions that take a series or a table, by NumPy's and SciPy's names."""

CHEAP_POWERS = (-1.0, 0.0, 0.5, 1.0, 2.0)
"""Exponents that NumPy replaces by a reciprocal, a root or a multiplication."""

REDUCTIONS = frozenset(
    (
        *("sum", "nansum", "prod", "mean", "average", "max", "min", "amax", "amin", "nanmax", "nanmin", "argmax"),
        *("argmin", "any", "all", "cumsum", "cumprod", "count_nonzero", "norm", "var", "std", "ptp", "median"),
    )
)
PER_ELEMENT = {"norm": 2, "var": 4, "std": 4}
"""Operations for every element that goes in, where it is not one."""

COPIES = frozenset(
    (
        *("concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "row_stack", "append", "insert"),
        *("delete", "pad", "tile", "repeat", "block", "roll", "copy", "astype", "flatten", "take", "compress"),
        *("array", "asarray", "ascontiguousarray", "asfortranarray", "asanyarray", "require", "reshape", "ravel"),
        *("transpose", "swapaxes", "squeeze", "atleast_1d", "atleast_2d", "expand_dims", "broadcast_to", "flip"),
        *("where", "select", "choose", "sort", "argsort", "unique", "tolist", "fromiter", "copyto", "put", "resize"),
        *("moveaxis", "rollaxis", "take_along_axis", "extract", "diag", "triu", "tril", "split", "array_split"),
        *("ix_", "meshgrid", "view", "setfield", "byteswap", "newbyteorder", "nonzero", "flatnonzero", "squeeze"),
    )
)
"""Movers of elements; those that may give a view move nothing when they do."""

FILLS = frozenset(
    (
        *("zeros", "ones", "full", "eye", "identity", "arange", "linspace", "zeros_like", "ones_like", "full_like"),
        *("fill", "empty", "empty_like", "random", "standard_normal", "normal", "uniform", "permutation", "shuffle"),
        *("integers", "randn", "rand", "randint", "choice", "binomial", "random_sample"),
    )
)
"""Makers of arrays out of nothing."""

SILENT = frozenset(
    (
        *("item", "shape", "ndim", "size", "shares_memory", "may_share_memory", "finfo", "iinfo", "result_type"),
        *("isscalar", "iterable", "seterr", "errstate", "print", "isinstance", "len", "range", "enumerate", "zip"),
        *("reversed", "id", "type", "getattr", "hasattr", "setattr", "array_equal", "allclose", "isclose", "repr"),
        *("str", "append", "extend", "insert", "pop", "items", "keys", "values", "get", "iter", "next", "list"),
        *("tuple", "dict", "set", "slice", "int", "bool", "copy", "index", "perf_counter", "time", "setflags"),
    )
)
"""Builtins and helpers of no arithmetic, also where arrays are among their arguments."""


@dataclass(frozen=True)
class Effect:
    """What one operation did; shape is (p, k, q) of a product, else that of the result or of what was reduced.

    orders: memory orders of the operands, such as 'C·F': C or F contiguous, C* or F* a slice of one that keeps unit
    strides along rows or columns, ? neither. bytes_allocated: of arrays that are new. bytes_copied: only moved.
    """

    kind: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    orders: str = ""
    flop: int = 0
    bytes_moved: int = 0
    bytes_allocated: int = 0
    bytes_copied: int = 0


Operands = tuple[Any, ...]
Options = Mapping[str, Any]

NOTHING = Effect(FILL, "", "", ())
"""What a view does, and whatever moves and computes nothing."""


def effect_of(function: Callable[..., Any], operands: Operands, options: Options, result: Any) -> Effect | None:
    """What an operation did; `NOTHING` where it did nothing; None where arrays are in it and it is not understood."""
    if isinstance(function, FunctionType | MethodType | type) and not _is_numpy(function):
        # what a Python function does is seen inside it; a class of C may hide anything, but not zip and its like
        known = isinstance(function, FunctionType | MethodType) or function.__module__ == "builtins"
        return NOTHING if known or not _arrays(operands) else None
    if function is operator.getitem:
        return _read(operands[0], operands[1], result)
    if function is operator.setitem:
        return _stored(*operands)
    name, inputs = _named(function, operands, options)
    is_operator = function in _OPERATOR_NAMES
    arrays = _arrays(inputs) + [x for x in options.values() if isinstance(x, np.ndarray)]
    if is_operator and not isinstance(result, np.ndarray | np.generic) or not arrays and not isinstance(result, np.ndarray):
        return _scalar(name, is_operator, operands, result)
    effect = _array_effect(name, function, inputs, options, result)
    if effect is None or effect is NOTHING:
        return effect
    new = result if isinstance(result, np.ndarray) and not any(np.may_share_memory(result, a) for a in arrays) else None
    return replace(effect, bytes_allocated=0 if new is None else new.nbytes)


def _array_effect(
    name: str, function: Callable[..., Any], inputs: Operands, options: Options, result: Any
) -> Effect | None:
    if name in ("matmul", "dot", "vdot", "inner"):
        return _product(name, inputs, result)
    if name in ("gemm", "gemv", "ger"):
        return _blas(name, inputs, options, result)
    if name == "einsum":
        return _einsum(inputs, result)
    if name in ("outer", "multiply.outer"):
        return _elementwise("outer", inputs, options, result)
    if isinstance(function, np.ufunc) or name in _UFUNC_LIKE or name in EVALUATIONS:
        return _elementwise(name, inputs, options, result)
    if name.removesuffix(".reduce") in REDUCTIONS or name.endswith((".reduce", ".accumulate", ".at")):
        return _reduction(name, inputs, result)
    if name in COPIES:
        return _copy(name, inputs, result)
    if name in FILLS:
        target = inputs[0] if name in ("fill", "shuffle") and inputs else result
        written = 0 if name.startswith("empty") else _stored_bytes(target)
        return Effect(FILL, name, _dtype(target), _shape(target), _order(target), bytes_moved=written)
    if name == "sum()" and isinstance(inputs[0], list | tuple) and isinstance(result, np.ndarray):
        terms = len(inputs[0])
        flop = terms * result.size
        return Effect(ARITHMETIC, "sum", _dtype(result), result.shape, flop=flop, bytes_moved=3 * terms * result.nbytes)
    if name.removesuffix("()") in SILENT or isinstance(result, bool | str | type(None)) or name == "float":
        return NOTHING
    return None


_OPERATOR_NAMES = {
    operator.add: "add",
    operator.iadd: "add",
    operator.sub: "subtract",
    operator.isub: "subtract",
    operator.mul: "multiply",
    operator.imul: "multiply",
    operator.truediv: "divide",
    operator.itruediv: "divide",
    operator.floordiv: "floor_divide",
    operator.ifloordiv: "floor_divide",
    operator.mod: "remainder",
    operator.imod: "remainder",
    operator.pow: "power",
    operator.ipow: "power",
    operator.matmul: "matmul",
    operator.imatmul: "matmul",
    operator.neg: "negative",
    operator.pos: "positive",
    operator.invert: "invert",
    operator.lt: "less",
    operator.le: "less_equal",
    operator.gt: "greater",
    operator.ge: "greater_equal",
    operator.eq: "equal",
    operator.ne: "not_equal",
    operator.and_: "bitwise_and",
    operator.iand: "bitwise_and",
    operator.or_: "bitwise_or",
    operator.ior: "bitwise_or",
    operator.xor: "bitwise_xor",
    operator.ixor: "bitwise_xor",
    operator.lshift: "left_shift",
    operator.rshift: "right_shift",
}

_UFUNC_LIKE = frozenset((*_OPERATOR_NAMES.values(), "clip", "round", "around", "nan_to_num", "real", "conj", "conjugate"))
_MATH = frozenset(("exp", "expm1", "tanh", "log", "log1p", "pow", "sqrt", "sin", "cos", "fabs", "erf"))


def _named(function: Callable[..., Any], operands: Operands, options: Options) -> tuple[str, Operands]:
    """The operation's name, and its operands with the array that a method belongs to in front."""
    if function in _OPERATOR_NAMES:
        name = _OPERATOR_NAMES[function]
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
    if name == "sum" and function is builtins.sum:
        return "sum()", operands
    if isinstance(function, BuiltinFunctionType) and owner is builtins:
        return f"{name}()", operands
    if name == "power" and len(operands) > 1 and isinstance(operands[1], int | float):
        return ("square" if float(operands[1]) in CHEAP_POWERS else name), operands
    return name, operands


def _is_numpy(function: Callable[..., Any]) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] in ("numpy", "scipy")


def _arrays(operands: Operands) -> list[np.ndarray[Any, Any]]:
    """The arrays among operands, those in lists and tuples too."""
    found = []
    for operand in operands:
        if isinstance(operand, np.ndarray):
            found.append(operand)
        elif isinstance(operand, list | tuple):
            found += [x for x in operand if isinstance(x, np.ndarray)]
    return found


def _scalar(name: str, is_operator: bool, operands: Operands, result: Any) -> Effect:
    """Arithmetic of single floating-point numbers; comparisons are free."""
    short = name.removesuffix("()")
    if not isinstance(result, float | np.floating) or not (is_operator or short in _MATH):
        return NOTHING
    if not any(isinstance(operand, float | np.floating) for operand in operands):
        return NOTHING
    return Effect(EVALUATION if short in EVALUATIONS else ARITHMETIC, short, "float64", (), flop=1)


def _read(container: Any, key: Any, result: Any) -> Effect:
    if not isinstance(result, np.ndarray):
        return NOTHING
    if not isinstance(container, np.ndarray):
        # np.c_[...] and np.r_[...] stack; a list of arrays is only looked into
        return _copy("concatenate", key if isinstance(key, tuple) else (key,), result) if _is_stacker(container) else NOTHING
    if np.may_share_memory(container, result):
        return NOTHING
    indices = sum(x.nbytes for x in _arrays(key if isinstance(key, tuple) else (key,)))
    moved = 2 * result.nbytes + indices
    return Effect(
        COPY, "gather", _dtype(result), result.shape, _order(container), 0, moved, result.nbytes, result.nbytes
    )


def _is_stacker(container: Any) -> bool:
    return any(base.__name__ == "AxisConcatenator" for base in type(container).__mro__)


def _stored(target: Any, key: Any, value: Any) -> Effect:
    if not isinstance(target, np.ndarray):
        return NOTHING
    region = target[key]
    if isinstance(value, np.ndarray) and value.size > 1:
        if np.may_share_memory(value, target) and np.shape(value) == np.shape(region):
            return NOTHING  # the end of an augmented assignment: the view is stored onto itself
        orders = f"{_order(value)}>{_order(region)}"
        written = region.nbytes
        return Effect(COPY, "store", _dtype(target), region.shape, orders, 0, value.nbytes + written, 0, written)
    return Effect(FILL, "fill", _dtype(target), np.shape(region), bytes_moved=int(np.asarray(region).nbytes))


def _product(name: str, inputs: Operands, result: Any) -> Effect:
    a, b = np.asarray(inputs[0]), np.asarray(inputs[1])
    if name == "vdot" or (a.ndim <= 1 and b.ndim <= 1):
        p, k, q, batch = 1, a.size, 1, 1
    else:
        p = a.shape[-2] if a.ndim > 1 else 1
        k = a.shape[-1]
        q = (b.shape[-1] if b.ndim > 1 else 1) if name != "inner" else (b.shape[-2] if b.ndim > 1 else 1)
        batch = max(1, np.size(result) // max(1, p * q))
    flop = 2 * p * k * q * batch if _is_float(a, b, result) else 0
    hidden = sum(x.nbytes for x in (a, b) if x.ndim > 1 and name != "vdot" and _order(x) == "?")
    moved = _stored_bytes(a) + _stored_bytes(b) + _stored_bytes(result) + 2 * hidden
    orders = f"{_order(a)}·{_order(b)}"
    return Effect(PRODUCT, name, _dtype(result), (p, k, q), orders, flop, moved, 0, hidden)


def _blas(name: str, inputs: Operands, options: Options, result: Any) -> Effect:
    """SciPy's BLAS: gemm(alpha, a, b, beta, c, trans_a, trans_b), gemv(alpha, a, x), ger(alpha, x, y)."""
    named = dict(zip(("alpha", "a", "b", "beta", "c", "trans_a", "trans_b"), inputs, strict=False)) | dict(options)
    if name == "ger":
        return _elementwise("outer", (inputs[1], inputs[2]), {}, result)
    a, b = np.asarray(named["a"]), np.asarray(named.get("b", named.get("x")))
    k = a.shape[0] if named.get("trans_a", named.get("trans", 0)) else a.shape[1]
    size = np.size(result)
    p = a.size // max(1, k)
    moved = a.nbytes + b.nbytes + _stored_bytes(result) * (2 if "c" in named else 1)
    # f2py hands BLAS what is in column order and copies the rest
    hidden = sum(x.nbytes for x in (a, b) if x.ndim > 1 and not x.flags.f_contiguous)
    shape = (p, k, size // max(1, p))
    return Effect(
        PRODUCT, name, _dtype(result), shape, f"{_order(a)}·{_order(b)}", 2 * size * k, moved + 2 * hidden, 0, hidden
    )


def _einsum(inputs: Operands, result: Any) -> Effect | None:
    if not isinstance(inputs[0], str) or len(inputs) != 3 or "." in inputs[0]:
        return None
    left, arrow, out = inputs[0].replace(" ", "").partition("->")
    first, second = left.split(",")
    if not arrow:
        out = "".join(sorted(c for c in {*left} - {","} if left.count(c) == 1))
    a, b = np.asarray(inputs[1]), np.asarray(inputs[2])
    sizes = dict(zip(first, a.shape, strict=True)) | dict(zip(second, b.shape, strict=True))
    inner = {*sizes} - {*out}
    p, k, q = (
        math.prod(sizes[c] for c in chosen) for chosen in ({*out} & {*first}, inner, ({*out} & {*second}) - {*first})
    )
    flop = math.prod(sizes.values()) * (2 if inner else 1)
    moved = a.nbytes + b.nbytes + _stored_bytes(result)
    return Effect(PRODUCT, "einsum", _dtype(result), (p, k, q), f"{_order(a)}·{_order(b)}", flop, moved)


def _elementwise(name: str, inputs: Operands, options: Options, result: Any) -> Effect:
    operands = [x for x in inputs if isinstance(x, np.ndarray)]
    results = result if isinstance(result, tuple) else (result,)
    size = sum(int(np.size(x)) for x in results)
    flop = size if _is_float(*operands, *results) and not name.startswith(("bitwise", "logical")) else 0
    if name == "clip":
        flop *= 2
    moved = sum(_stored_bytes(x) for x in operands) + sum(_stored_bytes(x) for x in results)
    kind = EVALUATION if name in EVALUATIONS else ARITHMETIC
    float_operands = [x for x in (*operands, *results) if _is_float(x)]
    dtype = _dtype(float_operands[0] if float_operands else results[0])
    orders = "·".join(_order(x) for x in operands)
    return Effect(kind, name, dtype, np.shape(results[0]), orders, flop, moved)


def _reduction(name: str, inputs: Operands, result: Any) -> Effect:
    a = np.asarray(inputs[0])
    short = name.removesuffix(".reduce")
    flop = PER_ELEMENT.get(short, 1) * a.size + (int(np.size(result)) if short in ("mean", "average") else 0)
    moved = _stored_bytes(a) + _stored_bytes(result)
    return Effect(ARITHMETIC, short, _dtype(a), a.shape, _order(a), flop if _is_float(a) else 0, moved)


def _copy(name: str, inputs: Operands, result: Any) -> Effect:
    arrays = _arrays(inputs)
    target = arrays[0] if name in ("copyto", "put") and arrays else result
    if not isinstance(target, np.ndarray) or (target is result and any(np.may_share_memory(target, a) for a in arrays)):
        return NOTHING
    sources = [a for a in arrays if a is not target]
    moved = target.nbytes + (target.nbytes if len(sources) == 1 else sum(a.nbytes for a in sources))
    orders = "·".join(_order(a) for a in sources)
    return Effect(COPY, name, _dtype(target), target.shape, orders, 0, moved, 0, target.nbytes)


def _is_float(*values: Any) -> bool:
    return any(isinstance(x, float) or getattr(getattr(x, "dtype", None), "kind", "") in "fc" for x in values if x is not None and (isinstance(x, float) or hasattr(x, "dtype")))


def _dtype(value: Any) -> str:
    return str(getattr(getattr(value, "dtype", None), "name", type(value).__name__))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(np.shape(value))


def _stored_bytes(value: Any) -> int:
    """Bytes of the elements that an operand has in memory: a broadcast axis has one."""
    if not isinstance(value, np.ndarray):
        return int(getattr(value, "nbytes", 0)) if isinstance(value, np.generic) else 0
    return value.itemsize * math.prod(n for n, stride in zip(value.shape, value.strides, strict=True) if stride or n == 0)


def _order(value: Any) -> str:
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return ""
    if value.flags.c_contiguous:
        return "C"
    if value.flags.f_contiguous:
        return "F"
    if value.ndim == 2 and value.strides[1] == value.itemsize:
        return "C*"
    return "F*" if value.ndim == 2 and value.strides[0] == value.itemsize else "?"
