"""The line view and the call view: what line_profiler and pyinstrument saw of a variant's file."""

from __future__ import annotations

import contextlib
import json
import time

import numpy as np

from mlpprof.catalog import find, load, module_of
from mlpprof.instrument.other_profilers import profile_lines, profile_stacks, without_own_folders
from mlpprof.model import Network


def test_the_line_view_counts_every_execution_of_a_line_and_knows_helpers_too(tiny):
    entry = find("cached")
    cls = load(entry)
    network = Network((20, 5, 4, 3))
    instance = cls(network, network.initial_parameters(0))
    X, Y = tiny

    def run() -> None:
        for _ in range(7):
            instance.train_step(X, Y, range(30))

    lines = {line.line: line for line in profile_lines(module_of(cls), run)}
    source = entry.source().splitlines()

    def hits(text: str) -> list[int]:
        return [lines[i].hits for i, line in enumerate(source, start=1) if text in line and i in lines]

    assert hits("self.forward()") == [7]
    assert hits("# phase: weighted sum") == [7 * 3]
    assert hits("# phase: propagate") == [7 * 2]
    assert hits("stacked[1:] = A") == [7 * (3 + 2)]
    assert hits("return A.T") == []  # predict did not run
    assert all(line.time_s >= 0 and line.hits > 0 for line in lines.values())
    assert list(lines) == sorted(lines)


def test_the_line_view_ends_with_the_run_also_after_an_exception(tiny):
    cls = load(find("cached"))

    def run() -> None:
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        profile_lines(module_of(cls), run)
    network = Network((20, 5, 3))
    X, Y = tiny
    assert profile_lines(module_of(cls), lambda: None) == ()
    cls(network, network.initial_parameters(0)).train_step(X, Y, range(3))


def test_the_call_view_is_a_session_that_holds_the_functions_that_ran():
    def slow_helper() -> None:
        end = time.perf_counter() + 0.1
        while time.perf_counter() < end:
            sum(range(1000))

    session = json.loads(profile_stacks(slow_helper))
    assert session["sample_count"] > 1
    assert "slow_helper" in json.dumps(session["frame_records"])


def test_a_call_view_names_no_folder_of_the_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    library = np.linalg.__file__
    stack = [f"step\0{tmp_path / 'nets' / 'mine.py'}\0003", f"load\0{tmp_path.parent / 'else.py'}\0001\001l5"]
    stack += [f"svd\0{library}\0007", "MainThread\0<thread>\0009", "[self]\0\0000"]
    session = {"frame_records": [[stack, 0.5]], "start_call_stack": stack, "sys_path": [str(tmp_path)]}
    text = without_own_folders(json.dumps(session))
    assert str(tmp_path.parent) not in text
    [[frames, seconds]] = json.loads(text)["frame_records"]
    assert seconds == 0.5
    assert [frame.split("\0")[1] for frame in frames] == [
        "nets/mine.py",
        "else.py",
        "lib/numpy/linalg/__init__.py",
        "<thread>",
        "",
    ]
