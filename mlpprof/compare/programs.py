"""`compare` for programs: do both train the same, which is faster, and which expression makes the difference.

A program may do more than train, so the number of its runs is known beforehand, and never exceeded.
"""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from statistics import median

import numpy as np

from mlpprof.compare.counted_difference import counted_of_programs
from mlpprof.compare.decide import NullResult
from mlpprof.compare.entrants import PROGRAM_WORKER, Entrant, Environment, ProgramSubject, worker_for
from mlpprof.compare.error_bounds import REPLICATED, Procedure
from mlpprof.compare.live_race import BLOCKS, ProcessRace
from mlpprof.compare.null_cause import with_cause
from mlpprof.compare.program_difference import expression_changes, phase_changes
from mlpprof.compare.race import TURN_S, Turns
from mlpprof.compare.replicate import Replicate, StartWorker
from mlpprof.compare.same_code import require_different
from mlpprof.compare.same_training import STEPS, same_training
from mlpprof.compare.variant_difference import PAIRS, averaged
from mlpprof.compare.verdict import looks_for, measure, measure_null
from mlpprof.errors import CheckFailed, MlpprofError, ProgramEnded, UsageError
from mlpprof.process import Progress
from mlpprof.programs.parameters import Parameter
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.request import ProgramRequest
from mlpprof.programs.runs import Runs, contained
from mlpprof.programs.values import Lines
from mlpprof.results import (
    Comparison,
    CountedChange,
    DifferentTraining,
    PhaseChange,
    ProgramPair,
    Race,
    Training,
    Verdict,
)
from mlpprof.results.step_profile import StepProfile

ProfileStep = Callable[[ProgramRequest], StepProfile]
"""Profiles the step of a program, in one run, or two if the program makes few steps."""

LONG_S = 10.0
"""If a round of the race takes longer than this, the user is shown how long all of them will take."""

MUCH_LONGER = 0.05
"""If the rest of the training loop takes longer than before by this share of a step, a note reports it."""

FINDING = "to find its step"

FEWEST_STEPS = 3
"""A race needs one step to warm up, and two to time."""


@dataclass(frozen=True)
class Wanted:
    """What a comparison of programs is to do.

    at_least: the claimed speedup. budget_s: the limit of time for the race. check: whether to see if both train the
    same. profile_step: profiles the step, to see where the difference lies; None leaves that out. only_failed: look for
    that only if the claim has failed. pairs: of profiles, unless the claim has failed. replicates: of the race, if no
    claim decides on them; with a fine procedure there may be more. blocks, turn_s: as in `ProcessRace`. procedure: for
    the wanted resolution.
    """

    at_least: float | None = None
    budget_s: float | None = None
    check: bool = True
    profile_step: ProfileStep | None = None
    only_failed: bool = False
    pairs: int = 1
    replicates: int | None = None
    blocks: int = BLOCKS
    turn_s: float = TURN_S
    start: StartWorker = worker_for
    procedure: Procedure = REPLICATED

    @property
    def most_replicates(self) -> int:
        """The race has no more of them."""
        if self.replicates is not None and not self.procedure.is_fine:
            return self.replicates
        return max(self.replicates or 0, looks_for(self.at_least, self.procedure)[-1])

    def runs(self, request: ProgramRequest, is_old: bool, programs: int = 2) -> list[tuple[int, str]]:
        """How often a program is run at most, and what for. programs: how many of them are compared.

        The first round of a race is repeated at most once for each program that ends during it.
        """
        null = 2 * self.procedure.looks[0] if is_old and self.at_least is not None else 0
        profiles = self.pairs if self.at_least is None else PAIRS
        every = (
            (1 if request.step is None else 0, FINDING),
            (1 + is_old if self.check else 0, "to see whether both train the same"),
            (self.most_replicates + programs, "for the race"),
            (null, "to see how much the machine varies, before a FAIL"),
            (0 if self.profile_step is None else 2 * profiles, "to see where the difference lies"),
        )
        return [(count, what) for count, what in every if count]


