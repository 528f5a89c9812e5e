"""The study of shapes: what a call computes, the best turn, the tables and the figure."""

from __future__ import annotations

import numpy as np
import pytest

from reports.studies.shapes import Measured, Row, shapes_figure, shapes_text
from reports.studies.shapes_worker import MOST_BYTES, MOST_LAYERS, PRODUCTS, InPlace, best_s, factors, layers_of


def test_a_call_computes_the_products_that_its_rate_counts():
    made = []

    def multiply(a, b, out):
        made.append((a.shape, b.shape))
        return np.matmul(a, b, out=out)

    for kind, shapes in {"back": ((64, 8), (8, 8)), "gradient": ((8, 64), (64, 8))}.items():
        made.clear()
        InPlace("", multiply).product(kind, 8, 64)()
        assert made == [shapes] * layers_of(kind, 8, 64)


@pytest.mark.parametrize("kind", PRODUCTS)
def test_a_call_has_many_small_products_or_one_large_product_and_its_factors_stay_in_the_cache(kind):
    assert 1 < layers_of(kind, 8, 16) <= MOST_LAYERS
    assert layers_of(kind, 1024, 4096) == 1
    _, others = factors(kind, 16, 1024)
    assert sum(one.nbytes for one in others) <= MOST_BYTES


def test_numbers_stay_finite_over_all_layers_of_a_call():
    x, others = factors("forward", 8, 16)
    for W in others:
        x = x @ W.T
    assert 1e-9 < np.abs(x).max() < 1e9


def test_the_best_turn_of_a_library_counts():
    now = [0.0]
    turns = iter([5.0, 5.0, 5.0, 4.0, 3.0, 6.0])  # two calls to warm up, one to look, three rounds

    def call() -> None:
        now[0] += next(turns)

    assert best_s({"a": call}, 3, lambda: now[0]) == {"a": 3.0}


def measured() -> Measured:
    rows = [
        Row(kind, n, m, {"NumPy's BLAS": 40.0 + n / 8, "blocked": 110.0 if n == 8 else 20.0})
        for kind in PRODUCTS
        for n in (8, 128)
        for m in (16, 256)
    ]
    return Measured(100.0, tuple(rows), {"NumPy's BLAS": "NumPy 2.4", "blocked": "numba 0.6"}, {"JAX": "no module"})


def test_the_text_has_shares_the_fastest_library_and_who_took_no_part():
    text = shapes_text(measured())
    assert "| blocked | 110 % | 20 % | 6 of 12 |" in text
    assert "| 128 | 56 / 56 / 56 | 56 / 56 / 56 |" in text
    assert "JAX took no part: no module" in text


def test_the_figure_has_a_field_for_each_library_and_product():
    fields = shapes_figure(measured()).axes
    assert len(fields) == 2 * len(PRODUCTS)
    assert {text.get_text() for text in fields[1].texts} == {"110", "20"}
