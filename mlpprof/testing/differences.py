"""A comparison of two values, part by part: it finds the first place where they differ, and by how much.

Arrays and numbers are compared within a tolerance, and NaN equals NaN. Lists, tuples, dicts, sets, dataclasses and
objects are the same if their parts are the same. Everything else is compared with ==.
"""

from __future__ import annotations

import dataclasses
import types
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

RELATIVE_TOLERANCE = 1e-4
ROUNDING = 16
"""Differences of up to this many units of precision, at the array's largest value, count as rounding.

After a cancellation, values near 0 consist of rounding errors alone.
"""

_MISSING: Any = object()
_ATOMS = (str, bytes, bytearray, range, slice, type(None), type(Ellipsis))
_BY_IDENTITY = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, np.ufunc)
_CONSTRUCTORS = ("__newobj__", "_reconstructor")


class CannotCompare(Exception):
    """Two values cannot be compared, because there is no way to see whether they are the same."""


class Comparison:
    """One comparison of two values; `difference` returns the first place that differs, or ''."""

    def __init__(self, exact: bool = False) -> None:
        self._exact = exact
        # Holds the values too: the identity of one that is gone could come back as that of another.
        self._seen: dict[tuple[int, int], tuple[Any, Any]] = {}

    def difference(self, ours: Any, theirs: Any, place: str, before: Any = _MISSING) -> str:
        """How ours differs from theirs; before: the value of both before the call, if the call may have changed it."""
        if (id(ours), id(theirs)) in self._seen and not isinstance(ours, _ATOMS):
            return ""
        self._seen[id(ours), id(theirs)] = (ours, theirs)
        for value in (ours, theirs):
            if isinstance(value, Iterator | AsyncIterator | Awaitable):
                raise CannotCompare(f"{place} is {kind_of(value)}, which can be read only once")
        if isinstance(ours, np.ma.MaskedArray) and isinstance(theirs, np.ma.MaskedArray):
            masks = (np.ma.getmaskarray(ours), np.ma.getmaskarray(theirs))
            return self._arrays(*masks, f"{place}.mask") or self._arrays(ours.filled(0), theirs.filled(0), place)
        if _is_array(ours) or _is_array(theirs):
            arrays = _as_array(ours), _as_array(theirs)
            if arrays[0] is None or arrays[1] is None:
                return _other_kind(ours, theirs, place)
            return self._arrays(arrays[0], arrays[1], place, before)
        if isinstance(ours, _ATOMS) or isinstance(theirs, _ATOMS):
            if type(ours) is not type(theirs) and not (isinstance(ours, str) and isinstance(theirs, str)):
                return _other_kind(ours, theirs, place)
            return "" if ours == theirs else f"{place} is {_shown(ours)} instead of {_shown(theirs)}"
        if isinstance(ours, _BY_IDENTITY) or isinstance(theirs, _BY_IDENTITY):
            if ours is theirs or ours == theirs:
                return ""
            raise CannotCompare(f"{place} is {kind_of(theirs)}, which cannot be compared")
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            return self._mappings(ours, theirs, place, before)
        if isinstance(ours, Set) and isinstance(theirs, Set):
            return self._sets(ours, theirs, place)
        if isinstance(ours, list | tuple | deque) and isinstance(theirs, list | tuple | deque):
            return self._sequences(ours, theirs, place, before)
        if type(ours).__name__ != type(theirs).__name__:
            return _other_kind(ours, theirs, place)
        return self._instances(ours, theirs, place, before)

    def _arrays(self, ours: NDArray[Any], theirs: NDArray[Any], place: str, before: Any = _MISSING) -> str:
        if ours.shape != theirs.shape:
            return f"{place} has the shape {ours.shape} instead of {theirs.shape}"
        if ours.dtype.names or theirs.dtype.names:
            if ours.dtype.names != theirs.dtype.names:
                return f"{place} has the fields {ours.dtype.names} instead of {theirs.dtype.names}"
            names = ours.dtype.names or ()
            parts = (
                self._arrays(ours[name], theirs[name], f"{place}[{name!r}]", _item(before, name)) for name in names
            )
            return next(filter(None, parts), "")
        if ours.dtype.kind == "O" or theirs.dtype.kind == "O":
            return self._objects(ours, theirs, place, before)
        numeric = [array.dtype.kind in "biufc" for array in (ours, theirs)]
        if not all(numeric) and (any(numeric) or ours.dtype.kind != theirs.dtype.kind):
            return f"{place} holds {ours.dtype} instead of {theirs.dtype}"
        if not all(numeric):
            same = (ours == theirs) | ((ours != ours) & (theirs != theirs))  # NaT is not itself
        else:
            same = self._same_numbers(ours, theirs, before)
        return "" if np.all(same) else _furthest(ours, theirs, np.asarray(same), place)

    def _same_numbers(self, ours: NDArray[Any], theirs: NDArray[Any], before: Any) -> NDArray[np.bool_]:
        """Where two arrays agree. If `before` is given, their changes are compared, which may be much smaller."""
        same: NDArray[np.bool_] = np.asarray(ours == theirs)
        if self._exact or (ours.dtype.kind in "biu" and theirs.dtype.kind in "biu"):
            return np.asarray(same | ((ours != ours) & (theirs != theirs)))
        epsilon = max(np.finfo(array.dtype).eps for array in (ours, theirs) if array.dtype.kind in "fc")
        wide = np.result_type(ours, theirs, np.float64)
        a, b = ours.astype(wide), theirs.astype(wide)
        start = _as_array(before) if _is_array(before) else None
        if start is None or start.shape != b.shape or start.dtype.kind not in "biufc":
            start = np.zeros_like(b)
        finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(start)
        a, b, start = (np.where(finite, array, 0) for array in (a, b, start))
        largest = max((float(np.abs(array).max(initial=0)) for array in (b, start)), default=0.0)
        allowed = max(RELATIVE_TOLERANCE, 4 * epsilon) * np.abs(b - start) + ROUNDING * epsilon * largest
        close: NDArray[np.bool_] = finite & (np.abs(a - b) <= allowed)
        return np.asarray(same | close | (np.isnan(ours) & np.isnan(theirs)))

    def _objects(self, ours: NDArray[Any], theirs: NDArray[Any], place: str, before: Any) -> str:
        for index in np.ndindex(ours.shape):
            a, b = ours[index], theirs[index]
            where = f"{place}[{', '.join(map(str, index))}]" if index else place
            if isinstance(a, int) and isinstance(b, int):  # larger than an array of integers can hold
                different = "" if a == b else f"{where} is {_shown(a)} instead of {_shown(b)}"
            elif isinstance(a, int | float) and isinstance(b, int | float):
                different = self._arrays(np.array(float(a)), np.array(float(b)), where)
            else:
                different = self.difference(a, b, where, _item(before, index))
            if different:
                return different
        return ""

    def _mappings(self, ours: Mapping[Any, Any], theirs: Mapping[Any, Any], place: str, before: Any) -> str:
        for key in theirs:
            if key not in ours:
                return f"{place} lacks the key {key!r}"
        for key in ours:
            if key not in theirs:
                return f"{place} has the key {key!r}, which that of the other lacks"
        return self._parts([(f"{place}[{key!r}]", ours[key], theirs[key], _item(before, key)) for key in theirs])

    def _sets(self, ours: Set[Any], theirs: Set[Any], place: str) -> str:
        if ours == theirs:
            return ""
        numbers = [sorted(part) for part in (ours, theirs) if all(isinstance(x, int | float) for x in part)]
        if len(numbers) == 2 and len(ours) == len(theirs):
            return self._arrays(np.array(numbers[0]), np.array(numbers[1]), f"sorted({place})")
        extra, lacking = (sorted(map(repr, part))[:3] for part in (ours - theirs, theirs - ours))
        found = [f"has {', '.join(extra)}, which that of the other lacks"] if extra else []
        found += [f"lacks {', '.join(lacking)}"] if lacking else []
        return f"{place} {' and '.join(found)}"

    def _sequences(
        self, ours: Sequence[Any] | deque[Any], theirs: Sequence[Any] | deque[Any], place: str, before: Any
    ) -> str:
        if len(ours) != len(theirs):
            return f"{place} has the length {len(ours)} instead of {len(theirs)}"
        fields = getattr(theirs, "_fields", None)
        names = [f"[{i}]" for i in range(len(theirs))] if fields is None else [f".{field}" for field in fields]
        return self._parts(
            [
                (f"{place}{name}", a, b, _item(before, i))
                for i, (name, a, b) in enumerate(zip(names, ours, theirs, strict=True))
            ]
        )

    def _instances(self, ours: Any, theirs: Any, place: str, before: Any) -> str:
        has_equality = any("__eq__" in vars(cls) for cls in type(theirs).__mro__[:-1])
        if has_equality and _are_equal(ours, theirs):
            return ""
        states = [_state(value) for value in (ours, theirs)]
        if states[0] is None or states[1] is None:
            if has_equality:
                return f"{place} is {_shown(ours)} instead of {_shown(theirs)}"
            raise CannotCompare(f"{place} is {kind_of(theirs)}, which cannot be compared")
        if has_equality and all(name.startswith("<") for state in states for name in state or ()):
            return f"{place} is {_shown(ours)} instead of {_shown(theirs)}"
        a, b = states[0], states[1]
        if a.keys() != b.keys():
            names = ", ".join(sorted(map(str, a.keys() ^ b.keys())))
            return f"{place} differs in which attributes it has: {names}"
        start = _state(before) if type(before) is type(theirs) else None
        return self._parts([(f"{place}.{name}", a[name], b[name], _item(start, name)) for name in b])

    def _parts(self, parts: list[tuple[str, Any, Any, Any]]) -> str:
        return next(filter(None, (self.difference(a, b, place, start) for place, a, b, start in parts)), "")


