"""Who looks at an array's values: operations that are recorded, and what is not seen at work.

Code that is not rewritten may look at, and keep, whatever can be reached from what it is given.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable, Mapping
from types import CodeType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import Any

import numpy as np

from mlpprof.advise import called
from mlpprof.advise.hooks import BEGIN
from mlpprof.advise.identity import Array, Roots, value_of
from mlpprof.advise.trace import Event
from mlpprof.instrument.semantics_arrays import arrays_in

MOST_REACHED, MOST_IN_ALL = 2_000, 1_000_000
"""Objects that are looked into for one call, the nearest first, and for all."""

CLOSED = (
    *(type, ModuleType, FunctionType, CodeType, FrameType, GeneratorType),
    *(str, bytes, int, float, complex, np.generic, np.dtype, type(None)),
)
"""What is not looked into: it holds no arrays, or its own code is rewritten, or it leads to everything."""


def arrays_within(things: Iterable[Any]) -> tuple[list[Array], int]:
    """The arrays in containers, in arrays of objects and in attributes, not the things themselves; objects looked into.

    No code of the program runs for it.
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
    """Buffers and when they were looked at, by the index of the event that did it or would have come next.

    reads: by anybody. looks: by what is no event, as a comparison in a chain. taken: by code that is not rewritten,
    from which anything may come. stores: when single numbers, which are not followed, were put into it. is_blind:
    there was too much to look into, or another thread was at work.
    """

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self.reads: dict[int, list[int]] = {}
        self.looks: dict[int, list[int]] = {}
        self.taken: dict[int, list[int]] = {}
        self.stores: dict[int, list[int]] = {}
        self.is_blind = False
        self._left = MOST_IN_ALL
        self._thread = threading.get_ident()

    def follow(self) -> None:
        """From now on this thread is the one that is seen at work: the step's own."""
        self._thread = threading.get_ident()

    def is_own_thread(self) -> bool:
        """Whether it is the thread that is seen at work; what another one looks at is not seen."""
        is_own = threading.get_ident() == self._thread
        self.is_blind |= not is_own
        return is_own

    def read(self, root: int, index: int) -> None:
        """An event has an array among its operands."""
        self.reads.setdefault(root, []).append(index)

    def look(self, array: Array, index: int) -> None:
        """Something looks at an array before the event of this index."""
        root = self._roots.number(array)
        self.read(root, index)
        self.looks.setdefault(root, []).append(index)

    def of_event(
        self, event: Event, function: Callable[..., Any], operands: tuple[Any, ...], options: Mapping[str, Any]
    ) -> None:
        """An operation has been done; of arrays of objects it may have looked at all elements."""
        if any(value.dtype == "object" for value in (*event.inputs, event.output) if value is not None):
            event.is_opaque = True
            self.reach((*operands, *options.values()), (), event.index, True)
        name = called.name_of(function)
        if not event.is_view and not (event.output is None and called.passes_on(function, name)):
            for array in arrays_in(called.looked_at(function, name, operands, options)):
                self.read(self._roots.number(array), event.index)
        if event.writes and name in ("fill", "copyto") and "where" not in options:
            target = operands[0] if name == "copyto" else getattr(function, "__self__", None)
            event.region = value_of(target, self._roots, with_content=False)

    def of_call(self, function: Any, name: str, operands: tuple[Any, ...], index: int) -> bool:
        """A call gets some operands; whether code that is not rewritten has arrays of them, and may give them on."""
        code = called.code_of(function)
        if called.passes_on(function, name) or (code is not None and BEGIN in code.co_names):
            return False  # what the step does is recorded
        is_taken = name not in called.SHOWING
        direct = arrays_in(operands)
        reached = self.reach(operands if called.is_known(function) else (*operands, function), direct, index, is_taken)
        return is_taken and (reached or bool(direct))

    def store(self, array: Array, index: int) -> None:
        """A single number is put into an array before the event of this index."""
        self.stores.setdefault(self._roots.number(array), []).append(index)

    def reach(self, things: Iterable[Any], known: Iterable[Array], index: int, is_taken: bool) -> bool:
        """Something gets hold of things; whether arrays are in them but those that are known to be its operands."""
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
    """Whether what a call makes of its operands cannot be followed; foreign code that gives nothing may change them."""
    return not called.is_single(result) or (result is None and not called.is_known(function))
