"""`find` and `profile_step`: run a program in a process of its own, record its step, and say what is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlpprof.results.advice import Advice
from mlpprof.results.step_profile import StepProfile

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Subject:
    """The program to look at.

    target: a script's path, or the name of one of the catalog's variants. step: the training step as
    'Class.method', 'function', 'file.py:Class.method', or 'LINE' or 'file.py:LINE' of the loop whose body it is; None
    to have it found. arguments: for the script. include, exclude: file name patterns of modules that are instrumented
    though they are in an installed library, or not although they are the user's.
    layers, batch, dtype: for a variant (see `mlpprof profile`).
    """

    target: str | Path
    step: str | None = None
    arguments: Sequence[str] = ()
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()


def find(
    subject: Subject | str | Path,
    *,
    step: str | None = None,
    arguments: Sequence[str] = (),
    progress: Progress | None = None,
) -> Advice:
    """Findings on a program's training step, the largest payoff first.

    Raises UsageError (no such file, a step that never runs, no step found), or VariantCrash where the program itself
    ends with an exception before the step was recorded.
    """
    raise NotImplementedError


def profile_step(subject: Subject, *, progress: Progress | None = None) -> StepProfile:
    """The phases and expressions of a program's step. Raises as `find`."""
    raise NotImplementedError
