"""From replicates to a verdict: processes are started until the claim is decided or the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mlpprof.compare import (
    REPLICATED,
    Decision,
    NullResult,
    Outcome,
    Procedure,
    block_log_ratio,
    decide,
    null_bias,
    replicate_log_ratio,
)
from mlpprof.compare.entrants import (
    FRAMEWORKS,
    Chosen,
    Contest,
    Entrant,
    Environment,
    Participant,
    Racer,
    Relay,
    StartWorker,
    all_threads,
    start_resident,
)
from mlpprof.compare.waterfall import waterfall
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.results import Change, Comparison, Race, Verdict
from mlpprof.results.json import decode_batch_result

Null = Callable[[], NullResult]
"""The A/A null of a session: measured when it is first asked for, then remembered."""

UNGATED_REPLICATES = 5
LEAST_REPLICATES = 3
"""A budget never stops before the third: two replicates decide hardly anything, however clear (t is 318 and more)."""


def log_ratios(race: Race, old: int = 0, new: int = 1) -> NDArray[np.float64]:
    """The replicates of old over new, (replicates,): of each the median of its blocks' mean log ratios.

    A block in which one of the two sat out is no block of this pair.
    """
    replicates = []
    for turns_s in race.turns_s:
        pairs = turns_s[:, [old, new]]
        blocks = [block_log_ratio(*pair) for pair in pairs if not np.isnan(pair).any()]
        replicates.append(replicate_log_ratio(blocks))
    return np.array(replicates)


def measure(
    racer: Racer,
    progress: Progress,
    at_least: float | None = None,
    null: Null | None = None,
    budget_s: float | None = None,
    procedure: Procedure = REPLICATED,
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """Add replicates until the claim "old over new is at_least" passes or fails, or looks or budget run out.

    Without a claim, so many replicates that the interval means something. null: asked only before a FAIL is
    pronounced; where it is biased, the outcome is inconclusive instead. budget_s: no replicate is started that would
    not end within it, once there are three; the claim is then decided from the replicates that there are.
    """
    begun = clock()
    looks = (UNGATED_REPLICATES,) if at_least is None else procedure.looks
    done, spent = 0, False
    for look in looks:
        while done < look and not spent:
            if budget_s is not None and is_spent(budget_s, clock() - begun, done):
                spent = True
            else:
                racer.run(part_of(progress, done, look))
                done += 1
        decision = decide_gate(log_ratios(racer.race()), at_least, null, procedure, final=spent)
        if decision.outcome is not Outcome.CONTINUE:
            break
    return verdict_of(decision, procedure, budget_note(decision, budget_s if spent else None))


def is_spent(budget_s: float, elapsed_s: float, done: int) -> bool:
    """Whether one more replicate, as long as those so far, would not end within the budget."""
    return done >= LEAST_REPLICATES and elapsed_s * (done + 1) / done > budget_s


def decide_gate(
    ratios: NDArray[np.float64],
    at_least: float | None,
    null: Null | None,
    procedure: Procedure = REPLICATED,
    *,
    final: bool = False,
) -> Decision:
    """The decision on the replicates so far; the null is asked where it would be a FAIL."""
    decision = decide(ratios, at_least, procedure, final=final)
    if decision.outcome is Outcome.FAIL and null is not None:
        decision = decide(ratios, at_least, procedure, null=null(), final=final)
    return decision


def budget_note(decision: Decision, spent_s: float | None) -> str:
    """What a verdict adds where the spent budget has ended it: an undecided claim is one that more time may decide."""
    if spent_s is None or decision.outcome in (Outcome.PASS, Outcome.FAIL):
        return ""
    return f"; the budget of {spent_s:g} s is spent"


def measure_null(racer: Racer, progress: Progress, procedure: Procedure = REPLICATED) -> NullResult:
    """Race something against itself through the same pipeline."""
    add_replicates(racer, procedure.looks[0], progress)
    return null_bias(log_ratios(racer.race()), procedure)


def add_replicates(racer: Racer, count: int, progress: Progress) -> None:
    """So many more replicates."""
    for done in range(count):
        racer.run(part_of(progress, done, count))


def verdict_of(decision: Decision, procedure: Procedure = REPLICATED, addition: str = "") -> Verdict:
    """The record of a decision."""
    return Verdict(
        outcome=None if decision.outcome is None else str(decision.outcome),
        ratio=decision.estimate,
        low=decision.low,
        high=decision.high,
        at_least=decision.at_least,
        processes=decision.replicates,
        reason=decision.reason + addition,
        in_process=procedure.process_sd > 0,
    )


def part_of(progress: Progress, done: int, of: int) -> Progress:
    """Progress of one replicate among several."""

    def part(what: str, share: float) -> None:
        progress(f"process {done + 1} of {of}: {what}", (done + share) / of)

    return part


# `compare` where the variants cannot share a process: all of them in one relay, each new one against the old one.


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
