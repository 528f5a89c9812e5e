"""Full disks and folders that cannot be written: found before the measurement, or else the report is shown anyway."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pages import make_comparison
from runs import make_run

from mlpprof.cli import compare, profile
from mlpprof.cli.main import run
from mlpprof.cli.saving import Saving
from mlpprof.errors import EXIT_OK, EXIT_USAGE, OutputError, UsageError
from mlpprof.files import TRIAL_BYTES
from mlpprof.results.on_disk import load_run


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; the user's state lies beside it."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "mlpprof" / "reports"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measurements that take no time: what was measured, in order."""
    done: list[str] = []

    def fake_profile(request, *_arguments):
        done.append(request.variant)
        return make_run()

    monkeypatch.setattr(profile, "profile", fake_profile)
    monkeypatch.setattr(compare, "compare", lambda *_, **__: done.append("compare") or [make_comparison()])
    return done


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that takes only the beginning of a file."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def files() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "arguments",
    [
        ["profile", "cached", "-o", "page.html"],
        ["profile", "cached", "-o", "run.h5"],
        ["profile", "cached", "--stacks-file", "calls.html"],
        ["profile", "train.py", "--step", "Net.update", "-o", "step.json"],
        ["advise", "cached", "-o", "advice.html"],
        ["compare", "naive", "cached", "-o", "page.html"],
        ["ladder", "-o", "ladder.html"],
        ["autotune", "-o", "fastest.py"],
        ["calibrate", "naive", "cached", "--file", "claims.toml"],
        ["peers", "-o", "folder"],
        ["reproduce", "-o", "folder"],
    ],
    ids=" ".join,
)
def test_nothing_is_measured_where_the_file_could_not_be_written(arguments, measured, capsys, monkeypatch) -> None:
    monkeypatch.setattr("mlpprof.cli.peers.require_a_framework", lambda: None)
    if "train.py" in arguments:
        Path("train.py").write_text("x = 1\n", encoding="utf-8")
    there = files()
    with files_of_at_most(100):
        assert run(arguments) == EXIT_USAGE
    assert "cannot write" in (line := sentence(capsys))
    assert arguments[-1] in line
    assert measured == []
    assert files() == there


def test_reports_that_cannot_be_written_are_known_before_and_the_run_goes_to_the_users_state(
    measured, capsys, state
) -> None:
    Path("reports").write_text("a file", encoding="utf-8")
    assert run(["profile", "cached", "--workload", "tiny"]) == EXIT_OK
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("mlpprof: cannot write into reports: ")
    assert str(state) in line
    (kept,) = state.glob("*.h5")
    assert f"kept in {kept}" in printed.out
    assert load_run(kept).variant.name == "cached"


@pytest.mark.parametrize("out", [[], ["-o", "mine.h5"]], ids=["reports", "-o"])
def test_a_run_that_the_disk_has_no_room_for_is_shown_and_said_to_be_lost(measured, capsys, out, tmp_path) -> None:
    with files_of_at_most(8192):
        assert run(["profile", "cached", "--workload", "tiny", *out]) == EXIT_USAGE
    printed = capsys.readouterr()
    assert "forward" in printed.out
    assert "kept in" not in printed.out
    (line,) = printed.err.splitlines()
    assert "File too large" in line
    assert line.endswith("the run is lost")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_run_for_which_reports_fails_afterwards_is_kept_elsewhere(measured, capsys, state, monkeypatch) -> None:
    def measure_while_the_folder_goes(*_arguments):
        Path("reports").write_text("a file", encoding="utf-8")
        return make_run()

    monkeypatch.setattr(profile, "profile", measure_while_the_folder_goes)
    assert run(["profile", "cached", "--workload", "tiny"]) == EXIT_USAGE
    printed = capsys.readouterr()
    (kept,) = state.glob("*.h5")
    assert f"kept in {kept}" in printed.out
    assert printed.err.rstrip().endswith(f"the run is kept in {kept}")


def test_a_file_that_the_disk_has_no_room_for_leaves_the_report_and_the_old_file(measured, capsys) -> None:
    Path("both.json").write_text("old", encoding="utf-8")
    with files_of_at_most(TRIAL_BYTES):
        assert run(["compare", "naive", "cached", "--workload", "tiny", "-o", "both.json"]) == EXIT_USAGE
    printed = capsys.readouterr()
    assert "cached" in printed.out
    assert printed.err.startswith("mlpprof: cannot write both.json: File too large")
    assert files() == ["both.json"]
    assert Path("both.json").read_text(encoding="utf-8") == "old"


def test_where_no_folder_takes_a_run_nothing_is_measured_and_nothing_stays(
    measured, capsys, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with files_of_at_most(100):
        assert run(["profile", "cached", "--workload", "tiny"]) == EXIT_USAGE
    assert sentence(capsys).startswith("mlpprof: cannot write into reports: File too large")
    assert measured == []
    assert [path.name for path in tmp_path.rglob("*")] == ["work"]


def test_the_runs_after_one_that_did_not_fit_go_where_it_went(tmp_path, state) -> None:
    full = tmp_path / "full"
    refused = []

    def write(folder: Path) -> Path:
        if folder == full:
            refused.append(folder)
            raise UsageError(f"cannot write into {folder}: No space left on device")
        return folder / "run.h5"

    saving = Saving(full)
    elsewhere = state.parent / "full" / "run.h5"
    assert [saving.keep("the run", write), saving.keep("the run", write)] == [elsewhere, elsewhere]
    assert refused == [full]
    with (
        pytest.raises(UsageError, match="No space left on device; the run is kept in") as caught,
        saving.report_first(),
    ):
        pass
    assert str(caught.value).count("cannot write") == 1


def test_an_output_that_fails_says_where_the_run_is(tmp_path) -> None:
    saving = Saving(tmp_path)
    saving.keep("the run", lambda folder: folder / "run.h5")
    with pytest.raises(OutputError, match=r"^the disk is full; the run is kept in .*run\.h5$"), saving.report_first():
        raise OutputError("the disk is full")


def test_a_read_only_file_system_is_the_reason_that_is_shown(capsys, monkeypatch) -> None:
    def refuse(*_arguments, **_options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    assert run(["advise", "cached", "-o", "advice.html"]) == EXIT_USAGE
    assert "cannot write advice.html: Read-only file system" in sentence(capsys)
