"""The costs of an operation on arrays, from its operands and its result: arithmetic, bytes, copies, new arrays.

Every count follows these conventions:

- A product (p, k) by (k, q) is 2 p k q floating-point operations; an outer product is p q.
- A ufunc is 1 operation per element of its result, if it has floating-point numbers. An evaluation of exp, tanh, the
  sigmoid (scipy's expit) and so on is 1 as well: its real cost depends on the library, so its time is compared with the
  measured evaluations per second, and never with the arithmetic peak.
- A sum, a maximum and so on is 1 per element of the operand; a mean is 1 more per element of the result.
- Bytes are the compulsory traffic: every operand is read once and the result is written once. A broadcast operand is
  as small as it is stored. A view moves nothing. Zeros and other new values are written once.
- A copy is an operation that only moves: stacking, astype, a gather by an index array, a slice assignment.
- Python's own floats count as arithmetic, its integers (indices) do not.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np

from mlpprof.results import Operation

PRODUCT, EVALUATION, ARITHMETIC, COPY, FILL = "product", "evaluation", "arithmetic", "copy", "fill"

EVALUATIONS = frozenset(
    (
        *("exp", "exp2", "expm1", "expit", "log", "log2", "log10", "log1p", "logaddexp", "log_expit", "logit", "erf"),
        *("sin", "cos", "tan", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "arctan2", "power", "float_power"),
        *("cbrt", "hypot", "xlogy", "softmax", "log_softmax"),
    )
)
"""The functions of NumPy and SciPy that are computed by a series or a table."""

CHEAP_POWERS = (-1.0, 0.0, 0.5, 1.0, 2.0)
"""NumPy replaces a power with one of these exponents by a reciprocal, a root or a multiplication."""

REDUCTIONS = frozenset(
    (
        *("sum", "nansum", "prod", "mean", "average", "max", "min", "amax", "amin", "nanmax", "nanmin", "argmax"),
        *("argmin", "any", "all", "cumsum", "cumprod", "count_nonzero", "norm", "var", "std", "ptp", "median"),
    )
)
PER_ELEMENT = {"norm": 2, "var": 4, "std": 4}
"""The operations per element of the operand, where it is not one."""

COPIES = frozenset(
    (
        *("concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "row_stack", "append", "insert"),
        *("delete", "pad", "tile", "repeat", "block", "roll", "copy", "astype", "flatten", "take", "compress"),
        *("array", "asarray", "ascontiguousarray", "asfortranarray", "asanyarray", "require", "reshape", "ravel"),
        *("transpose", "swapaxes", "squeeze", "atleast_1d", "atleast_2d", "expand_dims", "broadcast_to", "flip"),
        *("sort", "argsort", "unique", "tolist", "fromiter", "copyto", "put", "resize"),
        *("moveaxis", "rollaxis", "take_along_axis", "extract", "diag", "triu", "tril", "split", "array_split"),
        *("ix_", "meshgrid", "view", "setfield", "byteswap", "newbyteorder", "nonzero", "flatnonzero"),
    )
)
"""The functions that move elements. Some of them may return a view, and then they move nothing."""

FILLS = frozenset(
    (
        *("zeros", "ones", "full", "eye", "identity", "arange", "linspace", "zeros_like", "ones_like", "full_like"),
        *("fill", "empty", "empty_like", "random", "standard_normal", "normal", "uniform", "permutation", "shuffle"),
        *("integers", "randn", "rand", "randint", "choice", "binomial", "random_sample"),
    )
)
"""The functions that make new arrays without operands."""

SILENT = frozenset(
    (
        *("item", "shape", "ndim", "size", "shares_memory", "may_share_memory", "finfo", "iinfo", "result_type"),
        *("isscalar", "iterable", "seterr", "errstate", "print", "isinstance", "len", "range", "enumerate", "zip"),
        *("reversed", "id", "type", "getattr", "hasattr", "setattr", "array_equal", "allclose", "isclose", "repr"),
        *("str", "append", "extend", "insert", "pop", "items", "keys", "values", "get", "iter", "next", "list"),
        *("tuple", "dict", "set", "slice", "int", "bool", "copy", "index", "perf_counter", "time", "setflags"),
    )
)
"""Builtins and helpers without arithmetic, even if they have arrays among their arguments."""

OPERATOR_NAMES = {
    function: name
    for name, functions in {
        "add": (operator.add, operator.iadd),
        "subtract": (operator.sub, operator.isub),
        "multiply": (operator.mul, operator.imul),
        "divide": (operator.truediv, operator.itruediv),
        "floor_divide": (operator.floordiv, operator.ifloordiv),
        "remainder": (operator.mod, operator.imod),
        "power": (operator.pow, operator.ipow),
        "matmul": (operator.matmul, operator.imatmul),
        "negative": (operator.neg,),
        "positive": (operator.pos,),
        "invert": (operator.invert,),
        "less": (operator.lt,),
        "less_equal": (operator.le,),
        "greater": (operator.gt,),
        "greater_equal": (operator.ge,),
        "equal": (operator.eq,),
        "not_equal": (operator.ne,),
        "bitwise_and": (operator.and_, operator.iand),
        "bitwise_or": (operator.or_, operator.ior),
        "bitwise_xor": (operator.xor, operator.ixor),
        "left_shift": (operator.lshift, operator.ilshift),
        "right_shift": (operator.rshift, operator.irshift),
    }.items()
    for function in functions
}
"""Python's operator -> the ufunc that it calls on arrays."""

