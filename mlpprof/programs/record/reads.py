"""What reads an array's values: recorded operations, and code that is not observed.

Code that is not rewritten may read, and keep, whatever it can reach from its arguments.
"""

from __future__ import annotations

import dataclasses
import gc
import operator
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any

import numpy as np

from mlpprof.instrument.numpy_costs import EVALUATIONS, Effect, arrays_in, effect_of, product
from mlpprof.programs.record.arrays import Array, Roots, value_of
from mlpprof.programs.record.hooks import BEGIN
from mlpprof.programs.record.trace import Event

WITH_BIAS = EVALUATIONS | {"dot", "matmul", "einsum", "tensordot", "inner"}
"""The operands of these operations may contain a stacked row of ones."""

NOTED_CALLS = frozenset(("print", "write", "info", "debug", "show", "savefig", "dump", "save", "shuffle"))
"""Calls that are recorded even if no array is in them."""

PASSING = frozenset(
    (
        *("zip", "enumerate", "reversed", "list", "tuple", "dict", "set", "len", "append", "extend", "insert", "iter"),
        *("isinstance", "type", "id", "hasattr", "getattr", "setattr", "callable", "map", "filter", "pop", "update"),
        *("next", "vars", "super", "hash", "deque", "OrderedDict", "defaultdict", "chain", "zip_longest", "delattr"),
    )
)
"""Python's own calls that pass arrays on, or ask for their type, without reading their values."""

COMPARING = frozenset(("sort", "index", "count", "remove"))
"""Methods of containers that compare the contents; the other methods only pass them on."""

MADE = "<string>"
"""The file name of code that Python's own modules make while a program runs, as the constructor of a dataclass."""

SHOWING = NOTED_CALLS | {"warning", "savetxt"}
"""Calls that only show values to the user: the program computes nothing from them."""

WRITING_METHODS = frozenset(("fill", "sort", "partition", "put", "itemset", "resize", "setflags"))
WRITING_FUNCTIONS = frozenset(("copyto", "put", "place", "putmask", "shuffle", "fill_diagonal", "at"))


def known_effect(
    function: Callable[..., Any], operands: tuple[Any, ...], options: Mapping[str, Any], result: Any
) -> Effect | None:
    """The effect, or None if `numpy_costs` does not know such operands."""
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
    """What a call reads of its operands and of the array that it is a method of; not what it only fills."""
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


