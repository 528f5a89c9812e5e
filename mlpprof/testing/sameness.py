"""Check that two callables do the same: they return the same, and change their arguments in the same way.

Results that cannot be compared are refused, because a speedup with wrong results is worth nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlpprof.compare.steppers import no_arguments
from mlpprof.errors import UsageError
from mlpprof.testing.differences import CannotCompare, Comparison, kind_of

WAY_OUT = (
    "return numbers or arrays (alone or in tuples, lists, dicts or dataclasses), or give equivalent=f, a function of "
    "both results that returns whether they are the same, or equivalent=False to compare nothing"
)

Equivalent = Callable[[Any, Any], object] | bool | None
"""How results are compared: None by this module, a function by that function, False not at all."""


Arguments = Callable[[], Sequence[Any]] | tuple[Any, ...] | None
"""The arguments of callables: a function that makes them, or a tuple, which is copied for every call."""


@dataclass(frozen=True)
class _Call:
    """The result of a call, and its arguments after it; both are copies, because the next call may change them.

    uncopied: the reason why they could not be copied, or "".
    """

    result: Any
    arguments: tuple[Any, ...]
    uncopied: str = ""


def maker_of(args: Arguments) -> Callable[[], Sequence[Any]]:
    """The function that makes the arguments of a call."""
    if args is None:
        return no_arguments
    if isinstance(args, tuple):
        return partial(copy.deepcopy, args)
    if not callable(args):
        raise UsageError(
            f"args is {args!r:.80}; expected a tuple of arguments, such as (x,), or a function that returns one"
        )
    return args


def make_arguments(args: Callable[[], Sequence[Any]]) -> tuple[Any, ...]:
    """The arguments of one call, which args() returns; raises UsageError unless they are a tuple or a list."""
    made = args()
    if not isinstance(made, tuple | list):
        raise UsageError(
            f"args() returned {kind_of(made)}; expected a tuple of arguments, such as (x,) for a function of one"
        )
    return tuple(made)


def require_same(
    new: Callable[..., Any],
    over: Callable[..., Any],
    args: Callable[[], Sequence[Any]],
    equivalent: Equivalent = None,
) -> None:
    """Raise AssertionError if the two do not compute the same, and UsageError if they cannot be compared.

    Each is called with its own copy of what args() returns. equivalent: a function of both results replaces the
    comparison of results and arguments; False skips it, calls included.
    """
    if equivalent is False:
        return
    if equivalent is not None and not callable(equivalent):
        raise UsageError(f"equivalent is {equivalent!r}; expected a function of both results, or False")
    before = make_arguments(args)
    theirs, ours = _called(over, before), _called(new, before)
    if equivalent is not None:
        if not equivalent(ours.result, theirs.result):
            name = getattr(equivalent, "__name__", "equivalent")
            raise AssertionError(f"the two callables compute different results: {name}(new's, old's) is not true")
        return
    try:
        _compare(ours, theirs, before)
    except CannotCompare as found:
        raise UsageError(f"the results of the two callables cannot be compared: {found}; {WAY_OUT}") from None
    except RecursionError:
        raise UsageError(f"the results of the two callables are nested too deeply to be compared; {WAY_OUT}") from None


def _called(function: Callable[..., Any], arguments: tuple[Any, ...]) -> _Call:
    try:
        own = copy.deepcopy(arguments)
    except Exception as error:
        raise UsageError(
            f"the arguments cannot be copied, but each callable needs its own copy ({error}); make this argument "
            "inside the callables, or give equivalent=False to compare nothing"
        ) from error
    result = function(*own)
    try:
        return _Call(*copy.deepcopy((result, own)))
    except Exception as error:  # noqa: BLE001 - the reason is shown if no difference is found
        return _Call(result, own, str(error) or type(error).__name__)


def _compare(ours: _Call, theirs: _Call, before: tuple[Any, ...]) -> None:
    different = Comparison().difference(ours.result, theirs.result, "result")
    if different:
        raise AssertionError(f"the two callables compute different results: {different}")
    for i, started in enumerate(before):
        place = f"args[{i}]"
        different = Comparison().difference(ours.arguments[i], theirs.arguments[i], place, started)
        if different:
            raise AssertionError(
                f"the two callables leave different values in their arguments: {different}; if they are not used "
                "after the call, give equivalent=f, a function of both results that returns whether they are the same"
            )
    for call in (theirs, ours):
        if call.uncopied:
            raise CannotCompare(f"a result cannot be copied ({call.uncopied}), and the next call may change it")
    exact = Comparison(exact=True)
    if theirs.result is None and not any(
        exact.difference(after, started, "") for after, started in zip(theirs.arguments, before, strict=True)
    ):
        raise CannotCompare("both return None and change none of their arguments, so there is nothing to compare")
