"""What `mlpprof advise --prove` has proven: which cures train the same and are faster, alone and together."""

from __future__ import annotations

from dataclasses import dataclass

from mlpprof.results.comparison import Training, Verdict
from mlpprof.results.place import Place

IN_THE_PATCH, NOT_CONFIRMED, BY_HAND = "in the patch", "not confirmed", "by hand"


@dataclass(frozen=True)
class TriedCure:
    """A cure, and what came of it.

    promised: (low, high), how many times as fast the step would be with it. alone: what a race of a few blocks has
    measured; None if it was not raced. outcome: IN_THE_PATCH, NOT_CONFIRMED or BY_HAND. reason: why it is not in the
    patch; of a cure around the step, also what has proven it. per: what it makes faster: 'step', or 'epoch' around it.
    outside: it changes the loop around the step, so that `alone` counts the time between steps too.
    """

    category: str
    file: str
    line: int
    title: str
    kind: str
    promised: tuple[float, float]
    alone: float | None
    outcome: str
    reason: str = ""
    cell: int | None = None
    per: str = "step"
    outside: bool = False

    @property
    def place(self) -> Place:
        return Place(self.file, self.line, self.cell)


@dataclass(frozen=True)
class ChangedFile:
    """A file before and after: its path, and both texts."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Proof:
    """A patch, its measured speedup, and all cures that were tried.

    old_s, new_s: median seconds per step in the race. verdict: of the patched program over the original one. training:
    whether both train the same. patch: a unified diff; empty if nothing could be proven. rounds: how often mlpprof has
    looked for cures, the later times in the patched program. epoch_s: seconds of an epoch before and after, each as
    recorded once; None if the patch changes nothing around the step.
    """

    old_s: float
    new_s: float
    verdict: Verdict | None
    training: Training | None
    cures: tuple[TriedCure, ...]
    files: tuple[ChangedFile, ...]
    patch: str
    rounds: int
    notes: tuple[str, ...] = ()
    epoch_s: tuple[float, float] | None = None

    @property
    def is_proven(self) -> bool:
        """Whether there is a patch that trains the same and is faster for certain, in the step or around it."""
        if not self.patch or self.verdict is None:
            return False
        return self.verdict.is_faster or (self.changes_around and not self.verdict.is_slower)

    @property
    def changes_around(self) -> bool:
        """Whether a cure in the patch is around the step."""
        return any((one.outside or one.per != "step") and one.outcome == IN_THE_PATCH for one in self.cures)

    @property
    def changes_precision(self) -> bool:
        """Whether the patch makes the program compute in another precision."""
        return any(one.kind == "precision" and one.outcome == IN_THE_PATCH for one in self.cures)
