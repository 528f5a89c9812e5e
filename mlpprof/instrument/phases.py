"""Clocks on the five phases: the methods of one instance are shadowed by timed ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlpprof.errors import VariantError
from mlpprof.model import PHASES, Variant

Clock = Callable[[], float]


class PhaseClock:
    """Seconds that one instance spends in each phase, summed until `take` reads and clears them.

    clock: seconds, monotonic. Raises VariantError if the instance cannot be given methods of its own (__slots__).
    """

    def __init__(self, instance: Variant, clock: Clock) -> None:
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._called = dict.fromkeys(PHASES, False)
        for name in PHASES:
            shadow(instance, name, self._timed(name, getattr(instance, name), clock))

    def _timed(self, name: str, method: Callable[..., Any], clock: Clock) -> Callable[..., Any]:
        seconds, called = self._seconds, self._called

        def timed(*arguments: Any) -> Any:
            start = clock()
            result = method(*arguments)
            seconds[name] += clock() - start
            called[name] = True
            return result

        return timed

    @property
    def complete(self) -> bool:
        """Whether every phase has been called since the start: else the step fuses phases."""
        return all(self._called.values())

    def take(self) -> dict[str, float]:
        """Seconds by phase since the last take."""
        taken = dict(self._seconds)
        for name in PHASES:
            self._seconds[name] = 0.0
        return taken


def shadow(instance: Variant, name: str, function: Callable[..., Any]) -> None:
    """Let `function` answer for the method `name` of this instance alone."""
    try:
        setattr(instance, name, function)
    except AttributeError as error:
        raise VariantError(
            f"class {type(instance).__name__} forbids new attributes (__slots__), so its phases cannot be clocked; "
            "remove __slots__ or add '__dict__' to it"
        ) from error
