"""The report of a user's own program, from made-up runs: terminal, page, figures, files and disk."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import h5py
import pytest
from rich.console import Console
from runs import PROGRAM_SOURCE, assert_equal_records, make_program_run, make_run

from mlpprof.report.figures.gallery import drawings
from mlpprof.report.files.formats import RUNS
from mlpprof.report.notebook.views import RunView
from mlpprof.report.page.page import page_html
from mlpprof.report.sentences import slowest_part
from mlpprof.report.story import Story
from mlpprof.report.terminal.compare import print_stored
from mlpprof.report.terminal.profile import print_run
from mlpprof.results import LineProfile, LineTime
from mlpprof.results.on_disk import load_run, run_file_name, save_run


def shown(run, width=100, verbose=False):
    buffer = io.StringIO()
    print_run(run, Console(file=buffer, width=width, color_system=None), verbose=verbose)
    return buffer.getvalue()


def squeezed(text):
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_report_fits_the_screen_and_shows_the_step_its_phases_and_its_expressions(width):
    text = shown(make_program_run(limits=True, lines=True, stacks=True), width)
    assert max(map(len, text.splitlines())) <= width
    for part in (
        "net.py:step (mlpprof found it; --step NAME chooses another one)",
        "--epochs 3",
        "2.50 s until the first step: the program's own work, and mlpprof's to watch it",
        "for 2 runs of the program, and loading was 50 % of that",
        "from the calls that the step makes",
        "Net.update takes 80 % of the step; its slowest expression is np.outer(d1[:, i], X[:, i])",
    ):
        assert part in squeezed(text)


def test_a_step_of_one_phase_names_its_slowest_expression_and_no_share_of_100_percent():
    result = make_program_run().results[0]
    labels = tuple(label for label in result.labels if label.phase == "Net.update")
    one = replace(result, phases={"Net.update": result.phases["Net.update"]}, labels=labels)
    assert slowest_part(one).startswith("the slowest expression of the step is np.outer(d1[:, i], X[:, i]) (")


def test_what_is_not_known_of_a_program_is_left_out():
    text = shown(make_program_run(limits=True))
    for word in ("workload", "batch", "epoch,", "samples per second", "layer", "not checked"):
        assert word not in text, word


def test_small_expressions_are_added_up_unless_all_are_wanted():
    text = shown(make_program_run())
    assert "other 2 below 0.5 % each 0.1 %" in squeezed(text).replace("▏", "").replace("  ", " ")
    assert "Y.shape[1]" not in text
    assert "Y.shape[1]" in shown(make_program_run(), verbose=True)


def test_a_step_that_clocks_slow_down_is_reported_with_parts_of_the_undisturbed_step():
    run = make_program_run(slower=1.8)
    result = run.results[0]
    assert sum(map(result.phase_s, result.phases)) <= result.step_s.median
    text = squeezed(shown(run))
    assert "with clocks on expressions (limit 5 %) ! +80.0 %" in text
    assert "their time was subtracted" in text


def test_expressions_of_several_files_have_their_file_beside_the_line():
    run = make_program_run()
    first, *others = run.program.expressions
    elsewhere = replace(run, program=replace(run.program, expressions=(replace(first, file="layers.py"), *others)))
    assert "net.py:19" in shown(elsewhere)
    assert "net.py:19" not in shown(run)


def test_a_step_without_expressions_is_reported_in_words():
    run = make_program_run(expressions=())
    empty = replace(run.results[0], labels=(), phases={}, operations=(), separable=False)
    text = squeezed(shown(replace(run, results=(empty,))))
    assert "none of its expressions could be timed" in text


def test_markup_in_a_program_stays_text():
    run = make_program_run(step="[blink].py:step", arguments=("[red]\x1b[31m",))
    (first, *others), program = run.program.expressions, run.program
    hostile = replace(first, text="x['[bold]\x1b[31m']")
    text = shown(replace(run, program=replace(program, expressions=(hostile, *others))))
    for markup in ("[blink]", "[red]", "[bold]"):
        assert markup in text
    assert "\x1b" not in text


def test_a_run_of_a_program_comes_back_from_its_file(tmp_path):
    run = make_program_run(limits=True, lines=True, stacks=True)
    path = save_run(run, tmp_path / run_file_name(run))
    assert path.name == "20261121T003005Z-net.h5"
    assert_equal_records(load_run(path), run)
    assert path.read_bytes().startswith(b"mlpprof-run schema=2 ")
    assert save_run(make_run(), tmp_path / "a.h5").read_bytes().startswith(b"mlpprof-run schema=1 "), "as before"
    with h5py.File(path) as file:
        assert "seconds" in json.loads(file["run"][()])["program"]["expressions"][0], "empty, as the labels have them"


def test_every_format_of_runs_takes_a_program(tmp_path):
    run = make_program_run(limits=True, lines=True, stacks=True)
    for one in RUNS.formats:
        assert RUNS.write([run], tmp_path / f"run{one.ending}").stat().st_size > 100
    rows = list(csv.DictReader(io.StringIO((tmp_path / "run.csv").read_text())))
    assert {row["batch"] for row in rows} == {""}
    assert {row["label"] for row in rows} >= {"self.W1 @ X"}
    lines = (tmp_path / "run.lprof.txt").read_text()
    assert "File: net.py\nFunction: Net.forward at line 12" in lines
    trace = json.loads((tmp_path / "run.trace.json").read_text())
    assert trace["traceEvents"][0]["args"]["name"] == "net.py (float64)"
    frames = json.loads((tmp_path / "run.speedscope.json").read_text())["shared"]["frames"]
    assert {frame["file"] for frame in frames} == {"net.py"}


def test_the_line_view_of_a_program_shows_each_of_its_files():
    other = LineProfile(0, 50, 1.0, (LineTime(1, 50, 0.1, "layers.py"), LineTime(13, 50, 0.4, "net.py")))
    run = replace(make_program_run(sources={"net.py": PROGRAM_SOURCE, "layers.py": "x = 3"}), lines=other)
    text = squeezed(shown(run))
    assert "layers.py line calls time share source 1 1 2.00 ms 10.0 % x = 3" in text
    assert "net.py line calls time share source" in text


def test_the_page_of_a_program_shows_its_phases_in_colours_and_its_source():
    html = page_html(Story.of(runs=[make_program_run(limits=True, lines=True)]))
    assert "batch 0" not in html
    loading = "from the start of the program to its first step"
    for part in ("Net.update", "Expression by expression", "class Net:", loading):
        assert part in html
    assert 'value="Net.update"' in html
    assert 'value="fetch_batch"' not in html


def test_the_figures_of_a_program_are_those_of_a_variant_but_for_its_batch_size():
    found = drawings(Story.of(runs=[make_program_run(limits=True)]))
    assert set(found) == {"phases", "layers", "roofline", "samples"}
    assert found["layers"].title == "A step of net.py, by phase and expression"
    for one in found.values():
        assert "batch" not in one.title
        one.sheet()


def test_a_notebook_shows_the_run_of_a_program():
    html = RunView(make_program_run())._repr_html_()
    assert "self.W1 @ X" in html
    assert "batch" not in html


def test_several_programs_are_shown_beside_each_other_by_their_own_phases():
    runs = [make_program_run(), make_program_run(slower=1.0)]
    html = page_html(Story.of(runs=runs))
    assert '<th scope="col" data-phase="Net.update">Net.update</th>' in html
    assert "fetch_batch" not in html.replace("--fetch_batch", "")
    mixed = page_html(Story.of(runs=[*runs, make_run()]))
    for phase in ("fetch_batch", "Net.update"):
        assert f'<th scope="col" data-phase="{phase}">{phase}</th>' in mixed
    buffer = io.StringIO()
    print_stored(runs, Console(file=buffer, width=100))
    assert "Net.update 16.0 ms 16.0 ms" in squeezed(buffer.getvalue())


def test_interruptions_under_clocks_do_not_make_parts_larger_than_the_step():
    run = make_program_run()
    result = run.results[0]
    labels = []
    for number, label in enumerate(result.labels):
        samples = label.step_s.copy()
        samples[number % 4] *= 40  # in each round, other expressions are interrupted
        labels.append(replace(label, step_s=samples))
    interrupted = replace(result, labels=tuple(labels))
    for label in labels:
        assert interrupted.label_share(label) == pytest.approx(result.label_share(label), rel=0.03)
    assert interrupted.phases_over_total == pytest.approx(result.phases_over_total, rel=0.03)
