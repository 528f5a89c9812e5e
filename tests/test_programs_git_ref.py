"""A program at a git ref runs with the modules of that ref; the working tree is only read."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mlpprof.errors import UsageError
from mlpprof.programs.request import request_for

RUN = """
import sys
from mlpprof.programs.load import UserProgram
from mlpprof.programs.request import request_for
UserProgram(request_for(sys.argv[1])).run(lambda path, source: compile(source, path, "exec"))
"""

MAIN = """
import json, os, sys
from pathlib import Path
import part
from package import inner
try:
    import later
    late = later.value
except ImportError:
    late = None
print(json.dumps([part.value, inner.value, late, Path(__file__).name, Path("data.txt").read_text()]))
"""


def git(folder, *arguments):
    identity = ("-c", "user.name=n", "-c", "user.email=e", "-c", "protocol.file.allow=always")
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    folder = tmp_path / "repository"
    (folder / "package").mkdir(parents=True)
    monkeypatch.chdir(folder)
    (folder / "train.py").write_text(MAIN)
    (folder / "part.py").write_text("value = 'old'\n")
    (folder / "package" / "inner.py").write_text("value = 'old inner'\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    git(folder, "tag", "v1.0")
    (folder / "part.py").unlink()
    (folder / "part").mkdir()
    (folder / "part" / "__init__.py").write_text("value = 'new'\n")
    (folder / "package" / "__init__.py").write_text("")
    (folder / "package" / "inner.py").write_text("value = 'new inner'\n")
    (folder / "later.py").write_text("value = 'later'\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "second")
    (folder / "package" / "inner.py").write_text("value = 'uncommitted'\n")
    (folder / "data.txt").write_text("data of today")
    return folder


def run(name):
    run = subprocess.run([sys.executable, "-c", RUN, name], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_the_modules_are_those_of_the_ref_and_the_data_those_of_today(repository):
    status = subprocess.check_output(["git", "status", "--porcelain"])
    assert run("train.py@v1.0") == ["old", "old inner", None, "train.py", "data of today"]
    assert run("train.py@HEAD") == ["new", "new inner", "later", "train.py", "data of today"]
    assert run("-m train@HEAD~1") == ["old", "old inner", None, "train.py", "data of today"]
    assert run("train.py") == ["new", "uncommitted", "later", "train.py", "data of today"]
    assert subprocess.check_output(["git", "status", "--porcelain"]) == status


def test_what_is_missing_at_a_ref_is_said(repository, tmp_path):
    for name, message in (
        ("later.py@v1.0", "'later.py' does not exist at v1.0"),
        ("train.py@v1.1", "there is no git ref 'v1.1'.*did you mean 'v1.0'"),
        (f"{tmp_path}/alone.py@v1.0", "needs a git repository; git says"),
    ):
        with pytest.raises(UsageError, match=message):
            request_for(name)


def test_a_submodule_is_read_at_the_commit_that_belongs_to_the_ref(repository, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    (other / "deep.py").write_text("value = 1\n")
    git(other, "add", "-A")
    git(other, "commit", "-qm", "first")
    git(repository, "submodule", "add", "-q", str(other), "sub")
    git(repository, "commit", "-qam", "with submodule")
    (repository / "sub" / "deep.py").write_text("value = 2\n")
    overlay = request_for("train.py@HEAD").overlay
    assert overlay[str(repository / "sub" / "deep.py")] == "value = 1\n"
