"""The order in which samples are trained on."""

from __future__ import annotations

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlpprof.profile.passes import batches, steps_per_epoch

sizes = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@given(sizes, st.integers(0, 2**32 - 1))
def test_every_batch_has_m_rows_and_no_sample_comes_twice_in_an_epoch(size, seed):
    samples, m = size
    walk = batches(samples, m, seed)
    for _ in range(3):
        epoch = list(islice(walk, samples // m))
        assert all(index.shape == (m,) for index in epoch)
        seen = np.concatenate(epoch)
        assert len(set(seen.tolist())) == len(seen)
        assert set(seen.tolist()) <= set(range(samples))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_where_m_divides_the_samples_every_sample_comes_once_an_epoch(m, steps, seed):
    walk = batches(m * steps, m, seed)
    for _ in range(3):
        epoch = np.concatenate(list(islice(walk, steps)))
        assert sorted(epoch.tolist()) == list(range(m * steps))


@given(sizes, st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_batches(size, seed):
    samples, m = size
    for one, other in islice(zip(batches(samples, m, seed), batches(samples, m, seed), strict=True), 20):
        assert np.array_equal(one, other)


def test_another_seed_and_another_epoch_give_another_order():
    walk = batches(100, 100, 0)
    first, second = next(walk), next(walk)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, next(batches(100, 100, 1)))
    assert not np.array_equal(first, np.arange(100))


def test_one_batch_may_be_all_samples_or_one():
    assert sorted(next(batches(7, 7, 0)).tolist()) == list(range(7))
    assert next(batches(1, 1, 0)).tolist() == [0]
    assert sorted(int(i[0]) for i in islice(batches(5, 1, 0), 5)) == [0, 1, 2, 3, 4]


def test_indices_are_integers_that_take_rows():
    X = np.arange(10)[:, None]
    assert X[next(batches(10, 4, 0))].shape == (4, 1)


def test_steps_an_epoch_count_the_short_last_batch():
    assert steps_per_epoch(60_000, 500) == 120
    assert steps_per_epoch(300, 7) == 43
    assert steps_per_epoch(5, 5) == 1
    assert steps_per_epoch(5, 1) == 5
