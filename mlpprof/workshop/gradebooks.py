"""A result in the forms that other systems of courses read: Otter and Gradescope, nbgrader, and GitHub Classroom.

An exercise has one point for each stage of the check: the file loads, the results are correct, the code is built as
required, and it is fast enough. Stages after the one that ended the check have no point, because they did not run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlpprof.workshop.exercises import MY_MLP, Course
from mlpprof.workshop.result import Result, result_json
from mlpprof.workshop.result_text import rows, title

STAGES = {
    "load": "The file loads",
    "correctness": "The results are correct",
    "structure": "The code is built as required",
    "speed": "The code is fast enough",
}
"""The stages of a check in their order, each with the name of its test. Each is worth one point."""


@dataclass(frozen=True)
class Stage:
    """One stage of a check. status: pass, fail, error (inconclusive), or not run."""

    name: str
    status: str
    message: str

    @property
    def points(self) -> int:
        """1 if the stage was passed, else 0."""
        return int(self.status == "pass")


def stages(result: Result) -> list[Stage]:
    """Return the stages of a check, with the message of the one that ended it."""
    order = list(STAGES)
    last = order.index(result.stage)
    found = []
    for i, name in enumerate(STAGES.values()):
        if i < last or result.passed:
            found.append(Stage(name, "pass", ""))
        elif i == last:
            status = "error" if result.outcome == "inconclusive" else "fail"
            line = "" if result.line is None else f" ({MY_MLP}:{result.line}: {result.text})"
            found.append(Stage(name, status, f"{result.message}{line}"))
        else:
            found.append(Stage(name, "not run", "The check ended before this."))
    return found


def points(result: Result) -> int:
    """Return how many of the stages were passed."""
    return sum(stage.points for stage in stages(result))


def otter_json(course: Course, result: Result) -> dict[str, Any]:
    """Return the results.json that Otter and Gradescope read."""
    report = "\n".join(f"{name}: {words}" if name else words for name, words in rows(course, result))
    return {
        "output": f"{title(course, result)}\n{report}",
        "tests": [
            {
                "name": stage.name,
                "score": stage.points,
                "max_score": 1,
                "visibility": "visible",
                "status": "passed" if stage.points else "failed",
                "output": stage.message,
            }
            for stage in stages(result)
        ],
    }


def nbgrader_json(course: Course, result: Result) -> dict[str, Any]:
    """Return a row with the columns that nbgrader exports: raw score, score, and the largest possible score."""
    score = float(points(result))
    return {
        "assignment": f"{course.name or 'workshop'}-{result.exercise}-{course.numbered(result.exercise).name}",
        "duedate": None,
        "timestamp": result.created,
        "student_id": result.learner,
        "last_name": None,
        "first_name": None,
        "email": None,
        "raw_score": score,
        "late_submission_penalty": 0.0,
        "score": score,
        "max_score": float(len(STAGES)),
    }


def classroom_json(course: Course, result: Result) -> dict[str, Any]:
    """Return the result that the reporter of GitHub Classroom reads; a workflow passes it on in base64."""
    status = "error" if result.outcome == "inconclusive" else result.outcome
    return {
        "version": 1,
        "status": status,
        "max_score": len(STAGES),
        "tests": [
            {
                "name": stage.name,
                "status": "fail" if stage.status == "not run" else stage.status,
                "score": stage.points,
                "message": stage.message,
                "test_code": "",
                "filename": MY_MLP,
                "line_no": result.line or 0,
                "duration": 0,
            }
            for stage in stages(result)
        ],
    }


FORMATS: dict[str, Callable[[Course, Result], dict[str, Any]]] = {
    "json": lambda course, result: result_json(result),
    "otter": otter_json,
    "nbgrader": nbgrader_json,
    "github-classroom": classroom_json,
}
"""The name of a form, with the function that makes it; the first one is mlpprof's own."""
