"""What takes much of a step is named: by a finding where a faster form is known, else with what is known of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded_step import recorded

from mlpprof.advise.candidate import Candidate
from mlpprof.advise.expensive import uncovered
from mlpprof.advise.findings import candidates_of
from mlpprof.instrument.rewriting import Site

pytestmark = pytest.mark.timing

HEAD = """\
random = np.random.default_rng(3)
X = random.normal(0, 1, (300, 200)).astype(np.float32)
y = random.normal(0, 1, 300).astype(np.float32)
W = random.normal(0, 0.1, (200, 100)).astype(np.float32)
def step():
    global W
    H = X @ W
"""
TAIL = """
    W = W - np.float32(1e-9) * (X.T @ H)
"""


def found(*lines):
    """(titles of the findings, (text, known) of what they do not cover)."""
    with recorded(HEAD + "\n".join(f"    {line}" for line in lines) + TAIL) as graph:
        candidates = candidates_of(graph).large
        return [one.title for one in candidates], {one.text: one.known for one in uncovered(graph, candidates)}


def test_products_that_blas_cannot_do_are_one_finding_a_dtype():
    halves = ("half = H[:60].astype(np.float16)", "c = half.T @ half", "d = half @ half.T")
    integers = ("whole = (9 * H[:60]).astype(int)", "e = whole.T @ whole")
    titles, _ = found(*halves, *integers, "H += 0 * (c[0, 0] + d[0, 0] + e[0, 0])")
    assert any(one.endswith("and 1 other product multiply float16, which BLAS cannot do") for one in titles)
    assert "`whole.T @ whole` multiplies int64, which BLAS cannot do" in titles


def test_a_column_that_meets_a_row_is_named_and_a_wanted_table_of_pairs_is_not():
    [title], _ = found("error = H[:, :1] - y", "H *= np.float32(1e-9) * np.fmod(error, 2).mean()")
    assert title == "`H[:, :1] - y` of shapes (300, 1) and (300,) makes an array of (300, 300)"
    titles, known = found("error = H[:, 0][:, None] - H[:, 0]", "H *= np.float32(1e-9) * np.fmod(error, 2).mean()")
    assert not any("makes an array" in one for one in titles)
    assert known["np.fmod(error, 2)"].endswith("times as long as a copy of as many bytes.")


def test_products_at_the_speed_of_blas_are_named_with_their_sizes_and_no_faster_form():
    titles, known = found()
    assert titles == []
    assert known.keys() == {"X @ W", "X.T @ H"}
    assert "a product of 300 x 200 x 100 in float32" in known["X @ W"]
    assert known["X @ W"].endswith("mlpprof knows no faster form of it.")


def test_what_a_finding_explains_is_not_named_again_unless_it_saves_only_a_little_of_it():
    with recorded(HEAD + TAIL) as graph:
        covers = frozenset(event.index for event in graph.last if event.kind == "product")
        one = Candidate("layout", Site("net.py", 9, 0, None, 9, 1), "", "", "", (1.0, 1.0), "", covers=covers)
        assert uncovered(graph, [one]) == []
        little = replace(one, saved_s=(0.01 * graph.step_s, 0.01 * graph.step_s))
        assert len(uncovered(graph, [little])) == 2
