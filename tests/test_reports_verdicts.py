"""The simulation of the verdicts: seeded, within its budgets, and recorded noise is data and no code."""

from __future__ import annotations

import json

from click.testing import CliRunner

from reports.verdicts import simulated
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
