"""Gates on the counted step: what passes, what fails, and that the message names the statement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlpprof.catalog import ladder, load
from mlpprof.errors import UsageError
from mlpprof.testing.gates import assert_max_allocations, assert_max_flops, assert_no_copies, count


def tidy(W, x, out):
    np.matmul(W, x, out=out)
    out += 1.0
    return out


def copying(W, x):
    stacked = np.vstack((np.ones_like(x), x))
    return W @ stacked.copy()


def unknown(A):
    return np.linalg.svd(A)


def tidy_arguments():
    return np.ones((3, 4)), np.ones((4, 2)), np.empty((3, 2))


def copying_arguments():
    return np.ones((3, 8)), np.ones((4, 2))


def test_a_tidy_function_passes_all_gates():
    assert_no_copies(tidy, args=tidy_arguments)
    assert_max_allocations(tidy, 0, args=tidy_arguments)
    assert_max_flops(tidy, 2 * 3 * 4 * 2 + 6, args=tidy_arguments)


def test_a_copy_fails_and_the_message_names_the_statement():
    with pytest.raises(AssertionError) as failure:
        assert_no_copies(copying, args=copying_arguments)
    message = str(failure.value)
    assert "copying: 2 copies of 256 bytes in a step" in message
    assert f"{Path(__file__).name}:{copying.__code__.co_firstlineno + 1}" in message
    assert "stacked = np.vstack((np.ones_like(x), x))" in message
    assert "copy float64 (8, 2)" in message


def test_small_copies_can_be_allowed():
    assert_no_copies(copying, args=copying_arguments, at_least_bytes=129)


def test_one_allocation_too_many_fails():
    assert_max_allocations(copying, 4, args=copying_arguments)
    with pytest.raises(
        AssertionError, match=r"4 new arrays in a step, at most 3 are allowed(.|\n)*W @ stacked\.copy\(\)"
    ):
        assert_max_allocations(copying, 3, args=copying_arguments)
    assert_max_allocations(copying, 2, args=copying_arguments, at_least_bytes=100)


def test_one_operation_too_many_fails():
    flop = 2 * 3 * 8 * 2
    assert_max_flops(copying, flop, args=copying_arguments)
    with pytest.raises(AssertionError, match=rf"{flop} floating-point operations in a step, at most {flop - 1}"):
        assert_max_flops(copying, flop - 1, args=copying_arguments)


def test_a_variant_is_counted_at_its_workload_and_batch():
    cached = sum(o.flop for o in count("cached", workload="tiny"))
    assert sum(o.flop for o in count("cached", workload="tiny", batch=15)) < cached
    naive = sum(o.flop for o in count("naive", workload="tiny"))
    assert cached < naive
    assert_max_flops("cached", cached, workload="tiny")
    with pytest.raises(AssertionError, match=r"naive: .* operations in a step"):
        assert_max_flops("naive", cached, workload="tiny")


def test_stacked_bias_rows_are_found_in_the_variants_file():
    with pytest.raises(AssertionError) as failure:
        assert_no_copies("cached", workload="tiny")
    message = str(failure.value)
    assert "cached.py:" in message
    assert "in forward" in message
    assert "stacked[1:] = A" in message


def test_the_gather_is_allowed_unless_it_is_asked_for():
    with pytest.raises(AssertionError, match=r"fetch_batch(.|\n)*X\[index\]\.T"):
        assert_no_copies("sliced", workload="tiny", phases=("fetch_batch",))
    assert_no_copies("sliced", workload="tiny", phases=("forward", "update"))


def test_a_class_is_counted_as_its_name():
    cls = load(ladder()["sliced"])
    by_class = count(cls, workload="tiny", batch=10)
    assert by_class == count("sliced", workload="tiny", batch=10)
    assert by_class == count("sliced", workload="tiny", batch=10)  # and again the same


def test_double_precision_takes_twice_the_bytes_and_the_same_operations():
    single, double = count("sliced", workload="tiny"), count("sliced", workload="tiny", dtype="float64")
    assert sum(o.flop for o in double) == sum(o.flop for o in single)
    assert sum(o.bytes_copied for o in double) == 2 * sum(o.bytes_copied for o in single)


def test_what_cannot_be_counted_is_refused_instead_of_passed():
    with pytest.raises(UsageError, match="unknown uses svd, which mlpprof cannot count"):
        assert_max_flops(unknown, 1e9, args=lambda: (np.eye(3),))
    with pytest.raises(UsageError, match="cannot count 3"):
        assert_no_copies(3)  # type: ignore[arg-type]  # what a user may pass
    with pytest.raises(UsageError, match="did you mean 'cached'"):
        assert_no_copies("cachd")

    class Local(load(ladder()["sliced"])):  # type: ignore[misc]  # a class made at run time
        pass

    with pytest.raises(UsageError, match="local to a function"):
        assert_no_copies(Local)


def python_only(n):
    return sum(range(n))


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (lambda: assert_max_flops(python_only, 0, args=(5,)), "nothing was counted in python_only"),
        (lambda: assert_no_copies(python_only, args=(5,)), "nothing was counted in python_only"),
        (lambda: assert_no_copies("naive", phases=("bakward",)), "no phase 'bakward'; did you mean 'backward'"),
        (lambda: assert_no_copies("naive", phases=()), r"phases is \(\); expected names in a tuple"),
        (lambda: assert_no_copies("naive", phases="backward"), "phases is 'backward'; expected names in a tuple"),
        (lambda: assert_no_copies(tidy, args=5), r"args is 5; expected a tuple of arguments"),
        (lambda: assert_no_copies(tidy, args=lambda: 5), r"args\(\) returned an int; expected a tuple"),
    ],
)
def test_a_gate_that_would_measure_nothing_is_refused(gate, said):
    with pytest.raises(UsageError, match=said):
        gate()


def test_arguments_can_be_a_tuple():
    assert_max_flops(tidy, 2 * 3 * 4 * 2 + 6, args=tidy_arguments())
    with pytest.raises(AssertionError, match="2 copies"):
        assert_no_copies(copying, args=copying_arguments())
