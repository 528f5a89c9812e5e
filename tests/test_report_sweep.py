"""The report of a sweep: tables by class of machine, the winners, CSV and figure."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pages import HOSTILE
from sweeps import CLASS, shown, sweep

from mlpprof.report.figures.sweep import scaling_drawings
from mlpprof.report.files.csv_tables import sweep_csv
from mlpprof.report.files.formats import write_sweep
from mlpprof.report.page.sweep import sweep_html
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
    noisy = shown("sliced", "naive", over_s=1e-4, ratio=1.7, low=0.9, high=2.9)
    assert [one.name for one in sweep(noisy, slower, faster).winners(CLASS)] == ["cached"]


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
    assert names == ["sweep.txt", "sweep.csv", "sweep.json", "sweep.html", "sweep.png", "sweep.svg"]
    rows = list(csv.DictReader(io.StringIO(sweep_csv(found))))
    assert [(row["machine"], row["target"], row["step_s"]) for row in rows] == [
        (CLASS, "naive", "0.0002"),
        (CLASS, "cached", "0.0002"),
        (OTHER, "naive", "0.0002"),
    ]
    drawn = (tmp_path / "sweep.svg").read_text()
    assert f"batch 30, 1 thread on {CLASS}: cached, 200 µs" in drawn


def test_scaling_has_a_line_for_each_target_on_one_class_of_machines():
    found = sweep(
        shown("cached", "naive", batch=10, step_s=1e-4, over_s=2e-4, ratio=2.0, low=1.9, high=2.1),
        shown("cached", "naive", batch=40, step_s=2e-4, over_s=6e-4, ratio=3.0, low=2.9, high=3.1),
        shown("cached", "naive", batch=40, step_s=9e-4, over_s=9e-4, ratio=1.0, low=0.9, high=1.1, layers="20-80-3"),
        shown("cached", "naive", batch=90, machine=OTHER),
    )
    by_batch, by_size = scaling_drawings(found, CLASS)
    assert by_batch.title == "Time per sample by batch size: 20-8-5-3, 1 thread"
    assert (
        "naive from 20.0 µs at 10 to 15.0 µs at 40; cached from 10.0 µs at 10 to 5.00 µs at 40" in by_batch.description
    )
    assert by_size.title == "Time per step by weights of the network: batch 40, 1 thread"
    assert "cached from 200 µs at 215 to 900 µs at 1,840" in by_size.description
    assert scaling_drawings(found, OTHER) == []


def test_the_page_shows_each_class_of_machines_with_its_map_and_escapes_what_users_wrote():
    page = sweep_html(
        sweep(
            shown(f"{HOSTILE}.py", layers=None, batch=None),
            shown("cached", batch=30),
            shown("cached", batch=300),
            shown("naive", machine=f"{OTHER} {HOSTILE}"),
            shown("scalar", state=FAILED, machine=None, step_s=None, error=HOSTILE),
        )
    )
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert page.count("<svg") == 4, "two maps, and scaling by batch for a desk and for a phone"
    assert "4 of 5 cells are done, 1 failed" in page
    assert page.index("cached at 2 of 3 settings") < page.index("naive at 1 of 1 settings")
