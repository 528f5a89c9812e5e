"""The lists of the numbers that are not 0, of which `sparse` makes the products of layer 1."""

from __future__ import annotations

import numpy as np
import pytest

from mlpprof.model import Network

pytest.importorskip("numba")
from numba import njit

from mlpprof.engines import nonzeros
from mlpprof.engines.nonzeros import (
    Lists,
    append_numbers,
    list_by_feature,
    list_by_sample,
    room_by_feature,
    room_by_sample,
)
from mlpprof.engines.panels import plan_of
from mlpprof.engines.tiles import AVX2

FEATURES = 790
"""They are no multiple of the numbers in a register, and the weights of 70 neurons for them have several parts."""


def matrix_of(lists: Lists, rows: int, columns: int) -> np.ndarray:
    """The matrix that the lists describe; a number that is listed twice counts twice."""
    found = np.zeros((rows, columns), lists.values.dtype)
    for l in range(len(lists.starts)):
        for k in range(lists.starts[l], lists.ends[l]):
            found[l % rows, lists.places[2 * k + 1]] += lists.values[2 * k]
    return found


def samples(dtype: type) -> np.ndarray:
    X = np.random.default_rng(0).standard_normal((9, FEATURES)).astype(dtype)
    X[X < 0.5] = 0
    X[1], X[2], X[3, :2] = 0, 1, (np.nan, -0.0)
    return X


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_lists_hold_every_number_that_is_not_0_at_its_place(dtype):
    X, order = samples(dtype), np.array([8, 1, 2, 3, 3, 0])
    plan, m = plan_of(Network((FEATURES, 70, 2)), X.itemsize), 4
    by_sample, by_feature = (room(plan, m, X.dtype) for room in (room_by_sample, room_by_feature))
    for first in (2, 1):  # rooms are used again
        list_by_sample(X, order, first, m, by_sample)
        list_by_feature(by_sample, m, by_feature)
        batch = X[order[first : first + m]]
        assert np.array_equal(matrix_of(by_sample, m, FEATURES), batch, equal_nan=True)
        assert np.array_equal(matrix_of(by_feature, FEATURES, m), batch.T, equal_nan=True)
        for lists in (by_sample, by_feature):
            assert (lists.ends - lists.starts).sum() == np.count_nonzero(batch)


def test_a_processor_that_moves_numbers_one_by_one_lists_the_same(monkeypatch):
    monkeypatch.setattr(nonzeros, "HERE", AVX2)
    X, values = samples(np.float32), np.zeros(2 * FEATURES, np.float32)
    append = njit(lambda X, row, values, at: append_numbers(X, row, 0, 3, 781, values, at))
    end = append(X, 0, values, 5)
    columns = 3 + np.flatnonzero(X[0, 3:781])
    assert end == 5 + len(columns)
    assert np.array_equal(values[10 : 2 * end : 2], X[0, columns])
    assert np.array_equal(values.view(np.uint32)[11 : 2 * end : 2], columns)
