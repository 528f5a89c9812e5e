"""The study of training from a file: its files, and its tables from made-up figures."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from reports.studies.streaming import FEATURES, Layout, Losses, Measured, losses_text, memory_text, rates_text, write

ONE = Measured(
    layout="float32",
    rows=1_000,
    nbytes=1 << 21,
    memory_steps_s=800.0,
    stream_steps_s=760.0,
    share=0.95,
    memory_used_s=1e-3,
    stream_used_s=1.25e-3,
    rows_s=90_000.0,
    fancy_rows_s=3_000.0,
    hidden=0.97,
    rereads=1.0,
    disk_steps_s=1_500.0,
    peak=200 << 20,
)


def test_a_row_of_the_table_compares_the_file_with_memory_and_with_random_rows():
    (row,) = list(rates_text([ONE]))[2:]
    cells = [cell.strip() for cell in row.strip("| ").split("|")]
    assert cells[:6] == ["float32, 1,000 rows", "2.00 MiB", "800/s", "760/s", "95 %", "80 %"]
    assert cells[6:] == ["1,500/s", "97 %", "1.0 x", "90,000/s", "3,000/s", "30 x"]


def test_losses_are_compared_in_pairs_and_as_samples():
    full = [1.0 + 0.1 * seed for seed in range(20)]
    same = Losses("same", full, [loss + 1e-3 * (-1) ** seed for seed, loss in enumerate(full)])
    worse = Losses("worse", full, [loss + 0.01 for loss in full])
    assert same.wilcoxon_p > 0.5
    assert worse.wilcoxon_p < 1e-3 < 0.5 < worse.mann_whitney_p  # only the pairs show so small a difference
    mean, low, high = worse.interval
    assert low == pytest.approx(high) == pytest.approx(mean) == pytest.approx(0.01 / np.mean(full))
    assert "| worse |" in list(losses_text([same, worse]))[-1]


@pytest.mark.parametrize(("peak", "said"), [(100 << 20, "within"), (300 << 20, "above")])
def test_the_peak_of_memory_is_within_the_limit_or_above_it(peak, said):
    assert f"which is {said} the limit" in memory_text(256 << 20, cgroup=True, used=250 << 20, peak=peak)
    assert "No cgroup could be made here" in memory_text(256 << 20, cgroup=False, used=0, peak=peak)


def test_a_file_has_the_rows_in_its_layout(tmp_path: Path):
    X = np.arange(2 * FEATURES).reshape(2, FEATURES).astype(np.uint8)
    for layout in (Layout("a", "float32", {}), Layout("b", "uint8", {"chunks": (16, FEATURES)})):
        path = tmp_path / f"{layout.name}.h5"
        assert write(path, layout, 50, X, np.array([3, 4])) == path.stat().st_size
        with h5py.File(path) as file:
            assert file["X"].shape == (50, FEATURES)
            assert file["X"].dtype == layout.dtype
            assert file["X"].chunks == layout.options.get("chunks")
            assert set(np.unique(file["Y"])) == {3, 4}
