"""All of a difference is attributed: the phases and the rest add up to it."""

from __future__ import annotations

import pytest
from runs import make_run

from mlpprof.compare.variant_difference import REST, waterfall
from mlpprof.model import PHASES


def test_the_phases_and_the_rest_make_all_of_the_difference():
    old, new = make_run((32,)).results[0], make_run((500,)).results[0]
    changes = waterfall(old, new, 3e-3, 1e-3)
    whole = [change for change in changes if not change.label]
    assert [change.phase for change in whole] == [*PHASES, REST]
    assert sum(change.share for change in whole) == pytest.approx(1)
    assert sum(change.old_s for change in whole) == pytest.approx(3e-3)
    assert sum(change.new_s for change in whole) == pytest.approx(1e-3)
    assert any(change.label for change in changes)


def test_a_step_that_fuses_its_phases_is_all_rest():
    fused = make_run((32,), separable=False).results[0]
    whole = [change for change in waterfall(fused, fused, 3e-3, 1e-3) if not change.label]
    assert [change.share for change in whole] == pytest.approx([0] * len(PHASES) + [1])


def test_no_difference_has_no_shares():
    result = make_run((32,)).results[0]
    assert {change.share for change in waterfall(result, result, 1e-3, 1e-3)} == {0.0}
