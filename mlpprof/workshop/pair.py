"""Measures a teacher's pair: do both versions train the same, how much faster is one, and how do their steps differ?

The pair is two variants, or two whole programs. What is measured here becomes an exercise in `author`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlpprof import catalog
from mlpprof.advise import Subject, find
from mlpprof.compare.entrants import Environment, ProgramSubject
from mlpprof.compare.live_race import LiveRace, variant_race
from mlpprof.compare.programs import ProgramComparer, ProgramRace, Wanted
from mlpprof.compare.same_code import require_different, require_different_variants
from mlpprof.compare.verdict import measure
from mlpprof.errors import MlpprofError, UsageError, VariantCrash
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.programs.name import is_program
from mlpprof.programs.request import request_for
from mlpprof.report.numbers import digits
from mlpprof.results import Verdict
from mlpprof.results.advice import Finding
from mlpprof.workloads import Workload
from mlpprof.workshop.check_program import counted
from mlpprof.workshop.check_variant import ask_worker
from mlpprof.workshop.conditions import PROCEDURE
from mlpprof.workshop.fair_play import foreign_import
from mlpprof.workshop.right_structure import (
    ARRAY_OPERATIONS,
    FACTS,
    PROGRAM,
    SAMPLE_LOOPS,
    Broken,
    Counts,
    broken_fact,
    facts_for,
    number_of,
)


@dataclass(frozen=True)
class Measured:
    """What is known of a pair.

    same: a sentence that says that both train the same. speedup: of the fast version. slow, fast: how much each step
    contains, by the names of the facts. at_most: the facts in which they differ, with what is allowed. flaw: what
    breaks the first of these facts in the slow version. findings: of `mlpprof advise` on the slow version. steps: the
    training steps of two programs. seconds: the processor time of a process that examines the slow version.
    """

    same: str
    speedup: Verdict
    slow: Mapping[str, int]
    fast: Mapping[str, int]
    at_most: Mapping[str, int] = field(default_factory=dict)
    flaw: Broken | None = None
    findings: tuple[Finding, ...] = ()
    steps: tuple[str, str] = ("", "")
    seconds: float = 0.0


LEAST_RUNS = 6
"""Each of two programs runs three times at least before the race: to find its step, to compare it, and to count it."""

RaceOfVariants = Callable[[Sequence[Request]], LiveRace]
RaceOfPrograms = Callable[[Sequence[ProgramSubject]], LiveRace]
"""Makes a race as `check` does; a test hands in one that takes no time."""


def limits(slow: Mapping[str, int], fast: Mapping[str, int]) -> dict[str, int]:
    """Return the facts in which the two steps differ, each with what is allowed."""
    found = {}
    for name, fact in FACTS.items():
        if name not in slow or name not in fast:
            continue
        if name == ARRAY_OPERATIONS and SAMPLE_LOOPS in found:
            continue  # the loop over samples makes them
        before, after = slow[name], fast[name]
        if after < before and fact.factor * after <= before and after <= fact.largest:
            found[name] = after if fact.is_exact else _rounded(math.isqrt(before * after))
    return found


def _rounded(number: int) -> int:
    """Return a number with three digits that count, as people write a limit."""
    return round(number, min(0, 3 - len(str(number))))


def is_pair_of_programs(slow: str, fast: str) -> bool:
    """Return whether both are programs; raise UsageError if one is a program and the other a variant, or both one."""
    kinds = [is_program(name) for name in (slow, fast)]
    if kinds[0] != kinds[1]:
        program, variant = (slow, fast) if kinds[0] else (fast, slow)
        raise UsageError(
            f"'{program}' is a program and '{variant}' is a variant; expected two programs, or two variants (classes "
            "with the methods of the interface, as in variants/your-own.md)"
        )
    if kinds[0]:
        require_different(*(request_for(name) for name in (slow, fast)))
    else:
        entries = [catalog.find(name) for name in (slow, fast)]
        if entries[0].path.resolve() == entries[1].path.resolve() and entries[0].class_name != entries[1].class_name:
            raise UsageError(
                f"both versions are in {entries[0].path.name}, so that learners would get the solution too; put each "
                "class into a file of its own"
            )
        require_different_variants(*entries)
    return kinds[0]


def measure_variants(
    slow: Path,
    fast: Path,
    trained: Workload,
    progress: Progress,
    environment: Environment,
    race_of: RaceOfVariants | None = None,
) -> Measured:
    """Measure two variants on a network and its data. Raises UsageError if the pair does not make an exercise."""
    requests = [Request(str(path), trained.network, trained.source) for path in (slow, fast)]
    race_of = race_of or (lambda versions: variant_race(versions, trained.batch, environment))

    for name, path in (("SLOW", slow), ("FAST", fast)):
        _require_own_code(name, path)

    begun_s = _children_s()
    before = ask_worker("measure", slow, trained, environment, progress)
    seconds = _children_s() - begun_s
    after = ask_worker("measure", fast, trained, environment, progress)
    for name, answer in (("SLOW", before), ("FAST", after)):
        if answer["wrong"] is not None:
            raise UsageError(f"{name} does not train right: {answer['wrong']}; both versions have to train the same")
    speedup = require_faster(race_of(requests), progress)
    at_most = limits(before["numbers"], after["numbers"])
    broken = ask_worker("examine", slow, trained, environment, progress, at_most=at_most)["broken"]
    findings = findings_on(Subject(str(slow), request=requests[0], batch=trained.batch), progress)
    return Measured(
        f"both are correct on {before['networks']} random networks, and on that of the workload {trained.name}",
        speedup,
        before["numbers"],
        after["numbers"],
        at_most,
        None if broken is None else Broken(**broken),
        findings,
        seconds=seconds,
    )


def _require_own_code(name: str, path: Path) -> None:
    """Raise UsageError for a version with an import that learners may not use."""
    foreign = foreign_import(path.read_text(encoding="utf-8"), path.name, is_free=True)
    if foreign is not None:
        raise UsageError(
            f"{name} cannot be part of an exercise: {foreign}. Expected was a version whose own code computes, because "
            "the check refuses such an import in a learner's file. Choose another version, or write the imported code "
            "into the file"
        )


def measure_programs(
    slow: Path,
    fast: Path,
    step: str | None,
    progress: Progress,
    environment: Environment,
    race_of: RaceOfPrograms | None = None,
) -> Measured:
    """Measure two programs. step: of both; None to have it found. race_of: makes a race of them.

    Raises UsageError as `measure_variants`.
    """
    requests = [request_for(path, step=step) for path in (slow, fast)]
    begun_s = _children_s()
    found = []
    for name, request in zip(("SLOW", "FAST"), requests, strict=True):
        comparer = ProgramComparer([request], environment, Wanted(), lambda sentence: None)
        try:
            found += comparer.subjects(progress)
        except (UsageError, VariantCrash) as error:
            needs_file = "FileNotFoundError" in str(error) or "ModuleNotFoundError" in str(error)
            hint = "; if it needs another file, add --file with its name" if needs_file else ""
            raise UsageError(f"{name}: {error}{hint}") from error
    old, new = found
    training = comparer.training(old, new, progress)
    if not training.is_same:
        does = "do not train the same" if training.is_same is False else "may train differently"
        raise UsageError(
            f"the two programs {does}: {training.reason}. Let both draw the same random numbers in the same order, and "
            "make the same updates"
        )
    steps_counts = [Counts(None, counted(one, environment, progress)) for one in (old, new)]
    before, after = ({name: number_of(name, counts) for name in facts_for(PROGRAM)} for counts in steps_counts)
    at_most = limits(before, after)
    seconds = (_children_s() - begun_s) / LEAST_RUNS
    race_of = race_of or (lambda programs: ProgramRace(programs, environment))
    speedup = require_faster(race_of((old, new)), progress)
    findings = findings_on(Subject(str(slow), step=old.request.step, threads=environment.threads), progress)
    steps = (old.request.step or "", new.request.step or "")
    flaw = broken_fact(steps_counts[0], at_most)
    return Measured(training.reason, speedup, before, after, at_most, flaw, findings, steps, seconds)


def require_faster(live: LiveRace, progress: Progress) -> Verdict:
    """Race the slow version with the fast one; raise UsageError if it is not certain that it is faster."""
    [found] = measure(live, progress, procedure=PROCEDURE)
    if found.low <= 1:
        raise UsageError(
            f"FAST is not faster than SLOW: it is {digits(found.ratio)} times as fast (95 %: {digits(found.low)} to "
            f"{digits(found.high)}). Expected was more than 1. Give the slow version first; if the machine is busy, "
            "try again when it is not"
        )
    return found


def findings_on(subject: Subject, progress: Progress) -> tuple[Finding, ...]:
    """Return what `mlpprof advise` finds in a step; nothing if it finds nothing, because the draft can do without."""
    try:
        advice = find(subject, progress=progress)
    except MlpprofError:
        return ()
    return tuple(finding for finding in (*advice.findings, *advice.small) if not finding.outside)


def _children_s() -> float:
    """Return the processor time of all processes that this one has started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system
