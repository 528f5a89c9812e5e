"""Products so small that starting the threads of BLAS takes longer than the computation.

Threads that wait for a CPU which other programs use are slow as well, but that is no flaw of the program. So it is only
a note if others ran while the products were timed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import median

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from mlpprof.advise.candidate import Candidate, by_hand, facts, indices, total
from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.machine.linux import load_average
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import again, of_time, seconds_of

MOST_FLOP = 4e7
"""Larger products gain from threads on every machine, so they are not measured."""

PAIRS = 5
"""Each product is timed so many times with one thread and with all threads."""

LEAST_GAIN = 0.25
"""One thread must save this share of a product's time. Times with threads vary more than others."""

LEAST_TOTAL = 0.05
"""All products together must save this share of the step, because the cure concerns the whole program."""


Load = Callable[[], tuple[float | None, int | None]]
Timed = Callable[[Callable[[], object]], float]


def detect(
    graph: Graph, load: Load = load_average, cpus: int | None = os.cpu_count(), timed: Timed = seconds_of
) -> list[Candidate]:
    """One candidate for all products that are faster with one thread. load: as `load_average`; timed: `seconds_of`."""
    threads = max((int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
    if threads < 2:
        return []
    parts, others_running = [], list[int]()
    for event in graph.last:
        if event.kind == PRODUCT and event.effect is not None and event.effect.flop <= MOST_FLOP:
            perform = again(event)
            if perform is None:
                continue
            share = _share(perform, timed)
            runnable = load()[1]
            others_running.append(0 if runnable is None else runnable - 1)  # this thread is one of them
            if share[0] >= LEAST_GAIN:
                parts.append((event, of_time(share, graph.seconds([event]))))
    low, high = total(saved for _, saved in parts)
    if not parts or low < LEAST_TOTAL * graph.step_s:
        return []
    head = max(parts, key=lambda part: part[1][1])[0]
    assert head.effect is not None
    others = len(parts) - 1
    number = f" and {others} other product{'s' if others > 1 else ''}" if others else ""
    if median(others_running) + threads > (cpus or threads):
        graph.trace.notes.append(
            f"the machine was busy: `{graph.text(head, 50)}`{number} took longer with all BLAS threads than with one, "
            "while other programs used the CPU. Repeat this when the CPU is free; if it stays so, set "
            "OPENBLAS_NUM_THREADS=1 (with MKL: MKL_NUM_THREADS=1)"
        )
        return []
    return [
        Candidate(
            category="small-product",
            site=graph.site(head),
            title=f"`{graph.text(head, 50)}`{number} would be faster with one BLAS thread than with all",
            why=f"The product of {' x '.join(map(str, head.effect.shape))} is so small that starting the threads takes "
            "longer than the computation.",
            cure=by_hand(
                "let BLAS use one thread: set OPENBLAS_NUM_THREADS=1 (with MKL: MKL_NUM_THREADS=1) in the shell, or "
                "train inside `with threadpoolctl.threadpool_limits(1):`."
            ),
            saved_s=(low, high),
            measured=f"{len(parts)} products performed alternately with one thread and with all threads",
            covers=indices(event for event, _ in parts),
            related=tuple({graph.site(e).line: graph.site(e) for e, _ in parts}.values())[1:8],
            evidence=facts(head, len(parts)),
        )
    ]


def _share(perform: Callable[[], object], timed: Timed) -> tuple[float, float]:
    """The share of the time with all threads that one thread saves, as quartiles."""
    found = []
    for _ in range(PAIRS):
        all_s = timed(perform)
        with threadpool_limits(1, "blas"):
            found.append(1 - timed(perform) / all_s)
    low, high = np.quantile(found, (0.25, 0.75))
    return float(low), float(high)