def passes_on(function: Callable[..., Any], name: str, operands: tuple[Any, ...] = ()) -> bool:
    """Whether a call only passes its arguments on."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, list | dict | set | deque):
        return name not in COMPARING
    if function is dataclasses.replace:
        return bool(operands) and is_record(type(operands[0]))
    if is_record(function) or (is_record(type(owner)) and isinstance(owner, tuple) and name == "_replace"):
        return True
    return name in PASSING and getattr(function, "__module__", None) in ("builtins", "collections", "itertools")


def is_record(kind: Any) -> bool:
    """Whether it is a named tuple, or a dataclass whose constructor Python has made: it only keeps what it is given."""
    is_tuple = isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
    if not is_tuple and not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return False
    maker = _of_class(kind, "__new__" if is_tuple else "__init__")
    code = getattr(getattr(maker, "__func__", maker), "__code__", None)
    return code is not None and code.co_filename == MADE and not hasattr(kind, "__post_init__")


def is_known(function: Callable[..., Any]) -> bool:
    """Whether it belongs to Python, NumPy or SciPy, which change no operand unless `written_by` says so."""
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None) or type(owner).__module__
    return type(function).__name__ == "fortran" or module.partition(".")[0] in ("builtins", "numpy", "scipy")


def is_single(result: Any) -> bool:
    """Whether a result is None or a single array or number, which is followed, and not a container of them."""
    if isinstance(result, np.ndarray):
        return not result.dtype.hasobject
    return result is None or isinstance(result, int | float | complex | str | bytes | np.generic)


def unbound(function: Any) -> Any:
    """The function without what it is bound to or closes over, so that this is not kept alive."""
    code = code_of(function)
    if code is not None:
        return code
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType | np.ufunc):
        return getattr(type(owner), getattr(function, "__name__", ""), type(function))
    return function


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """The code of a Python function, a method, a class's constructor, or an object's `__call__`."""
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


MOST_REACHED, MOST_IN_ALL = 2_000, 1_000_000
"""No more objects are searched for arrays for one call (the nearest first), and for all calls."""

CLOSED = (
    *(type, ModuleType, FunctionType, CodeType, FrameType, GeneratorType),
    *(str, bytes, int, float, complex, np.generic, np.dtype, type(None)),
)
"""These are not searched: they contain no arrays, or their code is rewritten, or they lead to everything."""


def arrays_within(things: Iterable[Any]) -> tuple[list[Array], int]:
    """The arrays in containers, arrays of objects and attributes, without the things themselves; the objects searched.

    No code of the program runs for this.
    """
    reached, found = [*things], []
    seen: set[int] = set()
    given = {id(x) for x in reached if isinstance(x, np.ndarray)}
    for thing in reached:  # which grows
        if isinstance(thing, CLOSED) or id(thing) in seen:
            continue
        seen.add(id(thing))
        if not isinstance(thing, np.ndarray):
            left = MOST_REACHED - len(reached)
            inner = thing[: max(0, left)] if type(thing) in (list, tuple) else gc.get_referents(thing)
            reached += [x for x in inner if not isinstance(x, CLOSED)][: max(0, left)]
            continue
        if id(thing) not in given:
            found.append(thing)
        if thing.dtype.hasobject:
            reached += [x for x in thing.flat if not isinstance(x, CLOSED)][: max(0, MOST_REACHED - len(reached))]
    return found, len(seen)


class Uses:
    """When buffers were read, by the index of the event that did it or would have come next.

    reads: all reads. looks: reads by what is no event, as a comparison in a chain. taken: when code that is not
    rewritten got hold of a buffer, so that anything may come of it. stores: when single numbers, which are not
    followed, were put into it. is_blind: there was too much to search, or another thread used arrays. most: so many
    objects are searched in all.
    """

    def __init__(self, roots: Roots, most: int = MOST_IN_ALL) -> None:
        self._roots = roots
        self.reads: dict[int, list[int]] = {}
        self.looks: dict[int, list[int]] = {}
        self.taken: dict[int, list[int]] = {}
        self.stores: dict[int, list[int]] = {}
        self.is_blind = False
        self._left = most
        self._thread = threading.get_ident()

    def follow(self) -> None:
        """From now on this thread is the observed one, because the step runs in it."""
        self._thread = threading.get_ident()

    def is_own_thread(self) -> bool:
        """Whether this is the observed thread; reads of other threads are not recorded."""
        is_own = threading.get_ident() == self._thread
        self.is_blind |= not is_own
        return is_own

    def read(self, root: int, index: int) -> None:
        """An event has an array among its operands."""
        self.reads.setdefault(root, []).append(index)

    def look(self, array: Array, index: int) -> None:
        """Something reads an array before the event of this index."""
        root = self._roots.number(array)
        self.read(root, index)
        self.looks.setdefault(root, []).append(index)

    def of_event(
        self, event: Event, function: Callable[..., Any], operands: tuple[Any, ...], options: Mapping[str, Any]
    ) -> None:
        """An operation has ended; of arrays of objects it may have read all elements."""
        if any(value.dtype == "object" for value in (*event.inputs, event.output) if value is not None):
            event.is_opaque = True
            self.reach((*operands, *options.values()), (), event.index, True)
        name = name_of(function)
        if not event.is_view and not (event.output is None and passes_on(function, name, operands)):
            for array in arrays_in(looked_at(function, name, operands, options)):
                self.read(self._roots.number(array), event.index)
        if event.writes and name in ("fill", "copyto") and "where" not in options:
            target = operands[0] if name == "copyto" else getattr(function, "__self__", None)
            event.region = value_of(target, self._roots, with_content=False)

    def of_call(self, function: Any, name: str, operands: tuple[Any, ...], index: int) -> bool:
        """A call gets some operands. Whether code that is not rewritten has arrays of them, and may pass them on."""
        code = code_of(function)
        if passes_on(function, name, operands) or (code is not None and BEGIN in code.co_names):
            return False  # what the step does is recorded
        is_taken = name not in SHOWING
        direct = arrays_in(operands)
        reached = self.reach(operands if is_known(function) else (*operands, function), direct, index, is_taken)
        return is_taken and (reached or bool(direct))

    def store(self, array: Array, index: int) -> None:
        """A single number is put into an array before the event of this index."""
        self.stores.setdefault(self._roots.number(array), []).append(index)

    def reach(self, things: Iterable[Any], known: Iterable[Array], index: int, is_taken: bool) -> bool:
        """Something gets hold of things. Whether they contain arrays other than its known operands."""
        if self.is_blind:
            return True
        operands = {id(x) for x in known}
        arrays, looked_into = arrays_within(things)
        self._left -= looked_into
        self.is_blind = self._left <= 0
        found = [x for x in arrays if id(x) not in operands]
        for array in found:
            self.look(array, index)
            if is_taken:
                self.taken.setdefault(self._roots.number(array), []).append(index)
        return bool(found)


def is_lost(function: Any, result: Any) -> bool:
    """Whether a call's result cannot be followed; unknown code that returns nothing may change its operands."""
    return not is_single(result) or (result is None and not is_known(function))
