"""The rows of tables, and that every report shows the same number for the same thing."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from pages import make_comparison, make_ladder
from rich.console import Console
from runs import make_run

from mlpprof.report.figures.phases import bar_parts
from mlpprof.report.files.traces import timeline
from mlpprof.report.json_documents import profile_json
from mlpprof.report.notebook.views import RunView
from mlpprof.report.numbers import format_percent, format_time
from mlpprof.report.page.page import page_html
from mlpprof.report.rows import comparison_table, phase_table, race_table, statement_table, time_table
from mlpprof.report.story import Story
from mlpprof.report.terminal.console import table_lines
from mlpprof.report.terminal.profile import report_text
from mlpprof.results import PhaseChange


def shown(table, width=200) -> str:
    buffer = io.StringIO()
    console = Console(file=buffer, width=width)
    for part in table_lines(table, width):
        console.print(part)
    return buffer.getvalue()


def test_every_report_shows_the_same_share_and_time_of_a_phase():
    run = make_run(seed=3)
    result = run.results[0]
    share, time_s = result.phase_share("backward"), result.phase_s("backward")
    percent, time = format_percent(share), format_time(time_s)

    assert re.search(rf"^  backward +{re.escape(percent)} .* {re.escape(time)} ", report_text(run), re.MULTILINE)
    page = page_html(Story.of(runs=[run]))
    cell = re.search(
        r'<tr data-phase="backward">\s*<th[^>]*>backward</th>\s*<td[^>]*>([^<]*)</td>\s*<td[^>]*>([^<]*)<', page
    )
    assert cell is not None
    assert cell.groups() == (percent, time)
    assert f"backward {time}, {percent} of the step" in page, "the bar of the figure"
    notebook = RunView(run)._repr_html_()
    assert re.search(rf"<td[^>]*>backward</td><td[^>]*>{percent}</td><td[^>]*>{time}</td>", notebook)
    document = profile_json(run)["results"][0]["phases"]["backward"]
    assert (document["share"], document["median_s"]) == (share, time_s)
    assert dict(bar_parts(result))["backward"] == share
    assert next(one for one in timeline(result) if one.name == "backward").share == share


def test_every_report_shows_the_same_share_of_a_statement():
    run = make_run(seed=3)
    result = run.results[0]
    label = max(result.labels, key=result.label_share)
    percent = format_percent(result.label_share(label))
    assert re.search(rf"{label.layer}  {label.label} .*\*{percent}", report_text(run))
    assert f'<td class="slowest">{percent}</td>' in RunView(run)._repr_html_()
    (found,) = [one for one in profile_json(run)["results"][0]["labels"] if one["share"] == result.label_share(label)]
    assert (found["label"], found["layer"]) == (label.label, label.layer)
    slices = [one.share for one in timeline(result) if (one.label, one.layer) == (label.label, label.layer)]
    assert slices == [result.label_share(label)]


def test_shares_of_parts_never_add_up_to_more_than_the_whole():
    result = make_run().results[0]
    slow = {name: replace(phase, step_s=1.2 * phase.step_s) for name, phase in result.phases.items()}
    crowded = replace(result, phases=slow, labels=tuple(replace(x, step_s=2 * x.step_s) for x in result.labels))
    assert sum(crowded.phase_shares.values()) == pytest.approx(1)
    assert crowded.rest_share == pytest.approx(0)
    for name in crowded.phases:
        labelled = sum(crowded.label_share(label) for label in crowded.labels if label.phase == name)
        assert labelled <= crowded.phase_share(name) * (1 + 1e-12)


def test_on_a_busy_machine_the_shares_still_add_up_to_what_the_phases_do_together():
    result = make_run().results[0]
    # a neighbour slows one phase of every step down, another one each time
    hit = np.random.default_rng(0).integers(len(result.phases), size=result.phases_pass_s.shape)
    slowed = {
        name: replace(phase, step_s=phase.step_s * np.where(hit == i, 6, 1))
        for i, (name, phase) in enumerate(result.phases.items())
    }
    busy = replace(result, phases=slowed, phases_pass_s=sum(phase.step_s for phase in slowed.values()) / 0.98)
    assert sum(busy.phase_shares.values()) == pytest.approx(busy.phases_over_total)
    assert busy.rest_share == pytest.approx(0.02)


def test_phases_and_rest_add_up_to_the_step():
    run = make_run()
    result = replace(run.results[0], phases_pass_s=1.02 * run.results[0].phases_pass_s)
    table = phase_table(Story.of(runs=[replace(run, results=(result,))]).measured)
    assert table.rows[-1].cells[0].text == "rest"
    assert sum(row.cells[1].value for row in table.rows) == pytest.approx(1)


def test_a_cell_sorts_by_its_number_and_words_have_none():
    (row,) = time_table(Story.of(runs=[make_run()]).measured).rows
    assert [cell.value is None for cell in row.cells] == [False] * 7
    race = race_table(make_ladder(names=("naive", "float32"), profiled=False))
    assert [cell.value is None for cell in race.rows[1].cells] == [True, True, False, False, False]
    assert race.rows[1].cells[3].mark == "good"


def test_a_race_is_compared_with_its_root_wherever_that_stands():
    ladder = make_ladder(names=("per_sample", "naive"), profiled=False)
    assert ladder.root.name == "naive"
    assert race_table(ladder).columns[-1].title == "times naive"


def test_the_line_of_a_statement_is_shown_where_operations_were_counted():
    measured = Story.of(runs=[make_run()]).measured
    assert "line" not in [column.title for column in statement_table(measured).columns]


def test_the_changes_of_phases_add_up_and_small_statements_share_a_row():
    comparison = make_comparison()
    table = comparison_table(comparison)
    phases = [row for row in table.rows if row.cells[0].text != "step" and not row.cells[2].text]
    assert sum(row.cells[5].value for row in phases) == pytest.approx(1)
    assert table.rows[-1].cells[5].text == "100.0 %"
    others = [row for row in table.rows if row.cells[2].text == "(others)"]
    assert others


def test_no_time_in_a_table_of_changes_is_negative():
    comparison = make_comparison()
    rest = PhaseChange("(rest)", None, "", -43.8e-6, 10e-6, -0.01)
    phases = tuple(c for c in comparison.waterfall if not c.label and c.phase != "(rest)")
    text = shown(comparison_table(replace(comparison, waterfall=(*phases, rest))))
    assert re.search(r"rest +– +10\.0 µs +-1\.0 %", text)


@pytest.mark.parametrize("width", [76, 120])
def test_tables_fit_their_width_and_a_bar_is_drawn_where_there_is_room(width):
    text = shown(race_table(make_ladder(names=("naive", "no_input_delta", "cached"), profiled=False)), width)
    assert max(map(len, text.splitlines())) <= width
    assert ("█" in text) == (width == 120)
    assert "no_input_delta  float32" in text


def test_a_change_for_the_worse_is_hatched_and_goes_back():
    comparison = make_comparison()
    changes = (PhaseChange("forward", None, "", 2e-3, 1e-3, 2.0), PhaseChange("loss", None, "", 1e-3, 1.5e-3, -1.0))
    text = shown(comparison_table(replace(comparison, waterfall=changes)), 120)
    forward, loss, _ = (line for line in text.splitlines() if "ms" in line)
    assert forward.rstrip().endswith("█")
    assert loss.rstrip().endswith("▒")
    assert loss.index("▒") > forward.index("█")


def test_a_transposed_table_has_a_column_for_every_row():
    table = time_table(Story.of(runs=[make_run((32, 500))]).measured).transposed()
    assert [title for title, _ in table.groups] == ["", "batch 32", "batch 500"]
    assert json.dumps([row.cells[0].text for row in table.rows[:2]]) == '["step, median", "95 % of steps"]'
