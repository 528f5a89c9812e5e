"""Temporary files and folders of processes that were killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mlpprof import owned
from mlpprof.cli import main
from mlpprof.files import write_atomically, write_new


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def name_of(pid: int, born: int, namespace: int | None = None) -> str:
    """The name of a folder of another process, which is alive if it is this one."""
    *_, own_namespace, token = owned.owned_name("race").split("-")
    return f"mlpprof-race-{pid}-{born}-{own_namespace if namespace is None else namespace}-{token}"


def test_what_a_killed_process_has_left_goes_with_the_next_folder(temporary: Path) -> None:
    left = temporary / name_of(os.getpid(), 1)  # a process with this number, but of another time
    left.mkdir()
    (left / "samples.npy").write_bytes(bytes(1000))
    (temporary / f".{name_of(os.getpid(), 1)}.part").touch()
    kept = {
        Path(owned.new_folder("race")).name,
        name_of(os.getpid(), 1, namespace=7),  # of another container
        "mlpprof-of-the-user",
        "mlpprof-race-1-2-3",
        "x" + name_of(os.getpid(), 1),
    }
    for name in kept:
        (temporary / name).mkdir(exist_ok=True)
    own = Path(owned.new_folder("tune")).name
    assert {path.name for path in temporary.iterdir()} == kept | {own}


def test_a_link_is_removed_and_not_what_it_names(temporary: Path) -> None:
    target = temporary / "target"
    target.mkdir()
    (target / "file").touch()
    (temporary / name_of(os.getpid(), 1)).symlink_to(target)
    owned.sweep()
    assert [path.name for path in temporary.iterdir()] == ["target"]
    assert (target / "file").exists()


def test_writing_a_file_removes_the_half_files_of_killed_processes_beside_it(tmp_path: Path) -> None:
    half = tmp_path / f".{name_of(os.getpid(), 1)}.part"
    half.touch()
    with write_atomically(tmp_path / "report.txt") as part:
        part.write_text("whole", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["report.txt"]


def test_a_new_file_takes_the_first_free_name_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*paths: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    assert write_new(tmp_path / "run.h5", lambda: b"1").name == "run.h5"
    assert write_new(tmp_path / "run.h5", lambda: b"2").name == "run-2.h5"
    monkeypatch.setattr(os, "link", refused)  # as on a file system without hard links
    assert write_new(tmp_path / "run.h5", lambda: b"3").name == "run-3.h5"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-2.h5", "run-3.h5", "run.h5"]
    assert (tmp_path / "run.h5").read_bytes() == b"1"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
@pytest.mark.parametrize("is_ignored", [False, True])
def test_a_closed_terminal_ends_a_command_in_order_unless_it_was_started_with_nohup(
    monkeypatch: pytest.MonkeyPatch, is_ignored: bool
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    monkeypatch.setattr(main, "guard_output", lambda: None)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
        with pytest.raises(SystemExit):
            main.main(["--version"])
        if is_ignored:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        else:
            with pytest.raises(SystemExit, match="129"):
                os.kill(os.getpid(), signal.SIGHUP)
                signal.sigtimedwait([], 1)  # pragma: no cover - the signal comes before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
