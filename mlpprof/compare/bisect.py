"""Which commit made a program slow: git chooses the commits, and each is raced against the good one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from mlpprof.errors import EXIT_INCONCLUSIVE, CheckFailed, MlpprofError, UsageError, WorkerKilled
from mlpprof.programs.bisection import Bisection, Commit, Mark
from mlpprof.results import Comparison, Verdict

MARKS: Mapping[str | None, Mark] = {"pass": "good", "fail": "bad"}
"""The outcome of the claim that a commit is still fast -> what git learns of it; an undecided commit is skipped."""


class NothingToFind(CheckFailed):
    """The bad commit is not slower than the good one."""


class TooCloseToFind(MlpprofError):
    """Whether the bad commit is slower cannot be decided, or it is so little slower that no commit could be judged."""

    exit_code = EXIT_INCONCLUSIVE


class Races(Protocol):
    """Races two commits of the program."""

    def race(self, old: Commit, new: Commit, at_least: float | None) -> Comparison:
        """A race of two commits; raises what the program raises, if one of them cannot be run."""

    def explained(self, old: Commit, new: Commit) -> Comparison:
        """A race without a claim, and where the difference lies."""

    def code_of(self, commit: Commit) -> object:
        """The code of the program at a commit, to be compared with that of another one."""


@dataclass(frozen=True)
class Judged:
    """A commit that git has chosen. mark: what it is. verdict: None if it was not raced. reason: in words."""

    commit: Commit
    mark: Literal["good", "bad", "skip"]
    reason: str
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Bisected:
    """The end of a search.

    at_least: a commit is slow if it is not so many times as fast as the good one. whole: the bad commit compared with
    the good one. possible: the first slow commit; several if those between them had to be skipped. explained: the first
    slow commit compared with the one before it, or with the good one if that one cannot be run; None if the commit is
    not known.
    """

    good: Commit
    bad: Commit
    at_least: float
    whole: Comparison
    tested: tuple[Judged, ...]
    possible: tuple[Commit, ...]
    explained: Comparison | None = None
    command: str = ""

    @property
    def first_slow(self) -> Commit | None:
        """The commit that made the program slow, if it is known."""
        return self.possible[0] if len(self.possible) == 1 else None


def bisect(
    git: Bisection, races: Races, at_least: float | None, say: Callable[[str], None], command: str = ""
) -> Bisected:
    """Search for the first slow commit.

    at_least: as in `Bisected`; None takes a ratio between that of the bad commit and 1. say: gets a sentence for each
    commit as soon as it is judged. Raises NothingToFind, TooCloseToFind, and what the good and the bad commit raise.
    """
    whole = races.race(git.good, git.bad, at_least)
    if at_least is None:
        at_least = threshold(whole.verdict)
    else:
        _require_fail(whole.verdict)
    say(f"{git.bad.short} is slow: {_ratio(whole.verdict)}; a commit below {at_least:.3g}x counts as slow")
    git.start()
    known = [(races.code_of(commit), commit, mark) for commit, mark in ((git.good, "good"), (git.bad, "bad"))]
    tested: list[Judged] = []
    while (commit := git.next) is not None:
        one = _tested(commit, git, races, at_least, known)
        tested.append(one)
        say(f"{commit.short} is {'skipped' if one.mark == 'skip' else one.mark}: {one.reason}")
        git.mark(commit, one.mark)
    possible = tuple(git.possible)
    explained = _explained(git, races, possible[0], say) if len(possible) == 1 else None
    return Bisected(git.good, git.bad, at_least, whole, tuple(tested), possible, explained, command)


def threshold(verdict: Verdict) -> float:
    """The ratio below which a commit counts as slow, from that of the bad commit; 1 is as fast as the good one.

    It lies in the middle between both, but so far from the bad commit that a race can separate the two. Raises
    NothingToFind and TooCloseToFind.
    """
    if not verdict.is_slower:
        if verdict.high >= 1 > verdict.low:
            raise TooCloseToFind(f"whether there is a slowdown is undecided: {_ratio(verdict)}")
        raise NothingToFind(f"there is no slowdown to find: {_ratio(verdict)}")
    found = max(math.sqrt(verdict.ratio), (1 + verdict.resolution) * verdict.ratio)
    if found >= 1:
        raise TooCloseToFind(
            f"the slowdown is too small to be searched: {_ratio(verdict)}, and a commit can be judged if it takes at "
            f"least {100 * verdict.resolution:g} % longer; choose a range in which more was lost, or a finer "
            "resolution, such as --resolution 2%"
        )
    return found


def _require_fail(verdict: Verdict) -> None:
    """Raise what is to be said unless the bad commit fails the claim."""
    if verdict.outcome == "pass":
        raise NothingToFind(f"there is no slowdown to find: {_ratio(verdict)}, which is at least {verdict.at_least:g}x")
    if verdict.outcome != "fail":
        raise TooCloseToFind(f"whether there is a slowdown is undecided: {_ratio(verdict)}; {verdict.reason}")


def _tested(
    commit: Commit, git: Bisection, races: Races, at_least: float, known: list[tuple[object, Commit, str]]
) -> Judged:
    """The judgement of a commit; one with the code of a commit that was judged before is not raced again."""
    try:
        code = races.code_of(commit)
        for other_code, other, mark in known:
            if code == other_code:
                return Judged(commit, "good" if mark == "good" else "bad", f"it is the same code as {other.short}")
        try:
            verdict = races.race(git.good, commit, at_least).verdict
        except WorkerKilled:  # which says nothing about the commit
            verdict = races.race(git.good, commit, at_least).verdict
    except MlpprofError as error:
        return Judged(commit, "skip", f"it cannot be run: {error}")
    mark = MARKS.get(verdict.outcome, "skip")
    if mark == "skip":
        return Judged(commit, mark, f"it is {_ratio(verdict)}: {verdict.reason}", verdict)
    known.append((code, commit, mark))
    return Judged(commit, mark, _ratio(verdict), verdict)


def _explained(git: Bisection, races: Races, commit: Commit, say: Callable[[str], None]) -> Comparison | None:
    """The first slow commit compared with its parent, or else with the good commit."""
    parent = git.before(commit)
    for old in dict.fromkeys(one for one in (parent, git.good) if one is not None):
        try:
            return races.explained(old, commit)
        except UsageError as error:
            say(f"{commit.short} cannot be compared with {old.short}: {error}")
    return None


def _ratio(verdict: Verdict) -> str:
    return f"{verdict.ratio:.3g}x as fast (95 %: {verdict.low:.3g}-{verdict.high:.3g})"
