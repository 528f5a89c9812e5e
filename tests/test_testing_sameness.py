"""What counts as the same: results of every kind and changed arguments, the place that differs, and what is refused."""

from __future__ import annotations

import threading
from collections import namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from mlpprof.errors import UsageError
from mlpprof.testing.sameness import require_same

A = np.arange(6.0).reshape(2, 3)
Pair = namedtuple("Pair", ["W", "b"])


@dataclass
class Gradients:
    dW: np.ndarray
    name: str = "layer"


class Layer:
    def __init__(self, W: Any) -> None:
        self.W = W
        self.itself = self


class Slotted:
    __slots__ = ("W",)

    def __init__(self, W: Any) -> None:
        self.W = W


def no_arguments() -> tuple[()]:
    return ()


def require_same_results(new: Any, old: Any) -> None:
    require_same(lambda: new, lambda: old, no_arguments)


@pytest.mark.parametrize(
    ("new", "old", "found"),
    [
        ((A, {"dW": A}), (A, {"dW": 2 * A}), r"result\[1\]\['dW'\]\[1, 2\] is 5.0 instead of 10.0, 5 apart \(50 %\)"),
        ([A], [A.T], r"result\[0\] has the shape \(2, 3\) instead of \(3, 2\)"),
        (np.ones(3), 1.0, r"result has the shape \(3,\) instead of \(\)"),
        (Gradients(A), Gradients(A + 1), r"result.dW\[0, 0\] is 0.0 instead of 1.0.*6 of 6 elements differ"),
        (Gradients(A, "a"), Gradients(A, "b"), "result.name is 'a' instead of 'b'"),
        (Pair(A, 1), Pair(A, 2), "result.b is 1 instead of 2"),
        (Layer(A), Layer(A + 1), r"result.W\[0, 0\]"),
        (Slotted(A), Slotted(A + 1), r"result.W\[0, 0\]"),
        (Layer(1), Slotted(1), "result is a Layer instead of a Slotted"),
        ({1, 2}, {1, 3}, "2 instead of 3"),
        ({"a"}, {"b"}, "has 'a', which that of the other lacks and lacks 'b'"),
        ({"a": 1}, {"a": 1, "b": 2}, "result lacks the key 'b'"),
        ("a", "b", "result is 'a' instead of 'b'"),
        (None, 1, "result is None instead of an int"),
        (10_000, 10_001, "10000 instead of 10001"),
        (10**30, 10**30 + 1, "result is 1000"),
        (Fraction(1, 3), Fraction(1, 2), r"Fraction\(1, 3\) instead of Fraction\(1, 2\)"),
        (Decimal(1), Decimal(2), r"Decimal\('1'\) instead"),
        ([np.nan], [1.0], r"result\[0\] is nan instead of 1.0"),
        (np.array([np.inf]), np.array([1.0]), r"result\[0\] is inf instead of 1.0"),
        (np.array(["a"]), np.array(["b"]), "'a' instead of 'b'"),
        (np.array([A, None], object), np.array([A + 1, None], object), r"result\[0\]\[0, 0\]"),
        (np.zeros(1, [("x", float)]), np.ones(1, [("x", float)]), r"result\['x'\]\[0\]"),
        (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[0, 0]), "result.mask"),
        (np.random.default_rng(0), np.random.default_rng(1), "state"),
    ],
)
def test_results_that_differ_are_shown_with_the_place_and_by_how_much(new, old, found):
    with pytest.raises(AssertionError, match=rf"compute different results: .*{found}"):
        require_same_results(new, old)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ((A * (1 + 1e-9), [None, "x", {"b": 1.0}]), (A, [None, "x", {"b": 1.0 + 1e-9}])),
        ([1.0, 2.0], np.array([1.0, 2.0])),
        ({"W": np.array([np.nan, np.inf])}, {"W": np.array([np.nan, np.inf])}),
        (np.array([1.0, 1e-17]), np.array([1.0, 0.0])),
        (np.float16(1.0), np.float16(1.001)),
        (Gradients(A), Gradients(A.copy())),
        (Layer(A), Layer(A.copy())),
        ({0.1 + 0.2}, {0.3}),
        (np.random.default_rng(0), np.random.default_rng(0)),
        (np.zeros(0), np.zeros(0)),
    ],
)
def test_what_is_the_same_but_for_rounding_is_accepted(new, old):
    require_same_results(new, old)


@pytest.mark.parametrize(
    ("new", "old", "found"),
    [
        (lambda: (i for i in range(3)), lambda: (i for i in range(3)), "result is a generator, .* only once"),
        (lambda: [map(abs, [1])], lambda: [map(abs, [1])], r"result\[0\] is a map"),
        (threading.Lock, threading.Lock, "result is a lock, which cannot be compared"),
        (lambda: lambda: 1, lambda: lambda: 2, "result is a function"),
        (lambda: None, lambda: None, "both return None and change none of their arguments"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_way_out(new, old, found):
    with pytest.raises(UsageError, match=rf"cannot be compared: {found}.*equivalent=False"):
        require_same(new, old, no_arguments)


def update(rate: float) -> Any:
    def function(W: np.ndarray, g: np.ndarray) -> None:
        W -= rate * g

    return function


def parameters() -> tuple[np.ndarray, np.ndarray]:
    return np.ones((2, 3)), np.ones(3)


def test_arguments_that_are_changed_in_place_are_part_of_the_result():
    require_same(update(0.1), update(0.1), parameters)
    with pytest.raises(AssertionError, match=r"arguments: args\[0\]\[0, 0\] is 0.8 instead of 0.9, 0.1 apart"):
        require_same(update(0.2), update(0.1), parameters)


def test_of_an_argument_the_change_is_compared_however_small_it_is_against_the_values():
    require_same(update(1e-9 * (1 + 1e-7)), update(1e-9), parameters)
    with pytest.raises(AssertionError, match=r"args\[0\]"):
        require_same(update(2e-9), update(1e-9), parameters)


def test_a_buffer_that_both_callables_write_to_does_not_hide_a_difference():
    shared = np.zeros(2)

    def filled(value: float) -> Any:
        def function() -> np.ndarray:
            shared[:] = value
            return shared

        return function

    with pytest.raises(AssertionError, match="is 1.0 instead of 2.0"):
        require_same(filled(1.0), filled(2.0), no_arguments)


def test_a_comparison_that_is_handed_in_decides_or_switches_it_off():
    calls = []

    def close_enough(new: int, old: int) -> bool:
        calls.append((new, old))
        return abs(new - old) <= 1

    require_same(lambda: 1, lambda: 2, no_arguments, close_enough)
    assert calls == [(1, 2)]
    with pytest.raises(AssertionError, match="close_enough"):
        require_same(lambda: 1, lambda: 3, no_arguments, close_enough)
    require_same(lambda: 1, lambda: 3, no_arguments, equivalent=False)
    with pytest.raises(UsageError, match="expected a function of both results, or False"):
        require_same(lambda: 1, lambda: 1, no_arguments, equivalent=True)


def test_arguments_that_cannot_be_used_are_explained():
    with pytest.raises(UsageError, match=r"args\(\) returned an int; expected a tuple"):
        require_same(abs, abs, lambda: 5000)  # type: ignore[arg-type, return-value]
    with pytest.raises(UsageError, match="arguments cannot be copied"):
        require_same(sum, sum, lambda: ((i for i in range(3)),))
