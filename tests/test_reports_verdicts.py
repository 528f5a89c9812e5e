"""The simulation of the verdicts: seeded, within its budgets, and recorded noise is data and no code."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from mlpprof.compare.error_bounds import procedure_for
from mlpprof.errors import UsageError
from reports.verdicts import bias, elsewhere, programs, real_trials, simulated
from reports.verdicts.noise import load
from reports.verdicts.simulated import by_end, by_kind, by_process, by_trace


def test_every_kind_of_noise_that_is_guaranteed_for_keeps_its_budgets() -> None:
    rows = by_kind(0.25, 0.015, processes=2000, trials=8000, seed=2)
    assert len(rows) >= 5
    assert all(row.kept for row in rows if row.guaranteed)
    assert any(row.guaranteed for row in rows)


def test_runs_that_a_spent_budget_ends_keep_the_budgets() -> None:
    rows = by_end(processes=1000, trials=4000, seed=2)
    assert [row.noise for row in rows][:2] == ["ended after 3", "ended after 4"]
    assert all(row.guaranteed and row.kept for row in rows)
    assert rows[0].decided_at_once.value > 0.9


def test_the_same_seed_gives_the_same_table() -> None:
    assert by_process(500, seed=4) == by_process(500, seed=4)


def test_recorded_noise_is_of_a_quiet_and_of_a_burdened_machine() -> None:
    traces = load()
    assert len(traces) >= 2
    rows = by_trace(traces, processes=1000, trials=2000, seed=0)
    assert len(rows) >= len(traces)


def test_the_command_prints_its_counts_as_json(monkeypatch) -> None:
    monkeypatch.setattr(simulated, "PROCESSES", 500)
    done = CliRunner().invoke(simulated.main, ["--trials", "100", "--json"])
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    assert document["trials"] == 100
    assert set(document["tables"]["Recorded noise"][0]) >= {"noise", "false_fail", "missed"}


def test_the_slower_copy_of_a_program_trains_the_same(tmp_path) -> None:
    source = programs.SCRIPT.read_text(encoding="utf-8")
    slower = programs.slower_copy(source, step_s=0.01, slowdown=0.1)
    printed = []
    for text in (source, slower):
        (tmp_path / "train.py").write_text(f"{text}\nprint(float(sum(abs(W).sum() for W in network.W)))\n")
        command = [sys.executable, "train.py", "2"]
        printed.append(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    assert slower != source
    assert printed[0] == printed[1]
    with pytest.raises(ValueError, match="0 times"):
        programs.slower_copy("", step_s=0.01, slowdown=0.1)


def test_the_table_of_programs_counts_the_answers_of_each_kind(tmp_path, capsys) -> None:
    made = [
        programs.Trial("A/A", "pass", 1.0, "", False, 30.0),
        programs.Trial("A/A", "not the same", None, "", False, 9.0),
        programs.Trial("10 % slower", "fail", 0.91, "np.sin(WASTE)", True, 30.0),
    ]
    programs.report(tmp_path, to_json=False, made=lambda progress: iter(made))
    printed = capsys.readouterr().out
    assert "| A/A | 2 | 1 | 0 | 0 | 1 | 1.000 (1.000 to 1.000) |" in printed
    assert "| 10 % slower | 1 | 0 | 1 | 0 | 0 | 0.910 (0.910 to 0.910) | 1 |" in printed
    assert "python -m reports.verdicts.programs" in printed
    assert (tmp_path / "programs.md").read_text(encoding="utf-8") == printed
    programs.report(tmp_path, to_json=True, made=lambda progress: iter(made[:1]), add=True)
    kept = json.loads((tmp_path / "programs.json").read_text(encoding="utf-8"))
    assert (len(kept["trials"]), len(kept["parts"])) == (4, 2)
    with pytest.raises(UsageError, match="leave --add away"):
        programs.report(tmp_path / "new", to_json=True, made=lambda progress: iter(made), add=True)


def test_a_finer_resolution_keeps_the_budgets_at_its_boundary() -> None:
    procedure = procedure_for(0.02)
    rows = by_kind(0.25, 0.015, processes=1000, trials=2000, seed=3, procedure=procedure)
    assert all(row.guaranteed and row.kept for row in rows)
    assert all(row.detected[1.0].value > 0.95 and row.claim_passes.value > 0.95 for row in rows)
    assert "missed 2 %" in simulated.columns(rows[0].resolution)


def test_real_trials_are_counted_and_replayed() -> None:
    rng = np.random.default_rng(0)
    found = [
        real_trials.Trial(kind, 0, outcome, 1.0, 60.0, (mean + 0.005 * rng.standard_normal(20)).tolist())
        for kind, outcome, mean in ((real_trials.SAME, "pass", 0.0), ("5 % slower", "fail", -0.05))
    ]
    fine = procedure_for(0.02)
    assert real_trials.replayed(found[:1], fine, 200) == (200, 0, 0)
    assert real_trials.replayed(found[1:], fine, 200) == (0, 200, 0)
    shown = real_trials.table(found, fine, replays=50)
    assert "| the same code (A/A) | 0 | 1 | 1 | 0 | 0 | 95.0% |  | 60 s | 20 | 50, 0 of 50 |" in shown


def test_the_scatter_of_ratios_is_split_into_instances_processes_and_timing() -> None:
    rng = np.random.default_rng(0)
    processes, instances, halves = (sd * rng.standard_normal(shape) for sd, shape in SCATTER)
    found = bias.scatter_of(0.01 + processes + instances + halves)
    assert found.processes == pytest.approx(0.03, rel=0.15)
    assert found.instances == pytest.approx(0.02, rel=0.15)
    assert found.noise == pytest.approx(0.01 / 2**0.5, rel=0.15)
    assert abs(found.mean - 0.01) < 4 * found.error


SCATTER = ((0.03, (400, 1, 1)), (0.02, (400, 4, 1)), (0.01, (400, 4, 2)))
"""The deviations of processes, instances and halves, and the shapes that they are drawn in."""


def test_the_same_timings_are_decided_by_every_procedure() -> None:
    rows = elsewhere.table(processes=300, trials=300, seed=0, report=lambda what, share: None)
    ours = {row[0]: row for row in rows if row[1] == "mlpprof, 2 %"}
    assert len(rows) == 6 * len(ours)
    assert ours["lognormal"][2:5] == ["0 %", "0 %", "0 %"]
    one_run = next(row for row in rows if row[:2] == ["lognormal", "paired median"])
    assert float(one_run[2].removesuffix(" %")) > 10
