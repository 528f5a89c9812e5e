"""`compare` where the variants cannot share a process: all of them in one relay, each new one against the old one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from mlpprof.measure.contest import Chosen, Contest, Participant
from mlpprof.measure.gate import (
    UNGATED_REPLICATES,
    Null,
    budget_note,
    decide_gate,
    is_spent,
    log_ratios,
    measure_null,
    part_of,
    verdict_of,
)
from mlpprof.measure.messages import decode_batch_result
from mlpprof.measure.racers import FRAMEWORKS, Environment
from mlpprof.measure.relay import Entrant, Relay, StartWorker, all_threads, start_resident
from mlpprof.measure.request import Request
from mlpprof.measure.waterfall import waterfall
from mlpprof.process import Progress
from mlpprof.results import Change, Comparison, Race, Verdict
from mlpprof.stats import REPLICATED, NullResult, Outcome

COMPILING_S = 0.1
"""A first step that is longer than a warm one by less than this has compiled nothing worth telling."""


def need_apart(references: Sequence[str]) -> bool:
    """Whether one of the variants is a framework: it needs a process and threads of its own."""
    return any(reference.startswith(FRAMEWORKS) for reference in references)


def settings_of(request: Request, threads: int | None) -> Participant:
    """A framework with 1 thread and with all, whichever is faster; others, and where threads were given, as given."""
    counts = (1, all_threads()) if request.variant.startswith(FRAMEWORKS) and threads == 1 else (threads,)
    return Participant(tuple(Entrant(request, Environment(count, native_blas=True)) for count in dict.fromkeys(counts)))


def measure_all(
    contest: Contest,
    count: int,
    progress: Progress,
    at_least: float | None = None,
    null: Null | None = None,
    budget_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Verdict]:
    """Add replicates until the claim is decided for each of `count` newer ones over the first; their verdicts.

    Without a claim, as many replicates as a comparison has. null and budget_s: as `measure` takes them.
    """
    begun = clock()
    looks = (UNGATED_REPLICATES,) if at_least is None else REPLICATED.looks
    done, spent = 0, False
    for look in looks:
        while done < look and not spent:
            if budget_s is not None and is_spent(budget_s, clock() - begun, done):
                spent = True
            else:
                contest.run(part_of(progress, done, look))
                done += 1
        race = contest.race()
        decisions = [decide_gate(log_ratios(race, 0, i), at_least, null, final=spent) for i in range(1, count + 1)]
        if all(decision.outcome is not Outcome.CONTINUE for decision in decisions):
            break
    return [verdict_of(decision, addition=budget_note(decision, budget_s if spent else None)) for decision in decisions]


def compare_apart(
    requests: Sequence[Request],
    workload: str,
    batch: int,
    threads: int | None,
    *,
    at_least: float | None,
    budget_s: float | None,
    check: bool,
    with_waterfall: bool,
    typed: str,
    progress: Progress,
) -> list[Comparison]:
    """Race all variants in one relay, the oldest first; one comparison for every newer one.

    Kernel pins are cleared in all of them. Raises whatever the contest raises, and UnsupportedNetwork or MissingExtra
    as the variant that cannot take part does.
    """
    contest = Contest([settings_of(request, threads) for request in requests], batch, check=check, everybody=True)

    def null() -> NullResult:
        itself = Participant((contest.chosen[0].entrant,))
        return measure_null(Contest([itself, itself], batch, check=False), progress)

    verdicts = measure_all(contest, len(requests) - 1, progress, at_least, null, budget_s)
    race = contest.race()
    return [
        Comparison(
            old=race.variants[0],
            new=race.variants[i],
            workload=workload,
            network=requests[0].network,
            batch=batch,
            race=pair_of(race, i),
            verdict=verdict,
            equivalent=True if check else None,
            waterfall=difference(contest, 0, i, progress) if with_waterfall else (),
            machine=contest.described["machine"],
            command=typed,
            engines=(engine_of(contest.chosen[0]), engine_of(contest.chosen[i])),
        )
        for i, verdict in enumerate(verdicts, start=1)
    ]


def engine_of(chosen: Chosen) -> str:
    """'peers/jax_scan: JAX 0.10 on cpu, 4 threads; compiled in 0.8 s'."""
    compiled = f"; first step {chosen.compile_s:.2g} s longer" if chosen.compile_s >= COMPILING_S else ""
    return f"{chosen.entrant.name}: {chosen.entered.engine}{compiled}"


def difference(
    contest: Contest,
    old: int,
    new: int,
    progress: Progress,
    steps: int | None = None,
    start: StartWorker = start_resident,
) -> tuple[Change, ...]:
    """Where the difference between two of a contest lies, from passes with clocks in processes of their own.

    steps: timed steps a pass; None leaves it to the worker.
    """
    race = contest.race()
    ends = (old, new)
    with Relay([contest.chosen[i].entrant for i in ends], race.batch, start=start) as relay:
        relay.open(progress)
        before, after = (
            decode_batch_result(relay.call(place, "profile", batch=race.batch, steps=steps)) for place in (0, 1)
        )
    changes = waterfall(before, after, race.step_s(old), race.step_s(new))
    # An instrumented copy of a file has its constants as they stand there.
    plain = all(not contest.chosen[i].entrant.constants for i in ends)
    return changes if plain else tuple(change for change in changes if not change.label)


def pair_of(race: Race, new: int) -> Race:
    """The race of the first variant and one other."""
    return replace(
        race,
        variants=(race.variants[0], race.variants[new]),
        dtypes=(race.dtypes[0], race.dtypes[new]),
        turns_s=tuple(turns_s[:, [0, new]] for turns_s in race.turns_s),
        trained=tuple(name for name in race.trained if name in (race.variants[0], race.variants[new])),
    )
