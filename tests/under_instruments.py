"""Runs programs plain and under the instruments of `mlpprof.advise`, each in a process of its own, to the very end.

`python under_instruments.py` reads jobs as JSON from its standard input and prints what each of them wrote, as JSON.
A job is a script or a variant, and a mode: which form every step takes, or the search for the step, or all rewritten.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

PLANS = {
    "undisturbed": itertools.repeat(0),
    "clocked": itertools.repeat(1),
    "observed": itertools.repeat(2),
    "in turns": itertools.chain((0, 1, 2, 2, 1, 0), itertools.repeat(0)),
}
"""Modes in which the step is chosen as in `advise`, and the forms that its runs take, one after the other."""

LONGEST_S = 100
STEPS = 6
UNAVAILABLE = "not to be had"


def outputs(*jobs: dict[str, Any]) -> list[str]:
    """What the jobs printed, each in a child of one process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    run = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(jobs),
        cwd=tempfile.gettempdir(),
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: list[str] = json.loads(run.stdout)
    return found


def main() -> None:
    """Do the jobs of standard input."""
    del globals()["__file__"]  # or this file would be one of the program's
    print(json.dumps([_in_child(job) for job in json.load(sys.stdin)]))


def _in_child(job: dict[str, Any]) -> str:
    with tempfile.TemporaryFile("w+") as written:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.dup2(written.fileno(), 1)
                os.dup2(written.fileno(), 2)
                _do(**job)
                sys.stdout.flush()
                status = 0
            except Exception:  # noqa: BLE001 - the parent reads what is printed
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)  # the child must not go on as its parent
        _, status = os.waitpid(child, 0)
        written.seek(0)
        text = written.read()
        return text if status == 0 else f"{text}\nended with status {status}"


def _do(
    mode: str,
    script: str | None = None,
    step: str | None = None,
    variant: str | None = None,
    arguments: tuple[str, ...] = (),
    few: int = 0,
    folder: str | None = None,
) -> None:
    from mlpprof import catalog
    from mlpprof.programs.load import UserProgram
    from mlpprof.programs.request import request_for

    if folder is not None:
        os.chdir(folder)
    program = _Training(variant) if variant is not None else UserProgram(request_for(str(script), arguments=arguments))
    if script is not None:
        gc.freeze()  # what is imported by now is none of the program's, and every change of form goes through the rest
    if variant is not None:
        path = catalog.find(variant).path
        step = f"{path.name}:{catalog.find(variant).class_name or catalog.CLASS_NAME}.train_step"
    if mode == "plain":
        program.run(lambda path, source: compile(source, path, "exec", dont_inherit=True))
    elif mode == "sought":
        _seek(program)
    elif mode == "found":
        _find(program)
    elif mode == "paused":
        _pause(program, str(step))
    elif mode == "recorded":
        _record_as_it_is(program, str(step), few)
    elif mode in PLANS:
        _record(program, str(step), PLANS[mode])
    else:
        _whole(program, mode)


def _record(program: Any, step: str, modes: Iterator[int]) -> None:
    """As `advise` records, but through all steps, and so that the program ends by itself."""
    import time
    from functools import partial

    from mlpprof.programs.load import imported_texts
    from mlpprof.programs.record.clocks import Clocks
    from mlpprof.programs.record.forms import CodeExchange, Forms
    from mlpprof.programs.record.recorder import Recorder
    from mlpprof.programs.record.run import Instruments, record
    from mlpprof.programs.record.schedule import Steps
    from mlpprof.programs.record.surroundings import Surroundings
    from mlpprof.programs.record.timeline import Timeline
    from mlpprof.programs.step_place import StepPlace

    ran, timed = set[int](), []

    def noted() -> Iterator[int]:
        for mode in modes:
            ran.add(mode)
            yield mode

    class NotedClocks(Clocks):
        def take(self) -> Any:
            timed.append(super().take())
            return timed[-1]

    class KeepingRecorder(Recorder):
        def start(self, keeps: bool) -> None:
            super().start(True)

    place = StepPlace.parse(step)
    timeline = Timeline(time.perf_counter)
    imported = partial(imported_texts, program)
    forms = Forms(place, inside=timeline.inside, in_turns=timeline.in_turns, imported=imported)
    clocks, recorder = NotedClocks(time.perf_counter), KeepingRecorder(forms.sites)
    steps = Steps(CodeExchange(forms), clocks, recorder, time.perf_counter, forms=noted(), timeline=timeline)
    around = Surroundings(forms.sites, steps, timeline, time.perf_counter)
    recording = record(program, place, instruments=Instruments(forms, clocks, recorder, steps, timeline, around))
    assert ran
    assert 2 not in ran or (recording.trace is not None and recording.trace.events)
    assert 1 not in ran or any(timed)


def _pause(program: Any, step: str) -> None:
    """Let the program make three steps at a time, as `compare` does, until it ends by itself."""
    import threading

    from mlpprof.programs.pause import StepGate, run_paused
    from mlpprof.programs.step_place import StepPlace

    gate, turns = StepGate(), [0]

    def permit() -> None:
        gate.arrived()
        while not gate.take(3).has_ended:
            turns[0] += 1

    permitting = threading.Thread(target=permit)
    permitting.start()
    run_paused(program, StepPlace.parse(step), gate)
    permitting.join()
    assert turns[0]


