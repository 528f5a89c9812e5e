"""`prove`: applies cures to a program in memory, and keeps those with which it trains the same, and faster.

It goes in rounds. In each round all cures are tried alone: the program runs with the cure from the same seeds, and its
parameters are compared with those of the original. Those that train the same are raced against each other and the
program as it is. The ones that are faster are combined, the combination is tried again, and mlpprof looks for cures in
the combined program, since one cure often uncovers another. At last the patched program is raced against the original.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Protocol

import numpy as np

from mlpprof.advise.editing.cure import Cure, applied, diff
from mlpprof.advise.find import Analysis
from mlpprof.advise.proof.around import Executed, Outcome, lines_before_and_after, outcome
from mlpprof.advise.proof.notebooks import cured_file, is_notebook, moved_loop
from mlpprof.advise.proof.patch import line_end
from mlpprof.compare.same_training import STEPS, same_training
from mlpprof.errors import MlpprofError
from mlpprof.process import Progress
from mlpprof.programs.overlay import Overlay
from mlpprof.programs.parameters import Parameter
from mlpprof.programs.request import ProgramRequest
from mlpprof.programs.values import Lines
from mlpprof.results.advice import Finding
from mlpprof.results.comparison import Race, Training, Verdict
from mlpprof.results.proof import BY_HAND, IN_THE_PATCH, NOT_CONFIRMED, ChangedFile, Proof, TriedCure

ROUNDS = 4
"""mlpprof looks for cures so many times at most."""

LONGEST_S = 150.0
"""After so many seconds no further round begins."""

LEAST_SPEEDUP = 1.01
"""A cure that makes the step less than this many times as fast is not worth a change of the program."""

CLEAR = 1.05
"""A cure that seems to make the step so many times as fast is not timed again."""

MOST_ESTIMATES = 3
"""So often an unclear cure is timed, because processes that run the same code differ by some percent, or by far more if
another program uses the processor."""

AT_ODDS = "it changes lines that another cure changes too"

FINAL_STEPS = 50
"""The patched program and the original are compared after so many steps."""

RUNS_OF_A_CURE, RUNS_OF_A_ROUND = 4, 8
"""A cure with three alternatives needs at most so many runs, and a round needs some in addition."""

MOST_DROPPED = 4
"""If a combination does not train the same, so many cures are left out one by one; then only the best stays."""


class Trials(Protocol):
    """Runs versions of a program."""

    def analyse(self, request: ProgramRequest, progress: Progress) -> Analysis:
        """Record the program's step, and look for cures."""

    def parameters(self, requests: Sequence[ProgramRequest], steps: int, progress: Progress) -> list[Trained]:
        """The parameters of several versions after so many steps, or why there are none."""

    def estimates(
        self, requests: Sequence[ProgramRequest], progress: Progress, around: Collection[int] = ()
    ) -> list[float | MlpprofError]:
        """How many times as fast as the first one each of the others is, from a few blocks of a race, or why it fails.

        around: places of those that change the loop around the step, so that the time between steps counts too.
        Raises MlpprofError if the first one itself does not run.
        """

    def executed(self, request: ProgramRequest, lines: Lines, progress: Progress) -> Executed | MlpprofError:
        """What some lines compute in their first executions, and how long they take, or why it is not known."""

    def race(self, old: ProgramRequest, new: ProgramRequest, progress: Progress) -> tuple[Race, Verdict]:
        """The whole race of two versions. Raises MlpprofError if one of them does not run."""

    def runs_left(self) -> int:
        """How often the program may still be run before the last race."""


Trained = tuple[list[Parameter], int] | MlpprofError
"""The parameters of a program and the number of steps that it made, or what went wrong."""


Final = tuple[Training, Race, Verdict]
"""Whether the whole patch trains the same, and its race against the original."""


