"""A program finds around it what it finds under `python train.py`, but for what the documentation names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlpprof.advise import Subject, find
from mlpprof.errors import UsageError
from mlpprof.process import compiled_code_folder

LOOK = """
import gc, json, locale, os, random, signal, sys, threading, warnings

def stream(one):
    return [one.fileno(), one.closed, one.isatty(), one.readable(), one.writable(), one.encoding, one.errors,
            one.line_buffering, one.name, one.mode]
seen = {
    "working directory": os.getcwd(),
    "argv": sys.argv,
    "name": __name__,
    "file": __file__,
    "package": __package__,
    "loader": type(__loader__).__name__,
    "spec": __spec__ and __spec__.name,
    "builtins": type(__builtins__).__name__,
    "cached": __cached__,
    "globals": sorted(name for name in globals() if name != "seen"),
    "main": sys.modules["__main__"].__dict__ is globals(),
    "path": sys.path,
    "flags": str(sys.flags),
    "meta path": [getattr(one, "__name__", type(one).__name__) for one in sys.meta_path],
    "executable": [sys.executable, sys.prefix],
    "threads": [one.name for one in threading.enumerate()],
    "active": threading.active_count(),
    "is main": threading.current_thread() is threading.main_thread(),
    "stdin": stream(sys.stdin),
    "stdout": stream(sys.stdout),
    "stderr": stream(sys.stderr),
    "handlers": {str(number): str(signal.getsignal(number)) for number in sorted(signal.valid_signals())},
    "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])) if hasattr(signal, "pthread_sigmask") else 0,
    "user": [os.getuid(), os.geteuid(), os.getgid(), sorted(os.getgroups())] if hasattr(os, "getuid") else [],
    "mask": oct(os.umask(0o22)),
    "hooks": [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.gettrace() is None,
              sys.getprofile() is None],
    "limits": [sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), gc.get_threshold()],
    "locale": [locale.getlocale(), sys.getfilesystemencoding(), sys.getdefaultencoding()],
    "files": sorted(os.listdir(".")),
    "environment": dict(os.environ),
    "input": sys.stdin.read(),
}
with open(RESULT, "w") as file:
    json.dump(seen, file)
"""

ADDED = {"MPLBACKEND": "Agg", "NUMBA_CACHE_DIR": compiled_code_folder()}
"""Variables that mlpprof adds, as its documentation says."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["../project/train.py"], ["./train.py"], ["-m", "package.train"]], ids=["elsewhere", "here", "module"]
)
def test_a_program_sees_what_it_sees_under_python(tmp_path, monkeypatch, words):
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    for folder in (tmp_path / "project", work / "package", elsewhere):
        folder.mkdir(parents=True)
    monkeypatch.chdir(work)
    for name in ADDED:
        monkeypatch.delenv(name, raising=False)
    program = work / ("package/train.py" if words[0] == "-m" else words[0])

    def looked(name: str) -> Path:
        program.write_text(LOOK.replace("RESULT", repr(str(elsewhere / name))), encoding="utf-8")
        return elsewhere / name

    plain = looked("plain.json")
    arguments = ["--epochs", "3"]
    with (elsewhere / "log").open("w") as log:
        command = [sys.executable, *words, *arguments]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ), check=True)
    for step, name in ((None, "sought.json"), ("step", "recorded.json")):
        under_mlpprof = looked(name)
        with pytest.raises(UsageError):  # it trains nothing
            find(Subject(" ".join(words), step, arguments))
        assert differences(json.loads(under_mlpprof.read_text()), json.loads(plain.read_text())) == {
            f"environment: {name}": [value, None] for name, value in ADDED.items()
        }


def differences(seen: dict[str, Any], expected: dict[str, Any]) -> dict[str, list[Any]]:
    """What is not as expected; every variable of the environment counts by itself."""
    flat = [
        {**{f"environment: {name}": value for name, value in one.pop("environment").items()}, **one}
        for one in (seen, expected)
    ]
    names = {name for one in flat for name in one}
    pairs = {name: [one.get(name) for one in flat] for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
