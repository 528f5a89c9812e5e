"""Several versions of a program from one race."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pages import make_comparison, make_program_comparison

from mlpprof.compare.history import history
from mlpprof.report.figures.gallery import drawings
from mlpprof.report.story import Story
from mlpprof.report.terminal.compare import print_comparisons
from mlpprof.report.terminal.console import text_of
from mlpprof.results import Comparison, Race, Verdict

STEPS_S = (1e-3, 0.5e-3, 0.75e-3)


def versions_of_one_race() -> list[Comparison]:
    """train.py@A, @B and @C: B is twice as fast, C loses half of that; every process has its own speed."""
    processes = np.array([1.0, 1.3, 0.8])
    turns_s = tuple(np.full((4, 3, 2), speed) * np.array(STEPS_S)[:, None] for speed in processes)
    race = Race(tuple(f"train.py@{ref}" for ref in "ABC"), ("", "", ""), 0, turns_s)
    one = make_program_comparison()
    verdicts = [Verdict(None, ratio, 0.98 * ratio, 1.02 * ratio, None, 3, "made up") for ratio in (2.0, 4 / 3)]
    return [
        replace(one, old=race.variants[0], new=race.variants[place], race=race.pair(place), verdict=verdict)
        for place, verdict in enumerate(verdicts, start=1)
    ]


def test_each_version_is_compared_with_the_one_before_from_the_turns_of_both() -> None:
    first, second, third = history(versions_of_one_race())
    assert (first.name, first.over_first, first.over_previous) == ("train.py@A", None, None)
    assert second.over_previous.ratio == pytest.approx(2)
    assert third.over_previous.ratio == pytest.approx(2 / 3)
    assert third.over_previous.is_slower and third.over_first.ratio == 4 / 3


def test_comparisons_of_several_races_or_of_variants_are_no_history() -> None:
    one, other = versions_of_one_race()
    assert history([one]) == ()
    assert history([one, replace(other, race=replace(other.race, turns_s=other.race.turns_s[:2]))]) == ()
    assert history([make_comparison(), make_comparison()]) == ()


def test_the_report_and_the_figure_show_the_versions_in_their_order_and_which_lost_the_most() -> None:
    text = text_of(lambda console: print_comparisons(versions_of_one_race(), console))
    assert text.startswith("train.py@A → train.py@C, 3 versions\n")
    rows = [line.split() for line in text.splitlines()[:8] if line.startswith("  train.py@")]
    times = (["1.00", "ms"], ["500", "µs"], ["750", "µs"])
    assert [row[:3] for row in rows] == [[f"train.py@{ref}", *time] for ref, time in zip("ABC", times, strict=True)]
    assert "The most time is lost in train.py@C." in text
    found = drawings(Story.of(comparisons=versions_of_one_race()))
    assert next(iter(found)) == "history"
    assert "train.py@A 1.00 ms; train.py@B 500 µs; train.py@C 750 µs" in found["history"].description
    [axes] = found["history"].sheet().figure.axes
    lines = [tuple(line.get_xdata()) for line in axes.get_lines()]
    assert STEPS_S in lines
