"""Bytes allocated, peaks and page faults by phase, against phases that allocate known arrays."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest

from mlpprof.instrument.clocks import PhaseClock
from mlpprof.instrument.memory import MemoryWatch, PhaseMemory, page_faults
from mlpprof.model import PHASES, Network

KIB = 1024
SLACK = 2 * KIB
"""Python objects and NumPy's array headers beside the data take some hundred bytes per line."""


class Known:
    """Phases that allocate as their comments say; 1 unit is 1 MiB."""

    UNIT = 1 << 20

    def fetch_batch(self):
        self.kept = np.empty(self.UNIT, np.uint8)  # 1, kept

    def forward(self):
        for _ in range(3):
            freed = np.empty(self.UNIT, np.uint8)  # 1 each time, the one before is freed after the new one is there
        del freed

    def loss(self):
        return float(np.empty((2, self.UNIT), np.uint8).shape[0])  # 2, freed within the line

    def backward(self):
        one = [np.empty(self.UNIT, np.uint8) for _ in range(4)]  # 4 at a time in one line
        one.clear()
        self.helper()  # 3 more, in another function

    def helper(self):
        self.two = np.empty(2 * self.UNIT, np.uint8)  # 2, kept
        del self.two
        np.empty(self.UNIT, np.uint8)  # 1

    def update(self):
        return sum(range(5))  # nothing

    def train_step(self):
        self.fetch_batch()
        self.forward()
        self.loss()
        self.backward()
        self.update()


def second_step(instance: Known) -> dict[str, PhaseMemory]:
    """The memory of the second step, since Python allocates objects of its own in the first one."""
    with MemoryWatch(instance) as watch:
        instance.train_step()
        watch.take()
        instance.train_step()
        return watch.take()


@pytest.fixture(scope="module")
def known() -> dict[str, PhaseMemory]:
    return second_step(Known())


@pytest.mark.parametrize(
    ("phase", "allocated", "peak"),
    [("fetch_batch", 1, 1), ("forward", 3, 2), ("loss", 2, 2), ("backward", 7, 4), ("update", 0, 0)],
)
def test_a_phase_has_the_bytes_it_allocated_in_all_and_at_a_time(known, phase, allocated, peak):
    assert known[phase].bytes_allocated == pytest.approx(allocated * Known.UNIT, abs=SLACK)
    assert known[phase].peak_bytes == pytest.approx(peak * Known.UNIT, abs=SLACK)


def test_two_arrays_alive_in_one_line_count_both_and_two_after_one_another_count_the_larger():
    class Lines(Known):
        def forward(self):
            np.empty(self.UNIT, np.uint8) + np.empty(self.UNIT, np.uint8)  # two operands, the result into one of them

        def backward(self):
            np.empty(self.UNIT, np.uint8), np.empty(2 * self.UNIT, np.uint8)

        def update(self):
            float(np.empty(self.UNIT, np.uint8).size) + float(np.empty(2 * self.UNIT, np.uint8).size)

    taken = second_step(Lines())
    assert taken["forward"].bytes_allocated in (
        pytest.approx(2 * Known.UNIT, abs=SLACK),  # NumPy reuses the memory of a temporary operand ...
        pytest.approx(3 * Known.UNIT, abs=SLACK),  # ... where it can see that nobody else holds it
    )
    assert taken["backward"].bytes_allocated == pytest.approx(3 * Known.UNIT, abs=SLACK)
    assert taken["update"].bytes_allocated == pytest.approx(2 * Known.UNIT, abs=SLACK)  # the documented lower bound


def test_a_gather_of_known_size_is_found_in_a_rung(rungs):
    network = Network((200, 3, 2))
    X, Y = np.ones((1000, 200)), np.ones((1000, 2))
    instance = rungs["sliced"](network, network.initial_parameters(0))
    with MemoryWatch(instance) as watch:
        for _ in range(2):
            instance.train_step(X, Y, np.arange(500))
            taken = watch.take()
    assert list(taken) == list(PHASES)
    gathered = 500 * (200 + 2) * 8
    assert taken["fetch_batch"].bytes_allocated == pytest.approx(gathered, rel=0.02)


def test_take_reads_and_clears_and_leaves_out_phases_that_were_not_called():
    instance = Known()
    with MemoryWatch(instance) as watch:
        instance.forward()
        assert list(watch.take()) == ["forward"]
        assert watch.take() == {}


def test_tracing_ends_with_the_block_also_after_an_exception():
    instance = Known()
    instance.loss = lambda: 1 / 0
    before = sys.gettrace()
    with pytest.raises(ZeroDivisionError), MemoryWatch(instance):
        assert tracemalloc.is_tracing()
        instance.train_step()
    assert not tracemalloc.is_tracing()
    assert sys.gettrace() is before


def test_values_and_arguments_pass_through():
    class Passing(Known):
        def fetch_batch(self, X, Y, index):
            return [X, Y, index]

    instance = Passing()
    with MemoryWatch(instance):
        assert instance.fetch_batch(1, 2, 3) == [1, 2, 3]
        assert instance.loss() == 2.0


needs_faults = pytest.mark.skipif(page_faults() is None, reason="this system does not count page faults")


@needs_faults
def test_every_page_of_a_fresh_large_allocation_faults_where_it_is_touched():
    page = 4 * KIB

    class Touching(Known):
        UNIT = 64 << 20  # far above what any allocator keeps for itself

        def forward(self):
            self.block = np.empty(self.UNIT, np.uint8)  # no page of it is there yet

        def backward(self):
            self.block[::page] = 1

    instance = Touching()
    count = PhaseClock(instance, page_faults)
    instance.forward()
    instance.backward()
    faults = count.take()
    pages = Touching.UNIT // page
    assert faults["forward"] < pages / 20
    # One fault a page, or one a huge page of 2 MiB where the system makes those.
    assert pages // 512 - 2 <= faults["backward"] <= pages * 1.05 + 100
    assert faults["backward"] > 10 * faults["update"]
