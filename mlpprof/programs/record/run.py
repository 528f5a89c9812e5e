"""In the worker: runs a program until its step has been timed and observed."""

from __future__ import annotations

import _thread
import ast
import contextlib
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from mlpprof.errors import MlpprofError, ProgramEnded, UsageError, did_you_mean
from mlpprof.instrument.compiled import ADVICE, WORDS
from mlpprof.process import PULSE, interrupt, raise_in
from mlpprof.programs.load import PACKAGE, Exit, Program, imported_texts, is_import_to_come
from mlpprof.programs.notebook import READ, notes_on, place_of
from mlpprof.programs.record import hooks
from mlpprof.programs.record.clocks import Clocks, hook_time
from mlpprof.programs.record.finite import failure_in
from mlpprof.programs.record.forms import CodeExchange, Forms
from mlpprof.programs.record.program_time import unfinished
from mlpprof.programs.record.recorder import Recorder
from mlpprof.programs.record.replayed import add_replayed_times
from mlpprof.programs.record.schedule import OBSERVED_STEPS, Enough, Steps, end_threads_quietly
from mlpprof.programs.record.surroundings import Surroundings, Watched
from mlpprof.programs.record.timeline import Timeline
from mlpprof.programs.record.trace import Times, Trace
from mlpprof.programs.request import STILL_S
from mlpprof.programs.step_place import StepPlace, async_functions, functions
from mlpprof.programs.why_no_step import Signs, Stillness
from mlpprof.programs.writes import Writes

EVERY_S = 0.25
"""A running program is watched so often."""

WAITS = 8
"""If a program has not ended after so many attempts, it may be waiting for something, and gets a signal."""

GIVE_UP_S = 60.0
GIVEN_UP = f"mlpprof could not end the program within {GIVE_UP_S:.0f} seconds; it catches all exceptions, or waits"
"""After so many seconds of attempts to end a program, the worker ends with these words."""


@contextlib.contextmanager
def watched(is_hopeless: Callable[[float], bool], every_s: float = EVERY_S) -> Iterator[None]:
    """Run the block until it ends, or until `is_hopeless(seconds since its begin)` is true: then `Enough` ends it.

    `Enough` is raised in the thread that runs the block, repeatedly if the program catches it. The watching thread is
    unknown to Python's `threading`, so that a program that counts its threads finds only its own.
    """
    thread, stopped, lock = threading.get_ident(), threading.Event(), threading.Lock()
    begun_s = time.monotonic()
    times_raised = 0

    def watch() -> None:
        nonlocal times_raised
        while not stopped.wait(every_s):
            with lock:
                if not stopped.is_set() and is_hopeless(time.monotonic() - begun_s):
                    times_raised += 1
                    if times_raised * every_s > GIVE_UP_S:
                        os.write(2, GIVEN_UP.encode())
                        os._exit(1)
                    if times_raised % WAITS == 0 and thread == threading.main_thread().ident:
                        interrupt(thread)  # it may wait for something, and would not notice the exception
                    else:
                        raise_in(thread, Enough)

    try:
        _thread.start_new_thread(watch, ())
        yield
    except Enough:
        pass
    except BaseException:
        if not times_raised:  # else it comes from being ended in the middle
            raise
    finally:
        is_settled = False
        while not is_settled:
            try:
                with lock:
                    stopped.set()
                if times_raised:  # another one may still arrive
                    raise_in(thread, Settled)
                    while True:
                        pass
                is_settled = True
            except (Enough, KeyboardInterrupt):
                pass
            except Settled:
                is_settled = True


class Settled(BaseException):
    """Replaces an `Enough` that has not arrived yet.

    Taking that back would leave Python's flag for it set: the interpreter would then check for it at every loop turn
    and call, and line_profiler would never return.
    """


ENOUGH_STEPS = 20
"""A run with so many steps takes its own times; with fewer, those of an earlier run are used too."""


MUCH_AROUND = 0.2
"""If the training loop takes more than this share of the time around its steps, a note reports it."""


