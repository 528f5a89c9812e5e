"""The counts pass on the variants: values untouched, counts as by hand, the useful part the same for all."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpprof.catalog import Entry, ladder, load, module_of
from mlpprof.errors import MissingExtra, UnsupportedNetwork, UsageError
from mlpprof.instrument import counts
from mlpprof.instrument.counts import OperationCounter, TooManyOperations, count_call, counted_module
from mlpprof.instrument.needed_work import mark_useful, needed_products
from mlpprof.model import Network
from mlpprof.model.gradcheck import close
from mlpprof.profile.counting import count_network
from mlpprof.results import Operation

S1 = Network((784, 70, 30, 10), momentum=0.9, l2=1e-4)
SMALL = Network((6, 5, 3), momentum=0.9, l1=1e-3, l2=1e-2)
FULL_BATCH = Network((30, 5, 3), l2=1e-2)
"""For the forms that do not do every network: more features than samples, no L1, no momentum."""
BATCHED = ("naive", "float32", "no_input_delta", "contiguous", "cached", "sliced")
"""The rungs whose useful work is exactly what the table in `useful` says."""


def total(operations: tuple[Operation, ...], figure: str, **where: object) -> int:
    chosen = [o for o in operations if all(getattr(o, name) == value for name, value in where.items())]
    return sum(getattr(o, figure) for o in chosen)


def counted(name: str, network: Network = S1, m: int = 500) -> tuple[Operation, ...]:
    operations, uncounted = count_network(ladder()[name], network, m)
    assert uncounted == ()
    return operations


def outcome(cls, network: Network, recorder: OperationCounter | None) -> tuple[object, ...]:
    """Losses of three steps, parameters and predictions, to the bit."""
    rng = np.random.default_rng(0)
    n_in, n_out = network.layers[0], network.layers[-1]
    X, Y = rng.random((12, n_in)).astype(cls.DTYPE), np.eye(n_out, dtype=cls.DTYPE)[rng.integers(n_out, size=12)]
    order = np.arange(12) if network is FULL_BATCH else rng.permutation(12)[:4]
    instance = cls(network, network.initial_parameters(0, cls.DTYPE))
    try:
        if recorder is not None:
            recorder.watch(instance)
            recorder.start()
        losses = [instance.train_step(X, Y, order) for _ in range(3)]
        parts = [array.tobytes() for pair in instance.parameters() for array in pair]
        return losses, parts, instance.predict(X).tobytes()
    finally:
        close(instance)


@pytest.mark.parametrize("name", [name for name, entry in ladder().items() if entry.extra != "peers"])
def test_a_counted_step_computes_bitwise_what_the_plain_one_does(name):
    entry: Entry = ladder()[name]
    try:
        cls = load(entry)
    except MissingExtra as missing:
        pytest.skip(str(missing))
    module = module_of(cls)
    recorder = OperationCounter(str(module.__file__))
    watched = getattr(counted_module(module, entry.source(), recorder), cls.__name__)
    for network in (SMALL, FULL_BATCH):
        try:
            expected = outcome(cls, network, None)
        except UnsupportedNetwork:
            continue
        assert outcome(watched, network, recorder) == expected
        return
    pytest.skip(f"{name} does neither network")


def test_the_products_of_naive_are_as_counted_by_hand():
    naive, m = counted("naive"), 500
    weighted = total(naive, "flop", phase="forward", label="weighted sum")
    assert weighted == 2 * m * (70 * 785 + 30 * 71 + 10 * 31)
    assert total(naive, "flop", phase="backward", label="gradient") == weighted
    assert total(naive, "flop", label="propagate", layer=0) == 2 * m * 785 * 70
    assert total(naive, "flop", label="derivative", layer=0) == 3 * m * 785
    assert total(naive, "flop", phase="update") == 4 * (70 * 785 + 30 * 71 + 10 * 31)
    assert total(naive, "bytes_copied", phase="fetch_batch") == 8 * m * 794
    assert total(naive, "bytes_copied", label="bias row", phase="forward") == 8 * m * (784 + 70 + 30)


def test_nothing_below_the_input_is_useful_and_a_bias_row_only_as_an_addition():
    naive, m = counted("naive"), 500
    assert total(naive, "useful_flop", layer=0) == 0
    assert total(naive, "useful_bytes", label="bias row") == 0
    assert total(naive, "useful_flop", phase="forward", label="weighted sum") == (
        2 * m * (70 * 784 + 30 * 70 + 10 * 30) + m * (70 + 30 + 10)
    )
    evaluated = [o for o in naive if o.phase == "backward" and o.kind == "evaluation"]
    assert evaluated
    assert sum(o.useful_flop for o in evaluated) == 0


def needed_flop(network, m):
    """All operations that a step needs: single numbers take whatever is needed in their phase."""
    greedy = [
        Operation(phase, None, None, 1, "arithmetic", "add", "float64", (), "", 1, 1e12, 1e12, 8, 8, 0, 0)
        for phase in ("forward", "backward", "update")
    ]
    return sum(operation.useful_flop for operation in mark_useful(greedy, network, m))


@pytest.mark.parametrize("name", [*BATCHED, "per_sample"])
def test_every_rung_does_the_same_useful_work(name):
    operations = counted(name, m=50)
    useful = total(operations, "useful_flop") - total(operations, "useful_flop", phase="loss")
    # per_sample: the mean of the losses is a few operations outside of the loss's phase
    assert useful == needed_flop(S1, 50)
    assert total(operations, "flop") >= total(operations, "useful_flop")


def test_executed_work_falls_from_rung_to_rung_and_ends_at_what_is_needed():
    flop = [total(counted(name, m=50), "flop") for name in BATCHED]
    assert all(after <= before for before, after in pairwise(flop))
    sliced = counted("sliced", m=50)
    assert total(sliced, "flop") == total(sliced, "useful_flop")


def test_float32_moves_half_of_what_naive_moves():
    naive, single = counted("naive"), counted("float32")
    ratio = total(single, "bytes_moved") / total(naive, "bytes_moved")
    assert 0.49 < ratio < 0.51


def test_the_labels_are_those_of_the_labels_pass_and_lines_those_of_the_file():
    entry = ladder()["cached"]
    lines = entry.source().splitlines()
    for operation in counted("cached"):
        if operation.label is not None and operation.label != "regularize" and operation.label != "bias row":
            assert f"# phase: {operation.label}" in lines[operation.line - 1]
    assert {o.layer for o in counted("cached") if o.label == "gradient"} == {1, 2, 3}
    assert {o.phase for o in counted("cached")} == {"fetch_batch", "forward", "loss", "backward", "update"}


def test_a_batch_of_one_is_counted_too():
    assert total(counted("sliced", m=1), "flop", label="weighted sum") == 2 * (70 * 784 + 30 * 70 + 10 * 30)


@given(
    layers=st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple),
    m=st.integers(1, 12),
    momentum=st.sampled_from((0.0, 0.9)),
    l2=st.sampled_from((0.0, 0.1)),
    hidden=st.sampled_from(("sigmoid", "tanh", "relu")),
    name=st.sampled_from(("naive", "cached", "sliced", "per_sample")),
)
def test_no_more_is_useful_than_is_executed_or_needed(layers, m, momentum, l2, hidden, name):
    network = Network(layers, hidden=hidden, momentum=momentum, l2=l2)
    operations = counted(name, network, m)
    for o in operations:
        assert 0 <= o.useful_flop <= o.flop
        assert 0 <= o.useful_bytes <= o.bytes_moved
    useful = total(operations, "useful_flop") - total(operations, "useful_flop", phase="loss")
    assert useful <= needed_flop(network, m)


def test_what_a_step_needs_is_as_counted_by_hand():
    network, m = Network((4, 3, 2)), 5
    forward = 2 * m * (12 + 6) + m * 5 + m * 5  # products, biases, sigmoids
    backward = (
        2 * m * (12 + 6) + m * 5 + 2 * m * 6 + 2 * m * 2 + 3 * m * 3
    )  # gradients, biases, delta back, error, hidden
    update = 2 * (12 + 3 + 6 + 2)
    assert needed_flop(network, m) == forward + backward + update
    assert list(needed_products(network, m)) == [(3, 4, 5), (3, 5, 4), (2, 3, 5), (2, 5, 3), (3, 2, 5)]


def test_penalties_and_momentum_are_needed_only_where_the_network_has_them():
    plain, m = Network((4, 3, 2)), 5
    assert needed_flop(Network((4, 3, 2), l2=0.1), m) - needed_flop(plain, m) == 2 * 18
    assert needed_flop(Network((4, 3, 2), l1=0.1), m) - needed_flop(plain, m) == 3 * 18
    assert needed_flop(Network((4, 3, 2), momentum=0.5), m) - needed_flop(plain, m) == 2 * 23


def test_operations_of_no_layers_shape_are_executed_and_not_needed():
    strange = Operation("forward", None, None, 1, "arithmetic", "add", "float64", (17, 19), "", 1, 323, 323, 8, 8, 0, 0)
    assert mark_useful((strange,), Network((4, 3, 2)), 5)[0].useful_flop == 0


def test_scalar_loops_take_what_is_needed_in_their_phase_and_no_more():
    network = Network((4, 3, 2), momentum=0.9, l2=0.1)
    operations, _ = count_network(ladder()["scalar"], network, 2)
    useful = total(operations, "useful_flop") - total(operations, "useful_flop", phase="loss")
    assert 0.8 * needed_flop(network, 2) < useful <= needed_flop(network, 2)


def test_a_step_of_too_many_operations_is_given_up(monkeypatch):
    monkeypatch.setattr(counts, "MOST_OPERATIONS", 20)
    with pytest.raises(TooManyOperations, match="more than 20 operations"):
        count_network(ladder()["naive"], SMALL, 4)


def scaled_product(W, x):
    return _helper(W @ x) * 2


def _helper(z):
    return z + np.ones_like(z)


def uses_svd(A):
    return np.linalg.svd(A)[1]


def test_a_call_is_counted_with_what_it_calls():
    operations, uncounted = count_call(scaled_product, np.ones((3, 4)), np.ones(4))
    assert uncounted == ()
    assert [(o.name, o.flop) for o in operations] == [("matmul", 24), ("ones_like", 0), ("add", 3), ("multiply", 3)]
    lines = {o.name: o.line for o in operations}
    assert lines["matmul"] == lines["multiply"] == scaled_product.__code__.co_firstlineno + 1


def test_what_is_not_understood_is_named():
    _, uncounted = count_call(uses_svd, np.eye(3))
    assert uncounted == ("svd",)


def test_a_function_of_a_library_cannot_be_counted():
    with pytest.raises(UsageError, match=r"dedent cannot be counted.*installed library"):
        count_call(sys.modules["textwrap"].dedent, "x")
