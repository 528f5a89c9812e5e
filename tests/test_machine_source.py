"""The commit of the user's folder and the hash of a source file."""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mlpprof.machine.facts import commit_facts, source_sha256

UNKNOWN = {"commit_id": None, "commit_dirty": None}

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="uses scripts in place of programs")


def git(folder: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")
    answer = subprocess.run(
        ["git", "-C", str(folder), *settings, *arguments], check=True, capture_output=True, text=True
    )
    return answer.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "mine.py").write_text("PARENT = None\n", encoding="utf-8")
    git(folder, "add", "mine.py")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@needs_git
def test_a_clean_commit_is_told_also_from_a_folder_below(repository):
    below = repository / "below"
    below.mkdir()
    head = git(repository, "rev-parse", "HEAD")
    assert commit_facts(repository) == commit_facts(below) == {"commit_id": head, "commit_dirty": False}


@needs_git
def test_a_changed_file_makes_the_commit_dirty(repository):
    (repository / "mine.py").write_text("PARENT = 'naive'\n", encoding="utf-8")
    assert commit_facts(repository)["commit_dirty"] is True


@needs_git
def test_a_staged_new_file_makes_the_commit_dirty_but_an_untracked_one_does_not(repository):
    (repository / "new.py").write_text("", encoding="utf-8")
    assert commit_facts(repository)["commit_dirty"] is False
    git(repository, "add", "new.py")
    assert commit_facts(repository)["commit_dirty"] is True


@needs_git
def test_a_repository_without_a_commit_is_unknown(tmp_path):
    git(tmp_path, "init", "--quiet")
    assert commit_facts(tmp_path) == UNKNOWN


@needs_git
def test_a_folder_outside_any_repository_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_facts(tmp_path) == UNKNOWN


@pytest.mark.parametrize("folder", ["nowhere", "null\0character"])
def test_a_folder_that_cannot_be_is_unknown(tmp_path, folder):
    assert commit_facts(tmp_path / folder) == UNKNOWN


def test_a_machine_without_git_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_facts(tmp_path) == UNKNOWN


@needs_git
def test_the_folders_repository_is_told_though_a_hook_names_another(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere/index"))
    facts = commit_facts(repository)
    monkeypatch.undo()
    assert facts == {"commit_id": git(repository, "rev-parse", "HEAD"), "commit_dirty": False}


@needs_git
@needs_posix
def test_neither_hooks_nor_monitors_of_the_repository_run(repository, tmp_path):
    witness = tmp_path / "witness"
    program = script(tmp_path / "program", f"touch '{witness}'")
    for hook in ("post-index-change", "fsmonitor-watchman", "pre-commit"):
        script(repository / ".git/hooks" / hook, f"touch '{witness}'")
    git(repository, "config", "core.fsmonitor", str(program))
    # the same content with another time: status would refresh its index, and so run post-index-change
    os.utime(repository / "mine.py", (1, 1))
    index = (repository / ".git/index").read_bytes()
    assert commit_facts(repository)["commit_dirty"] is False
    assert not witness.exists()
    assert (repository / ".git/index").read_bytes() == index
    git(repository, "status")
    assert witness.exists()  # so the programs above do run where nothing forbids it


@needs_posix
def test_a_git_that_hangs_is_given_up(tmp_path, monkeypatch):
    programs = tmp_path / "programs"
    programs.mkdir()
    script(programs / "git", "exec sleep 60")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    assert commit_facts(tmp_path, timeout_s=0.2) == UNKNOWN


@needs_posix
def test_a_slow_status_leaves_the_commit_known(tmp_path, monkeypatch):
    programs = tmp_path / "programs"
    programs.mkdir()
    script(programs / "git", f'case "$*" in *rev-parse*) echo {"a" * 40};; *) exec sleep 60;; esac')
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    assert commit_facts(tmp_path, timeout_s=1.0) == {"commit_id": "a" * 40, "commit_dirty": None}


@needs_posix
def test_an_answer_that_is_no_commit_is_unknown(tmp_path, monkeypatch):
    script(tmp_path / "git", "echo; echo 'please install git first'")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert commit_facts(tmp_path) == UNKNOWN


def test_the_hash_is_of_the_bytes_and_none_without_a_file(tmp_path):
    source = tmp_path / "mine.py"
    source.write_bytes(b"x = 1\r\n")
    assert source_sha256(source) == hashlib.sha256(b"x = 1\r\n").hexdigest()
    assert source_sha256(tmp_path / "none.py") is None
    assert source_sha256(tmp_path) is None
