"""What an update in place does to the page faults of a step: its allocations are made again in another process."""

from __future__ import annotations

import pytest
from recorded_step import recorded

from mlpprof.advise.heap import more_faults_s, page_faults, trim

pytestmark = pytest.mark.skipif(trim() is None, reason="the allocator is not glibc's")

MEGABYTE = 1 << 20

PROGRAM = """\
W = np.zeros((400, 400))
def step():
    global W
    A = W + 1.0
    B = A + 1.0
    W = B * 0.5
"""


def test_what_is_freed_at_the_end_of_the_heap_is_on_new_pages_in_every_step():
    blocks = [(0, 2, MEGABYTE), (1, 3, MEGABYTE)]
    assert page_faults(blocks, [], 4, MEGABYTE) >= 2 * MEGABYTE / 4096 / 2
    assert page_faults(blocks, [], 4, 64 * MEGABYTE) == 0


@pytest.mark.parametrize(("least", "is_known"), [(None, False), (64 * MEGABYTE, True), (1, True)])
def test_what_an_update_in_place_costs_is_known_only_with_the_threshold_of_the_allocator(least, is_known):
    with recorded(PROGRAM) as graph:
        graph.trace.times.given_back_from = least
        cured = [event for event in graph.last if event.name == "multiply"]
        low, high = more_faults_s(cured, graph)
    assert low <= high
    if not is_known or least > MEGABYTE:
        assert (low, high) == (0.0, 0.0)
