"""What is called: its name, its code, what it changes, and its effect on arrays."""

from __future__ import annotations

import operator
from collections import deque
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
        *("next", "vars", "super", "hash", "deque", "OrderedDict", "defaultdict", "chain", "zip_longest", "delattr"),
    )
)
"""Python's own calls that pass arrays on, or look at what they are, without a look at their values."""

COMPARING = frozenset(("sort", "index", "count", "remove"))
"""Methods of containers that compare what is in them; the others pass it on."""

SHOWING = NOTED_CALLS | {"warning", "savetxt"}
"""Calls that show values to the reader: nothing comes of it in the program."""

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


def looked_at(
    function: Callable[..., Any], name: str, operands: tuple[Any, ...], options: Mapping[str, Any]
) -> tuple[Any, ...]:
    """What a call reads of its operands and of the array that it is a method of; not what it merely fills."""
    if function is operator.setitem:
        return operands[1:]
    owner = getattr(function, "__self__", None)
    held = (owner, *operands) if isinstance(owner, np.ndarray) else operands
    if options.get("where", True) is not True:  # the rest of the buffer stays
        return (*held, *options.values())
    if isinstance(function, np.ufunc):
        held = held[: function.nin]
    elif name in ("fill", "copyto"):
        held = held[1:]
    return (*held, *(x for key, x in options.items() if key != "out"))


def passes_on(function: Callable[..., Any], name: str) -> bool:
    """Whether a call hands on what it gets, and does not look into it."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, list | dict | set | deque):
        return name not in COMPARING
    return name in PASSING and getattr(function, "__module__", None) in ("builtins", "collections", "itertools")


def is_known(function: Callable[..., Any]) -> bool:
    """Whether it is Python's own or NumPy's or SciPy's: of these, nothing changes an operand unseen."""
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None) or type(owner).__module__
    return type(function).__name__ == "fortran" or module.partition(".")[0] in ("builtins", "numpy", "scipy")


def is_single(result: Any) -> bool:
    """Whether a result is one array or number, which is followed, or none, and no container of such."""
    if isinstance(result, np.ndarray):
        return not result.dtype.hasobject
    return result is None or isinstance(result, int | float | complex | str | bytes | np.generic)


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
