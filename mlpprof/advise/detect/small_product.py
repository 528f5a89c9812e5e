"""Products so small that the threads of BLAS wait for each other longer than they work."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from mlpprof.advise.candidate import Candidate, by_hand, facts, indices, total
from mlpprof.advise.graph import Graph
from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.programs.record.replay import again, of_time, seconds_of

MOST_FLOP = 4e7
PAIRS = 5
LEAST_SHARE = 0.25
LEAST_TOTAL = 0.05


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for all products that one thread does faster."""
    if max((int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"), default=1) < 2:
        return []
    parts = []
    for event in graph.last:
        if event.kind == PRODUCT and event.effect is not None and event.effect.flop <= MOST_FLOP:
            perform = again(event)
            if perform is None:
                continue
            share = _share(perform)
            if share[0] >= LEAST_SHARE:
                parts.append((event, of_time(share, graph.seconds([event]))))
    low, high = total(saved for _, saved in parts)
    if not parts or low < LEAST_TOTAL * graph.step_s:
        return []
    head = max(parts, key=lambda part: part[1][1])[0]
    assert head.effect is not None
    products = f"{len(parts)} products are" if len(parts) > 1 else "a product is"
    return [
        Candidate(
            category="small-product",
            site=graph.site(head),
            title=f"{products} faster with one thread of BLAS than with all",
            why=f"a product of {' x '.join(map(str, head.effect.shape))} is over before the threads have met; beside "
            "other work they even wait for each other",
            cure=by_hand(
                "let BLAS use one thread: set OPENBLAS_NUM_THREADS=1 (MKL_NUM_THREADS=1 with MKL) in the shell, or "
                "train within `threadpoolctl.threadpool_limits(1)`."
            ),
            saved_s=(low, high),
            measured=f"{len(parts)} products performed in turns with one thread and with all",
            covers=indices(event for event, _ in parts),
            related=tuple({graph.site(e).line: graph.site(e) for e, _ in parts}.values())[1:8],
            evidence=facts(head, len(parts)),
        )
    ]


def _share(perform: Callable[[], object]) -> tuple[float, float]:
    """The share of the time with all threads that one thread saves: quartiles of pairs of blocks."""
    found = []
    for _ in range(PAIRS):
        all_s = seconds_of(perform)
        with threadpool_limits(1, "blas"):
            found.append(1 - seconds_of(perform) / all_s)
    low, high = np.quantile(found, (0.25, 0.75))
    return float(low), float(high)
