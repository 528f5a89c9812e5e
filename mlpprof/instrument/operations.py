"""Operations of rewritten code as they run: each is performed as Python would, and an observer gets its operands.

The values are bitwise those of the plain file. Do not time such code: NumPy cannot reuse a temporary whose operands a
hook holds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mlpprof.instrument.rewriting import CALL, OPERATE, SLICE, STORE, Site


class Observer(Protocol):
    """What gets the operations. number: the number of the operation's site. function: an operator, or what is called.

    `operator.setitem` stands for ``target[key] = value``, with the operands target, key, value.
    """

    def is_observing(self) -> bool:
        """Whether it wants the operation that comes next."""

    def before(
        self,
        number: int,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        is_call: bool,
    ) -> Any:
        """An operation begins; the answer is handed to `after_call` and `after`."""

    def after_call(self, begun: Any) -> None:
        """A call has ended, with a result or with an exception."""

    def after(
        self,
        begun: Any,
        number: int,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        result: Any,
    ) -> None:
        """An operation has ended with a result; after `after_call`, if it is a call."""


def as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself."""
    return function


class Operations:
    """Performs operations for one observer; `hooks` are the names that rewritten code needs.

    sites: those of the rewritten code. opened: what is called in place of a function.
    """

    def __init__(
        self,
        sites: list[Site],
        observer: Observer,
        opened: Callable[[Callable[..., Any]], Callable[..., Any]] = as_it_is,
    ) -> None:
        self._sites, self._observer, self._opened = sites, observer, opened
        self.hooks: dict[str, Any] = {OPERATE: self._operate, CALL: self._call, STORE: self._store, SLICE: slice}

    def _operate(self, number: int, /, *operands: Any) -> Any:
        function, observer = self._sites[number].function, self._observer
        assert function is not None
        is_observed = observer.is_observing()
        begun = observer.before(number, function, operands, {}, False) if is_observed else None
        # A second reference: NumPy would else write the result into an operand that nothing else seems to hold.
        held = [*operands]
        result = function(*held)
        if is_observed:
            observer.after(begun, number, function, operands, {}, result)
        return result

    def _store(self, number: int, value: Any, target: Any, key: Any, /) -> None:
        """``target[key] = value``, in Python's order of evaluation."""
        observer, operands = self._observer, (target, key, value)
        is_observed = observer.is_observing()
        begun = observer.before(number, operator.setitem, operands, {}, False) if is_observed else None
        target[key] = value
        if is_observed:
            observer.after(begun, number, operator.setitem, operands, {}, None)

    def _call(self, number: int, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        observer = self._observer
        if not observer.is_observing():
            return self._opened(function)(*arguments, **options)
        begun = observer.before(number, function, arguments, options, True)
        try:
            result = self._opened(function)(*arguments, **options)
        finally:
            observer.after_call(begun)
        observer.after(begun, number, function, arguments, options, result)
        return result
