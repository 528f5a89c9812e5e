"""A few lines of a program, recorded in this process, as detectors look at them: nothing has to run for seconds."""

from __future__ import annotations

import ast
import builtins
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from threadpoolctl import threadpool_limits

from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record import hooks
from mlpprof.programs.record.clocks import Clocks
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.recorder import Recorder
from mlpprof.programs.record.rewrite import ClockedForm, ObservedForm
from mlpprof.programs.record.trace import Times, Trace

FILE = "net.py"
TIMED_STEPS = 9


@contextmanager
def recorded(text: str) -> Iterator[Graph]:
    """The graph of a file that has a function `step`: timed plain and under clocks in turns, then observed twice."""
    before = set(vars(builtins))
    sites: list[Site] = []
    clocks, recorder, times = Clocks(time.perf_counter), Recorder(sites), Times()
    hooks.install({**clocks.hooks, **recorder.hooks})
    one_thread = threadpool_limits(1)  # tests run beside each other
    try:
        plain, clocked, observed = (_step(text, form, sites) for form in (None, ClockedForm, ObservedForm))
        for _ in range(1 + TIMED_STEPS):
            for step, seconds in ((plain, times.plain_s), (clocked, times.clocked_s)):
                clocks.take()
                start = time.perf_counter()
                step()
                seconds.append(time.perf_counter() - start)
            times.sites.append(clocks.take())
            times.around.append({})
        for measured in (times.plain_s, times.clocked_s, times.sites, times.around):
            del measured[0]  # the first step warms up
        for number in range(2):
            recorder.start(keeps=number == 1)
            try:
                observed()
            finally:
                recorder.stop()
        trace = Trace(
            sites=sites,
            **recorder.observed(),
            times=times,
            sources={FILE: text},
            step_file=FILE,
            step_text="step",
            folder=".",
        )
        yield Graph(trace)  # functions of the program that are performed again still need the hooks
    finally:
        one_thread.restore_original_limits()
        for name in set(vars(builtins)) - before:
            delattr(builtins, name)


def _step(text, form, sites):
    tree = ast.parse(text)
    if form is not None:
        tree.body = form(sites, FILE, ast.parse(text)).statements(tree.body)
    space = {"np": np}
    exec(compile(ast.fix_missing_locations(tree), FILE, "exec"), space)
    return space["step"]
