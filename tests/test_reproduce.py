"""The published sources: claims are data, every source runs, and the contract of --json holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_OK, EXIT_USAGE
from mlpprof.reproduce.sources import SOURCES

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def test_the_five_sources_are_known() -> None:
    assert set(SOURCES) == {"stepiii", "persample", "forever", "liu", "optprop"}


@pytest.mark.parametrize(
    ("arguments", "named"), [(["stepii"], "stepiii"), (["--data", "nowhere"], "nowhere"), (["--quik"], "--quik")]
)
def test_bad_input_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["reproduce", *arguments]) == EXIT_USAGE
    assert named in capsys.readouterr().err
    assert not (tmp_path / "reports" / "reproduce").exists() or not any((tmp_path / "reports" / "reproduce").iterdir())


@pytest.mark.timing
def test_a_source_runs_and_its_claims_stand_beside_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["reproduce", "liu", "--quick", "--json"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert set(document["sources"]) == {"liu"}
    claims = document["sources"]["liu"]["claims"]
    assert claims
    for claim in claims:
        assert {"what", "claimed", "measured", "holds", "note"} <= set(claim)
        assert claim["holds"] in (True, False, None)
        assert claim["note"]
