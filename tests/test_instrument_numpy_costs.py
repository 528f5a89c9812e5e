"""The effects of operations, against counts made by hand."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest
from scipy.linalg.blas import sgemm
from scipy.special import expit

from mlpprof.instrument.numpy_costs import NOTHING, Effect, effect_of
from mlpprof.model import ACTIVATIONS

A = np.arange(6.0, dtype=np.float32).reshape(2, 3)
B = np.arange(12.0, dtype=np.float32).reshape(3, 4)
X = np.arange(20.0).reshape(5, 4)
a2, b3 = A[:, 0].copy(), A[0].copy()


def effect(function, *operands, **options) -> Effect:
    found = effect_of(function, operands, options, function(*operands, **options))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("function", "operands", "kind", "shape", "flop", "moved", "allocated", "copied"),
    [
        # products: 2 p k q; both factors read, the result written
        (operator.matmul, (A, B), "product", (2, 3, 4), 48, 24 + 48 + 32, 32, 0),
        (np.dot, (A, B), "product", (2, 3, 4), 48, 104, 32, 0),
        (A.dot, (B,), "product", (2, 3, 4), 48, 104, 32, 0),
        (operator.matmul, (A, b3), "product", (2, 3, 1), 12, 24 + 12 + 8, 8, 0),
        (operator.matmul, (a2, A), "product", (1, 2, 3), 12, 8 + 24 + 12, 12, 0),
        (np.vdot, (A, A), "product", (1, 6, 1), 12, 24 + 24 + 4, 0, 0),
        (np.einsum, ("ij,jk->ik", A, B), "product", (2, 3, 4), 48, 104, 32, 0),
        (np.einsum, ("...ij,ik->...jk", A, A), "product", (3, 2, 3), 36, 24 + 24 + 36, 36, 0),
        (np.einsum, ("...i,ij", A, B), "product", (2, 3, 4), 48, 104, 32, 0),
        (np.einsum, ("...j,...j->...", A, A[:1]), "product", (2, 3, 1), 12, 24 + 12 + 8, 8, 0),
        (np.outer, (a2, b3), "arithmetic", (2, 3), 6, 8 + 12 + 24, 24, 0),
        # elementwise: 1 an element; a broadcast operand is as small as it is stored
        (operator.add, (A, A), "arithmetic", (2, 3), 6, 72, 24, 0),
        (operator.add, (A, A[:, :1]), "arithmetic", (2, 3), 6, 24 + 8 + 24, 24, 0),
        (operator.mul, (A, np.broadcast_to(b3, (2, 3))), "arithmetic", (2, 3), 6, 24 + 12 + 24, 24, 0),
        (operator.sub, (1, A), "arithmetic", (2, 3), 6, 48, 24, 0),
        (operator.iadd, (A.copy(), A), "arithmetic", (2, 3), 6, 72, 0, 0),
        (operator.pow, (A, 2), "arithmetic", (2, 3), 6, 48, 24, 0),
        (operator.pow, (A, 2.5), "evaluation", (2, 3), 6, 48, 24, 0),
        (operator.gt, (A, 0), "arithmetic", (2, 3), 6, 24 + 6, 6, 0),
        (np.maximum, (A, 0), "arithmetic", (2, 3), 6, 48, 24, 0),
        (abs, (A,), "arithmetic", (2, 3), 6, 48, 24, 0),
        (expit, (A,), "evaluation", (2, 3), 6, 48, 24, 0),
        (np.tanh, (A,), "evaluation", (2, 3), 6, 48, 24, 0),
        (operator.add, (np.arange(3), 1), "arithmetic", (3,), 0, 48, 24, 0),
        # reductions: 1 an element that goes in
        (A.sum, (1,), "arithmetic", (2, 3), 6, 24 + 8, 8, 0),
        (np.add.reduce, (A,), "arithmetic", (2, 3), 6, 24 + 12, 12, 0),
        (np.mean, (A,), "arithmetic", (2, 3), 7, 24 + 4, 0, 0),
        (A.max, (0,), "arithmetic", (2, 3), 6, 24 + 12, 12, 0),
        # moves: no arithmetic, read and written
        (operator.getitem, (X, np.array([3, 1])), "copy", (2, 4), 0, 64 + 64 + 16, 64, 64),
        (A.copy, (), "copy", (2, 3), 0, 48, 24, 24),
        (A.astype, (np.float64,), "copy", (2, 3), 0, 96, 48, 48),
        (np.ascontiguousarray, (A.T,), "copy", (3, 2), 0, 48, 24, 24),
        (np.vstack, ((A, A),), "copy", (4, 3), 0, 96, 48, 48),
        (operator.getitem, (np.c_, (A, A)), "copy", (2, 6), 0, 96, 48, 48),
        # makers
        (np.ones, ((2, 3),), "fill", (2, 3), 0, 48, 48, 0),
        (np.zeros_like, (A,), "fill", (2, 3), 0, 24, 24, 0),
        (np.empty, (6,), "fill", (6,), 0, 0, 48, 0),
    ],
)
def test_an_operation_does_what_was_counted_by_hand(function, operands, kind, shape, flop, moved, allocated, copied):
    found = effect(function, *operands)
    assert (found.kind, found.shape, found.flop) == (kind, shape, flop)
    assert (found.bytes_moved, found.bytes_allocated, found.bytes_copied) == (moved, allocated, copied)


@pytest.mark.parametrize(
    ("function", "operands"),
    [
        (operator.getitem, (X, slice(1, 3))),
        (operator.getitem, ([A, B], 1)),
        (operator.getitem, (A, (0, 1))),
        (A.reshape, (3, 2)),
        (A.transpose, ()),
        (np.asarray, (A,)),
        (X.astype, (np.float64, "K", "unsafe", True, False)),
        (operator.add, (3, 4)),
        (operator.mul, ([A], 2)),
        (operator.add, ([None], [A])),
        (zip, ([A], [B])),
        (float, (np.float64(1.0),)),
        (len, (A,)),
        ([].append, (A,)),
        (operator.lt, (0.1, 0.2)),
    ],
)
def test_views_and_bookkeeping_do_nothing(function, operands):
    assert effect(function, *operands) is NOTHING


def test_an_out_argument_allocates_nothing():
    out = np.empty_like(A)
    assert effect(np.add, A, A, out=out).bytes_allocated == 0
    assert effect(np.add, A, A, out).bytes_moved == 72
    assert effect(np.matmul, A, B, out=np.empty((2, 4), np.float32)).bytes_allocated == 0


def test_a_slice_assignment_of_an_array_is_a_copy_and_of_a_number_a_fill():
    target = np.zeros((4, 3), np.float32)
    copied = effect_of(operator.setitem, (target, slice(0, 2), A), {}, None)
    assert copied is not None
    assert (copied.kind, copied.bytes_moved, copied.bytes_copied, copied.flop) == ("copy", 48, 24, 0)
    filled = effect_of(operator.setitem, (target, slice(0, 2), 1.0), {}, None)
    assert filled is not None
    assert (filled.kind, filled.bytes_moved, filled.bytes_copied) == ("fill", 24, 0)


def test_storing_a_view_onto_itself_does_nothing_but_onto_its_neighbours_copies():
    target = np.arange(6.0)
    assert effect_of(operator.setitem, (target, slice(1, 4), target[1:4]), {}, None) is NOTHING
    shifted = effect_of(operator.setitem, (target, slice(1, 6), target[:5]), {}, None)
    assert shifted is not None
    assert shifted.bytes_copied == 40


def test_memory_orders_are_described():
    wide = np.zeros((4, 8), np.float32)
    found = effect(operator.matmul, wide[:, 1:], np.zeros((7, 2), np.float32, "F"))
    assert found.orders == "C*·F"
    assert effect(operator.add, wide[:, ::2], wide[:, ::2]).orders == "?·?"
    assert effect(operator.matmul, wide[:, 1:].T, np.zeros((4, 2), np.float32)).orders == "F*·C"


def test_an_operand_that_blas_cannot_read_directly_is_copied():
    every_other = np.zeros((4, 14), np.float32)[:, ::2]
    found = effect(operator.matmul, every_other, np.zeros((7, 2), np.float32))
    assert found.bytes_copied == 4 * 7 * 4


def test_a_product_by_scipys_blas_counts_as_numpys():
    a, b = np.asfortranarray(A), np.asfortranarray(B)
    found = effect(sgemm, 1.0, a, b)
    assert (found.kind, found.shape, found.flop, found.bytes_copied) == ("product", (2, 3, 4), 48, 0)
    transposed = effect(sgemm, 1.0, np.asfortranarray(A.T), b, trans_a=1)
    assert (transposed.shape, transposed.flop) == ((2, 3, 4), 48)


def test_python_floats_are_arithmetic_and_integers_are_not():
    assert effect(operator.mul, 0.5, 3).flop == 1
    assert effect(math.exp, 0.5).kind == "evaluation"
    assert effect(operator.mul, np.float64(2.0), 0.5).flop == 1


def test_what_is_not_understood_is_not_guessed():
    assert effect_of(np.linalg.svd, (A,), {}, np.linalg.svd(A)) is None


def test_functions_of_the_model_are_seen_inside_and_not_as_calls():
    assert effect(ACTIVATIONS["sigmoid"].value, A) is NOTHING


def test_take_is_a_gather_that_reads_only_the_rows_it_takes_and_with_out_allocates_nothing():
    X, index = np.zeros((60_000, 784), np.float32), np.arange(500)
    by_index = effect_of(operator.getitem, (X, index), {}, X[index])
    taken = X.take(index, axis=0)
    assert effect_of(X.take, (index,), {"axis": 0}, taken) == by_index
    into = effect_of(X.take, (index,), {"axis": 0, "out": taken, "mode": "clip"}, taken)
    assert (into.name, into.bytes_moved, into.bytes_allocated) == ("gather", 2 * taken.nbytes + index.nbytes, 0)


def test_an_operation_on_float32_and_float64_is_computed_in_float64():
    single, double = np.ones((3, 4), np.float32), np.float64(0.1)
    assert effect_of(np.multiply, (single, double), {}, single * double).dtype == "float64"
    assert effect_of(np.greater, (single, 0.1), {}, single > 0.1).dtype == "float32"