@dataclass(frozen=True)
class Version:
    """The program with the cures so far. texts: of all its files. is_narrowed: whether one of the cures was float32."""

    request: ProgramRequest
    texts: Mapping[str, str]
    is_narrowed: bool = False

    def cured(self, cures: Sequence[Cure]) -> Version:
        """The program with more cures."""
        changed = applied(self.texts, cures)
        overlay = {**self.request.overlay, **changed}
        step = None if self.request.step is None else moved(self.request.step, cures)
        for path in filter(is_notebook, changed):
            before = self.file(path)
            overlay[path] = after = cured_file(path, before, cures)
            step = None if step is None else moved_loop(step, path, before, after, cures)
        is_narrowed = self.is_narrowed or any(cure.kind == "precision" for cure in cures)
        return Version(replace(self.request, overlay=overlay, step=step), {**self.texts, **changed}, is_narrowed)

    def file(self, path: str) -> str:
        """What a file contains: its text, and for a notebook more than its code."""
        return Overlay(self.request.overlay).text(path) if is_notebook(path) else self.texts[path]


@dataclass
class CureTrial:
    """A finding and the alternative of its cure that is tried."""

    finding: Finding
    cure: Cure
    alone: float | None = None


@dataclass
class Prover:
    """See the module.

    safe_only: leave out the cures that change the precision. clock: seconds. postponed: the findings whose cure is only
    at odds with another one of this round, so that the next round tries it again. added: the cures in the patch, in
    their order, each group with the program before it.
    """

    trials: Trials
    progress: Progress
    safe_only: bool = False
    clock: Callable[[], float] = monotonic
    tried: dict[tuple[str, str], TriedCure] = field(default_factory=dict)
    postponed: set[tuple[str, str]] = field(default_factory=set)
    begun: set[tuple[tuple[str, str], tuple[str, ...]]] = field(default_factory=set)
    added: list[tuple[Version, list[CureTrial]]] = field(default_factory=list)

    def prove(self, request: ProgramRequest, first: Analysis, shown: Callable[[str], str]) -> Proof:
        """The proof for a program whose step is known. first: its findings. shown: a file's path as in the patch.

        Raises MlpprofError if the program itself does not run.
        """
        begun_s = self.clock()
        version = Version(request, first.texts)
        epoch_s = None if first.advice.program is None else first.advice.program.unit_s
        before = dict(first.texts)
        [reference] = self.trials.parameters([request], STEPS, self.progress)
        if isinstance(reference, MlpprofError):
            raise reference
        analysis, rounds, notes = first, 1, []
        while True:
            chosen = self._chosen(version, analysis, reference)
            around_it = self._chosen_around(version, analysis, reference, chosen)
            if not chosen and not around_it:
                break
            begun = version
            if chosen:
                self.added.append((version, chosen))
                version = begun.cured([one.cure for one in chosen])
            if around_it:
                self.added.append((version, around_it))
                version = begun.cured([one.cure for one in (*chosen, *around_it)])
            is_late = self.clock() - begun_s > LONGEST_S
            if rounds == ROUNDS or is_late or self.trials.runs_left() < RUNS_OF_A_ROUND + RUNS_OF_A_CURE:
                break
            rounds += 1
            try:
                analysis = self.trials.analyse(version.request, self.progress)
                before = {**analysis.texts, **before}  # another file may have been imported
                version = replace(version, texts={**analysis.texts, **version.texts})
            except MlpprofError as error:
                notes.append(f"mlpprof looked no further, because the patched program could not be recorded: {error}")
                break
        is_whole = len(self.added)
        version, final = self._raced(request, version)
        tried = tuple(self.tried.values())
        if final is None:
            return Proof(first.advice.step_s, first.advice.step_s, None, None, tried, (), "", rounds, tuple(notes))
        training, race, verdict = final
        paths = [path for path, text in version.texts.items() if text != before[path]]
        original = Version(request, before)
        before, changed = ({path: one.file(path) for path in paths} for one in (original, version))
        around = any((one.outside or one.per != "step") and one.outcome == IN_THE_PATCH for one in tried)
        is_proven = training.is_same is True and (verdict.is_faster or (around and not verdict.is_slower))
        later = analysis.advice.program if around and rounds > 1 and len(self.added) == is_whole else None
        return Proof(
            old_s=race.step_s(0),
            new_s=race.step_s(1),
            verdict=verdict,
            training=training,
            cures=tried,
            files=tuple(ChangedFile(path, before[path], text) for path, text in changed.items()),
            patch=diff(before, changed, shown, line_end) if is_proven else "",
            rounds=rounds,
            notes=tuple(notes),
            epoch_s=(epoch_s, later.unit_s) if epoch_s is not None and later is not None else None,
        )

    def _raced(self, original: ProgramRequest, version: Version) -> tuple[Version, Final | None]:
        """The final comparison and race of the whole patch.

        The trials are shorter, so a cure may fail only here. Then the cures that were added last are left out, until
        the rest runs. Raises MlpprofError if the program itself does not run.
        """
        has_failed = False
        while self.added:
            final = self._final(original, version)
            if not isinstance(final, MlpprofError):
                return version, final
            has_failed = True
            version = self._without_the_last(f"the program does not run with it: {final}")
            while self.added and self.trials.runs_left() < 0:
                version = self._without_the_last("the program has been run as often as announced")
        if has_failed:
            self.trials.estimates([original, original], self.progress)
        return version, None

    def _final(self, original: ProgramRequest, cured: Version) -> Final | MlpprofError:
        """Whether the patch trains the same, over more steps than in the trials, and the race; or why it does not run.

        Raises MlpprofError if the program without it does not run.
        """
        old, new = self.trials.parameters([original, cured.request], FINAL_STEPS, self.progress)
        if isinstance(old, MlpprofError):
            raise old
        if isinstance(new, MlpprofError):
            return new
        try:
            race, verdict = self.trials.race(original, cured.request, self.progress)
        except MlpprofError as error:
            return error
        return _compared(old, new, cured.is_narrowed), race, verdict

    def _without_the_last(self, reason: str) -> Version:
        """Leave out the cures that were added last; the program before them."""
        version, dropped = self.added.pop()
        kept = {_key(one.finding) for _, group in self.added for one in group}
        for one in dropped:
            if _key(one.finding) not in kept:
                del self.tried[_key(one.finding)]
                self._note(one, NOT_CONFIRMED, reason)
        return version

    def _chosen(self, version: Version, analysis: Analysis, reference: tuple[list[Parameter], int]) -> list[CureTrial]:
        """The cures of one round: each is proven and faster alone, and all together train the same."""
        good = self._that_train_the_same(version, analysis, reference)
        if not good:
            return []
        for one, ratio in zip(good, self._alone(version, good), strict=True):
            if isinstance(ratio, MlpprofError):
                self._note(one, NOT_CONFIRMED, f"the program does not run with it: {ratio}")
                continue
            one.alone = ratio
            if ratio < LEAST_SPEEDUP:
                self._postpone(one, f"it trains the same, but is not faster ({ratio:.2f} times as fast)")
        faster = sorted((one for one in good if (one.alone or 0) >= LEAST_SPEEDUP), key=lambda one: -(one.alone or 0))
        chosen: list[CureTrial] = []
        for one in faster:
            if any(one.cure.conflicts_with(other.cure) for other in chosen):
                self._postpone(one, AT_ODDS)
            else:
                chosen.append(one)
        chosen = self._together(version, chosen, reference)
        for one in chosen:
            self._note(one, IN_THE_PATCH)
        return chosen

    def _alone(self, version: Version, good: Sequence[CureTrial]) -> list[float | MlpprofError]:
        """How many times as fast the program is with each cure alone, or why it does not run that long.

        What is unclear is timed again, in other processes, until two estimates say the same, or by the middle one of
        three.
        """
        found: list[list[float]] = [[] for _ in good]
        failed: dict[int, MlpprofError] = {}
        for turn in range(MOST_ESTIMATES):
            unclear = [i for i, ratios in enumerate(found) if i not in failed and not _is_clear(ratios)]
            if not unclear or (turn > 0 and self.trials.runs_left() < RUNS_OF_A_ROUND + len(unclear)):
                break
            cured = [version.cured([good[i].cure]).request for i in unclear]
            around = [place for place, i in enumerate(unclear, start=1) if good[i].finding.outside]
            ratios = self.trials.estimates([version.request, *cured], self.progress, around)
            for i, ratio in zip(unclear, ratios, strict=True):
                if isinstance(ratio, MlpprofError):
                    failed[i] = ratio
                else:
                    found[i].append(ratio)
        return [failed[i] if i in failed else median(estimates) for i, estimates in enumerate(found)]

    def _chosen_around(
        self, version: Version, analysis: Analysis, reference: tuple[list[Parameter], int], chosen: list[CureTrial]
    ) -> list[CureTrial]:
        """The cures around the step that are proven, and change no line that a chosen one changes."""
        found: list[CureTrial] = []
        for finding, cures in zip(analysis.advice.findings, analysis.cures, strict=True):
            key = _key(finding)
            if finding.per == "step" or not cures or (key in self.tried and key not in self.postponed):
                continue
            reason = "mlpprof cannot compare what these lines compute"
            for cure in cures:
                if any(cure.conflicts_with(other.cure) for other in [*chosen, *found]):
                    reason = AT_ODDS
                    continue
                if self.trials.runs_left() < RUNS_OF_A_ROUND:
                    reason = "the program has been run as often as announced"
                    break
                proven = self._proven_around(version, finding, cure, reference)
                reason = proven.words or reason
                if proven.is_proven:
                    found.append(CureTrial(finding, cure))
                    break
            is_found = bool(found) and found[-1].finding is finding
            one = found[-1] if is_found else CureTrial(finding, cures[0])
            self._note(one, IN_THE_PATCH if is_found else NOT_CONFIRMED, reason)
            if reason == AT_ODDS:
                self.postponed.add(key)
        return found

    def _proven_around(
        self, version: Version, finding: Finding, cure: Cure, reference: tuple[list[Parameter], int]
    ) -> Outcome:
        """Whether the lines compute the same with a cure, in less time, and the program trains the same."""
        both = lines_before_and_after(finding, cure, version.texts)
        if both is None:
            return Outcome(False, "")
        cured = version.cured([cure])
        [answer] = self.trials.parameters([cured.request], reference[1], self.progress)
        training = _compared(reference, answer, cured.is_narrowed)
        if not training.is_same:
            return Outcome(False, training.reason)
        old, new = (
            self.trials.executed(request, lines, self.progress)
            for request, lines in zip((version.request, cured.request), both, strict=True)
        )
        for one in (old, new):
            if isinstance(one, MlpprofError):
                return Outcome(False, str(one))
        assert not isinstance(old, MlpprofError) and not isinstance(new, MlpprofError)
        return outcome(both[0].names, old, new)

    def _that_train_the_same(
        self, version: Version, analysis: Analysis, reference: tuple[list[Parameter], int]
    ) -> list[CureTrial]:
        good: list[CureTrial] = []
        open_: list[tuple[Finding, tuple[Cure, ...]]] = []
        for finding, cures in zip(analysis.advice.findings, analysis.cures, strict=True):
            allowed = tuple(cure for cure in cures if not (self.safe_only and cure.kind == "precision"))
            if not cures:
                self._note(CureTrial(finding, Cure("manual", ())), BY_HAND, "mlpprof cannot make this edit")
            elif not allowed:
                self._note(CureTrial(finding, cures[0]), NOT_CONFIRMED, "it changes the precision")
            elif finding.per == "step" and self._is_open(finding, allowed):
                open_.append((finding, allowed))
        most = max(0, self.trials.runs_left() - RUNS_OF_A_ROUND) // RUNS_OF_A_CURE
        for finding, cures in open_[most:]:
            self._note(CureTrial(finding, cures[0]), NOT_CONFIRMED, "the program has been run as often as announced")
        open_ = open_[:most]
        self.begun.update((_key(finding), _new_lines(cures)) for finding, cures in open_)
        while open_:
            trials = [CureTrial(finding, cures[0]) for finding, cures in open_]
            versions = [version.cured([one.cure]) for one in trials]
            answers = self.trials.parameters([one.request for one in versions], reference[1], self.progress)
            still_open: list[tuple[Finding, tuple[Cure, ...]]] = []
            for one, cured, (finding, alternatives), answer in zip(trials, versions, open_, answers, strict=True):
                training = _compared(reference, answer, cured.is_narrowed)
                if training.is_same:
                    good.append(one)
                elif alternatives[1:]:
                    still_open.append((finding, alternatives[1:]))
                else:
                    self._note(one, NOT_CONFIRMED, training.reason)
            open_ = still_open
        return good

    def _is_open(self, finding: Finding, cures: Sequence[Cure]) -> bool:
        """Whether a cure is to be tried: for the first time, once more, or at another place of the same kind."""
        known = self.tried.get(_key(finding))
        is_elsewhere = (_key(finding), _new_lines(cures)) not in self.begun
        is_of_patch = known is not None and known.outcome == IN_THE_PATCH
        return known is None or _key(finding) in self.postponed or (is_of_patch and is_elsewhere)

    def _together(
        self, version: Version, chosen: list[CureTrial], reference: tuple[list[Parameter], int]
    ) -> list[CureTrial]:
        """Those that train the same together, the best first; each alone does already."""
        for _ in range(MOST_DROPPED):
            if len(chosen) < 2:
                return chosen
            together = version.cured([one.cure for one in chosen])
            [answer] = self.trials.parameters([together.request], reference[1], self.progress)
            training = _compared(reference, answer, together.is_narrowed)
            if training.is_same:
                return chosen
            *chosen, left_out = chosen
            self._postpone(left_out, f"together with another cure, {training.reason}")
        for one in chosen[1:]:
            self._postpone(one, "too many cures of this round train something else together")
        return chosen[:1]

    def _postpone(self, one: CureTrial, reason: str) -> None:
        self._note(one, NOT_CONFIRMED, reason)
        self.postponed.add(_key(one.finding))

    def _note(self, one: CureTrial, outcome: str, reason: str = "") -> None:
        finding = one.finding
        self.postponed.discard(_key(finding))
        known = self.tried.get(_key(finding))
        if known is not None and known.outcome == IN_THE_PATCH and outcome != IN_THE_PATCH:
            return  # what a later round cannot improve further stays in the patch
        low, high = finding.payoff_share
        self.tried[_key(finding)] = TriedCure(
            category=finding.category,
            file=finding.file,
            line=finding.line,
            cell=finding.cell,
            title=finding.title,
            kind=one.cure.kind,
            promised=(1 / (1 - min(low, 0.999)), 1 / (1 - min(high, 0.999))),
            alone=one.alone,
            outcome=outcome,
            reason=reason,
            per=finding.per,
            outside=finding.outside,
        )


