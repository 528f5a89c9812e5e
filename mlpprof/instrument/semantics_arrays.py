"""The effects of array operations: products, elementwise functions, reductions and moves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpprof.instrument.semantics_table import ARITHMETIC, COPY, EVALUATION, EVALUATIONS, FILL, PER_ELEMENT, PRODUCT


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


def arrays_in(operands: Operands) -> list[np.ndarray[Any, Any]]:
    """The arrays among operands, those in lists and tuples too."""
    found = []
    for operand in operands:
        if isinstance(operand, np.ndarray):
            found.append(operand)
        elif isinstance(operand, list | tuple):
            found += [x for x in operand if isinstance(x, np.ndarray)]
    return found


def product(name: str, inputs: Operands, result: Any) -> Effect:
    """A product by NumPy: matmul, dot, inner, vdot; an operand that BLAS cannot read as it lies is copied."""
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
    # f2py hands BLAS what is in column order and copies the rest
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
        sizes[letter] = max(size, sizes.get(letter, 1))  # of the axes under '...' one may be broadcast
    inner = {*sizes} - {*out}
    p, k, q = (
        math.prod(sizes[c] for c in chosen) for chosen in ({*out} & {*first}, inner, ({*out} & {*second}) - {*first})
    )
    flop = math.prod(sizes.values()) * (2 if inner else 1)
    moved = a.nbytes + b.nbytes + bytes_in_memory(result)
    return Effect(PRODUCT, "einsum", dtype_of(result), (p, k, q), f"{order_of(a)}·{order_of(b)}", flop, moved)


def _spread(letters: str, ndim: int) -> str:
    """What '...' stands for in an operand of einsum: the last of some letters that no subscript is."""
    count = ndim - len(letters.replace("...", "")) if "..." in letters else 0
    return "".join(chr(ord("0") + n) for n in reversed(range(count)))


def elementwise(name: str, inputs: Operands, result: Any) -> Effect:
    """A function of single elements, of the ufunc kind."""
    operands = [x for x in inputs if isinstance(x, np.ndarray)]
    results = result if isinstance(result, tuple) else (result,)
    size = sum(int(np.size(x)) for x in results)
    flop = size if is_float(*operands, *results) and not name.startswith(("bitwise", "logical")) else 0
    if name == "clip":
        flop *= 2
    moved = sum(bytes_in_memory(x) for x in operands) + sum(bytes_in_memory(x) for x in results)
    kind = EVALUATION if name in EVALUATIONS else ARITHMETIC
    float_operands = [x for x in (*operands, *results) if is_float(x)]
    dtype = dtype_of(float_operands[0] if float_operands else results[0])
    orders = "·".join(order_of(x) for x in operands)
    return Effect(kind, name, dtype, np.shape(results[0]), orders, flop, moved)


def reduction(name: str, inputs: Operands, result: Any) -> Effect:
    """A sum, a maximum or their like."""
    a = np.asarray(inputs[0])
    short = name.removesuffix(".reduce")
    flop = PER_ELEMENT.get(short, 1) * a.size + (int(np.size(result)) if short in ("mean", "average") else 0)
    moved = bytes_in_memory(a) + bytes_in_memory(result)
    return Effect(ARITHMETIC, short, dtype_of(a), a.shape, order_of(a), flop if is_float(a) else 0, moved)


def move(name: str, inputs: Operands, result: Any) -> Effect:
    """Stacking, conversion and other ways to move elements; nothing where the result is a view."""
    arrays = arrays_in(inputs)
    target = arrays[0] if name in ("copyto", "put") and arrays else result
    if not isinstance(target, np.ndarray) or (target is result and any(np.may_share_memory(target, a) for a in arrays)):
        return NOTHING
    sources = [a for a in arrays if a is not target]
    moved = target.nbytes + (target.nbytes if len(sources) == 1 else sum(a.nbytes for a in sources))
    orders = "·".join(order_of(a) for a in sources)
    return Effect(COPY, name, dtype_of(target), target.shape, orders, 0, moved, 0, target.nbytes)


def is_float(*values: Any) -> bool:
    """Whether floating-point numbers are among the values."""
    return any(isinstance(x, float) or getattr(getattr(x, "dtype", None), "kind", "?") in "fc" for x in values)


def dtype_of(value: Any) -> str:
    """The dtype's name, or the type's."""
    return str(getattr(getattr(value, "dtype", None), "name", type(value).__name__))


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape; () of a number."""
    return tuple(np.shape(value))


def bytes_in_memory(value: Any) -> int:
    """Bytes of the elements that an operand has in memory: a broadcast axis has one."""
    if not isinstance(value, np.ndarray):
        return int(getattr(value, "nbytes", 0)) if isinstance(value, np.generic) else 0
    held = (n for n, stride in zip(value.shape, value.strides, strict=True) if stride or n == 0)
    return int(value.itemsize * math.prod(held))


def order_of(value: Any) -> str:
    """How an array lies in memory: 'C', 'F', 'C*', 'F*', '?' as in `Effect`; '' of a number."""
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return ""
    if value.flags.c_contiguous:
        return "C"
    if value.flags.f_contiguous:
        return "F"
    if value.ndim == 2 and value.strides[1] == value.itemsize:
        return "C*"
    return "F*" if value.ndim == 2 and value.strides[0] == value.itemsize else "?"
