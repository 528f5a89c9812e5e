"""`mlpprof peers`: what is in the table, also where a framework wins, dies, or is not there; with fake workers."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_compare_live_race import Office, quiet

from mlpprof.cli import peers as cli_peers
from mlpprof.cli.main import run
from mlpprof.compare.peers import FULL, OURS, PACKAGES, PLANS, QUICK, Plan, measure_row, plans_of
from mlpprof.errors import EXIT_INTERRUPTED, EXIT_USAGE
from mlpprof.report.files.formats import write_peers
from mlpprof.report.json_documents import peers_json
from mlpprof.report.terminal.peers import peers_markdown, peers_text
from mlpprof.results.peers import PeersRow, PeersTable

PLAN = Plan("tiny", "20-8-5-3, batch 30", "tiny", 30, "float64")
NAMES = ("buffered", "chunked", "gram", "peers/torch", "peers/jax_scan")
SPEEDS = {
    "buffered": 0.2,
    "chunked": 0.1,
    "gram": 0.02,
    "peers/torch@1": 0.3,
    "peers/torch": 0.4,
    "peers/jax_scan": 0.15,
}


def row_of(office: Office, effort=FULL) -> PeersRow:
    return measure_row(PLAN, effort, quiet, NAMES, office)[0]


def table_of(row: PeersRow) -> PeersTable:
    return PeersTable(
        "2026-01-02T03:04:05+00:00", "mlpprof peers", False, 1 + FULL.finals, (row,), {"cpu_model_name": "A CPU"}
    )


def test_a_row_has_everybody_at_the_best_setting_and_their_ratio_over_the_best_framework():
    row = row_of(Office(SPEEDS))
    assert [one.variant for one in row.competitors] == list(NAMES)
    best = row.best_peer
    assert best is not None
    assert best.variant == "peers/jax_scan"
    assert best.over_best_peer is None
    ratios = {one.variant: one.over_best_peer for one in row.competitors}
    assert ratios["gram"] is not None
    assert ratios["gram"].ratio == pytest.approx(0.15 / 0.02)
    assert ratios["buffered"] is not None
    assert ratios["buffered"].ratio == pytest.approx(0.15 / 0.2)
    assert row.best_ours is not None
    assert row.best_ours.variant == "gram"
    assert row.best_direct is not None
    assert row.best_direct.variant == "chunked"
    torch = next(one for one in row.competitors if one.variant == "peers/torch")
    assert torch.name == "peers/torch"  # one thread was faster
    assert row.steps == 10
    assert row.is_whole_epoch


def test_after_the_first_replicate_only_those_near_the_fastest_of_their_kind_race():
    office = Office(SPEEDS)
    row = row_of(office)
    replicates = {one.variant: one.replicates for one in row.competitors}
    many = FULL.finals
    assert replicates == {"buffered": 1, "chunked": many, "gram": many, "peers/torch": 1, "peers/jax_scan": many}
    ratios = {one.variant: one.over_best_peer for one in row.competitors}
    assert ratios["chunked"].processes == many  # the replicate that chose it does not count
    assert ratios["buffered"].in_process
    assert np.isnan(row.race.turns_s[1][:, [0, 3]]).all()


def test_the_fastest_of_a_row_is_a_finalist_even_if_another_had_one_lucky_replicate():
    row = row_of(Office(SPEEDS))
    gram = next(one for one in row.competitors if one.variant == "gram")
    lucky = replace(next(one for one in row.competitors if one.variant == "buffered"), epoch_s=gram.epoch_s / 2)
    assert replace(row, competitors=(*row.competitors, lucky)).best_ours is gram


def test_a_quick_row_has_an_interval_from_blocks_of_its_only_set_of_processes():
    row = row_of(Office(SPEEDS), QUICK)
    verdict = next(one.over_best_peer for one in row.competitors if one.variant == "chunked")
    assert verdict is not None
    assert verdict.in_process
    assert verdict.low < 1.5 < verdict.high


def test_after_an_interrupt_the_finished_rows_are_kept_and_the_sentence_says_where(tmp_path, monkeypatch, capsys):
    finished = iter([(row_of(Office(SPEEDS)), {})])

    def measured(plan, effort, progress):
        if (row := next(finished, None)) is None:
            raise KeyboardInterrupt
        return row

    monkeypatch.setattr(cli_peers, "measure_row", measured)
    monkeypatch.setattr(cli_peers, "require_a_framework", lambda: None)
    assert run(["peers", "-o", str(tmp_path / "kept")]) == EXIT_INTERRUPTED
    assert f"interrupted; rows that are kept in {tmp_path / 'kept'}: 1" in capsys.readouterr().err
    assert (tmp_path / "kept" / "peers.json").exists()


def test_whoever_dies_is_named_as_absent_and_the_others_race():
    office = Office(SPEEDS)
    office.dies_in = {"peers/jax_scan": "turn"}
    row = row_of(office)
    assert row.absent["peers/jax_scan"].startswith("peers/jax_scan")
    assert "SIGKILL" in row.absent["peers/jax_scan"]
    assert row.best_peer is not None
    assert row.best_peer.variant == "peers/torch"


def test_whose_losses_deviate_is_absent_with_the_deviation():
    office = Office(SPEEDS)
    office.losses = {"peers/torch": [0.7, 0.6, 0.9]}
    row = row_of(office)
    assert "losses of the first 3 steps deviate" in row.absent["peers/torch"]


def test_without_a_framework_a_row_has_no_ratio():
    office = Office(SPEEDS)
    office.refuse = dict.fromkeys(PACKAGES, "pip install 'mlpprof[peers]'")
    row = row_of(office)
    assert row.best_peer is None
    assert {one.over_best_peer for one in row.competitors} == {None}
    assert "| none |" in peers_markdown(table_of(row))


def test_the_table_shows_engine_losses_absent_ones_and_where_a_framework_wins():
    office = Office({**SPEEDS, "gram": 0.5, "chunked": 0.5})
    office.refuse = {"peers/torch": "it cannot do this"}
    text = peers_text(table_of(row_of(office)))
    assert "fake" in text
    assert "absent: peers/torch: it cannot do this" in text
    assert "0.750 (" in text
    assert "best framework" in text
    assert "A CPU" in text
    assert "0.750 (" in peers_markdown(table_of(row_of(office)))


def test_all_files_are_written_and_the_json_holds_every_turn(tmp_path):
    table = table_of(row_of(Office(SPEEDS)))
    written = write_peers(table, tmp_path)
    assert {path.name for path in written} == {"table.txt", "README.md", "peers.json", "peers.png", "peers.svg"}
    document = json.loads((tmp_path / "peers.json").read_text())
    assert document == json.loads(json.dumps(peers_json(table)))
    (row,) = document["rows"]
    assert len(row["turns_s"]) == document["replicates"] == 1 + FULL.finals
    assert len(row["turns_s"][0]) == FULL.blocks
    assert {"name", "engine", "compile_s", "deviation", "over_best_peer"} <= set(row["entrants"][0])


def test_a_wrong_row_is_refused_with_the_nearest(capsys):
    assert run(["peers", "s1-50"]) == EXIT_USAGE
    assert "did you mean 's1-500'" in capsys.readouterr().err
    assert plans_of([]) == list(PLANS.values())


@pytest.mark.skipif(any(map(importlib.util.find_spec, PACKAGES.values())), reason="a framework is installed")
def test_without_any_framework_the_command_shows_the_line_that_installs_them(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["peers"]) == EXIT_USAGE
    assert "pip install 'mlpprof[peers]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_rows_are_those_of_the_goals_and_every_other_rung_takes_part():
    assert [plan.batch for plan in PLANS.values()][:4] == [32, 128, 500, 20_000]
    assert {"buffered", "chunked", "fused_update", "compiled", "blocked", "gram", "delayed"} <= set(OURS)
