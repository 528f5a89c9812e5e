"""`compare`: race variants with the oldest of them, and show where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from mlpprof.compare.decide import NullResult
from mlpprof.compare.entrants import FRAMEWORKS, Entrant, Environment, VariantSubject, all_threads
from mlpprof.compare.error_bounds import REPLICATED, Procedure
from mlpprof.compare.live_race import Chosen, ProcessRace, variant_race
from mlpprof.compare.null_cause import with_cause
from mlpprof.compare.variant_difference import PAIRS
from mlpprof.compare.verdict import measure, measure_null
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.results import Comparison, CountedChange, PhaseChange, Verdict

COMPILING_S = 0.1
"""If a first step is longer than a warm one by less than this, nothing worth reporting was compiled."""


def need_own_processes(variants: Sequence[str]) -> bool:
    """Whether one of the variants is a framework: it needs a process and threads of its own."""
    return any(variant.startswith(FRAMEWORKS) for variant in variants)


def settings_of(request: Request, batch: int, threads: int | None) -> list[Entrant]:
    """A framework with 1 thread and with all, unless threads were given; any other variant as given.

    Kernel pins are cleared in all of them.
    """
    counts = (1, all_threads()) if request.variant.startswith(FRAMEWORKS) and threads == 1 else (threads,)
    subject = VariantSubject(request, batch)
    return [Entrant(subject, Environment(count, native_blas=True)) for count in dict.fromkeys(counts)]


def compare(
    requests: Sequence[Request],
    workload: str,
    batch: int,
    environment: Environment,
    *,
    at_least: float | None,
    budget_s: float | None,
    check: bool,
    with_waterfall: bool,
    typed: str,
    progress: Progress,
    procedure: Procedure = REPLICATED,
) -> list[Comparison]:
    """Race all variants, the oldest first; one comparison for every newer one.

    They share a process, unless one of them is a framework: then each has a process of its own, and losses are
    compared instead of gradients. typed: the command, as the user gave it. procedure: for the wanted resolution. Raises
    what the race raises.
    """
    own = need_own_processes([request.variant for request in requests])
    if own:
        subjects = [settings_of(request, batch, environment.threads) for request in requests]
        live = ProcessRace(subjects, check="losses" if check else None, is_fine=procedure.is_fine)
    else:
        live = variant_race(requests, batch, environment, check, is_fine=procedure.is_fine)

    @cache
    def null() -> NullResult:
        same = ProcessRace([[live.chosen[0].entrant]] * 2, is_fine=procedure.is_fine)
        return measure_null(same, progress, procedure)

    verdicts = measure(live, progress, at_least, null, budget_s, procedure)
    race = live.race()

    def difference(place: int, verdict: Verdict) -> tuple[tuple[PhaseChange, ...], tuple[CountedChange, ...]]:
        pairs = PAIRS if verdict.outcome == "fail" else 1
        return live.difference(progress, 0, place, pairs=pairs, counted=not own) if with_waterfall else ((), ())

    differences = [difference(place, verdict) for place, verdict in enumerate(verdicts, start=1)]
    return [
        Comparison(
            old=race.variants[0],
            new=race.variants[i],
            workload=workload,
            network=requests[0].network,
            batch=batch,
            race=race.pair(i),
            verdict=with_cause(verdict),
            equivalent=True if check else None,
            waterfall=waterfall,
            counted=counted,
            machine=live.described["machine"],
            command=typed,
            engines=(_engine_text(live.chosen[0]), _engine_text(live.chosen[i])) if own else (),
        )
        for i, (verdict, (waterfall, counted)) in enumerate(zip(verdicts, differences, strict=True), start=1)
    ]


def _engine_text(chosen: Chosen) -> str:
    """'peers/jax_scan: JAX 0.10 on cpu, 4 threads; first step 0.8 s longer'."""
    compiled = f"; first step {chosen.compile_s:.2g} s longer" if chosen.compile_s >= COMPILING_S else ""
    return f"{chosen.entrant.name}: {chosen.engine}{compiled}"
