"""The branches that change the form of a step: `gram`, `delayed`, `compiled` and `blocked`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mlpprof.catalog import find, load
from mlpprof.engines.members import WORKERS_VARIABLE
from mlpprof.errors import MissingExtra
from mlpprof.model import Network, UnsupportedNetwork
from mlpprof.model.gradcheck import deviations, own_network_deviations, random_case, training_deviations


def variant(name: str) -> Any:
    try:
        return load(find(name))
    except MissingExtra as missing:
        pytest.skip(str(missing))


# Gram


def cats(samples: int = 6) -> tuple[Network, Any, Any]:
    rng = np.random.default_rng(0)
    network = Network((50, 4, 3, 1), hidden="relu", rate=0.05, momentum=0.9, l2=0.01)
    return network, rng.random((samples, 50)), rng.integers(2, size=(samples, 1)).astype(float)


def test_gram_gives_the_weights_of_the_direct_form_after_100_steps_in_full_batch():
    network, X, Y = cats()
    ours, theirs = (load(find(n))(network, network.initial_parameters(0)) for n in ("gram", "buffered"))
    index = np.arange(len(X))
    losses = [(ours.train_step(X, Y, index), theirs.train_step(X, Y, index)) for _ in range(100)]
    assert np.allclose(*np.transpose(losses), rtol=1e-9)
    for (W, b), (V, c) in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert np.linalg.norm(W - V) <= 1e-10 * np.linalg.norm(V)
        assert np.allclose(b, c, atol=1e-10)


def test_gram_counts_a_sample_that_comes_twice_twice():
    network, X, Y = cats()
    ours, theirs = (load(find(n))(network, network.initial_parameters(0)) for n in ("gram", "buffered"))
    for index in ([0, 0, 3], [5], [1, 2, 3, 4, 4, 4, 4]):
        assert ours.train_step(X, Y, np.array(index)) == pytest.approx(theirs.train_step(X, Y, np.array(index)))
    assert np.allclose(ours.parameters()[0][0], theirs.parameters()[0][0], atol=1e-12)


def test_gram_reads_the_samples_once():
    network, X, Y = cats()
    instance = load(find("gram"))(network, network.initial_parameters(0))
    index = np.arange(len(X))
    first = instance.train_step(X, Y, index)
    X[:] = np.nan  # the products of the samples are enough from here on
    assert instance.train_step(X, Y, index) < first


def test_gram_refuses_l1_other_samples_and_too_many_and_says_what_it_can_do():
    network, X, Y = cats()
    with pytest.raises(UnsupportedNetwork, match="use l1 0"):
        load(find("gram"))(Network((5, 2), l1=0.1), Network((5, 2)).initial_parameters(0))
    instance = load(find("gram"))(network, network.initial_parameters(0))
    instance.train_step(X, Y, np.arange(3))
    with pytest.raises(UnsupportedNetwork, match="another one; use buffered"):
        instance.train_step(X.copy(), Y, np.arange(3))
    small = Network((2, 1))
    with pytest.raises(UnsupportedNetwork, match="at most 4,096"):
        load(find("gram"))(small, small.initial_parameters(0)).train_step(
            np.zeros((5000, 2)), np.zeros((5000, 1)), np.arange(5)
        )


# Delayed, compiled and blocked

each_form = pytest.mark.parametrize("name", ["delayed", "compiled", "blocked"])  # conftest marks the last two as slow
each_compiled = pytest.mark.parametrize("name", ["compiled", "blocked"])

SINGLE = [
    Network((9, 4, 3, 2), rate=0.1),
    Network((9, 5, 2), rate=0.1, l2=0.2, hidden="tanh", output="softmax"),
    Network((9, 2), rate=0.1, loss="squared_error"),
    Network((9, 3, 2), rate=0.1, loss="squared_error", output="identity", hidden="tanh"),
]


@pytest.mark.parametrize("network", SINGLE, ids=lambda network: network.text)
@each_form
def test_single_sample_steps_through_train_are_those_of_naive_over_several_blocks(name, network):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(50, 9)), np.eye(2)[rng.integers(2, size=50)]
    indices = [np.array([i]) for i in rng.integers(50, size=150)]
    ours, theirs = (variant(n)(network, network.initial_parameters(0)) for n in (name, "naive"))
    losses = ours.train(X, Y, indices[:71]) + ours.train(X, Y, indices[71:])  # neither is a multiple of a block
    assert losses == pytest.approx([theirs.train_step(X, Y, index) for index in indices], rel=1e-8)
    for (W, b), (V, c) in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert np.allclose(W, V, rtol=1e-8, atol=1e-10)
        assert np.allclose(b, c, rtol=1e-8, atol=1e-10)


@each_form
def test_train_and_train_step_may_alternate(name):
    network = SINGLE[0]
    X, Y = np.random.default_rng(0).normal(size=(20, 9)), np.eye(2)[np.arange(20) % 2]
    ours, theirs = (variant(n)(network, network.initial_parameters(0)) for n in (name, "naive"))
    for index in (np.array([3]), np.arange(7), np.array([5]), np.arange(20)):
        theirs.train_step(X, Y, index)
        theirs.train_step(X, Y, index)
        ours.train(X, Y, [index])
        ours.train_step(X, Y, index)
    assert np.allclose(ours.parameters()[0][0], theirs.parameters()[0][0], rtol=1e-9)


def test_delayed_refuses_momentum_and_l1_and_says_what_it_can_do():
    for refused in ({"momentum": 0.5}, {"l1": 0.1}):
        network = Network((5, 3, 2), **refused)
        with pytest.raises(UnsupportedNetwork, match="use --momentum 0 --l1 0"):
            load(find("delayed"))(network, network.initial_parameters(0))


@each_compiled
def test_a_compiled_variant_takes_a_large_batch_in_pieces_and_gets_the_same(name, tiny):
    X, Y = (np.tile(values, (5, 1)) for values in tiny)  # 1,500 samples: three pieces
    network = Network((20, 8, 5, 3), rate=0.5, momentum=0.9, l1=1e-3, l2=1e-3)
    ours, theirs = (variant(n)(network, network.initial_parameters(0)) for n in (name, "naive"))
    for m in (1500, 1001, 500, 2, 3):
        index = np.arange(m)
        assert ours.train(X, Y, [index, index]) == pytest.approx([theirs.train_step(X, Y, index) for _ in range(2)])
    for (W, _), (V, _) in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert np.allclose(W, V, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_the_loss_of_compiled_holds_for_soft_targets_and_for_outputs_at_0_and_1():
    cls = variant("compiled")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8, 4))
    for Y in (rng.random((8, 30)), np.eye(30)[:8], np.ones((8, 30))):
        network = Network((4, 30), rate=0.1)
        parameters = [(100 * W, b) for W, b in network.initial_parameters(0)]
        ours, theirs = (c(network, parameters) for c in (cls, load(find("naive"))))
        index = np.arange(8)
        assert ours.train_step(X, Y, index) == pytest.approx(theirs.train_step(X, Y, index), rel=1e-9)


@each_compiled
@pytest.mark.parametrize(
    ("hidden", "output", "loss"),
    [
        ("sigmoid", "sigmoid", "cross_entropy"),
        ("tanh", "softmax", "cross_entropy"),
        ("relu", "sigmoid", "squared_error"),
    ],
)
def test_a_network_that_has_diverged_has_no_finite_loss(hidden, output, loss, name):
    network = Network((4, 6, 3), hidden=hidden, output=output, loss=loss, rate=0.1)
    parameters = [(np.full_like(W, np.nan), b) for W, b in network.initial_parameters(0)]
    X, Y = np.ones((8, 4)), np.eye(3)[np.arange(8) % 3]
    for steps in (np.arange(8).reshape(1, 8), np.arange(8).reshape(8, 1)):
        model = variant(name)(network, parameters)
        assert np.isnan(model.train(X, Y, list(steps))).all()


@pytest.mark.slow
def test_compiled_agrees_in_float32_on_wide_sums():
    case = random_case(Network((300, 20, 10), momentum=0.9, l2=0.01), 40, seed=1)
    assert [d for d in deviations(variant("compiled"), load(find("buffered")), case) if d.severity > 1] == []
    assert [d for d in training_deviations(variant("compiled"), case) if d.severity > 1] == []


@pytest.mark.parametrize("name", ["blocked_team", "sparse"])  # which use all products; compiling takes long
def test_a_blocked_variant_is_right_in_panels_and_tiles_of_many_widths(name, monkeypatch):
    monkeypatch.setenv(WORKERS_VARIABLE, "2")
    network = Network((450, 90, 20, 11), hidden="tanh", output="softmax", rate=0.1, momentum=0.9, l2=0.01)
    for m in (13, 1, 133):  # rows that are left over from tiles of 4 and 8; two pieces
        case = random_case(network, m, seed=m)
        case.X[case.X < 0] = 0
        assert [d for d in own_network_deviations(variant(name), load(find("buffered")), case) if d.severity > 1] == []


def test_without_numba_compiled_is_skipped_with_the_line_that_installs_it(tmp_path):
    (tmp_path / "numba.py").write_text("raise ModuleNotFoundError('No module named numba', name='numba')")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from mlpprof.catalog import find, load\nfrom mlpprof.errors import MissingExtra\n"
        "try: load(find('compiled'))\nexcept MissingExtra as missing: print(missing)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "variant 'compiled' needs numba; install it with: pip install 'mlpprof[compiled]'"
