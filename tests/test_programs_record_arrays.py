"""Buffers and contents of arrays."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from mlpprof.programs.record.arrays import Roots, content_of, value_of


def test_the_same_values_have_the_same_content_in_every_memory_order():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((50, 30))
    wide = np.zeros((50, 60))
    wide[:, ::2] = a
    same = (a.copy(), np.asfortranarray(a), wide[:, ::2], a.T.copy().T, a.view(np.matrix))
    assert {content_of(x) for x in same} == {content_of(a)}
    changed = a.copy()
    changed[49, 29] = np.nextafter(changed[49, 29], 9)
    different = (changed, a.T, a.astype(np.float32), a.reshape(30, 50), a[::-1])
    assert content_of(a) not in {content_of(x) for x in different}


@pytest.mark.parametrize("row", [0, 1, 777, 1999])
def test_the_content_of_a_large_array_depends_on_every_element(row):
    a = np.random.default_rng(0).standard_normal((2000, 400))
    assert a.nbytes > 4_000_000
    b = np.asfortranarray(a)
    assert content_of(b) == content_of(a)
    for magnitude in 10.0 ** np.arange(0, 20, 4):  # a rounded sum would depend on the order of the elements
        wide = np.hstack((np.ones((2000, 1)), a * magnitude))
        assert content_of(wide[:, 1:]) == content_of(a * magnitude)
    b[row, 3] += 1
    assert content_of(b) != content_of(a)


def test_arrays_of_every_dtype_have_a_content():
    for dtype in ("complex64", "longdouble", "float16", "bool", "U3", "M8[D]", "i2,f4", ">f8"):
        array = np.zeros((2, 3), dtype)
        assert content_of(array) == content_of(array.copy("F"))
    for array in (np.zeros((0, 3)), np.array(3.0), np.array([1, None], object)):
        assert content_of(array) == content_of(array)
    with np.errstate(all="raise"):
        assert content_of(np.full((2000, 400), np.inf) * np.where(np.arange(400) % 2, 1, -1))


def test_a_stacked_row_or_column_is_seen_through():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5, 4))
    ones = np.ones((1, 4))
    stacked = value_of(np.vstack((ones, a)), Roots(lambda: 0), with_trims=True)
    below = value_of(np.vstack((a, ones)), Roots(lambda: 0), with_trims=True)
    left = value_of(np.c_[np.ones(5), a], Roots(lambda: 0), with_trims=True)
    right = value_of(np.c_[a, np.ones(5)], Roots(lambda: 0), with_trims=True)
    assert [value.trims.index(content_of(a)) for value in (stacked, below, left, right)] == [0, 1, 2, 3]
    assert content_of(a) == value_of(np.asfortranarray(np.vstack((ones, a)).T), Roots(lambda: 0), True).trims[0]


def test_buffers_are_distinguished_after_their_memory_is_used_again():
    now = [0]
    roots = Roots(lambda: now[0])
    kept = np.ones(4)
    numbers = [roots.number(kept)]
    for k in range(20):
        now[0] = k
        temporary = np.ones(1000)
        assert roots.number(temporary[3:]) == roots.number(temporary.reshape(10, 100)) == roots.number(temporary)
        numbers.append(roots.number(temporary))
        del temporary
        gc.collect()
        assert roots.died[numbers[-1]] == k
    assert len(set(numbers)) == 21
    assert roots.number(kept[::2]) == numbers[0]
    assert numbers[0] not in roots.died


def test_numbers_are_distinguished_by_type_and_value():
    roots = Roots(lambda: 0)
    contents = [value_of(x, roots).content for x in (1.0, 1, True, np.float32(1), np.float64(1), 2.0)]
    assert len(set(contents)) == 6
    assert value_of(1.0, roots).content == value_of(0.5 * 2, roots).content
    assert not value_of(1.0, roots).is_array