def _new_lines(cures: Sequence[Cure]) -> tuple[str, ...]:
    """What the first of some alternatives writes."""
    return tuple(line for edit in cures[0].edits for line in edit.lines)


def _is_clear(ratios: Sequence[float]) -> bool:
    """Whether estimates of what one cure gives decide whether it is worth its change."""
    if len(ratios) < 2:
        return any(ratio >= CLEAR for ratio in ratios)
    return len({ratio >= LEAST_SPEEDUP for ratio in ratios}) == 1


def _key(finding: Finding) -> tuple[str, str]:
    """What a finding has in common with the same one in the patched program, where lines have moved."""
    return finding.category, re.sub(r"\d+", "#", finding.title)


def _compared(reference: tuple[list[Parameter], int], answer: Trained, may_narrow: bool) -> Training:
    """Whether a cured program trains the same. may_narrow: whether a cure may have made its parameters float32."""
    if isinstance(answer, MlpprofError):
        return Training(False, 0, f"the program does not run with it: {answer}")
    parameters, steps = answer
    old, new = (max((one.dtype for one in side), key=_rounding, default="") for side in (reference[0], parameters))
    if may_narrow and old == "float64":
        # A parameter that starts in float32, and is float64 from the first update on, has been rounded all the same.
        parameters = [replace(one, dtype="float32") if one.dtype == old else one for one in parameters]
    if not may_narrow:
        if _rounding(new) > _rounding(old):
            return Training(False, 0, f"it is classed safe, but it changes the precision from {old} to {new}")
        # A parameter that was float64 beside others of float32 is compared within what float64 keeps.
        finest = min((one.dtype for one in reference[0]), key=_rounding, default="float64")
        parameters = [replace(one, dtype=finest) for one in parameters]
    common = min(steps, reference[1])
    ours, theirs = (
        [replace(one, values=one.values[: common + 1]) for one in side] for side in (reference[0], parameters)
    )
    return same_training(("the program", "the cured program"), ours, theirs, common)


def _rounding(dtype: str) -> float:
    return float(np.finfo(np.dtype(dtype)).eps) if dtype else 0.0


def moved(step: str, cures: Sequence[Cure]) -> str:
    """A step as 'file.py:LINE' after edits that stand before it; other steps have a name, and stay."""
    file, _, place = step.rpartition(":")
    if not place.isdigit():
        return step
    edits = [edit for cure in cures for edit in cure.edits if Path(edit.file).name == Path(file).name]
    line = int(place)
    added = sum(len(edit.lines) - (edit.stop - edit.start) for edit in set(edits) if edit.stop < line)
    return f"{file}:{line + added}"
