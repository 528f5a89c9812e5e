"""What a fine race leaves to chance: where arrays lie, and how large the environment is."""

from __future__ import annotations

import numpy as np

from mlpprof.compare.entrants import Entrant, Environment, FunctionSubject
from mlpprof.compare.functions import FunctionReference
from mlpprof.compare.placement import PADDING_VARIABLE, ballast, with_padding


def test_arrays_that_are_made_after_another_ballast_lie_elsewhere_in_a_page():
    made = [(ballast(np.random.default_rng(seed)), np.empty(5000, np.uint8)) for seed in range(8)]
    assert len({array.ctypes.data % 4096 for _, array in made}) > 3


def test_the_padding_is_the_same_for_all_entrants_and_replaces_an_earlier_one():
    subject = FunctionSubject("f", FunctionReference("m", "f", None, ()))
    entrants = [Entrant(subject, Environment(1, variables=(("A", "1"),)), "shared") for _ in range(2)]
    first = with_padding(entrants, np.random.default_rng(0))
    assert first[0].environment == first[1].environment
    again = with_padding(first, np.random.default_rng(1))
    assert [name for name, _ in again[0].environment.variables] == ["A", PADDING_VARIABLE]
    assert again[0].environment != first[0].environment
