"""A program that would run on for ever without its step being seen is ended, and one that is slow to begin is not."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from test_programs_record_schedule import Switched

from mlpprof.programs.load import is_import_to_come
from mlpprof.programs.patience import watched
from mlpprof.programs.record import hooks
from mlpprof.programs.record.clocks import Clocks, HookTime
from mlpprof.programs.record.forms import CLOCKED, PLAIN
from mlpprof.programs.record.recorder import Recorder
from mlpprof.programs.record.schedule import Enough, Steps
from mlpprof.programs.record.trace import OwnTime, Part

pytestmark = [pytest.mark.timing, pytest.mark.slow]

RUN = """
import sys
from pathlib import Path
from mlpprof.programs.record import run as recording
from mlpprof.programs.step_place import StepPlace
from mlpprof.programs.load import UserProgram
from mlpprof.programs.request import request_for
from mlpprof.errors import UsageError
path, step = sys.argv[1:]
try:
    found = recording.record(UserProgram(request_for(path)), StepPlace.parse(step),
                             patience=recording.Patience(0.6, 1.2, 0.7))
    print(f"{len(found.trace.steps)} steps")
except UsageError as error:
    print(error)
"""

TRAINING = """
import numpy as np
W, X = np.ones((3, 2)), np.ones((4, 3))

def step(W):
    W -= 0.1 * X.T @ (X @ W)

def train(W):
    while True:
        step(W)
"""


def said(tmp_path, text, step):
    """What recording a program says at last, with waits of about a second."""
    path = tmp_path / "net.py"
    path.write_text(text)
    run = subprocess.run([sys.executable, "-c", RUN, str(path), step], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()[-1]


def test_a_step_that_is_not_there_ends_a_program_that_would_not_end(tmp_path):
    answer = said(tmp_path, f"{TRAINING}\ntrain(W)\n", "stepp")
    assert answer.startswith("no function 'stepp' in net.py; did you mean 'step'?")


def test_a_step_that_is_never_run_ends_a_program_that_would_not_end(tmp_path):
    answer = said(tmp_path, f"{TRAINING}\ndef other():\n    pass\ntrain(W)\n", "other")
    assert answer.startswith("the step 'other' in net.py never ran")


def test_a_step_that_never_ends_is_reported_with_the_loops_in_it(tmp_path):
    text = f"{TRAINING}\ntry:\n    train(W)\nexcept BaseException:\n    train(W)\n"
    answer = said(tmp_path, text, "train")
    assert answer.startswith("a single step 'train' in net.py takes more than")
    assert "Name a loop inside it: --step net.py:9" in answer


def test_a_module_that_is_imported_late_is_waited_for(tmp_path):
    (tmp_path / "model.py").write_text(TRAINING)
    text = "import time\ntime.sleep(1)\nfor _ in range(5):\n    time.sleep(0)\nfrom model import train, W\ntrain(W)\n"
    assert said(tmp_path, text, "step") == "2 steps"


def test_imports_of_files_in_the_folder_are_to_come_until_they_have_come(tmp_path):
    for name in ("script.py", "late.py", "pack/__init__.py", "pack/inner.py", "pack/other.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    folders = {"package": "pack/__init__", "inner": "pack/inner", "other": "pack/other"}

    def is_to_come(**sources):
        texts = {str(tmp_path / f"{folders.get(name, name)}.py"): text for name, text in sources.items()}
        return is_import_to_come(texts, str(tmp_path))

    assert not is_to_come(script="import numpy as np, json\nfrom os import path")
    assert is_to_come(script="import late")
    assert is_to_come(script="def main():\n    from late import x")
    assert not is_to_come(script="import late", late="")
    assert is_to_come(script="from pack import inner", package="")
    assert not is_to_come(script="from pack import inner", package="", inner="")
    assert is_to_come(script="import pack.inner", package="", inner="from . import other")
    assert is_to_come(script="import pack.inner", package="", inner="from .other import f")
    assert not is_to_come(script="import pack.inner", package="", inner="from .other import f", other="")


def test_what_is_watched_ends_even_if_it_catches_everything_and_nothing_is_raised_later():
    caught = 0
    with watched(lambda passed_s: passed_s > 0.05, every_s=0.02):
        while caught < 3:
            try:
                while True:
                    time.sleep(0.001)
            except Enough:
                caught += 1
        while True:
            time.sleep(0.001)
    for _ in range(50):
        time.sleep(0.002)
    assert caught == 3


def test_what_ends_by_itself_is_left_alone():
    with watched(lambda passed_s: False, every_s=0.01):
        time.sleep(0.05)
    with pytest.raises(ValueError, match="of its own"), watched(lambda passed_s: False, every_s=0.01):
        raise ValueError("of its own")


@pytest.mark.parametrize("hook_s", [4.0, 0.1])
def test_a_step_that_clocks_make_long_is_timed_in_parts_and_one_that_is_long_by_itself_is_not(
    clock, monkeypatch, hook_s
):
    monkeypatch.setattr("mlpprof.programs.record.schedule.hook_time", lambda: HookTime(hook_s, hook_s))
    switched = Switched()
    clocks = Clocks(clock)
    steps = Steps(switched, clocks, Recorder([]), clock, 0)
    pre, post = clocks.hooks[hooks.PRE], clocks.hooks[hooks.POST]
    begin, mode, end = (steps.hooks[name] for name in (hooks.BEGIN, hooks.MODE, hooks.END))
    with pytest.raises(Enough):
        for _ in range(100):
            begin(False)
            steps.relieve()
            for site in range(5):
                is_clocked = mode() == CLOCKED and switched.forms[-1] == CLOCKED
                number = pre(site) if is_clocked else None
                clock.advance(10 if is_clocked else 0.125)
                if is_clocked:
                    post(number, None)
                steps.relieve()
            end(False)
    if hook_s < 1:
        assert not steps.is_long
        assert not steps.times.parts
        assert steps.times.sites[0] == dict.fromkeys(range(5), (10, 1, 0))
        return
    assert switched.forms[:3] == [CLOCKED, PLAIN, CLOCKED]
    assert steps.is_long
    assert steps.times.sites == [{0: (10, 1, 0), 3: (10, 1, 0)}]
    assert steps.times.clocked_s == [20]
    assert steps.times.parts == [Part({0: OwnTime(10, 1)}, 10, 0.25), Part({3: OwnTime(10, 1)}, 10, 0.125)]


AFTERWARDS = """
from line_profiler import LineProfiler
from mlpprof.programs.record.trace import OwnTime, Part
from mlpprof.programs.patience import watched
with watched(lambda passed_s: {hopeless}, every_s=0.01):
    while {hopeless}:
        pass
def run():
    for _ in range(7):
        pass
profiler = LineProfiler(run)
profiler.enable_by_count()
run()
profiler.disable_by_count()
print(max(hits for lines in profiler.get_stats().timings.values() for _, hits, _ in lines))
"""


@pytest.mark.parametrize("hopeless", [False, True])
def test_nothing_of_it_is_left_in_python_afterwards(hopeless):
    run = subprocess.run(
        [sys.executable, "-c", AFTERWARDS.format(hopeless=hopeless)], capture_output=True, text=True, timeout=60
    )
    assert run.stdout == "8\n", run.stderr