UFUNC_LIKE = frozenset(
    (
        *OPERATOR_NAMES.values(),
        *("square", "absolute", "clip", "where", "select", "choose", "round", "around", "nan_to_num", "real"),
        *("conj", "conjugate"),
    )
)
BUILTIN_UFUNCS = {"abs": "absolute", "pow": "power", "round": "round", "divmod": "divmod"}
"""Python's builtins that work on arrays as ufuncs do, with the ufunc's name."""

MATH = frozenset(("exp", "expm1", "tanh", "log", "log1p", "pow", "sqrt", "sin", "cos", "fabs", "erf"))


@dataclass(frozen=True)
class Effect:
    """The effect of one operation. shape: (p, k, q) of a product, else that of the result or of the reduced operand.

    orders: memory orders of the operands, such as 'C·F': C or F contiguous, C* or F* a slice of one that keeps unit
    strides along rows or columns, ? neither. bytes_allocated: the new arrays. bytes_copied: the bytes only moved.
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


def operation_of(
    effect: Effect, times: float, phase: str, layer: int | None, label: str | None, line: int, *, is_useful: bool
) -> Operation:
    """An effect so many times in one step. is_useful: all of it is taken as needed; else that is not known."""
    flop, moved = int(times * effect.flop), int(times * effect.bytes_moved)
    return Operation(
        phase=phase,
        layer=layer,
        label=label,
        line=line,
        kind=effect.kind,
        name=effect.name,
        dtype=effect.dtype,
        shape=tuple(effect.shape),
        orders=effect.orders,
        times=round(times),
        flop=flop,
        useful_flop=flop if is_useful else None,
        bytes_moved=moved,
        useful_bytes=moved if is_useful else None,
        bytes_allocated=int(times * effect.bytes_allocated),
        bytes_copied=int(times * effect.bytes_copied),
    )


Operands = tuple[Any, ...]
Options = Mapping[str, Any]

NOTHING = Effect(FILL, "", "", ())
"""The effect of a view, and of everything else that moves and computes nothing."""


def arrays_in(operands: Operands) -> list[np.ndarray[Any, Any]]:
    """The arrays among the operands, also those inside lists and tuples."""
    found = []
    for operand in operands:
        if isinstance(operand, np.ndarray):
            found.append(operand)
        elif isinstance(operand, list | tuple):
            found += [x for x in operand if isinstance(x, np.ndarray)]
    return found


def product(name: str, inputs: Operands, result: Any) -> Effect:
    """A product by NumPy: matmul, dot, inner, vdot. An operand in a memory order that BLAS cannot read is copied."""
    a, b = np.asarray(inputs[0]), np.asarray(inputs[1])
    if name == "vdot" or (a.ndim <= 1 and b.ndim <= 1):
        p, k, q, batch = 1, a.size, 1, 1
    else:
        p = a.shape[-2] if a.ndim > 1 else 1
        k = a.shape[-1]
        q = (b.shape[-1] if b.ndim > 1 else 1) if name != "inner" else (b.shape[-2] if b.ndim > 1 else 1)
        batch = max(1, np.size(result) // max(1, p * q))
    flop = 2 * p * k * q * batch if is_float(a, b, result) else 0
    hidden = sum(x.nbytes for x in (a, b) if x.ndim > 1 and name != "vdot" and order_of(x) == "?")
    moved = bytes_in_memory(a) + bytes_in_memory(b) + bytes_in_memory(result) + 2 * hidden
    orders = f"{order_of(a)}·{order_of(b)}"
    return Effect(PRODUCT, name, dtype_of(result), (p, k, q), orders, flop, moved, 0, hidden)


def blas_product(name: str, inputs: Operands, options: Options, result: Any) -> Effect:
    """SciPy's BLAS: gemm(alpha, a, b, beta, c, trans_a, trans_b), gemv(alpha, a, x), ger(alpha, x, y)."""
    named = dict(zip(("alpha", "a", "b", "beta", "c", "trans_a", "trans_b"), inputs, strict=False)) | dict(options)
    if name == "ger":
        return elementwise("outer", (inputs[1], inputs[2]), result)
    a, b = np.asarray(named["a"]), np.asarray(named.get("b", named.get("x")))
    k = a.shape[0] if named.get("trans_a", named.get("trans", 0)) else a.shape[1]
    size = np.size(result)
    p = a.size // max(1, k)
    moved = a.nbytes + b.nbytes + bytes_in_memory(result) * (2 if "c" in named else 1)
    # f2py copies operands that are not in column order.
    hidden = sum(x.nbytes for x in (a, b) if x.ndim > 1 and not x.flags.f_contiguous)
    shape = (p, k, size // max(1, p))
    return Effect(
        PRODUCT,
        name,
        dtype_of(result),
        shape,
        f"{order_of(a)}·{order_of(b)}",
        2 * size * k,
        moved + 2 * hidden,
        0,
        hidden,
    )


def einsum(inputs: Operands, result: Any) -> Effect | None:
    """A contraction of two operands; None for other forms."""
    if not isinstance(inputs[0], str) or len(inputs) != 3:
        return None
    a, b = np.asarray(inputs[1]), np.asarray(inputs[2])
    left, arrow, out = inputs[0].replace(" ", "").partition("->")
    first, second = left.split(",")
    spread = [_spread(letters, x.ndim) for letters, x in ((first, a), (second, b))]
    if not arrow:
        once = {*left} - {",", "."}
        out = max(spread, key=len) + "".join(sorted(c for c in once if left.count(c) == 1))
    first, second = (letters.replace("...", more) for letters, more in zip((first, second), spread, strict=True))
    out = out.replace("...", max(spread, key=len))
    sizes = dict(zip(first, a.shape, strict=True))
    for letter, size in zip(second, b.shape, strict=True):
        sizes[letter] = max(size, sizes.get(letter, 1))  # an axis of '...' may be broadcast
    inner = {*sizes} - {*out}
    p, k, q = (
        math.prod(sizes[c] for c in chosen) for chosen in ({*out} & {*first}, inner, ({*out} & {*second}) - {*first})
    )
    flop = math.prod(sizes.values()) * (2 if inner else 1)
    moved = a.nbytes + b.nbytes + bytes_in_memory(result)
    return Effect(PRODUCT, "einsum", dtype_of(result), (p, k, q), f"{order_of(a)}·{order_of(b)}", flop, moved)


def _spread(letters: str, ndim: int) -> str:
    """The axes that '...' stands for in an operand of einsum, written as digits, which are never subscripts."""
    count = ndim - len(letters.replace("...", "")) if "..." in letters else 0
    return "".join(chr(ord("0") + n) for n in reversed(range(count)))


def elementwise(name: str, inputs: Operands, result: Any) -> Effect:
    """A function of single elements, such as a ufunc."""
    operands = [x for x in inputs if isinstance(x, np.ndarray)]
    results = result if isinstance(result, tuple) else (result,)
    size = sum(int(np.size(x)) for x in results)
    flop = size if is_float(*operands, *results) and not name.startswith(("bitwise", "logical")) else 0
    if name == "clip":
        flop *= 2
    moved = sum(bytes_in_memory(x) for x in operands) + sum(bytes_in_memory(x) for x in results)
    kind = EVALUATION if name in EVALUATIONS else ARITHMETIC
    floats = [x for x in (*results, *operands) if is_float(x)]  # float32 with float64 is computed in float64
    dtype = dtype_of(floats[0] if floats else results[0])
    orders = "·".join(order_of(x) for x in operands)
    return Effect(kind, name, dtype, np.shape(results[0]), orders, flop, moved)


def reduction(name: str, inputs: Operands, result: Any) -> Effect:
    """A sum, a maximum or another reduction."""
    a = np.asarray(inputs[0])
    short = name.removesuffix(".reduce")
    flop = PER_ELEMENT.get(short, 1) * a.size + (int(np.size(result)) if short in ("mean", "average") else 0)
    moved = bytes_in_memory(a) + bytes_in_memory(result)
    return Effect(ARITHMETIC, short, dtype_of(a), a.shape, order_of(a), flop if is_float(a) else 0, moved)


def move(name: str, inputs: Operands, result: Any) -> Effect:
    """Stacking, conversion and other moves of elements; NOTHING where the result is a view."""
    arrays = arrays_in(inputs)
    target = arrays[0] if name in ("copyto", "put") and arrays else result
    if not isinstance(target, np.ndarray) or (target is result and any(np.may_share_memory(target, a) for a in arrays)):
        return NOTHING
    sources = [a for a in arrays if a is not target]
    moved = target.nbytes + (target.nbytes if len(sources) == 1 else sum(a.nbytes for a in sources))
    orders = "·".join(order_of(a) for a in sources)
    return Effect(COPY, name, dtype_of(target), target.shape, orders, 0, moved, 0, target.nbytes)


def is_float(*values: Any) -> bool:
    """Whether one of the values has floating-point numbers."""
    return any(isinstance(x, float) or getattr(getattr(x, "dtype", None), "kind", "?") in "fc" for x in values)


def dtype_of(value: Any) -> str:
    """The name of the dtype, or of the type."""
    return str(getattr(getattr(value, "dtype", None), "name", type(value).__name__))


def bytes_in_memory(value: Any) -> int:
    """The bytes that an operand has in memory; a broadcast axis has one element."""
    if not isinstance(value, np.ndarray):
        return int(getattr(value, "nbytes", 0)) if isinstance(value, np.generic) else 0
    held = (n for n, stride in zip(value.shape, value.strides, strict=True) if stride or n == 0)
    return int(value.itemsize * math.prod(held))


def order_of(value: Any) -> str:
    """The memory order of an array: 'C', 'F', 'C*', 'F*', '?' as in `Effect`; '' of a number."""
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return ""
    if value.flags.c_contiguous:
        return "C"
    if value.flags.f_contiguous:
        return "F"
    if value.ndim == 2 and value.strides[1] == value.itemsize:
        return "C*"
    return "F*" if value.ndim == 2 and value.strides[0] == value.itemsize else "?"


def effect_of(function: Callable[..., Any], operands: Operands, options: Options, result: Any) -> Effect | None:
    """The effect of an operation; `NOTHING` where it has none; None for an unknown operation on arrays."""
    if isinstance(function, FunctionType | MethodType | type) and not _is_numpy(function):
        # The operations inside a Python function are counted there. A class in C may hide some, but not zip and so on.
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
        inputs = inputs[: function.nin]  # an array for the result may come after them
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
        return Effect(FILL, name, dtype_of(target), np.shape(target), order_of(target), bytes_moved=written)
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
    """The operation's name and its operands; the first operand of a method is its array."""
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
        # f2py's routines are called 'function sgemm' or 'sgemm'; the letter s is the precision.
        return name.split()[-1][1:], operands
    if isinstance(function, BuiltinFunctionType) and owner is builtins:
        return BUILTIN_UFUNCS.get(name, f"{name}()"), operands
    if name == "power" and len(operands) > 1 and isinstance(operands[1], int | float):
        return ("square" if float(operands[1]) in CHEAP_POWERS else name), operands
    return name, operands


def _is_numpy(function: Callable[..., Any]) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] in ("numpy", "scipy")


def _scalar(name: str, is_operator: bool, operands: Operands, result: Any) -> Effect:
    """The arithmetic of single floating-point numbers; comparisons do not count."""
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
        # np.c_[...] and np.r_[...] stack arrays; an item of a list is only read.
        parts = key if isinstance(key, tuple) else (key,)
        if not _is_stacker(container):
            return NOTHING
        return replace(move("concatenate", parts, result), bytes_allocated=result.nbytes)
    if np.may_share_memory(container, result):
        return NOTHING
    return _gathered(container, arrays_in(key if isinstance(key, tuple) else (key,)), result)


def _gathered(container: Any, indices: Sequence[np.ndarray[Any, Any]], result: np.ndarray[Any, Any]) -> Effect:
    """Rows or elements by an index array, as ``X[index]`` or ``X.take(index)``: only these are read."""
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