def _is_array(value: Any) -> bool:
    """Whether a value is compared as an array: a number, an array, or an object that can become one."""
    return isinstance(value, int | float | complex) or hasattr(type(value), "__array__") or _is_sparse(value)


def _is_sparse(value: Any) -> bool:
    """Whether a value is a sparse matrix; these may store the same values in different ways."""
    return hasattr(type(value), "toarray")


def _as_array(value: Any) -> NDArray[Any] | None:
    """The value as an array, also for a list of numbers; None if it cannot become one."""
    if not (_is_array(value) or isinstance(value, list | tuple)):
        return None
    try:
        return np.asarray(value.toarray() if _is_sparse(value) else value)
    except (ValueError, TypeError):
        return None


def _are_equal(ours: Any, theirs: Any) -> bool:
    """Whether ours == theirs; False if the class cannot say, for instance because it contains arrays."""
    try:
        return bool(ours == theirs)
    except Exception:  # noqa: BLE001 - a class may raise anything
        return False


def _state(value: Any) -> dict[str, Any] | None:
    """The parts of an object by name, as the module copy sees them; None if they are not visible."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.compare}
    try:
        reduced = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - a class may raise anything
        return None
    if isinstance(reduced, str):
        return None
    make, made_of, held, *items = (*reduced, None, None, None)[:5]
    parts = made_of[1:] if make.__module__ == "copyreg" and make.__name__ in _CONSTRUCTORS else made_of
    if any(part is value for part in parts):
        return None
    state = {f"<made of {i}>": part for i, part in enumerate(parts)}
    held_parts = held if isinstance(held, tuple) and len(held) == 2 else (held,)
    if all(part is None or isinstance(part, dict) for part in held_parts):
        for part in held_parts:
            state.update(part or {})
    else:
        state["<state>"] = held
    for name, part in zip(("<items>", "<entries>"), items, strict=True):
        if part is not None:
            state[name] = list(part)
    return state


def _item(container: Any, key: Any) -> Any:
    """A part of the value before the call; _MISSING if it was not there."""
    try:
        return container[key]
    except (LookupError, TypeError, ValueError):
        return _MISSING


def _furthest(ours: NDArray[Any], theirs: NDArray[Any], same: NDArray[np.bool_], place: str) -> str:
    """The element that differs most, and by how much: 'result[1][0] is 0.5 instead of 2.5, 2 apart (80 %)'."""
    wrong = np.argwhere(~same)
    if ours.dtype.kind in "biufc":
        with np.errstate(all="ignore"):
            off = np.abs(ours.astype(np.complex128) - theirs.astype(np.complex128))[~same]
        index = tuple(map(int, wrong[int(np.argmax(np.where(np.isfinite(off), off, np.inf)))]))
    else:
        index = tuple(map(int, wrong[0]))
    a, b = ours[index].item(), theirs[index].item()
    text = f"{place}{list(index) if index else ''} is {_shown(a)} instead of {_shown(b)}"
    if isinstance(b, int | float | complex) and not isinstance(b, bool) and np.isfinite(a) and np.isfinite(b):
        text += f", {abs(a - b):.3g} apart" + (f" ({100 * abs(a - b) / abs(b):.3g} %)" if b else "")
    return text if same.size == 1 else f"{text}; {len(wrong):,} of {same.size:,} elements differ"


def _other_kind(ours: Any, theirs: Any, place: str) -> str:
    return f"{place} is {kind_of(ours)} instead of {kind_of(theirs)}"


def kind_of(value: Any) -> str:
    """The type of a value with its article: 'a generator', 'an int', 'None'."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
