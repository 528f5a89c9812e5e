"""The check of a learner's whole program: does it train as the solution does, and how is its step built?

The program runs unchanged in processes of its own, as in `mlpprof compare`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlpprof.compare.entrants import Environment, ProgramSubject
from mlpprof.compare.programs import ProgramComparer, ProgramRace, Wanted
from mlpprof.errors import MlpprofError, WorkerDied
from mlpprof.process import Progress
from mlpprof.profile.program import ProgramSettings, profile_program
from mlpprof.programs.request import request_for
from mlpprof.results import Operation, Training
from mlpprof.workshop.conditions import Conditions
from mlpprof.workshop.exercises import Exercise
from mlpprof.workshop.fair_play import foreign_import
from mlpprof.workshop.right_structure import Counts, broken_fact
from mlpprof.workshop.solutions import WrittenVersion

HOW_OFTEN = "several times"


class LearnersProgram(MlpprofError):
    """A learner's program cannot be examined, for a reason that the message says."""


def subject_of(version: WrittenVersion) -> ProgramSubject:
    """Return a program with its step. Raises UsageError as `request_for`."""
    return ProgramSubject(request_for(version.path, step=version.step or None), HOW_OFTEN)


def examine_program(
    file: Path, solution: WrittenVersion, exercise: Exercise, environment: Environment, progress: Progress
) -> dict[str, Any]:
    """Find out whether a program trains as the solution does, and which structural fact it does not satisfy.

    The answer has the keys of `check_worker.examine`, and "step", the training step that was found. Raises
    LearnersProgram or WorkerDied if the program does not come so far.
    """
    answer: dict[str, Any] = {"wrong": None, "networks": 0, "broken": None, "prints": None, "uncounted": [], "step": ""}
    source = file.read_text(encoding="utf-8-sig", errors="replace")
    answer["wrong"] = foreign_import(source, file.name, exercise.goal != "solve")
    if answer["wrong"] is not None:
        return answer
    try:
        # A step that the teacher had to name has no file before it, and has this name in the learner's file too.
        named = None if ":" in solution.step else solution.step or None
        comparer = ProgramComparer([request_for(file, step=named)], environment, Wanted(), lambda sentence: None)
        [mine] = comparer.subjects(progress)
        answer["step"] = mine.request.step
        training = comparer.training(subject_of(solution), mine, progress)
        if not training.is_same:
            why = what_differs(training, solution.path.name)
            answer["wrong"] = f"{file.name} {training.relation} the solution: {why}"
            return answer
        expected, made = comparer.made
        if made < expected:
            answer["wrong"] = (
                f"{file.name} makes {made} training steps, and the solution makes {expected} or more. Let it make as "
                "many as before"
            )
            return answer
        answer["trained"] = training.reason
        broken = broken_fact(Counts(None, counted(mine, environment, progress)), exercise.at_most)
    except WorkerDied:
        raise
    except MlpprofError as error:
        raise LearnersProgram(without_options(str(error))) from error
    if broken is not None:
        answer["broken"] = asdict(broken)
    return answer


def without_options(message: str) -> str:
    """Leave out what a message says about other commands: their options and their verdict, which a check does not have.

    A message that says nothing else stays as it is.
    """
    parts = re.split(r"(?<=[.;]) ", message)
    return " ".join(part for part in parts if "--" not in part and "verdict" not in part).rstrip(".;") or message


def what_differs(training: Training, solution: str) -> str:
    """Return how a training differs, what to look at, and what else is known. solution: the file of the solution."""
    found = without_options(training.reason)
    if training.parameter is not None and training.first_step == 1:
        found += f". Look at the gradient and at the update of {training.parameter}"
    elif training.parameter is not None and training.first_step:
        reused = "such as a sum or a reused array"
        found += f". The first step is right, so look at what one step leaves for the next, {reused}"
    return "; ".join((found, *training.notes)).replace(solution, "the solution")


def counted(subject: ProgramSubject, environment: Environment, progress: Progress) -> Sequence[Operation]:
    """Return the operations of a program's step. Raises as `profile_program`."""
    settings = ProgramSettings(threads=environment.threads, limits=False)
    return profile_program(subject.request, settings, "", progress).results[0].operations


def program_race(versions: Sequence[WrittenVersion], step: str, conditions: Conditions) -> ProgramRace:
    """Return a race of programs, the learner's last. step: that of the learner's program."""
    *written, mine = versions
    subjects = [*(subject_of(version) for version in written), subject_of(WrittenVersion(mine.path, step))]
    return ProgramRace(subjects, conditions.environment, blocks=conditions.blocks)
