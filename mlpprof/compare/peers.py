"""The project's variants compared with the frameworks, row by row: whole epochs, as their users run them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlpprof.catalog import ladder
from mlpprof.compare.decide import block_log_ratios, decide, log_ratios, pseudo_replicates
from mlpprof.compare.entrants import (
    IN_ONE_PROCESS,
    SHARING,
    Entrant,
    Environment,
    VariantSubject,
    all_threads,
    with_workers,
    worker_counts,
    worker_for,
)
from mlpprof.compare.error_bounds import IN_PROCESS
from mlpprof.compare.live_race import Chosen, EntrantWrong, ProcessRace
from mlpprof.compare.replicate import EntrantDied, StartWorker
from mlpprof.compare.verdict import replicate_of, verdict_of
from mlpprof.data import peek
from mlpprof.errors import MissingExtra, UsageError, did_you_mean
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.results import Race, Verdict
from mlpprof.results.peers import INDIRECT, Competitor, PeersRow
from mlpprof.workloads import get_workload

PACKAGES = {
    "peers/torch": "torch",
    "peers/torch_compile": "torch",
    "peers/jax_step": "jax",
    "peers/jax_scan": "jax",
    "peers/tensorflow": "tensorflow",
    "peers/sklearn": "sklearn",
}
"""Framework variant -> the package that it needs."""
WITH_WORKERS = (*SHARING, "mpi")
OURS = (*IN_ONE_PROCESS, *WITH_WORKERS)
"""The rungs that may be the fastest. Those that cannot do a network are absent from its row."""
WITH_ALL_THREADS = ("chunked",)
"""These rungs are tried with all BLAS threads as well."""


@dataclass(frozen=True)
class Plan:
    """A row of the table: a workload at a batch size."""

    name: str
    title: str
    workload: str
    batch: int
    dtype: str = "float32"


PLANS = {
    plan.name: plan
    for plan in (
        *(Plan(f"s1-{m}", f"784-70-30-10, batch {m:,}", "digits", m) for m in (32, 128, 500, 20_000)),
        Plan("persample", "1000-900-900-900-10, batch 100", "persample", 100),
        Plan("forever", "39-39-39-1, full batch of 10,000", "forever", 10_000),
        Plan("liu", "784-16-16-10, single-sample steps", "liu", 1),
        Plan("optprop", "cats 12288-20-7-5-1, full batch, float64", "optprop", 209, "float64"),
    )
}
"""The rows by name."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    finals: further replicates after the first, in which the finalists take part; none, or several. blocks: blocks of
    each replicate. most_steps: the most steps of a run. turn_s: the least length of a turn.
    """

    finals: int
    blocks: int
    most_steps: int
    turn_s: float


FULL = Effort(finals=8, blocks=5, most_steps=2000, turn_s=0.1)
QUICK = Effort(finals=0, blocks=4, most_steps=300, turn_s=0.02)

NEAR = 1.25
"""An entrant is a finalist if its run takes at most this many times as long as that of the fastest of its kind."""


def plans_of(names: Sequence[str]) -> list[Plan]:
    """The rows with these names, or all rows if there are no names; raises UsageError for an unknown name."""
    for name in names:
        if name not in PLANS:
            raise UsageError(f"there is no row '{name}'{did_you_mean(name, PLANS)} (known: {', '.join(PLANS)})")
    return [PLANS[name] for name in names] or list(PLANS.values())


def require_a_framework() -> None:
    """Raise MissingExtra if no framework is installed, before time is spent; nothing is imported."""
    if not any(importlib.util.find_spec(package) for package in PACKAGES.values()):
        raise MissingExtra(
            f"none of {', '.join(dict.fromkeys(PACKAGES.values()))} is installed; install them with: "
            "pip install 'mlpprof[peers]'"
        )


def subjects_of(plan: Plan, names: Sequence[str], steps: int) -> list[list[Entrant]]:
    """The variants of these names that the catalog has, each in its settings: frameworks with 1 thread and with all.

    steps: the steps of one run.
    """
    workload = get_workload(plan.workload)
    known = ladder()
    found = []
    for name in names:
        if name not in known:
            continue
        subject = VariantSubject(Request(name, workload.network, workload.source, plan.dtype), plan.batch, steps=steps)
        both = name in PACKAGES or name in WITH_ALL_THREADS
        environments = [Environment(count, native_blas=True) for count in ((1, all_threads()) if both else (1,))]
        if name in WITH_WORKERS:
            environments = [with_workers(count) for count in worker_counts()]
        found.append([Entrant(subject, one) for one in dict.fromkeys(environments)])
    return found


def measure_row(
    plan: Plan,
    effort: Effort,
    progress: Progress,
    names: Sequence[str] = (*OURS, *PACKAGES),
    start: StartWorker = worker_for,
) -> tuple[PeersRow, Mapping[str, Any]]:
    """One row and the machine; if an entrant dies or computes something else, it is absent, and the others race again.

    Raises UnsupportedNetwork if nobody is left.
    """
    workload = get_workload(plan.workload)
    samples = peek(workload.source).samples
    steps = min(samples // plan.batch, effort.most_steps)
    failed: dict[str, str] = {}
    while True:
        subjects = subjects_of(plan, [name for name in names if name not in failed], steps)
        live = ProcessRace(
            subjects, check="losses", all_take_part=False, blocks=effort.blocks, turn_s=effort.turn_s, start=start
        )
        try:
            live.run(replicate_of(progress, 0, 1 + effort.finals))
            live.keep(finalists([one.entrant.subject.variant for one in live.chosen], live.race()))
            for done in range(1, 1 + effort.finals):
                live.run(replicate_of(progress, done, 1 + effort.finals))
        except (EntrantDied, EntrantWrong) as failure:
            failed[failure.variant] = str(failure)
            continue
        break
    row = PeersRow(
        name=plan.name,
        title=plan.title,
        network=workload.network,
        samples=samples,
        batch=plan.batch,
        steps=steps,
        competitors=tuple(_competitors(live.chosen, live.race())),
        absent={**live.absent, **failed},
        race=live.race(),
    )
    return row, live.described["machine"]


def finalists(variants: Sequence[str], race: Race) -> list[int]:
    """The entrants that are nearly as fast as the fastest framework, or as the fastest of ours of some kind.

    The kinds of ours are those for which the table has a ratio: all, those in a single process, and of both the direct.
    """
    found: set[int] = set()
    peers, ours = ([i for i, name in enumerate(variants) if (name in PACKAGES) is is_peer] for is_peer in (True, False))
    single = [i for i in ours if variants[i] not in WITH_WORKERS]
    direct = [i for i in ours if variants[i] not in INDIRECT]
    for kind in (peers, ours, single, direct, [i for i in single if i in direct]):
        best_s = min(map(race.step_s, kind), default=0.0)
        found.update(i for i in kind if race.step_s(i) <= NEAR * best_s)
    return sorted(found)


def _competitors(chosen: Sequence[Chosen], race: Race) -> Iterator[Competitor]:
    variants = [one.entrant.subject.variant for one in chosen]
    first, finals = (replace(race, turns_s=turns_s) for turns_s in (race.turns_s[:1], race.turns_s[1:]))
    last = finalists(variants, first) if finals.turns_s else []
    seen_in = [finals if i in last else first for i in range(len(chosen))]
    peers = [i for i, name in enumerate(variants) if name in PACKAGES and (i in last or not last)]
    best = min(peers, key=lambda i: seen_in[i].step_s(i), default=None)
    for i, one in enumerate(chosen):
        yield Competitor(
            name=one.entrant.name,
            variant=variants[i],
            is_peer=variants[i] in PACKAGES,
            is_single=variants[i] not in WITH_WORKERS,
            engine=one.engine,
            dtype=one.loaded.dtype,
            epoch_s=seen_in[i].step_s(i),
            replicates=len(seen_in[i].turns_s),
            compile_s=one.compile_s,
            deviation=one.deviation,
            over_best_peer=None if best is None or best == i else ratio_between(seen_in[i], best, i),
        )


def ratio_between(race: Race, old: int, new: int) -> Verdict:
    """How many times as fast new is: from replicates, or from groups of blocks where there is only one replicate."""
    if len(race.turns_s) > 1:
        return verdict_of(decide(log_ratios(race, old, new)))
    blocks = block_log_ratios(race.turns_s[0], old, new)
    groups = pseudo_replicates(blocks, max(1, len(blocks) // 4))
    return verdict_of(decide(groups, procedure=IN_PROCESS), IN_PROCESS)
