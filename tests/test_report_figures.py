"""Figures: axes that name what they show, curves within their frame, texts that keep their distance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pages import make_comparison, make_ladder, make_program_comparison
from runs import make_run

from mlpprof.report.figures.canvas import NARROW, WIDE, style
from mlpprof.report.figures.gallery import drawings
from mlpprof.report.figures.ratios import Ratio, ratio_rows, waterfall_rows
from mlpprof.report.figures.reproduction import figure_canvas, write_figure
from mlpprof.report.story import Story
from mlpprof.results import PhaseChange
from mlpprof.results.reproduction import Curve, Figure, Panel

REFERENCE = Curve("naive", (1.0, 2.0, 3.0), (0.9, 0.5, 0.2), dashed=True)
OTHER = Curve("sliced", (1.0, 2.0, 3.0), (0.9, 0.5, 0.05), (0.8, 0.4, 0.01), (1.0, 0.6, 0.1))


def figure(**options) -> Figure:
    return Figure("loss", "Loss by epoch.", (Panel("loss", "epoch", "loss", (REFERENCE, OTHER), **options),))


def test_a_reference_is_drawn_above_the_curves_that_it_covers():
    (axes,) = figure_canvas(figure()).axes
    reference, other = axes.get_lines()
    assert reference.get_zorder() > other.get_zorder()
    assert reference.is_dashed() and not other.is_dashed()


def test_the_axis_contains_every_curve_and_at_least_its_own_limits():
    (axes,) = figure_canvas(figure(y_limits=(0.1, 0.7))).axes
    low, high = axes.get_ylim()
    assert low <= 0.05
    assert high >= 0.9
    (axes,) = figure_canvas(figure(y_limits=(0.0, 2.0))).axes
    assert axes.get_ylim() == (0.0, 2.0)


@pytest.mark.parametrize(
    ("band", "words"), [("all seeds", ["naive", "sliced", "band: all seeds"]), ("", ["naive", "sliced"])]
)
def test_the_legend_explains_the_bands(band, words):
    (axes,) = figure_canvas(figure(band=band)).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == words


def test_a_figure_is_written_as_png_and_svg_that_are_the_same_each_time(tmp_path: Path):
    first = [path.read_bytes() for path in write_figure(figure(), tmp_path)]
    assert first[0].startswith(b"\x89PNG")
    assert [path.read_bytes() for path in write_figure(figure(), tmp_path)] == first


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_differences_show_old_and_new_beside_each_other_and_the_interval_from_the_old_time(width):
    comparison = make_program_comparison()
    first, *others = comparison.programs.expressions
    certain = replace(first, low_s=0.8e-3, high_s=1.2e-3)
    shown = replace(comparison, programs=replace(comparison.programs, expressions=(certain, *others)))
    drawing = drawings(Story.of(comparisons=[shown]))["differences"]
    assert "17: tanh(z + 0 * z) 1.00 ms before, 2.00 ms after" in drawing.description
    [axes] = drawing.sheet(width).figure.axes
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [1e-3, 2e-3, 0.0, 1e-4, 1e-4, 0.0]
    assert [list(line.get_xdata()) for line in axes.get_lines()] == [[pytest.approx(1.8e-3), pytest.approx(2.2e-3)]]


@pytest.mark.parametrize(("width", "between"), [(WIDE, ", "), (NARROW, "\n")])
def test_the_axis_of_ratios_names_the_baseline_and_says_that_it_is_logarithmic(width, between):
    with style():
        sheet = ratio_rows([Ratio("sliced", 0, 1.2, 1.1, 1.3)], width, baseline="naive")
    (axes,) = sheet.figure.axes
    assert axes.get_xlabel() == f"times as fast as naive{between}95 % interval, logarithmic axis"


def test_the_speedups_of_a_ladder_and_of_comparisons_name_what_they_are_compared_with():
    ladder = Story.of(ladders=[make_ladder(names=("per_sample", "naive", "sliced"), profiled=False)])
    assert "as fast as naive" in drawings(ladder)["speedup"].sheet().figure.axes[0].get_xlabel()
    one, other = make_comparison(), replace(make_comparison(), old="naive")
    several = drawings(Story.of(comparisons=[one, other]))["speedup"].sheet()
    assert "as fast as the old variant" in several.figure.axes[0].get_xlabel()
    assert "dashed: claimed" in several.figure.axes[0].get_xlabel()
    assert {"sliced / cached", "sliced / naive"} <= {text.get_text() for text in several.figure.axes[0].texts}


def test_lost_time_is_called_lost_and_not_negative():
    changes = (
        PhaseChange("forward", None, "", 2e-3, 1e-3, 1.05),
        PhaseChange("(rest)", None, "", 10e-6, 53.8e-6, -0.046),
    )
    with style():
        sheet = waterfall_rows(replace(make_comparison(), waterfall=changes), WIDE)
    texts = [text.get_text() for text in sheet.figure.axes[0].texts]
    assert "43.8 µs lost, −4.6 %" in texts
    assert "1.00 ms saved, 105.0 %" in texts


def test_a_text_keeps_its_distance_from_its_bar_without_blanks():
    sheet = drawings(Story.of(runs=[make_run()]))["layers"].sheet()
    texts = [text.get_text() for text in sheet.figure.axes[0].texts]
    assert not [text for text in texts if text != text.strip()]