@dataclass(frozen=True)
class Patience:
    """A program that runs for so many seconds is ended. Some load data for a minute before they begin to train.

    loading_s: if no file that it has, or still imports, contains the step. waiting_s: if its step is not called.
    longest_step_s: if its first step still runs. still_s: if it has begun to make steps, and all its threads have stood
    at the same instructions for so long.
    """

    loading_s: float = 20.0
    waiting_s: float = 120.0
    longest_step_s: float = 20.0
    still_s: float = STILL_S


@dataclass
class Recording:
    """What a run of the program gave. trace: None if the program ended too early; count: how often the step ran.

    timeline: of the program around its steps, if it was kept. has_ended: the program has run to its end. around: the
    recorded statements around the steps.
    """

    trace: Trace | None
    count: int
    plain_s: list[float]
    timeline: Timeline | None = None
    has_ended: bool = False
    around: Sequence[Watched] = ()


@dataclass(frozen=True)
class Instruments:
    """What times and records a program's step. steps: decides which form each step takes.

    timeline, surroundings: of what is around the steps.
    """

    forms: Forms
    clocks: Clocks
    recorder: Recorder
    steps: Steps
    timeline: Timeline | None = None
    surroundings: Surroundings | None = None

    @classmethod
    def usual(cls, step: StepPlace, few: int, program: Program, looks_around: bool) -> Instruments:
        """Those for a program that makes `few` steps (0: not known), and may end after a few steps if not."""
        forms, may_be_short = Forms(step), program.may_be_short
        clocks, recorder = Clocks(time.perf_counter), Recorder(forms.sites)
        early = Recorder(forms.sites) if may_be_short and (few == 0 or few >= ENOUGH_STEPS) else None
        # What is around the steps of a variant is mlpprof's own.
        timeline = Timeline(time.perf_counter) if looks_around and may_be_short else None
        steps = Steps(CodeExchange(forms), clocks, recorder, time.perf_counter, few, early, timeline=timeline)
        if timeline is None:
            return cls(forms, clocks, recorder, steps)
        forms.imported = partial(imported_texts, program)
        forms.inside, forms.in_turns = timeline.inside, timeline.in_turns
        around = Surroundings(forms.sites, steps, timeline, time.perf_counter)
        steps.unfinished = lambda: unfinished(timeline, forms.sites, around.left)
        return cls(forms, clocks, recorder, steps, timeline, around)


