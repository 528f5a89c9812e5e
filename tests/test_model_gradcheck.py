"""The gradient check finds defects: each is planted in the text of a right variant, and must be named and placed."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import LEGAL_PAIRS, cases

from mlpprof.errors import UnsupportedNetwork
from mlpprof.model import Network
from mlpprof.model.gradcheck import (
    CASES_PER_KIND,
    EQUIVALENCE_TOLERANCE,
    KINDS,
    KINK_MARGIN,
    OPTIONS,
    TRAJECTORY_STEPS,
    Case,
    Deviation,
    deviations,
    far_from_kinks,
    layer_deviations,
    oracle_trajectory,
    outputs,
    random_case,
    random_cases,
    trajectory,
)

SQUARE = Network((4, 4, 4, 4), hidden="tanh", rate=0.1, momentum=0.9, l1=0.0, l2=0.1)
FINITE, PARENT, SINGLE = (
    "gradients against finite differences",
    "gradients against the parent",
    "float32 gradients against float64",
)
LOSSES, STEPS = f"losses over {TRAJECTORY_STEPS} steps", f"parameters after {TRAJECTORY_STEPS} steps"
PREDICTION, LOSS, ARGUMENTS = (
    "predict against the oracle",
    "loss against the oracle",
    "X, Y or parameters, overwritten in place,",
)
SUMMED = ("(self.A[l] - self.Y) / m", "(self.A[l] - self.Y)")
"""The change that leaves out the division by the samples of the batch."""


@pytest.fixture(scope="module")
def case() -> Case:
    """Three square layers, so that no defect fails at a shape; momentum and penalty; 5 samples per step."""
    return random_case(SQUARE, 5, seed=1)


def wrong(found: list[Deviation]) -> dict[str, set[int | None]]:
    """The comparisons that failed, with the layers that deviate."""
    result: dict[str, set[int | None]] = {}
    for deviation in found:
        if deviation.severity > 1:
            result.setdefault(deviation.what, set()).add(deviation.layer)
    return result


def test_no_deviation_is_found_in_a_right_variant_of_either_form(altered, rungs, case):
    assert wrong(deviations(altered("plain"), rungs["naive"], case)) == {}
    assert wrong(deviations(altered("sliced"), rungs["cached"], case)) == {}


# The defects by name: the variant whose text is changed, its parent, the changes, and what has to be found where. The
# layers are those that deviate; None means the whole network, and ANY means that the layers do not matter.
ANY = "any layers"
ALL = {1, 2, 3}
ADD = "self.dW[l] += np.outer(delta, a_bias[l - 1])  # phase: gradient"
FRESH = "        self.dW = [None] + [np.zeros_like(W) for W in self.W[1:]]\n        for (z, a"
SUM = "self.dW[l][:, 0] = delta.sum(axis=1)"
GATHER = "self.A[0] = X[index].T"
UPDATE = "self.W[l] -= self.network.rate"
DEPTH = "self.L = network.depth"
GRADIENTS = "dW[:, 0].copy()) for dW in self.dW[1:]]"
RETURN = "        return loss"
DEFECTS = {
    "the per-sample source's doubled output gradient": (
        "per_sample",
        None,
        [(ADD, f"{ADD}\n                    if l == self.L: self.dW[l] += 0 + {ADD[14:]}")],
        {FINITE: {3}, STEPS: ANY},
    ),
    "no bias gradient": ("sliced", "cached", [(SUM, "self.dW[l][:, 0] = 0")], {FINITE: ALL, PARENT: ALL}),
    "no bias gradient in one layer": ("sliced", "cached", [(SUM, f"{SUM} * (l != 2)")], {FINITE: {2}, PARENT: {2}}),
    "W not transposed": (
        "sliced",
        "cached",
        [("self.W[l + 1][:, 1:].T @ delta", "self.W[l + 1][:, 1:] @ delta")],
        {FINITE: {1, 2}, PARENT: {1, 2}},
    ),
    "a sum instead of the mean over the batch": ("cached", "contiguous", [SUMMED], {FINITE: ALL}),
    "no penalty": ("cached", "contiguous", [("self.network.l2 > 0", "self.network.l2 < 0")], {FINITE: ALL}),
    "an update with the wrong sign": (
        "sliced",
        "cached",
        [(UPDATE, UPDATE.replace("-=", "+="))],
        {LOSSES: ANY, STEPS: ANY},
    ),
    "an update that forgets the last layer": (
        "sliced",
        "cached",
        [(UPDATE, "self.W[l] -= (l < self.L) * self.network.rate")],
        {STEPS: ANY},
    ),
    "gradients that pile up from step to step": (
        "per_sample",
        None,
        [
            (FRESH, "        for (z, a"),
            ("self.dW = [None] * (L + 1)", "self.dW = [None] + [np.zeros_like(W) for W in self.W[1:]]"),
        ],
        {STEPS: ALL},
    ),
    "parameters trained in place instead of copied": (
        "plain",
        "naive",
        [("[W.copy() for W, _ in parameters]", "[W for W, _ in parameters]")],
        {ARGUMENTS: {None}},
    ),
    "parameters spoiled by the constructor": (
        "plain",
        "naive",
        [(DEPTH, f"{DEPTH}\n        self.kept = [W.copy() for W, _ in parameters]\n        parameters[1][1][:] = 0")],
        {ARGUMENTS: {None}},
    ),
    "single precision that leaks into double precision": (
        "sliced",
        "cached",
        [(GATHER, f"{GATHER}.astype('f4').astype(X.dtype)")],
        {PARENT: ANY},
    ),
    "a batch that ignores the index": (
        "sliced",
        "cached",
        [("X[index].T", "X[: len(index)].T"), ("= Y[index].T", "= Y[: len(index)].T")],
        {LOSS: {None}},
    ),
    "gradients of NaN": ("sliced", "cached", [("delta.sum(axis=1)", "delta.sum(axis=1) * np.nan")], {FINITE: ALL}),
    "gradients of another shape, which could be broadcast": (
        "sliced",
        "cached",
        [("[(dW[:, 1:].copy(), dW[:, 0].copy())", "[(dW[:, 1:].copy(), dW[:, :1].copy())")],
        {FINITE: ALL},
    ),
    "gradients of too few layers": (
        "sliced",
        "cached",
        [(GRADIENTS, GRADIENTS.replace("dW[1:]]", "dW[1:-1]]"))],
        {FINITE: {3}},
    ),
    "gradients of too many layers": (
        "sliced",
        "cached",
        [(GRADIENTS, GRADIENTS.replace("dW[1:]]", "dW[1:] + self.dW[1:2]]"))],
        {FINITE: {4}},
    ),
}
"""Defects that may also be found in other comparisons."""

ONLY = {
    "a penalty that is part of the loss": (
        "cached",
        "contiguous",
        [
            (
                "return self.mean_loss(self.A[self.L], self.Y)",
                "return self.mean_loss(self.A[self.L], self.Y) "
                "+ self.network.l2 * sum((W[:, 1:] ** 2).sum() for W in self.W[1:])",
            )
        ],
        {LOSS: {None}, LOSSES: {None}},
    ),
    "a predict without biases": (
        "sliced",
        "cached",
        [("self.W[l][:, 1:] @ A + self.W[l][:, :1]", "self.W[l][:, 1:] @ A")],
        {PREDICTION: {None}},
    ),
    "a predict that lays samples in columns": (
        "sliced",
        "cached",
        [("        return A.T\n", "        return A\n")],
        {"predict, shape (4, 10) for (10, 4),": {None}},
    ),
    "half precision that leaks into single precision": (
        "sliced",
        "cached",
        [(GATHER, f"{GATHER}.astype('f2' if X.itemsize == 4 else 'f8').astype(X.dtype)")],
        {SINGLE: ANY},
    ),
    "a train_step that returns the loss after the update": (
        "sliced",
        "cached",
        [
            (
                f"        self.update()\n{RETURN}",
                "        self.update()\n        self.forward()\n        return self.loss()",
            )
        ],
        {LOSSES: {None}},
    ),
    "a loss that becomes NaN after the first step": (
        "sliced",
        "cached",
        [(RETURN, f"        self.n = getattr(self, 'n', 0) + 1\n{RETURN} if self.n == 1 else float('nan')")],
        {LOSSES: {None}},
    ),
}
"""Defects that only these comparisons can find."""


@pytest.mark.parametrize("defect", [*DEFECTS, *ONLY])
def test_a_defect_is_found_in_the_comparisons_and_layers_that_it_concerns(altered, rungs, case, defect):
    name, parent, changes, expected = (DEFECTS | ONLY)[defect]
    found = wrong(deviations(altered(name, *changes), None if parent is None else rungs[parent], case))
    assert {what: ANY if expected[what] == ANY else found.get(what) for what in expected} == expected
    assert set(expected) <= set(found)
    assert defect in DEFECTS or set(found) == set(expected)


def test_a_missing_1_over_m_does_not_matter_if_the_batch_is_one_sample(altered, rungs):
    single = random_case(SQUARE, 1, seed=1)
    assert wrong(deviations(altered("cached", SUMMED), rungs["contiguous"], single)) == {}


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_a_penalty_on_the_biases_is_found(altered, rungs, name):
    case = random_case(replace(SQUARE, l1=0.01, l2=0.1), 5, seed=1)
    term = {"l1": "self.network.l1 * np.sign(self.W[l][:, 1:])", "l2": "self.network.l2 * self.W[l][:, 1:]"}[name]
    line = f"self.dW[l][:, 1:] += {term}"
    on_all = altered("no_input_delta", (line, line.replace("[:, 1:]", "")))
    assert wrong(deviations(on_all, rungs["float32"], case))[FINITE] == ALL


@pytest.mark.parametrize(
    "text",
    [
        "self.network.momentum * self.velocity[l] + (1 - self.network.momentum) * self.dW[l]",
        "self.network.momentum * (self.velocity[l] + self.dW[l])",
        "self.dW[l] + self.network.momentum * getattr(self, 'was', self.velocity)[l]",
        "self.dW[l]",
    ],
    ids=["averaging form", "momentum on the new gradient too", "the previous step's gradient only", "none"],
)
@pytest.mark.parametrize("parent", ["contiguous", None])
def test_another_form_of_momentum_is_found_by_the_steps_and_not_by_the_gradients(altered, rungs, case, text, parent):
    replacements = [("self.network.momentum * self.velocity[l] + self.dW[l]", text)]
    if "was" in text:
        replacements.append((RETURN, f"        self.was = self.dW.copy()\n{RETURN}"))
    found = wrong(deviations(altered("cached", *replacements), None if parent is None else rungs[parent], case))
    assert set(found) == {LOSSES, STEPS}
    assert found[STEPS] == ALL


@pytest.mark.parametrize("hidden", ["sigmoid", "relu"])
@pytest.mark.parametrize("array", ["X", "Y"])
def test_samples_overwritten_in_place_are_found_whatever_the_activation(altered, rungs, hidden, array):
    case = random_case(replace(SQUARE, hidden=hidden), 5, seed=1)
    gather = f"{GATHER}  # phase: gather\n        self.Y = Y[index].T"
    clearing = altered("sliced", (gather, f"{gather}; {array}[index] = 0.5"))
    assert ARGUMENTS in wrong(deviations(clearing, rungs["cached"], case))


@pytest.mark.parametrize(("output", "loss"), [pair for pair in LEGAL_PAIRS if pair[0] != "sigmoid"])
def test_a_predict_with_the_hidden_activation_at_the_output_is_found(altered, rungs, output, loss):
    case = random_case(replace(SQUARE, output=output, loss=loss), 5, seed=1)
    value = "A = self.activation[l].value(self.W[l][:, 1:] @ A"
    wrongly = altered("sliced", (value, value.replace("activation[l]", "activation[0]")))
    assert wrong(deviations(wrongly, rungs["cached"], case)) == {PREDICTION: {None}}


def test_what_a_variant_raises_comes_through(altered, rungs, case):
    refusing = altered(
        "plain",
        (
            "self.L = network.depth",
            "from mlpprof.model import UnsupportedNetwork; raise UnsupportedNetwork('only one layer')",
        ),
    )
    with pytest.raises(UnsupportedNetwork, match="only one layer"):
        deviations(refusing, rungs["naive"], case)


def test_every_instance_is_closed_also_when_it_raises(altered, rungs, case):
    counting = altered("plain")
    opened, closed = [], []
    original = counting.__init__

    def opening(self, network, parameters):
        original(self, network, parameters)
        opened.append(self)

    counting.__init__ = opening
    counting.close = lambda self: closed.append(self)
    deviations(counting, rungs["naive"], case)
    assert opened
    assert set(map(id, opened)) == set(map(id, closed))

    counting.backward = lambda self: 1 / 0
    opened.clear()
    closed.clear()
    with pytest.raises(ZeroDivisionError):
        deviations(counting, rungs["naive"], case)
    assert len(opened) == len(closed) == 1


def test_a_deviation_is_relative_to_the_norm_of_its_layer():
    theirs = [(np.full((2, 2), 3.0), np.zeros(2)), (np.ones((1, 2)), np.ones(1))]
    ours = [(np.full((2, 2), 3.0), np.array([0.6, 0.0])), (np.ones((1, 2)), np.ones(1))]
    first, second = layer_deviations("here", ours, theirs, 0.1)
    assert (first.what, first.layer, first.tolerance) == ("here", 1, 0.1)
    assert first.size == pytest.approx(0.6 / 6)
    assert (second.layer, second.size, second.severity) == (2, 0.0, 0.0)


def test_a_layer_without_gradient_is_compared_with_the_whole_and_not_with_zero():
    theirs = [(np.zeros((1, 1)), np.zeros(1)), (np.full((1, 1), 1000.0), np.zeros(1))]
    ours = [(np.full((1, 1), 1e-12), np.zeros(1)), theirs[1]]
    first, _ = layer_deviations("here", ours, theirs, 1e-10)
    assert first.size == pytest.approx(1e-12)


def test_severity_is_size_divided_by_tolerance_and_infinite_for_nan():
    assert Deviation("x", None, 3e-10, 1e-10).severity == pytest.approx(3)
    assert Deviation("x", None, math.nan, 1e-10).severity == math.inf
    assert Deviation("x", None, math.inf, 1e-10).severity == math.inf


@given(cases())
def test_random_cases_lie_away_from_all_kinks(case):
    assert far_from_kinks(case)
    if case.network.hidden == "relu":
        _, hidden_Z = outputs(case.network, case.parameters, case.X)
        assert all(np.abs(Z).min() >= KINK_MARGIN for Z in hidden_Z)
    if case.network.l1 > 0:
        assert all(np.abs(W).min() > KINK_MARGIN for W, _ in case.parameters)


def test_a_case_on_a_kink_is_recognized():
    network = Network((1, 1, 1), hidden="relu", l1=0.1)
    zero, one = (np.zeros((1, 1)), np.ones(1)), (np.ones((1, 1)), np.ones(1))
    at_kink = Case(network, [one, one], np.array([[-1.0]]), np.array([[1.0]]), np.array([0]))
    assert not far_from_kinks(at_kink)
    assert far_from_kinks(replace(at_kink, X=np.array([[1.0]])))
    assert not far_from_kinks(replace(at_kink, parameters=[zero, one], X=np.array([[1.0]])))


def values_of(case: Case) -> dict[str, Any]:
    """The value of each option, read from the case itself."""
    n, m, below = case.network, len(case.index), case.network.layers[:-1]
    return {
        "momentum": n.momentum,
        "l1": n.l1,
        "l2": n.l2,
        "batch": "one" if m == 1 else "leaves a rest" if len(case.X) % m else "divides",
        "depth": min(n.depth, 3),
        "narrow": 1 in below,
        "outputs": n.layers[-1],
    }


def assert_all_values(seen: list[Case]) -> None:
    least = 2 if all(c.network.output == "softmax" for c in seen) else 1
    for option, values in OPTIONS.items():
        expected = {max(least, value) for value in values} if option == "outputs" else set(values)
        assert {values_of(c)[option] for c in seen} == expected, option


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_within_every_kind_every_value_of_every_option_occurs_in_the_fewest_networks(seed):
    seen = list(random_cases(len(KINDS) * CASES_PER_KIND, seed))
    assert CASES_PER_KIND == 3
    for kind in KINDS:
        of_kind = [c for c in seen if c.kind == kind]
        assert len(of_kind) == CASES_PER_KIND
        assert_all_values(of_kind)
        assert len({c.network.rate for c in of_kind}) == CASES_PER_KIND
    assert {(c.network.output, c.network.loss) for c in seen} == set(LEGAL_PAIRS)
    for c in seen:
        assert len(set(c.index.tolist())) == len(c.index)
        assert len(c.X) == len(c.Y) >= 2 * len(c.index)


@given(st.integers(0, 2**32 - 1))
def test_the_quick_check_s_6_networks_hold_every_pair_every_activation_and_every_value_of_every_option(seed):
    seen = list(random_cases(6, seed))
    assert {(c.network.output, c.network.loss) for c in seen} == set(LEGAL_PAIRS)
    assert {c.network.hidden for c in seen} == {"sigmoid", "tanh", "relu"}
    for option, values in OPTIONS.items():
        if option != "outputs":  # softmax has no 1
            assert {values_of(c)[option] for c in seen} == set(values), option


def test_the_options_vary_independently_within_a_kind():
    of_kind = [values_of(c) for c in random_cases(len(KINDS) * 40, seed=0)][:: len(KINDS)]
    for one, other in itertools.combinations(set(OPTIONS) - {"outputs"}, 2):
        assert {(v[one], v[other]) for v in of_kind} == set(itertools.product(OPTIONS[one], OPTIONS[other]))


def test_a_single_output_under_cross_entropy_meets_both_classes():
    case = random_case(Network((3, 1)), 8, seed=1)
    assert set(case.Y.ravel()) == {0.0, 1.0}


@given(st.integers(0, 2**32 - 1))
def test_random_cases_follow_their_seed(seed):
    first, second = list(random_cases(3, seed)), list(random_cases(3, seed))
    for a, b in zip(first, second, strict=True):
        assert a.network == b.network
        assert np.array_equal(a.X, b.X)
        assert np.array_equal(a.index, b.index)


def test_a_case_has_a_text_in_one_line(case):
    assert case.text == "4-4-4-4 tanh/sigmoid, cross_entropy, batch 5, momentum 0.9, l2 0.1"


def test_the_oracle_s_own_steps_are_those_of_a_right_variant(rungs, case):
    losses, parameters = oracle_trajectory(case)
    ours, our_parameters = trajectory(rungs["sliced"], case)
    assert len(losses) == len(ours) == TRAJECTORY_STEPS
    assert ours == pytest.approx(losses, rel=1e-7)
    assert losses[-1] != pytest.approx(losses[0], rel=1e-3)
    for (W, b), (W_ref, b_ref) in zip(our_parameters, parameters, strict=True):
        assert pytest.approx(W_ref, abs=1e-7) == W
        assert b == pytest.approx(b_ref, abs=1e-7)


def test_the_tolerances_are_those_that_the_design_promises(rungs, case):
    tolerances = {d.what: d.tolerance for d in deviations(rungs["sliced"], rungs["cached"], case)}
    assert tolerances[PARENT] == EQUIVALENCE_TOLERANCE == 1e-10
    assert tolerances[FINITE] == 1e-6
    assert tolerances[SINGLE] < 1e-4
