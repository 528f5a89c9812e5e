"""The report of a sweep: tables by class of machine, the winners, CSV and figure."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from sweeps import CLASS, shown, sweep

from mlpprof.report.files.csv_tables import sweep_csv
from mlpprof.report.files.formats import write_sweep
from mlpprof.report.terminal.console import text_of
from mlpprof.report.terminal.sweep import print_sweep
from mlpprof.results.sweep import FAILED, INVALID

OTHER = "aarch64 NEON, 8 cores, openblas NEOVERSEN1"


def test_the_winner_of_a_setting_is_the_fastest_on_its_class_of_machine_only():
    found = sweep(
        shown("naive", step_s=4e-4),
        shown("cached", step_s=3e-4),
        shown("naive", batch=30, state=INVALID, step_s=1e-4),
        shown("cached", batch=30),
        shown("naive", machine=OTHER, step_s=1e-4),
    )
    assert found.machines == (CLASS, OTHER)
    assert [(one.name, one.setting[1]) for one in found.winners(CLASS)] == [("cached", 10), ("cached", 30)]
    assert [one.name for one in found.winners(OTHER)] == ["naive"]


def test_the_baseline_wins_a_setting_where_no_target_is_faster():
    slower = shown("scalar", "naive", over_s=1e-4, ratio=0.5, low=0.4, high=0.6)
    [winner] = sweep(slower).winners(CLASS)
    assert (winner.name, winner.step_s, winner.ratio) == ("naive", 1e-4, 1.0)
    unclear = shown("cached", "naive", over_s=1e-4, ratio=1.05, low=0.9, high=1.2)
    assert [one.name for one in sweep(slower, unclear).winners(CLASS)] == ["naive"]
    faster = shown("cached", "naive", over_s=1e-4, ratio=1.5, low=1.4, high=1.6)
    assert [one.name for one in sweep(slower, faster).winners(CLASS)] == ["cached"]


def test_the_tables_group_by_class_of_machine_and_show_why_a_cell_is_not_done():
    text = text_of(
        lambda console: print_sweep(
            sweep(
                shown("cached", "naive", over_s=3e-4, ratio=1.5, low=1.4, high=1.6),
                shown("naive", machine=OTHER),
                shown("scalar", state=FAILED, machine=None, step_s=None, error="the worker died"),
            ),
            console,
        )
    )
    assert "2 of 3 cells are done, 1 failed" in text
    assert text.index(CLASS) < text.index("cached") < text.index(OTHER) < text.index("the worker died")
    assert "1.50" in text and "20-8-5-3, batch 10, 1 thread" in text


def test_the_files_hold_every_cell_and_the_figure_names_the_winner(tmp_path: Path):
    found = sweep(shown("naive"), shown("cached", batch=30), shown("naive", machine=OTHER))
    names = [path.name for path in write_sweep(found, tmp_path)]
    assert names == ["sweep.txt", "sweep.csv", "sweep.json", "sweep.png", "sweep.svg"]
    rows = list(csv.DictReader(io.StringIO(sweep_csv(found))))
    assert [(row["machine"], row["target"], row["step_s"]) for row in rows] == [
        (CLASS, "naive", "0.0002"),
        (CLASS, "cached", "0.0002"),
        (OTHER, "naive", "0.0002"),
    ]
    drawn = (tmp_path / "sweep.svg").read_text()
    assert f"batch 30, 1 thread on {CLASS}: cached, 200 µs" in drawn