def record(
    program: Program,
    step: StepPlace,
    few: int = 0,
    plain_s: Sequence[float] = (),
    writes: Writes | None = None,
    patience: Patience | None = None,
    instruments: Instruments | None = None,
    looks_around: bool = False,
) -> Recording:
    """Run a program until its step has been recorded, or until it ends, or wants to write, and a few have been.

    few: the number of steps, if an earlier run has counted them. plain_s: what undisturbed steps took in that run.
    looks_around: take the times of the statements around the steps, too, and record them.
    Raises UsageError if the step never ran, and what the program's `run` raises.
    """
    patience = patience or Patience(waiting_s=program.wait_s)
    end_threads_quietly()
    signs, stillness = Signs(program.is_own), Stillness(time.monotonic)
    signs.watch()
    hook_time()  # measured before the program runs, and others with it
    instruments = instruments or Instruments.usual(step, few, program, looks_around)
    forms, steps, recorder, timeline = instruments.forms, instruments.steps, instruments.recorder, instruments.timeline
    for instrument in (instruments.clocks, recorder, steps):
        hooks.install(instrument.hooks)
    if timeline is not None and instruments.surroundings is not None:
        hooks.install({**timeline.hooks, **instruments.surroundings.hooks})
    for module in list(sys.modules.values()):  # the activations and losses of variants, which the harness uses too
        if (path := getattr(module, "__file__", None)) is not None and program.is_own(path):
            forms.sources[path] = Path(path).read_text(encoding="utf-8")

    endless_at: str | None = None

    def is_hopeless(passed_s: float) -> bool:
        nonlocal endless_at
        if signs.stopped is not None or (writes is not None and writes.must_end):
            return True
        if passed_s <= patience.waiting_s or steps.count:
            PULSE.beat(steps.count or None)
        steps.relieve()
        if endless_at is None and steps.first_s > patience.longest_step_s:
            endless_at = signs.here()
        if forms.is_compiled or steps.is_done_elsewhere or steps.is_over:
            return True
        if forms.step_file is None:
            if passed_s > patience.waiting_s:
                return signs.give_up(passed_s)
            return passed_s > patience.loading_s and not is_import_to_come(dict(forms.sources), program.folder)
        if steps.count == 0:
            return passed_s > patience.waiting_s and signs.give_up(passed_s)
        if stillness.seconds() > patience.still_s or steps.pause_s > patience.waiting_s:
            return signs.give_up(passed_s)
        return endless_at is not None

    if writes is not None:
        writes.is_enough = lambda: steps.is_enough
    ended: Exit | None = None
    begun_s = time.perf_counter()
    if timeline is not None:
        timeline.begin()
    with watched(is_hopeless):
        try:
            ended = program.run(forms.module_code)
        except MlpprofError:
            if not steps.is_done:  # what comes after the recording may fail, as a file that cannot be written
                raise
    if timeline is not None:
        timeline.end()
    sys.settrace(None)  # `Steps` may have set one
    if writes is not None:
        writes.is_enough = lambda: True
    if forms.is_compiled:
        name = Path(forms.step_file or "").name
        raise UsageError(f"the step '{step.text}' in {name} is {WORDS}; {ADVICE}")
    if signs.stopped is not None and steps.is_in_step and not steps.is_enough:
        raise UsageError(f"the step '{step.text}' ran {steps.count} times, and did not end: {signs.stopped}")
    if endless_at is not None:
        raise UsageError(_too_long(step, forms, patience.longest_step_s, endless_at, program.may_be_short))
    if steps.count == 0 and ended is not None and ended.place is not None:
        raise ProgramEnded(f"{ended.place} ended the program with exit code {ended.code} before the step ran")
    if forms.step_file is None or steps.count == 0:
        raise UsageError(not_seen(step, forms, signs))
    recorder = steps.recorded
    if not recorder.steps:
        return Recording(None, steps.count, steps.times.plain_s)
    if few and few < ENOUGH_STEPS:
        steps.times.plain_s += plain_s
    trace = Trace(
        sites=forms.sites,
        **recorder.observed(),
        times=steps.times,
        sources=forms.sources,
        step_file=forms.step_file,
        step_text=step.text,
        folder=program.folder,
        loading_s=max(0.0, (steps.first_begun_s or begun_s) - begun_s),
    )
    if (failure := failure_in(recorder.events, forms.sites, forms.sources)) is not None:
        trace.notes.append(failure)
    trace.notes.extend(notes_on(forms.sources))
    if not steps.is_done:
        why = _why_few(writes, signs)
        trace.notes.append(f"only {steps.count} steps ran, so the times come from a few steps: {why}")
    if writes is not None:
        trace.notes.extend(writes.notes())
    if recorder.is_cut:
        trace.notes.append("the step has more operations than mlpprof records, so its last part was not analysed")
    if trace.is_blind:
        trace.notes.append(
            "mlpprof could not observe all reads of the step's arrays (another thread, or very many objects), so it "
            "did not look for unused results, needless copies and updates in place"
        )
    if steps.is_long:
        trace.notes.append(
            "the step is long, so only parts of it were timed, and shares are estimates. For more detail, use --step "
            "with a loop inside the step"
        )
    elif len(trace.steps) < OBSERVED_STEPS:
        trace.notes.append(
            "the program makes a single step, so mlpprof cannot know whether the results are used later. It did not "
            "look for unused results, needless copies and updates in place"
        )
    if not trace.times.sites and not steps.is_long:
        add_replayed_times(trace)
        trace.notes.append(
            "the program makes too few steps to time its expressions, so mlpprof performed the same operations again "
            "and timed them: shares are estimates"
        )
    elif 0 < few <= OBSERVED_STEPS + 1 and not steps.is_long:
        trace.notes.append(
            "the program makes so few steps that mlpprof timed the expressions of only one: shares are estimates"
        )
    trace.notes.extend(_notes_around(steps.times, forms))
    around = list(instruments.surroundings.found.values()) if instruments.surroundings is not None else []
    return Recording(trace, steps.count, steps.times.plain_s, timeline, ended is not None, around)


