"""A proven patch is written into the user's files, and taken back."""

from __future__ import annotations

import subprocess

import platformdirs
import pytest

from mlpprof.advise.proof import patch
from mlpprof.errors import UsageError
from mlpprof.results.proof import ChangedFile

OLD, NEW = "# coding: latin-1\nname = 'é'\nx = f(y)\n", "# coding: latin-1\nname = 'é'\nx = y\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_state_path", lambda *names, **options: tmp_path / "state")
    path = tmp_path / "train.py"
    path.write_bytes(OLD.replace("\n", "\r\n").encode("latin-1"))
    return path


def test_a_patch_keeps_line_ends_and_encoding_and_can_be_undone(file):
    before = file.read_bytes()
    patch.apply([ChangedFile(str(file), OLD, NEW)], is_asked_twice=False)
    assert file.read_bytes() == NEW.replace("\n", "\r\n").encode("latin-1")
    assert patch.undo() == [str(file)]
    assert file.read_bytes() == before
    with pytest.raises(UsageError, match="nothing to undo"):
        patch.undo()


def test_a_patch_of_another_program_is_not_taken_back(file, tmp_path):
    patch.apply([ChangedFile(str(file), OLD, NEW)], is_asked_twice=False)
    with pytest.raises(UsageError, match=r"the last patch is not about .*other\.py: it changed .*train\.py"):
        patch.undo(str(tmp_path / "elsewhere" / "other.py"))
    assert patch.undo(str(tmp_path / "main.py")) == [str(file)]


def test_a_file_that_has_changed_meanwhile_is_left_alone(file):
    with pytest.raises(UsageError, match="has changed since it was measured"):
        patch.apply([ChangedFile(str(file), "x = 1\n", NEW)], is_asked_twice=True)
    patch.apply([ChangedFile(str(file), OLD, NEW)], is_asked_twice=False)
    file.write_text("x = 2\n")
    with pytest.raises(UsageError, match="nothing was undone"):
        patch.undo()
    assert file.read_text() == "x = 2\n"


def test_changes_that_are_not_committed_are_only_patched_if_you_ask_twice(file):
    subprocess.run(["git", "init", "-q", file.parent], check=True)
    with pytest.raises(UsageError, match="type --apply twice"):
        patch.apply([ChangedFile(str(file), OLD, NEW)], is_asked_twice=False)
    patch.apply([ChangedFile(str(file), OLD, NEW)], is_asked_twice=True)
    assert "x = y" in file.read_text("latin-1")
