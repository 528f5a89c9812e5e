"""`mlpprof ladder` as a user types it."""

from __future__ import annotations

import io
import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from rich.console import Console
from runs import make_run

from mlpprof.catalog import find, ladder
from mlpprof.cli import ladder as cli_ladder
from mlpprof.cli.main import run
from mlpprof.compare.ladder import main_line, rungs_of
from mlpprof.errors import EXIT_OK, EXIT_USAGE
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.profile.variant import Settings
from mlpprof.report.files.formats import LADDERS
from mlpprof.report.terminal.compare import print_ladder
from mlpprof.results import Ladder, Race, Run

NAMES = ("scalar", "naive", "float32", "sliced")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_ladder(skipped: dict[str, str] | None = None) -> Ladder:
    """A race without a clock: steps of 4 s (in the first blocks only), 4 ms, 2 ms, 1 ms."""
    made = make_run()
    turns_s = np.empty((8, len(NAMES), 2))
    turns_s[:] = np.array([4.0, 4e-3, 2e-3, 1e-3])[:, None]
    turns_s[2:, 0] = np.nan
    race = Race(NAMES, ("float64", "float64", "float32", "float32"), 500, (turns_s, turns_s))
    return Ladder(
        created=made.created,
        command="mlpprof ladder",
        workload="digits",
        network=made.network,
        data=made.data,
        batch=500,
        threads=1,
        race=race,
        rungs=rungs_of(race, [find(name) for name in NAMES]),
        machine=made.machine,
        skipped=skipped or {},
    )


def printed(shown: Ladder, width: int) -> str:
    buffer = io.StringIO()
    print_ladder(shown, Console(file=buffer, width=width, color_system=None))
    return buffer.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_holds_every_rung_against_parent_and_root(width: int) -> None:
    text = printed(make_ladder({"compiled": "needs numba"}), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ") and line.split()}
    assert "1,000 (" in rows["naive"]
    assert rows["naive"].split()[4] == "–"  # its parent, per_sample, is not in the race
    assert "2.00 (" in rows["float32"]
    assert "2,000 (" in rows["float32"]
    assert "†" in rows["scalar"]
    assert "timed on part of the work" in text
    assert "compiled did not take part: needs numba" in text
    assert "within 2 processes" in text


def test_the_main_line_begins_at_the_root_and_follows_the_longest_way() -> None:
    names = [entry.name for entry in main_line(ladder(), "naive")]
    assert names[:3] == ["naive", "float32", "no_input_delta"]
    assert names[-2:] == ["chunked", "fused_update"]  # though the way over `processes` is as long
    assert {"numeric", "dense_layers", "layerwise"}.isdisjoint(names)
    assert [entry.name for entry in main_line(ladder(), "scalar")][:3] == ["scalar", "per_sample", "naive"]


def test_a_ladder_is_written_as_json_csv_and_picture() -> None:
    shown = make_ladder()
    document = json.loads(LADDERS.write([shown], Path("l.json")).read_text(encoding="utf-8"))
    schema = files("mlpprof.report").joinpath("schemas/ladder.schema.json").read_text(encoding="utf-8")
    Draft202012Validator(json.loads(schema)).validate(document)
    assert [rung["slow"] for rung in document[0]["rungs"]] == [True, False, False, False]
    assert document[0]["rungs"][3]["over_root"]["ratio"] == pytest.approx(4000)
    rows = LADDERS.write([shown], Path("l.csv")).read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + len(NAMES)
    assert LADDERS.write([shown], Path("l.png")).read_bytes().startswith(b"\x89PNG")
    picture = LADDERS.write([shown], Path("l.svg")).read_text(encoding="utf-8")
    assert "<svg" in picture
    assert all(name in picture for name in NAMES)


@pytest.mark.timing
@pytest.mark.slow
def test_named_rungs_are_raced_in_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["per_sample", "naive", "sliced", "--workload", "tiny", "--processes", "2", "--json"]
    assert run(["ladder", *arguments]) == EXIT_OK
    (document,) = json.loads(capsys.readouterr().out)
    assert [rung["variant"] for rung in document["rungs"]] == ["per_sample", "naive", "sliced"]
    root, naive, sliced = document["rungs"]
    assert root["over_root"] is root["over_parent"] is None
    assert naive["over_parent"]["ratio"] == naive["over_root"]["ratio"] > 2
    assert sliced["over_parent"] is None
    assert document["processes"] == 2


@pytest.mark.timing
@pytest.mark.slow
def test_a_rung_that_cannot_do_the_network_is_left_out_and_named(
    capsys: pytest.CaptureFixture[str], plain: str
) -> None:
    line = "self.L = network.depth"
    refusal = (
        f"{line}\n        from mlpprof.errors import UnsupportedNetwork\n        raise UnsupportedNetwork('too deep')"
    )
    Path("mine.py").write_text(plain.replace(line, refusal), encoding="utf-8")
    arguments = ["--workload", "tiny", "--processes", "2", "--no-check"]
    assert run(["ladder", "naive", "mine.py", "sliced", *arguments]) == EXIT_OK
    assert "mine did not take part: too deep" in capsys.readouterr().out
    assert run(["ladder", "mine.py", "sliced", *arguments]) == EXIT_USAGE
    assert "the root 'mine' cannot take part: too deep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--root", "naiv"], "did you mean 'naive'"),
        (["naive", "slicd"], "did you mean 'sliced'"),
        (["-o", "ladder.xyz"], "has extension '.xyz'"),
        (["-o", "no/ladder.png"], "there is no folder no"),
    ],
)
def test_what_cannot_be_raced_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert run(["ladder", *arguments]) == EXIT_USAGE
    assert said in capsys.readouterr().err


@pytest.mark.timing
@pytest.mark.slow
def test_a_ladder_writes_a_page_with_the_phases_of_every_rung_and_keeps_their_runs(tmp_path, monkeypatch):
    def profiled(request: Request, workload: str, settings: Settings, typed: str, progress: Progress) -> Run:
        return make_run(settings.batches, variant=request.variant, workload=workload)

    monkeypatch.setattr(cli_ladder, "profile", profiled)
    arguments = ["naive", "cached", "--workload", "tiny", "--processes", "2", "-o", "page.html", "-o", "page.png"]
    assert run(["ladder", *arguments]) == EXIT_OK
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (tmp_path / "page.png").stat().st_size > 5_000
    data = json.loads(page.partition('id="raw">')[2].partition("</script>")[0])
    assert [one["name"] for one in data["runs"]] == ["naive", "cached"]
    assert all(len(one["results"][0]["phases"]) == 5 for one in data["runs"])
    assert str(tmp_path) not in page
    assert len(list((tmp_path / "reports").glob("*.h5"))) == 2
