"""What is called: its name, its code, what it changes, and its effect on arrays."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from mlpprof.instrument.semantics import effect_of
from mlpprof.instrument.semantics_arrays import Effect, product
from mlpprof.instrument.semantics_table import EVALUATIONS

WITH_BIAS = EVALUATIONS | {"dot", "matmul", "einsum", "tensordot", "inner"}
"""Operations in whose operands a row of ones is looked for."""

NOTED_CALLS = frozenset(("print", "write", "info", "debug", "show", "savefig", "dump", "save", "shuffle"))
"""Calls that are written down also where no array is in them."""

PASSING = frozenset(
    (
        *("zip", "enumerate", "reversed", "list", "tuple", "dict", "set", "len", "append", "extend", "insert", "iter"),
        *("isinstance", "type", "id", "hasattr", "getattr", "setattr", "callable", "map", "filter", "pop", "update"),
    )
)
"""Calls that pass arrays on, or look at what they are, without a look at their values."""

WRITING_METHODS = frozenset(("fill", "sort", "partition", "put", "itemset", "resize", "setflags"))
WRITING_FUNCTIONS = frozenset(("copyto", "put", "place", "putmask", "shuffle", "fill_diagonal", "at"))


def known_effect(
    function: Callable[..., Any], operands: tuple[Any, ...], options: Mapping[str, Any], result: Any
) -> Effect | None:
    """The effect, or None where an operand has a form that the semantics do not expect."""
    try:
        if is_matrix_product(function, operands):
            return product("matmul", operands, result)
        return effect_of(function, operands, options, result)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def is_matrix_product(function: Callable[..., Any], operands: tuple[Any, ...]) -> bool:
    """Whether ``a * b`` is a product because one of the two is an np.matrix."""
    is_matrix = any(isinstance(x, np.matrix) for x in operands)
    return function is operator.mul and is_matrix and all(np.ndim(x) == 2 for x in operands)


def written_by(
    function: Callable[..., Any],
    name: str,
    owner: Any,
    arguments: tuple[Any, ...],
    options: Mapping[str, Any],
) -> tuple[Any, ...]:
    """The arrays that a call changes."""
    out = options.get("out")
    found = list(out) if isinstance(out, tuple) else [out]
    if isinstance(function, np.ufunc):
        found += arguments[function.nin :]
    if isinstance(owner, np.ndarray) and name in WRITING_METHODS:
        found.append(owner)
    if name in WRITING_FUNCTIONS and arguments:
        found.append(arguments[0])
    return tuple(x for x in found if isinstance(x, np.ndarray))


def unbound(function: Any) -> Any:
    """The function without what it is bound to or closes over, which would else be kept alive."""
    code = code_of(function)
    if code is not None:
        return code
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType | np.ufunc):
        return getattr(type(owner), getattr(function, "__name__", ""), type(function))
    return function


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """The code of a Python function, of a method, of a class's constructor, or of what an object is called by."""
    if isinstance(function, type):
        found = getattr(_of_class(function, "__init__"), "__code__", None)
    else:
        inner = getattr(function, "__func__", function)
        found = getattr(inner, "__code__", None) or getattr(_of_class(type(inner), "__call__"), "__code__", None)
    return found if isinstance(found, CodeType) else None


def _of_class(kind: type, name: str) -> Any:
    """What a class, or the first of its bases that has it, holds under a name."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function, or of the class of what is called."""
    if isinstance(function, FunctionType | MethodType | BuiltinFunctionType):
        return function.__name__
    return getattr(function, "__name__", type(function).__name__)


def without_ours(names: Any) -> Any:
    """What ``locals()``, ``vars()`` or ``dir()`` gave, without the names that the rewriting has put in."""
    if isinstance(names, list):
        return [name for name in names if not name.startswith("__mlpprof_")]
    if any(name.startswith("__mlpprof_") for name in names):
        return {name: value for name, value in names.items() if not name.startswith("__mlpprof_")}
    return names
