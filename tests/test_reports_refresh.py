"""The committed reports are made again by one command, and the README takes its figures from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mlpprof.errors import EXIT_FAILED, EXIT_USAGE
from reports import refresh
from reports.readme_figures import with_figures
from reports.refresh import REPORTS, Made, Report, chosen, fitting, with_rows

ROOT = Path(__file__).resolve().parents[1]


def test_the_figures_of_the_readme_are_those_of_the_reports() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_figures(readme, ROOT / "reports") == readme


def test_reports_that_would_take_too_long_are_left_out() -> None:
    taken, left = fitting([Report("a", "", 3), Report("b", "", 9), Report("c", "", 2)], 6)
    assert [one.name for one in taken] == ["a", "c"]
    assert [one.name for one in left] == ["b"]
    assert sum(one.minutes for one in REPORTS) <= 120


def test_a_new_row_replaces_the_older_one_about_the_same_report_and_the_order_stays() -> None:
    first, second, third = (one.name for one in REPORTS[:3])
    table = with_rows("", [Made(third, ("old",) * 6), Made(first, ("old",) * 6)])
    table = with_rows(table, [Made(second, ("new",) * 6), Made(third, ("new",) * 6)])
    rows = [line.split(" | ")[:2] for line in table.splitlines()[4:]]
    assert rows == [[f"| {first}", "old"], [f"| {second}", "new"], [f"| {third}", "new"]]


def test_a_report_that_fails_is_named_with_its_output_and_the_others_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "README.md").touch()
    commands = ("python -c 'raise SystemExit(3)'", "python -c pass")
    monkeypatch.setattr(refresh, "REPORTS", [Report(name, one, 1) for name, one in zip("ab", commands, strict=True)])
    monkeypatch.setattr(refresh, "refresh_readme", lambda *_: False)
    found = CliRunner().invoke(refresh.main, ["--busy", "--data", str(tmp_path)])
    assert found.exit_code == EXIT_FAILED
    assert "a: ended with exit code 3; the files are older" in found.output
    assert "b: ended well" in found.output
    rows = (tmp_path / "reports" / "refreshed.md").read_text(encoding="utf-8").splitlines()[4:]
    assert [row.split(" | ")[0] for row in rows] == ["| a", "| b"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["laddre"], "there is no report 'laddre'; did you mean 'ladder'?"),
        (["ladder"], "there is no README.md here"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(refresh.main, [*arguments, "--data", str(tmp_path)])
    assert found.exit_code == EXIT_USAGE
    assert words in found.output


def test_every_name_of_a_report_can_be_chosen() -> None:
    assert chosen([one.name for one in reversed(REPORTS)]) == list(REPORTS)