def _seek(program: Any) -> None:
    """Watch the program as the search for the step does, but to its end."""
    import time

    from mlpprof.errors import UsageError
    from mlpprof.programs.find_step.watch_run import ProgramObserver, seek

    with contextlib.suppress(UsageError):
        seek(program, observer=ProgramObserver(time.perf_counter, looking_s=sys.maxsize))


def _find(program: Any) -> None:
    """The last line names the step that is found, or the error."""
    import time

    from mlpprof.errors import MlpprofError
    from mlpprof.programs.find_step.watch_run import ProgramObserver, seek

    observer = ProgramObserver(time.perf_counter, looking_s=0.3)  # most programs here are over before that
    try:
        found = seek(program, observer=observer).step
    except MlpprofError as error:
        found = f"{type(error).__name__}: {error}"
    print(f"\n{found}")


def _record_as_it_is(program: Any, step: str, few: int) -> None:
    """The last line shows as JSON what `record` gave, or the error."""
    from mlpprof.errors import MlpprofError
    from mlpprof.programs.record.run import record
    from mlpprof.programs.step_place import StepPlace

    try:
        recording = record(program, StepPlace.parse(step), few=few, plain_s=[1.0])
    except MlpprofError as error:
        print(f"\n{type(error).__name__}: {error}")
        return
    trace = recording.trace
    shown: dict[str, Any] = {"count": recording.count}
    if trace is not None:
        times = trace.times
        shown |= {"observed": len(trace.steps), "plain": len(times.plain_s), "clocked": len(times.clocked_s)}
        shown |= {"notes": trace.notes, "step": trace.step_text, "file": Path(trace.step_file).name}
    print(f"\n{json.dumps(shown)}")


def _whole(program: Any, mode: str) -> None:
    """Everything in one form from the first line on, as if the program were one long step."""
    from mlpprof.instrument.rewriting import Site
    from mlpprof.programs.load import load_through, own_files
    from mlpprof.programs.record import hooks
    from mlpprof.programs.record.clocks import Clocks
    from mlpprof.programs.record.recorder import Recorder
    from mlpprof.programs.record.rewrite import ClockedForm, ObservedForm

    sites: list[Site] = []
    clocks, recorder = Clocks(iter(range(10**9)).__next__), Recorder(sites)
    hooks.install(clocks.hooks)
    hooks.install(recorder.hooks)

    def compiled(path: str, source: str) -> Any:
        tree = ast.parse(source, path)
        form = (ClockedForm if mode == "all clocked" else ObservedForm)(sites, path, tree)
        tree.body = form.statements(tree.body)
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)

    load_through(own_files((), ()), compiled)
    recorder.start(keeps=True)
    program.run(compiled)
    recorder.stop()
    assert clocks.take() or recorder.events


class _Training:
    """A variant on the workload `tiny`: its state after some steps goes to standard output, to the last bit."""

    may_be_short = False
    wait_s = 120.0
    folder = "/"

    def __init__(self, variant: str) -> None:
        from mlpprof.programs.load import own_files

        self.variant = variant
        self.is_own = own_files((), ())

    def run(self, compiled: Any) -> None:
        """Train, and print digests."""
        import numpy as np

        from mlpprof.errors import MissingExtra
        from mlpprof.model import UnsupportedNetwork
        from mlpprof.model.gradcheck import close
        from mlpprof.profile.prepare import Loader
        from mlpprof.profile.request import Request
        from mlpprof.programs.load import load_through
        from mlpprof.workloads import get_workload

        load_through(self.is_own, compiled)
        workload = get_workload("tiny")
        request = Request(self.variant, workload.network, workload.source)
        try:
            prepared = Loader().prepare(request, lambda what, share: None)
        except UnsupportedNetwork:  # it does plain gradient descent
            simple = replace(workload.network, momentum=0.0, l1=0.0)
            prepared = Loader().prepare(replace(request, network=simple), lambda what, share: None)
        except MissingExtra as error:
            print(f"{UNAVAILABLE}: {error}")
            sys.stdout.flush()
            os._exit(0)
        X, Y = prepared.subject.X, prepared.subject.Y
        variant = prepared.subject.make()
        random = np.random.default_rng(1)
        for _ in range(STEPS):
            loss = variant.train_step(X, Y, random.choice(len(X), min(workload.batch, 20), replace=False))
            print(repr(float(loss)), digest(variant.parameters()), digest(variant.gradients()))
        print(digest([(variant.predict(X),)]))
        close(variant)


def digest(layers: Any) -> str:
    """Shapes, dtypes and bytes of arrays in tuples in a list."""
    import numpy as np

    total = hashlib.sha256()
    for array in itertools.chain.from_iterable(layers):
        held = np.asarray(array)
        total.update(f"{held.dtype}{held.shape}".encode() + held.tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    main()
