"""Files for speedscope, Perfetto, line_profiler and pyinstrument hold to the rules of their formats."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from runs import make_run

from mlpprof.catalog import find
from mlpprof.errors import UsageError
from mlpprof.report.files.formats import RUNS
from mlpprof.report.files.traces import openings, timeline
from mlpprof.results import LineProfile, LineTime, Operation, PhaseSamples

GRADIENT = Operation(
    phase="backward",
    layer=1,
    label="gradient",
    line=29,
    kind="product",
    name="matmul",
    dtype="float32",
    shape=(70, 500, 784),
    orders="C·F",
    times=1,
    flop=54_880_000,
    useful_flop=54_880_000,
    bytes_moved=2_000_000,
    useful_bytes=2_000_000,
    bytes_allocated=219_520,
    bytes_copied=0,
)


def counted(run):
    """The run with an operation under one label of every batch size."""
    return replace(run, results=tuple(replace(result, operations=(GRADIENT,)) for result in run.results))


def document(tmp_path, runs, name):
    return json.loads(RUNS.write(runs, tmp_path / name).read_text())


def unusual_runs():
    """Runs whose step has no labels, no phases, neither, or less time than its phases."""
    run = make_run()
    result = run.results[0]
    phases = {name: PhaseSamples(3 * phase.step_s) for name, phase in result.phases.items()}
    return [
        make_run(labelled=False),
        make_run(separable=False),
        make_run(separable=False, labelled=False),
        replace(run, results=(replace(result, phases=phases),)),
        make_run((1, 32, 500)),
    ]


@pytest.mark.parametrize("run", unusual_runs())
def test_slices_nest_and_neighbours_do_not_overlap(run):
    for result in run.results:
        slices = timeline(result)
        assert [one.depth for one in slices if one.depth == 0] == [0]
        for one in slices:
            assert 0 <= one.begin_ns <= one.end_ns <= slices[0].end_ns
        opened, at_ns = [], 0
        for one, opens in openings(slices):
            now_ns = one.begin_ns if opens else one.end_ns
            assert now_ns >= at_ns
            at_ns = now_ns
            if opens:
                assert len(opened) == one.depth
                opened.append(one)
            else:
                assert opened.pop() is one
        assert opened == []


def test_slices_last_as_long_as_the_phases_and_labels_they_stand_for():
    result = make_run().results[0]
    slices = timeline(result)
    step_s = result.step_s.median
    assert slices[0].end_ns == round(1e9 * step_s)
    for one in slices:
        if one.depth == 1:
            assert one.end_ns - one.begin_ns == pytest.approx(1e9 * result.phase_s(one.name), abs=1)
    statements = {(s.phase, s.layer, s.label): s for s in slices if s.depth == 2}
    assert len(statements) == len(result.labels)
    for label in result.labels:
        one = statements[label.phase, label.layer, label.label]
        assert one.end_ns - one.begin_ns == pytest.approx(1e9 * result.label_share(label) * step_s, rel=0.02, abs=1)


@pytest.mark.parametrize("run", [*unusual_runs(), counted(make_run())])
def test_speedscope_events_are_in_order_and_every_frame_that_opens_closes(tmp_path, run):
    file = document(tmp_path, [run], "a.speedscope.json")
    assert file["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    frames = file["shared"]["frames"]
    assert len({json.dumps(frame) for frame in frames}) == len(frames)
    assert all(set(frame) <= {"name", "file", "line"} for frame in frames)
    assert len(file["profiles"]) == len(run.results)
    for profile in file["profiles"]:
        assert profile["type"] == "evented"
        assert profile["unit"] == "nanoseconds"
        opened, at = [], profile["startValue"]
        for event in profile["events"]:
            assert set(event) == {"type", "frame", "at"}
            assert 0 <= event["frame"] < len(frames)
            assert event["at"] >= at
            at = event["at"]
            if event["type"] == "O":
                opened.append(event["frame"])
            else:
                assert event["type"] == "C"
                assert opened.pop() == event["frame"]
        assert opened == []
        assert at == profile["endValue"]


def test_speedscope_names_the_line_of_a_label(tmp_path):
    frames = document(tmp_path, [counted(make_run())], "a.speedscope.json")["shared"]["frames"]
    assert {"name": "gradient, layer 1", "file": "cached.py", "line": 29} in frames


@pytest.mark.parametrize("run", [*unusual_runs(), counted(make_run())])
def test_trace_events_begin_and_end_in_order_on_every_track(tmp_path, run):
    events = document(tmp_path, [run], "a.trace.json")["traceEvents"]
    assert Counter(event["ph"] for event in events)["B"] == Counter(event["ph"] for event in events)["E"]
    tracks = {}
    for event in events:
        assert {"ph", "name", "pid", "tid", "ts"} <= set(event)
        if event["ph"] == "M":
            continue
        opened, at = tracks.setdefault((event["pid"], event["tid"]), ([], [0.0]))
        assert event["ts"] >= at[0]
        at[0] = event["ts"]
        if event["ph"] == "B":
            opened.append(event["name"])
        else:
            assert opened.pop() == event["name"]
    assert len(tracks) == len(run.results)
    assert all(opened == [] for opened, _ in tracks.values())


def test_a_trace_holds_layer_shape_and_dtype_of_a_label(tmp_path):
    events = document(tmp_path, [counted(make_run())], "a.trace.json")["traceEvents"]
    (gradient,) = [e for e in events if e["ph"] == "B" and e["name"] == "gradient, layer 1"]
    assert gradient["args"]["layer"] == 1
    assert gradient["args"]["dtype"] == "float32"
    assert gradient["args"]["shape"] == "(70, 500) @ (500, 784)"
    assert gradient["args"]["operations"] == ["matmul float32 (70, 500) @ (500, 784), orders C·F"]
    (backward,) = [e for e in events if e["ph"] == "B" and e["name"] == "backward"]
    assert backward["args"]["flop"] == GRADIENT.flop


def test_several_runs_share_a_trace_and_every_track_has_a_name(tmp_path):
    runs = [make_run((32, 500)), make_run((500,), variant="naive"), make_run((500,), seed=1)]
    events = document(tmp_path, runs, "a.trace.json")["traceEvents"]
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert [name.partition(" (digits")[0] for name in processes.values()] == ["cached (1)", "naive", "cached (2)"]
    assert list(threads.values()) == ["batch 32", "batch 500", "batch 500", "batch 500"]
    assert {(e["pid"], e["tid"]) for e in events if e["ph"] == "B"} == set(threads)
    names = [profile["name"] for profile in document(tmp_path, runs, "a.speedscope.json")["profiles"]]
    assert names == ["cached (1), batch 32", "cached (1), batch 500", "naive, batch 500", "cached (2), batch 500"]


def line_run(name="cached", source=None):
    """A run of a catalog variant with two timed lines, in forward and in the helper above the class."""
    run = make_run(variant=name)
    text = find(name).source() if source is None else source
    marks = ("stacked[1:] = A", "# phase: weighted sum")
    numbers = [next(i for i, line in enumerate(text.splitlines(), 1) if mark in line) for mark in marks]
    lines = tuple(LineTime(number, 50, 0.25) for number in numbers)
    return replace(run, variant=replace(run.variant, source=text), lines=LineProfile(500, 50, 1.0, lines)), numbers


def test_line_profilers_own_reader_shows_the_lines_with_their_source(tmp_path):
    run, numbers = line_run()
    path = RUNS.write([run], tmp_path / "a.lprof")
    done = subprocess.run(
        [sys.executable, "-m", "line_profiler", str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert re.search(rf"^ +{numbers[0]} +50 +250000\.0 +5000\.0 +100\.0 +stacked\[1:\] = A$", done.stdout, re.MULTILINE)
    assert "Function: MLP.forward at line" in done.stdout
    assert "Function: add_bias_row at line" in done.stdout
    assert "Could not find" not in done.stdout


def test_the_text_of_line_profiler_holds_the_source_that_was_measured(tmp_path):
    run, numbers = line_run(source=find("cached").source().replace("stacked[1:] = A", "stacked[1:] = A  # mine"))
    text = RUNS.write([run], tmp_path / "a.lprof.txt").read_text(encoding="utf-8")
    assert re.search(rf"^ +{numbers[0]} +50 +250000\.0 .*stacked\[1:\] = A  # mine$", text, re.MULTILINE)
    assert "File: cached.py" in text
    assert "generated" not in text


def test_a_source_that_has_changed_since_is_named_without_a_path(tmp_path):
    run, _ = line_run(source=find("cached").source() + "# changed\n")
    content = RUNS.write([run], tmp_path / "a.lprof").read_bytes()
    assert b"cached.py" in content
    assert str(find("cached").path.parent).encode() not in content


def test_pyinstrument_loads_its_session(tmp_path):
    path = RUNS.write([make_run(stacks=True)], tmp_path / "a.pyisession")
    done = subprocess.run(
        [sys.executable, "-m", "pyinstrument", "--load", str(path), "-r", "json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["sample_count"] == 100
    assert "train_step" in done.stdout


@pytest.mark.parametrize(
    ("name", "option"), [("a.lprof", "--lines"), ("a.lprof.txt", "--lines"), ("a.pyisession", "--stacks")]
)
def test_a_view_that_was_not_measured_is_refused_with_its_option(tmp_path, name, option):
    with pytest.raises(UsageError, match=option):
        RUNS.write([make_run()], tmp_path / name)
    assert list(tmp_path.iterdir()) == []
