"""The study of scaling: what is raced, the model and its projection, the tables and the figure, the exchange alone."""

from __future__ import annotations

import os

import numpy as np
import pytest

from mlpprof.engines.mpiexec import find_mpiexec, has_mpi4py
from reports.studies.scaling import (
    BASE,
    Cell,
    Compute,
    Exchange,
    Exchanged,
    Model,
    cells_of,
    fit_compute,
    fit_exchange,
    measure_exchange,
    models_of,
    ratios_of,
    scaling_figure,
    scaling_text,
)

EXCHANGE = Exchange(alpha_s=2e-6, beta_s=2e-10)
MODEL = Model(Compute(fixed_s=1e-4, row_s=4e-6), EXCHANGE, gradient_bytes=229_564)


def test_the_exchange_is_fitted_to_what_was_measured():
    points = [(p, n, EXCHANGE.sum_s(p, n)) for p in (2, 4) for n in (4, 4096, 229_564, 4_194_304)]
    fitted = fit_exchange(points)
    assert fitted.alpha_s == pytest.approx(2e-6)
    assert fitted.beta_s == pytest.approx(2e-10)
    assert fitted.error == pytest.approx(0, abs=1e-9)
    assert fit_exchange([(p, n, 1.5 * s if n == 4 else s) for p, n, s in points]).error > 0.05


def test_a_sum_over_four_ranks_takes_four_messages_and_one_and_a_half_times_its_bytes():
    assert EXCHANGE.sum_s(4, 1000) == pytest.approx(4 * 2e-6 + 1.5 * 1000 * 2e-10)
    assert EXCHANGE.sum_s(1000, 0) == pytest.approx(20 * 2e-6)


def test_a_fit_gives_no_negative_times():
    fitted = fit_compute({32: 1e-3, 500: 1e-3, 5000: 1e-3})
    assert fitted.fixed_s == pytest.approx(1e-3)
    assert fitted.row_s == pytest.approx(0, abs=1e-12)


def test_the_batch_at_which_sharing_stops_paying_is_where_the_efficiency_is_a_half():
    for ranks in (2, 30, 1000):
        assert MODEL.efficiency(ranks, MODEL.least_batch(ranks)) == pytest.approx(0.5)
        assert MODEL.efficiency(ranks, 2 * MODEL.least_batch(ranks)) > 0.5
    assert MODEL.least_batch(1000) > MODEL.least_batch(100)


def made_up() -> tuple[list[Cell], np.ndarray]:
    """A race in which workers are perfect, but for a tenth of a millisecond; it drifts from block to block."""
    cells = cells_of(["processes", "mpi"], [1, 2, 4])
    step_s = np.array([1e-4 * (cell.variant != BASE) + 5e-6 * cell.batch / cell.workers for cell in cells])
    return cells, np.array([1.0, 1.3, 0.9])[:, None, None] * np.repeat(step_s[:, None], 2, axis=1)


def test_ratios_are_paired_with_one_process_on_the_same_batch_or_on_the_rows_of_a_worker():
    measured = ratios_of(*made_up())
    assert measured.strong[Cell("mpi", 4, 20_000)] == pytest.approx(0.1 / (0.1 / 4 + 1e-4))
    assert measured.weak[Cell("mpi", 4, 20_000)] == pytest.approx(0.025 / (0.025 + 1e-4))
    assert {cell.batch // cell.workers for cell in measured.weak} == {500, 5000}
    assert {cell.workers for cell in measured.strong} == {1, 2, 4}


def exchanged() -> list[Exchanged]:
    cost = {"processes": EXCHANGE, "mpi": Exchange(1e-6, 4e-10)}
    return [
        Exchanged(kind, p, size, cost[kind].sum_s(p, 4 * size)) for p in (2, 4) for kind in cost for size in (1, 57_391)
    ]


def test_the_tables_and_the_figure_say_what_is_measured_and_what_is_modelled():
    measured = ratios_of(*made_up())
    models = models_of(measured, exchanged(), 4 * 57_391)
    text = scaling_text(measured, exchanged(), models, "mpi", models["mpi"], False, {"threaded": "no threads"}, 57_391)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert all("measured" in heading for heading in headings)
    assert "## Up to 1,000 ranks: modelled, not measured" in headings
    assert "`threaded` did not take part: no threads" in text
    ratio = Exchange(1e-6, 4e-10).sum_s(4, 4 * 57_391) / EXCHANGE.sum_s(4, 4 * 57_391)
    assert f"`processes` exchanges {ratio:.2f} times as fast as `mpi`" in text
    assert "| 4 | 1 | 8.00 µs | 4.00 µs | 2.00 |" in text
    assert "fitted to `mpi` in the memory of this machine" in text
    figure = scaling_figure(measured, models, "mpi", models["mpi"])
    assert [axes.get_title() for axes in figure.axes][1:] == ["weak scaling, measured", "modelled, not measured"]


def test_without_a_second_core_nothing_is_projected():
    cells = cells_of(["processes"], [1])
    measured = ratios_of(cells, np.full((2, len(cells), 2), 1e-3))
    text = scaling_text(measured, [], {}, None, None, False, {}, 57_391)
    assert "modelled, not" not in text
    assert scaling_figure(measured, {}, None, None).axes[2].lines[:] == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_the_exchange_of_a_team_and_of_ranks_is_timed():
    kinds = ["threaded", "processes", *(["mpi"] if has_mpi4py() and find_mpiexec() else [])]
    found = measure_exchange(kinds, [1, 2], [5000], 2, lambda what, share: None)
    assert [(one.kind, one.workers, one.size) for one in found] == [(k, 2, 5000) for k in kinds]
    assert all(one.seconds > 0 for one in found)