def announcement(requests: Sequence[ProgramRequest], wanted: Wanted) -> list[str]:
    """Sentences that say how often each program will be run at most."""
    said = []
    for place, request in enumerate(requests):
        runs = wanted.runs(request, place == 0, len(requests))
        parts = ", ".join(f"{count} {what}" for count, what in runs)
        said.append(
            f"{request.name.short} runs up to {sum(count for count, _ in runs)} times ({parts}); each run is "
            "stopped as soon as it has made enough steps"
        )
    return said


def found_sentence(name: str, step: str, took_s: float, more: int) -> str:
    """Which step was found, and how long the further runs may take, if one takes long."""
    sentence = f"the step of {name} is {step}"
    if took_s <= LONG_S:
        return sentence
    all_min = more * took_s / 60
    return f"{sentence}; that run took {took_s:.0f} s, and up to {more} more take as long: {all_min:.0f} min at most"


class ProgramRace(ProcessRace):
    """A race of programs, each in a process of its own, in which it takes its own steps.

    A program that makes few steps ends during its first race. From then on the race is as long as its steps allow.
    """

    def __init__(
        self,
        subjects: Sequence[ProgramSubject],
        environment: Environment,
        *,
        blocks: int = BLOCKS,
        turn_s: float = TURN_S,
        start: StartWorker = worker_for,
        is_fine: bool = False,
    ) -> None:
        entrants = [[Entrant(subject, environment)] for subject in subjects]
        super().__init__(entrants, blocks=blocks, turn_s=turn_s, start=start, is_fine=is_fine)
        self._notes: dict[str, None] = {}
        self._between_s: list[list[float]] = [[] for _ in subjects]
        self._made: list[int | None] = [subject.steps for subject in subjects]

    def run(self, progress: Progress) -> None:
        """Add one more replicate; if a program ends before there is a block, again, with fewer steps a turn.

        A program may end too early in a later replicate as well, for example if it took more steps to warm up because
        another program disturbed it.
        """
        while True:
            try:
                super().run(progress)
            except ProgramEnded as error:
                if not self._note_few():
                    raise self._too_few() from error
            else:
                return

    @property
    def race_count(self) -> int:
        """The number of replicates so far."""
        return len(self._turns)

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened to what the programs wrote."""
        return tuple(self._notes)

    def subject(self, place: int) -> ProgramSubject:
        """The program at a place, with what is known of its steps."""
        subject = self._entrants[place].subject
        assert isinstance(subject, ProgramSubject)
        return subject

    def between_s(self, place: int) -> float:
        """Seconds a step that the rest of the loop takes, which is not part of the step."""
        return median(self._between_s[place] or [0.0])

    def longer_between_s(self, place: int = 1) -> float:
        """How many seconds a step a newer program takes longer between its steps, in every replicate at least."""
        pairs = zip(self._between_s[0], self._between_s[place], strict=True)
        return min((new_s - old_s for old_s, new_s in pairs), default=0.0)

    def _raced(self, replicate: Replicate, places: Sequence[int], progress: Progress) -> Turns:
        try:
            turns = super()._raced(replicate, places, progress)
        except ProgramEnded:  # nothing else, because after an interruption a worker still answers its last call
            self._note_made(replicate, places)
            raise
        self._note_made(replicate, places)
        self._note_few()
        return turns

    def _note_made(self, replicate: Replicate, places: Sequence[int]) -> None:
        """Note how many steps the programs have made, and what they have done otherwise."""
        for place in places:
            made = replicate.call(place, "made")
            self._between_s[place].append(made["between_s"])
            self._notes.update(dict.fromkeys(made["notes"]))
            if made["has_ended"]:  # the shortest run counts, so that `run` ends if every run has another length
                known = self._made[place]
                self._made[place] = made["steps"] if known is None else min(known, made["steps"])

    def _note_few(self) -> bool:
        """From now on, the workers know how many steps the shortest program makes; whether that is news."""
        before = [entrant.subject for entrant in self._entrants]
        fewest = min((made for made in self._made if made is not None), default=None)
        self._entrants = [_with_steps(one, fewest) for one in self._entrants]
        self.chosen = tuple(replace(one, entrant=_with_steps(one.entrant, fewest)) for one in self.chosen)
        return before != [entrant.subject for entrant in self._entrants]

    def _too_few(self) -> UsageError:
        counts = [
            (made, entrant.name) for made, entrant in zip(self._made, self._entrants, strict=True) if made is not None
        ]
        if not counts:
            return UsageError("a program ended before its steps could be timed")
        count, name = min(counts)
        steps = f"{count} {'step' if count == 1 else 'steps'}"
        needed = f"a comparison needs at least {FEWEST_STEPS}"
        why = needed if count < FEWEST_STEPS else "this is too early to time them"
        return UsageError(f"{name} makes {steps} and ends; {why}. Let it train longer")


class _Announced:
    """A race that says after its first replicate how long all of them will take, if that is long."""

    def __init__(self, live: ProgramRace, wanted: Wanted, say: Callable[[str], None]) -> None:
        self._live, self._wanted, self._say = live, wanted, say

    def run(self, progress: Progress) -> None:
        """Add one replicate."""
        begun_s = time.monotonic()
        self._live.run(progress)
        one_s = time.monotonic() - begun_s
        most = self._wanted.most_replicates
        if self._live.race_count == 1 and one_s > LONG_S:
            limit = "; the budget ends it earlier" if self._wanted.budget_s else "; --budget SECONDS limits it"
            self._say(
                f"a round of the race took {one_s:.0f} s, since every round loads the programs anew; up to {most} "
                f"rounds take about {most * one_s / 60:.0f} min{limit}"
            )

    def race(self) -> Race:
        """All replicates so far."""
        return self._live.race()


def _with_steps(entrant: Entrant, steps: int | None) -> Entrant:
    assert isinstance(entrant.subject, ProgramSubject)
    return replace(entrant, subject=replace(entrant.subject, steps=steps))


class TrainsDifferently(CheckFailed):
    """Two programs do not train the same."""

    def __init__(self, different: DifferentTraining) -> None:
        super().__init__(
            f"{different.new} does not train the same as {different.old}: {different.training.reason}; nothing was "
            "timed. --no-check compares the time only"
        )
        self.different = different


class ProgramComparer:
    """Compares programs with the oldest of them.

    requests: the oldest first; each may lack its step. say: gets sentences for the user, as they become known.
    """

    def __init__(
        self, requests: Sequence[ProgramRequest], environment: Environment, wanted: Wanted, say: Callable[[str], None]
    ) -> None:
        self._wanted, self._say = wanted, say
        variables = (*environment.variables, ("MPLBACKEND", os.environ.get("MPLBACKEND", "Agg")))
        self._environment = replace(environment, variables=variables)
        for newer in requests[1:]:
            require_different(requests[0], newer)
        self._requests = list(requests)
        self._subjects: list[ProgramSubject] = []
        self._runs_of_old: list[tuple[list[Parameter], int]] = []
        self.made = (0, 0)
        """How many steps the old and the new program of the last `training` made, at most STEPS."""

    def compare(self, typed: str, progress: Progress) -> list[Comparison]:
        """One comparison for every newer program; all of them take turns in one race.

        Raises UsageError, TrainsDifferently before anything is timed, and what the programs raise.
        """
        wanted = self._wanted
        old, *others = subjects = self.subjects(progress)
        trainings: list[Training | None] = [None] * len(others)
        if wanted.check:
            try:
                trainings = [self.require_same_training(old, newer, progress) for newer in others]
            except TrainsDifferently as error:
                raise TrainsDifferently(replace(error.different, command=typed)) from None
        for training in trainings:
            if training is not None and training.is_same is None:
                self._say(training.reason)
        live = self.race(*subjects)

        @cache
        def null() -> NullResult:
            same = live.subject(0)  # by now it is known whether it makes few steps
            return measure_null(self.race(same, same), progress, wanted.procedure)

        announced = _Announced(live, wanted, self._say)
        verdicts = measure(announced, progress, wanted.at_least, null, wanted.budget_s, wanted.procedure)
        known: dict[int, list[StepProfile]] = {}
        return [
            self._comparison(live, place, training, verdict, typed, partial(self._profiles, known, progress))
            for place, (training, verdict) in enumerate(zip(trainings, map(with_cause, verdicts), strict=True), start=1)
        ]

    def subjects(self, progress: Progress) -> list[ProgramSubject]:
        """The programs with their steps; those that are not named are found, once."""
        for request in self._requests[len(self._subjects) :]:
            self._subjects.append(self._found(request, progress))
        return self._subjects

    def require_same_training(self, old: ProgramSubject, new: ProgramSubject, progress: Progress) -> Training:
        """Whether both train the same, if that can be known. Raises TrainsDifferently if they do not."""
        training = self.training(old, new, progress)
        if training.is_same is False:
            steps = (old.request.step or "", new.request.step or "")
            raise TrainsDifferently(DifferentTraining(old.name, new.name, steps, training))
        return training

    def race(self, *subjects: ProgramSubject) -> ProgramRace:
        """A race of some of the programs."""
        wanted = self._wanted
        return ProgramRace(
            subjects,
            self._environment,
            blocks=wanted.blocks,
            turn_s=wanted.turn_s,
            start=wanted.start,
            is_fine=wanted.procedure.is_fine,
        )

    def _found(self, request: ProgramRequest, progress: Progress) -> ProgramSubject:
        """The program with its step."""
        runs = self._wanted.runs(request, not self._subjects, len(self._requests))
        most = sum(count for count, _ in runs)
        how_often = f"up to {most} times"
        if request.step is not None:
            return ProgramSubject(request, how_often)
        begun_s = time.monotonic()
        sought = _runs(ProgramSubject(request, how_often), self._environment).sought(progress)
        self._say(found_sentence(request.name.short, sought["step"], time.monotonic() - begun_s, most - 1))
        steps = len(sought["seconds"]) if sought["is_all"] else None
        return ProgramSubject(replace(request, step=sought["step"]), how_often, steps)

    def _comparison(
        self,
        live: ProgramRace,
        place: int,
        training: Training | None,
        verdict: Verdict,
        typed: str,
        profiles: Callable[[int, int], Sequence[tuple[StepProfile, StepProfile]]],
    ) -> Comparison:
        """The comparison of the oldest program with another one of the race. profiles: as `_profiles`."""
        wanted = self._wanted
        old, new = self._subjects[0], self._subjects[place]
        race = live.race().pair(place)
        pair = ProgramPair(
            steps=(old.request.step or "", new.request.step or ""),
            between_s=(live.between_s(0), live.between_s(place)),
            training=training,
            notes=(*live.notes, *longer_between(live.longer_between_s(place), race.step_s(0))),
        )
        waterfall: tuple[PhaseChange, ...] = ()
        counted: tuple[CountedChange, ...] = ()
        has_failed = verdict.outcome == "fail"
        if wanted.profile_step is not None and (has_failed or not wanted.only_failed):
            scales = (race.step_s(0), race.step_s(1))
            try:
                both = profiles(place, PAIRS if has_failed else wanted.pairs)
            except MlpprofError as error:  # the verdict stands
                pair = replace(pair, notes=(*pair.notes, f"where the difference lies is not known: {error}"))
            else:
                waterfall = averaged([phase_changes(before, after, scales) for before, after in both])
                pair = replace(pair, expressions=expression_changes(both, scales))
                counted = counted_of_programs(*both[0])
        return Comparison(
            old=old.name,
            new=new.name,
            workload="",
            network=None,
            batch=0,
            race=race,
            verdict=verdict,
            equivalent=None if training is None else training.is_same,
            waterfall=waterfall,
            machine=live.described["machine"],
            command=typed,
            programs=pair,
            counted=counted,
        )

    def _profiles(
        self, known: dict[int, list[StepProfile]], progress: Progress, place: int, count: int
    ) -> list[tuple[StepProfile, StepProfile]]:
        """So many profiles of the oldest program's step and of another one's, in turns, each from a run of its own.

        known: those that there are already. Raises what a program raises, unless there is a pair.
        """
        assert self._wanted.profile_step is not None
        for number in range(count):
            for one in (0, place):
                mine = known.setdefault(one, [])
                if len(mine) > number:
                    continue
                request = self._subjects[one].request
                progress(f"profiling {request.name.short}, {number + 1} of {count}", 0.9)
                try:
                    mine.append(self._wanted.profile_step(request))
                except MlpprofError:
                    if number == 0:
                        raise
                    return list(zip(known[0][:number], known[place][:number], strict=True))
        return list(zip(known[0][:count], known[place][:count], strict=True))

    def training(self, old: ProgramSubject, new: ProgramSubject, progress: Progress) -> Training:
        """Whether both train the same; the old one runs again if not, because it may differ from itself."""
        names = (old.request.name.short, new.request.name.short)
        ours, first = self._run_of_old(old, 0, progress)
        theirs, steps = self._parameters(new, first, progress)
        self.made = (first, steps)
        found = same_training(names, _until(ours, steps), theirs, steps)
        if found.is_same is False:
            again, made = self._run_of_old(old, 1, progress)
            repeated = min(made, steps)
            itself = same_training((names[0], names[0]), _until(ours, repeated), _until(again, repeated), repeated)
            if itself.is_same is False:
                return Training(
                    None,
                    repeated,
                    f"cannot compare the training of both: {names[0]} does not even repeat its own training from the "
                    f"same seeds ({itself.reason}). The verdict is about time only",
                )
        return found

    def _run_of_old(self, old: ProgramSubject, number: int, progress: Progress) -> tuple[list[Parameter], int]:
        """The parameters in the first or the second run of the oldest program, which all newer ones share."""
        if number == len(self._runs_of_old):
            self._runs_of_old.append(self._parameters(old, STEPS, progress))
        return self._runs_of_old[number]

    def _parameters(self, subject: ProgramSubject, steps: int, progress: Progress) -> tuple[list[Parameter], int]:
        return parameters_of(subject, steps, self._environment, progress)


def longer_between(longer_s: float, step_s: float) -> Iterator[str]:
    """A warning if the newer program takes longer between its steps than the older one, whose step takes `step_s`."""
    if longer_s > MUCH_LONGER * step_s:
        yield (
            f"between the steps, the training loop takes at least {1e3 * longer_s:.3g} ms a step longer than before. "
            "That is not part of the verdict; to include it, name the loop by its line: --step LINE"
        )


def parameters_of(
    subject: ProgramSubject, steps: int, environment: Environment, progress: Progress
) -> tuple[list[Parameter], int]:
    """The parameters of a program in its first steps, with fixed seeds, and the number of those steps.

    Raises UsageError if the step never ran, and what the program raises.
    """
    # Programs that go through a set in its order see the same order in every run.
    environment = replace(environment, variables=(*environment.variables, ("PYTHONHASHSEED", "0")))
    answer = _runs(subject, environment).run("parameters", progress, steps=steps)
    values = _unpacked(answer["values"])
    return [Parameter(**one, values=next(values)) for one in answer["parameters"]], answer["steps"]


def values_of(
    subject: ProgramSubject, lines: Lines, environment: Environment, progress: Progress
) -> tuple[list[dict[str, Array]], list[float]]:
    """What some lines of a program compute in each of their first executions, by name, and their seconds.

    Raises UsageError if they never ran, and what the program raises.
    """
    environment = replace(environment, variables=(*environment.variables, ("PYTHONHASHSEED", "0")))
    answer = _runs(subject, environment).run("values", progress, lines=asdict(lines))
    values = _unpacked(answer["arrays"])
    return [{name: next(values) for name in names} for names in answer["names"]], answer["seconds"]


def _unpacked(text: str) -> Iterator[Array]:
    with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as values:
        for place in range(len(values.files)):
            yield values[f"arr_{place}"]


def _runs(subject: ProgramSubject, environment: Environment) -> Runs:
    """Runs of a program that are no race."""
    request = subject.request
    return Runs(PROGRAM_WORKER, environment.as_variables(), subject.message(), request.name.short, contained(request))


def _until(parameters: Sequence[Parameter], steps: int) -> list[Parameter]:
    """The parameters in their first steps."""
    return [replace(one, values=one.values[: steps + 1]) for one in parameters]
