"""A program writes into a copy-on-write view of its folder: it sees what it wrote, and your files stay as they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlpprof.advise import Subject, find
from mlpprof.errors import UsageError, VariantCrash
from mlpprof.process import SEARCH_PATH
from mlpprof.programs import file_view

LOOK = "import json; print(json.dumps([file_view.reason, file_view.current and file_view.current.changes()]))"


def inside(folders: list[Path], code: str, cwd: Path, **environment: str) -> tuple[str | None, list[str]]:
    """Run the code in a process that has entered a view; why there is none, and what the code has changed."""
    run = subprocess.run(
        [sys.executable, "-c", f"{SEARCH_PATH}; {file_view.statement(folders)}\n{code}\n{LOOK}"],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    reason, changes = json.loads(run.stdout.splitlines()[-1])
    return reason, changes


@pytest.fixture
def allowed(tmp_path):
    """Skips the test where the system allows no view."""
    reason, _ = inside([tmp_path], "", tmp_path)
    if reason is not None:
        pytest.skip(f"this system allows no view of a folder: {reason}")


@pytest.fixture
def project(tmp_path):
    """A folder with files of all kinds."""
    folder = tmp_path / "my, project: 1"
    (folder / "kept" / "inner").mkdir(parents=True)
    (folder / "log.txt").write_text("first\n")
    (folder / "old.npy").write_bytes(bytes(range(100)))
    (folder / "kept" / "state.txt").write_text("state")
    return folder


def contents(folder: Path) -> dict[str, tuple[bytes | None, int, int]]:
    """Every file with its bytes, mode and time of change."""
    return {
        str(path.relative_to(folder)): (
            path.read_bytes() if path.is_file() else None,
            path.stat().st_mode,
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
    }


WRITING = """
import os, shutil, subprocess, sys
import h5py, numpy as np
mapped = np.load("new.npy", mmap_mode="r") if os.path.exists("new.npy") else None
assert mapped is None, "something is left of an earlier run"
np.save("new.npy", np.arange(4.0))
assert np.load("new.npy", mmap_mode="r")[3] == 3.0
with open("log.txt", "a") as log:
    log.write("second")
assert open("log.txt").read() == "first\\nsecond"
with h5py.File("data.h5", "w") as file:
    file["x"] = [1, 2]
with h5py.File("data.h5", "r+") as file:
    file["x"][0] = 5
    assert list(file["x"]) == [5, 2]
os.remove("old.npy")
assert not os.path.exists("old.npy") and "old.npy" not in os.listdir()
os.replace("new.npy", "newer.npy")
shutil.rmtree("kept")
os.mkdir("kept")
assert os.listdir("kept") == []
os.makedirs("out/a")
subprocess.run([sys.executable, "-c", "open('child.txt', 'w').write('x')"], check=True)
assert open("child.txt").read() == "x"
os.chmod("log.txt", 0o600)
"""


def test_a_program_sees_what_it_writes_and_the_files_stay_as_they_were(allowed, project):
    before = contents(project)
    for _ in range(2):
        _, changes = inside([project], WRITING, project)
        assert changes == ["child.txt", "data.h5", "log.txt", "newer.npy", "old.npy (deleted)", "out/a"]
        assert contents(project) == before


def test_a_view_changes_neither_the_user_nor_the_working_directory_nor_what_is_refused(allowed, project):
    (project / "log.txt").chmod(0o444)
    code = (
        "import os\n"
        "def attempt():\n    try:\n        open('log.txt', 'a'); return 'open'\n"
        "    except PermissionError:\n        return 'refused'\n"
        "print(os.getuid(), os.getgid(), os.getcwd(), oct(os.stat('.').st_mode), attempt())"
    )
    plain = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True).stdout
    run = subprocess.run(
        [sys.executable, "-c", f"{SEARCH_PATH}; {file_view.statement([project])}\n{code}"],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == plain


def test_a_cache_inside_the_folder_is_kept(allowed, project):
    (project / "cache").mkdir()
    code = "open('cache/machine_code', 'w').write('x'); open('weights', 'w').write('x')"
    _, changes = inside([project], code, project, XDG_CACHE_HOME=str(project / "cache"))
    assert (project / "cache" / "machine_code").read_text() == "x"
    assert changes == ["weights"]
    assert not (project / "weights").exists()


def test_the_working_directory_and_the_folder_of_the_program_may_be_inside_each_other_or_apart(allowed, project):
    other = project.parent / "other"
    other.mkdir()
    code = f"open('here', 'w'); open({str(project / 'there')!r}, 'w'); open({str(other / 'apart')!r}, 'w')"
    _, changes = inside([project, project / "kept", other], code, project / "kept")
    assert changes == sorted([str(project / "there"), str(other / "apart"), "here"])
    assert list(other.iterdir()) == []
    assert not (project / "there").exists()


def test_without_a_view_a_process_goes_on_as_it_was_and_says_why(tmp_path):
    reason, changes = inside([tmp_path / "missing"], "import os; os.mkdir('made')", tmp_path)
    assert reason is not None
    assert "No such file" in reason or "no overlays" in reason
    assert changes is None
    assert (tmp_path / "made").is_dir()


RESUMES = """
import os
import numpy as np
rng = np.random.default_rng(0)
X, Y = rng.random((300, 20)), rng.random((300, 3))
W = np.load("weights.npy")
begin = int(open("state.txt").read())
assert begin == 3, "this run goes on where another one of mlpprof's has ended"
for epoch in range(begin, 15):
    d = np.tanh(X @ W) - Y
    W -= 1e-5 * (X.T @ d)
    open("state.txt", "w").write(str(epoch + 1))
