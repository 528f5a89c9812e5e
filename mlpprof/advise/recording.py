"""In the worker: run a program until its step has been timed and observed."""

from __future__ import annotations

import ast
import sys
import time
from pathlib import Path

from mlpprof.advise import hooks
from mlpprof.advise.clocks import Clocks
from mlpprof.advise.forms import Forms
from mlpprof.advise.own_files import load_through, own_files
from mlpprof.advise.places import StepPlace, functions
from mlpprof.advise.program import Script, VariantLoop
from mlpprof.advise.recorder import Recorder
from mlpprof.advise.steps import Steps
from mlpprof.advise.switch import Switch
from mlpprof.advise.trace import Trace
from mlpprof.errors import UsageError, did_you_mean


def record(
    program: Script | VariantLoop,
    step: StepPlace,
    folder: str,
    include: list[str],
    exclude: list[str],
    few: int = 0,
) -> tuple[Trace, int]:
    """The trace of a program's step, and how often it ran; without recorded steps if it ran too seldom.

    few: the number of steps if the program is known to have few. Raises UsageError if the step never ran, and what
    the program's `run` raises.
    """
    is_own = own_files(include, exclude)
    forms = Forms(step)
    clocks, recorder = Clocks(time.perf_counter), Recorder(forms.sites)
    steps = Steps(Switch(forms), clocks, recorder, time.perf_counter, few)
    for instrument in (clocks, recorder, steps):
        hooks.install(instrument.hooks)
    for module in list(sys.modules.values()):  # the activations and losses of variants, which the harness uses too
        if (path := getattr(module, "__file__", None)) is not None and is_own(path):
            forms.sources[path] = Path(path).read_text(encoding="utf-8")
    load_through(is_own, forms.module_code)
    program.run(forms.module_code)
    if forms.step_file is None or steps.count == 0:
        raise UsageError(_not_seen(step, forms))
    trace = Trace(
        sites=forms.sites,
        events=recorder.events,
        loops=recorder.loops,
        steps=recorder.steps,
        died=recorder.roots.died,
        reads=recorder.reads,
        times=steps.times,
        sources=forms.sources,
        step_file=forms.step_file,
        step_text=step.text,
        folder=folder,
    )
    if recorder.is_cut:
        trace.notes.append("the step has more operations than are recorded: what comes late in it was not looked at")
    return trace, steps.count


def _not_seen(step: StepPlace, forms: Forms) -> str:
    if forms.step_file is not None:
        return f"the step '{step.text}' in {Path(forms.step_file).name} was never run; is it the right one?"
    names = [name for path, source in forms.sources.items() for name, _ in functions(ast.parse(source, path))]
    what = f"no function '{step.text}'" if step.name is not None else f"no loop in line {step.line}"
    files = ", ".join(Path(path).name for path in forms.sources)
    return (
        f"{what} in {files or 'the program'}{did_you_mean(step.text, names)} (functions: {', '.join(names) or 'none'})"
    )
