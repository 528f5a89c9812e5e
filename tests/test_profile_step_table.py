"""A recorded step as the records of a profile: its phases, expressions, operations and memory."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_step import recorded

from mlpprof.instrument.rewriting import Site
from mlpprof.profile.program import crowded, dtype_of
from mlpprof.profile.step_table import STEP_ITSELF, step_table
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import OwnTime
from mlpprof.results.step_profile import ITERATOR

STEP = """
rng = np.random.default_rng(0)
W, X, Y = rng.random((50, 80)), rng.random((80, 60)), rng.random((50, 60))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def forward():
    return sigmoid(W @ X)


def backward(A):
    return (A - Y) @ X.T + 0 * sigmoid(W)


def step():
    A = forward()
    D = backward(A)
    W[...] -= 0.01 * D
"""


@pytest.fixture(scope="module")
def recording():
    with recorded(STEP) as graph:
        yield graph, step_table(graph)


def test_the_parts_of_a_step_add_up_to_at_most_the_step_that_advise_reports(recording):
    graph, table = recording
    result = table.result
    assert result.step_s.median >= graph.step_s, "the latter is without interruptions"
    assert result.step_s.median == pytest.approx(np.median(graph.trace.times.plain_s))
    assert 0.5 < sum(result.phase_shares.values()) <= 1 + 1e-9
    for phase, share in result.phase_shares.items():
        labels = [label for label in result.labels if label.phase == phase]
        assert sum(map(result.label_share, labels)) == pytest.approx(share)


@pytest.mark.timing
def test_an_expressions_share_is_that_of_the_step_without_clocks(recording):
    graph, table = recording
    shares = {one.text: share for one, share in zip(table.expressions, table.result.label_shares.values(), strict=True)}
    span = next(span for span in graph.own_s if graph.span_text(span) == "W @ X")
    whole = sum(graph.own_s.values()) / graph.step_s
    assert shares["W @ X"] / sum(shares.values()) == pytest.approx(graph.own_s[span] / graph.step_s / whole, rel=0.2)


def test_phases_are_the_calls_of_the_step_in_the_order_in_which_they_run(recording):
    _, table = recording
    assert table.phases_from == "calls"
    assert list(table.result.phases) == ["forward", "backward", STEP_ITSELF]


def test_the_loops_iterator_is_a_phase_before_those_of_the_step():
    with recorded(STEP) as graph:
        times = graph.trace.times
        graph.trace.sites.append(Site("net.py", 1, 0, None, 1, 0))
        times.feeds = {len(graph.trace.sites) - 1}
        before_s = np.median(times.plain_s)
        times.plain_s = [1.0 + seconds for seconds in times.plain_s]
        times.clocked_s = [1.0 + seconds for seconds in times.clocked_s]
        times.sites = [{**own, max(times.feeds): OwnTime(1.0, 1)} for own in times.sites]
        result = step_table(Graph(graph.trace)).result
    assert list(result.phases) == [ITERATOR, "forward", "backward", STEP_ITSELF]
    assert result.phase_s(ITERATOR) == pytest.approx(1.0, abs=max(0.01, before_s))


def test_an_expression_that_works_for_two_phases_is_a_label_of_each(recording):
    _, table = recording
    phases = {one.phase: one for one in table.expressions if one.text == "np.exp(-z)"}
    assert set(phases) == {"forward", "backward"}
    assert (phases["forward"].times, phases["backward"].times) == (1, 1)
    assert (phases["forward"].flop, phases["backward"].flop) == (50 * 60, 50 * 80)


def test_every_expression_has_a_label_of_its_own_and_the_same_samples(recording):
    _, table = recording
    labels = table.result.labels
    assert len({label.key for label in labels}) == len(labels) == len(table.expressions)
    for label, one in zip(labels, table.expressions, strict=True):
        assert (label.phase, label.calls) == (one.phase, one.times)
        assert tuple(label.step_s.ravel()) == one.seconds


def test_operations_have_the_shapes_for_the_roofline_and_no_needed_work(recording):
    _, table = recording
    (product,) = [one for one in table.result.operations if one.label == "W @ X"]
    assert (product.kind, product.shape, product.flop, product.times) == ("product", (50, 80, 60), 2 * 50 * 80 * 60, 1)
    assert product.useful_flop is None
    assert dtype_of(table.result.operations) == "float64"


def test_the_memory_of_a_phase_is_what_its_arrays_need_at_a_time(recording):
    _, table = recording
    forward = table.result.phases["forward"]
    array = 8 * 50 * 60
    assert forward.bytes_allocated == 5 * array, "W @ X, -z, exp, 1 + and 1 /"
    assert array <= forward.peak_bytes <= 5 * array


def test_comments_name_phases():
    text = STEP.replace("A = forward()", "A = forward()  # phase: first").replace("0.01 * D", "0.01 * D  # phase: last")
    with recorded(text) as graph:
        table = step_table(graph)
    assert table.phases_from == "comments"
    assert list(table.result.phases) == ["first", STEP_ITSELF, "last"]


def test_several_threads_on_a_busy_machine_are_a_warning():
    blas = [{"loaded_by": "numpy", "threads": 2}, {"loaded_by": "scipy", "threads": 8}]
    machine = {"load_avg_1min": 6.3, "cpu_count": 2, "blas": blas}
    (warning,) = crowded(machine)
    assert "load 6.3 on 2 CPUs" in warning
    assert "the 2 threads of BLAS" in warning
    assert crowded({**machine, "load_avg_1min": 1.9}) == []
    assert crowded({**machine, "blas": [{"loaded_by": "numpy", "threads": 1}]}) == []