np.save("weights.npy", W)
os.mkdir("finished")
"""


@pytest.mark.slow
def test_a_program_that_resumes_finds_its_own_checkpoint_in_every_run(allowed, tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(RESUMES, encoding="utf-8")
    (tmp_path / "state.txt").write_text("3")
    np.save(tmp_path / "weights.npy", np.ones((20, 3)))
    before = contents(tmp_path)
    profile = find(Subject("train.py"))
    assert contents(tmp_path) == before
    (note,) = (note for note in profile.notes if note.startswith("train.py wrote"))
    assert "state.txt" in note
    assert "into a copy that mlpprof has dropped" in note
    assert "--allow-writes" in note


@pytest.mark.slow
def test_a_file_that_the_system_cannot_copy_because_of_its_group_is_explained(allowed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # what an overlay in a user namespace raises for a file whose group the user does not have as the first one
    failing = "import errno\nraise OSError(errno.EOVERFLOW, 'Value too large for defined data type', 'log.txt')"
    (tmp_path / "train.py").write_text(failing, encoding="utf-8")
    with pytest.raises(VariantCrash, match=r"Give it your group \(chgrp\), or add --allow-writes"):
        find(Subject("train.py", "step"))


@pytest.mark.slow
def test_a_write_elsewhere_is_refused_as_without_a_view(allowed, tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    elsewhere = tmp_path / "elsewhere.txt"
    monkeypatch.setenv("TMPDIR", str(folder))  # else the folder of this test would be free as a temporary one
    (folder / "train.py").write_text(f"open({str(elsewhere)!r}, 'w')", encoding="utf-8")
    with pytest.raises(UsageError, match=r"train\.py:1 wants to write '.*elsewhere\.txt'"):
        find(Subject("train.py", "step"))
    assert not elsewhere.exists()


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (OSError(28, "unshare gave ENOSPC"), "in a container: unshare gave ENOSPC"),
        (OSError(13, "Permission denied", "/proc/self/uid_map"), "container: Permission denied for /proc/self/uid_map"),
    ],
)
def test_the_reason_for_no_view_is_about_overlays_and_no_bare_error_of_the_system(error, end):
    assert file_view.in_words(error).startswith("it allows you no overlay of your own")
    assert file_view.in_words(error).endswith(end)


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_a_system_without_overlays_has_no_view_and_says_why(monkeypatch, tmp_path, system):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(file_view, "reason", None)
    file_view.enter([str(tmp_path)])
    assert file_view.current is None
    assert file_view.reason == f"there are no overlays on {system}"