def _notes_around(times: Times, forms: Forms) -> Iterator[str]:
    """What a user has to know if much time passes around the steps, as in a generator that makes the batches."""
    if not times.between_s:
        return
    step_s, between_s = median(times.plain_s), median(times.between_s)
    fed = median(times.fed_s) / step_s if step_s > 0 else 0.0
    if fed > MUCH_AROUND:
        places = " and ".join(
            dict.fromkeys(place_of(forms.sites[site].file, forms.sites[site].line).text for site in sorted(times.feeds))
        )
        yield (
            f"{100 * fed:.0f} % of a step is the time in which the training loop ({places}) gets its next item, as "
            "from a generator of batches. mlpprof adds it to the step, but does not look into it: to see which "
            "expressions take that time, compute each batch in the body of the loop"
        )
    rest = between_s / (step_s + between_s)
    if rest > MUCH_AROUND:
        lines = " or ".join(dict.fromkeys(f"--step {place_of(*loop).text}" for loop in forms.loops))
        include = f". To include it, name the loop: {lines}" if lines else ""
        yield (
            f"{100 * rest:.0f} % of the training's time passes between the steps, in the rest of the training loop, "
            f"which is not part of the step{include}"
        )


def _why_few(writes: Writes | None, signs: Signs) -> str:
    if signs.stopped is not None:
        return f"{signs.stopped}, and mlpprof ended it"
    stopped = writes is not None and writes.must_end
    return "then the program wanted to write" if stopped else "the program makes no more"


def _too_long(step: StepPlace, forms: Forms, longest_s: float, at: str, is_users: bool) -> str:
    """What to do about a step that does not end. is_users: the user may have named it; it is not that of a variant."""
    assert forms.step_file is not None
    name = Path(forms.step_file).name
    takes = f"a single step '{step.text}' in {name} takes more than {longest_s:.0f} seconds; it was at {at}"
    if not is_users:
        return f"{takes}. If that line waits for something, let it return; else, give it less to do"
    node = step.node(ast.parse(forms.sources[forms.step_file]), forms.step_file)
    inner = [one for one in ast.walk(node) if isinstance(one, ast.For | ast.While)] if node is not None else []
    lines = sorted(one.lineno for one in inner if one is not node)
    names = [f"--step {shlex.quote(place_of(forms.step_file, line).text)}" for line in lines]
    what = f". Name a loop inside it: {' or '.join(names)}" if names else ""
    return f"{takes}. It seems to be the whole training{what}. Without --step, mlpprof looks for the step itself"


ASYNC = (
    "is an `async def`, and mlpprof does not follow those, because other code may run while it waits. Put its "
    "computation into a plain function, and name that one with --step"
)


def not_seen(step: StepPlace, forms: Forms, signs: Signs) -> str:
    """Why a named step was not reached."""
    if forms.step_file is not None:
        return f"the step '{step.text}' in {Path(forms.step_file).name} never ran: {signs.without_step()}"
    sources = {path: source for path, source in forms.sources.items() if not Path(path).is_relative_to(PACKAGE)}
    names = [name for path, source in sources.items() for name, _ in functions(ast.parse(source, path))]
    files = ", ".join(Path(path).name for path in sources)
    waiting = [name for source in sources.values() for name in async_functions(ast.parse(source))]
    if step.name is not None and any(f".{name}".endswith(f".{step.name}") for name in waiting):
        return f"the step '{step.text}' in {files} {ASYNC}"
    hint = ""
    if step.line is not None and step.cell is None and any(path in READ for path in sources):
        hint = f". A line of a notebook has its cell before it: --step 3:{step.line} is line {step.line} of cell 3"
    return (
        f"no {step.words} in {files or 'the program'}{did_you_mean(step.text, names)} "
        f"(functions: {', '.join(names) or 'none'}){hint}"
    )
