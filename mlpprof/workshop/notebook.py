"""The exercises as a notebook, made from the same pages and the same code as the folder.

The first code cell writes my_mlp.py. The learner changes the file there, runs the cell, and then runs `check` below the
page of the exercise. `check` does the same as `mlpprof workshop check`.
"""

from __future__ import annotations

import importlib
import re
from base64 import b64encode
from html import escape
from pathlib import Path

from mlpprof.errors import MissingExtra
from mlpprof.workshop import conditions
from mlpprof.workshop.check import examine, race, require_as_used
from mlpprof.workshop.exercises import FIGURES, MY_MLP, PAGES, README, ROOFLINE, Course, Exercise
from mlpprof.workshop.folder import course_of, keep, next_exercise, require_folder, stored_results
from mlpprof.workshop.learner import learner_name
from mlpprof.workshop.result import Result
from mlpprof.workshop.result_text import last_line, rows, title
from mlpprof.workshop.solutions import start_text

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def notebook_text(course: Course) -> str:
    """Return the text of the notebook's file; raise MissingExtra without nbformat."""
    try:
        nbformat = importlib.import_module("nbformat")
        v4 = importlib.import_module("nbformat.v4")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"the notebook needs {error.name}; install it with: pip install 'mlpprof[notebook]'"
        ) from error
    cells = [
        v4.new_markdown_cell(course.text(README), id="readme"),
        v4.new_markdown_cell(
            f"## {MY_MLP}\n\nThis cell writes the file. Change the code, run the cell, then run the check.",
            id="my-mlp",
        ),
        v4.new_code_cell(f"%%writefile {MY_MLP}\n{start_text(course)}", id="my-mlp-code"),
    ]
    for one in course.exercises:
        cells.append(v4.new_markdown_cell(with_pictures(course.text(one.file_name)), id=f"exercise-{one.number}"))
        cells.append(v4.new_code_cell(_check_cell(one), id=f"check-{one.number}"))
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    nbformat.validate(notebook)
    return str(nbformat.writes(notebook)) + "\n"


def with_pictures(page: str) -> str:
    """Return a page as the notebook shows it: the pictures replace the text diagrams before them."""
    shown = re.sub(r"```text\n[^`]*```\n\n(?=!\[)", "", page)
    return shown.replace(f"]({FIGURES}/", f"]({PAGES}/{FIGURES}/")


def _check_cell(exercise: Exercise) -> str:
    begin = "from mlpprof.workshop.notebook import check\n\n" if exercise.number == 0 else ""
    return f"{begin}check({exercise.number}, guess=None)  # Replace None with your guess: {exercise.question}"


class Checked:
    """A result that is displayed as text, and as a table in a notebook.

    roofline: the SVG of the learner's statements below the limits of the machine; empty if it was not drawn.
    """

    def __init__(self, course: Course, result: Result, roofline: bytes = b"") -> None:
        self.course, self.result, self.roofline = course, result, roofline

    def __repr__(self) -> str:
        lines = [f"  {name:<10} {words}" for name, words in rows(self.course, self.result)]
        return "\n".join([title(self.course, self.result), *lines, last_line(self.course, self.result)])

    def _repr_html_(self) -> str:
        table = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(words)}</td></tr>"
            for name, words in rows(self.course, self.result)
        )
        return (
            f"<p><b>{escape(title(self.course, self.result))}</b></p><table style='text-align: left'>{table}</table>"
            f"<p><b>{escape(last_line(self.course, self.result))}</b></p>{self._picture()}"
        )

    def _picture(self) -> str:
        if not self.roofline:
            return ""
        source = f"data:image/svg+xml;base64,{b64encode(self.roofline).decode('ascii')}"
        return f'<img alt="Your statements below the limits of this machine" src="{source}" style="max-width: 60em">'


def check(
    number: int | None = None,
    guess: float | None = None,
    name: str | None = None,
    folder: str | Path = ".",
    as_used: bool = False,
) -> Checked:
    """Check my_mlp.py in a folder against an exercise, and store the result.

    number: None for the first exercise that is not passed yet. guess: your answer to the question of the exercise.
    as_used: also time a training run in a fresh process, with loading and compiling.
    Raises UsageError if there is no my_mlp.py or no such exercise.
    """
    place = Path(folder)
    require_folder(place)
    done = stored_results(place)
    course = course_of(place)
    if as_used:
        require_as_used(course)
    chosen = course.numbered(next_exercise(course, done) if number is None else number)
    examined = examine(place, course, chosen, learner_name(name, done, place), conditions.CLASSROOM, _silent)
    result = examined.result
    if result.outcome == "pass":
        earlier = done[chosen.number].guess if chosen.number in done else None
        result = race(examined, guess if guess is not None else earlier, _silent, as_used)
    keep(place, result)
    is_drawn = any(note.startswith(ROOFLINE) for note in result.notes)
    return Checked(course, result, (place / ROOFLINE).read_bytes() if is_drawn else b"")


def _silent(what: str, share: float) -> None:
    """Show no progress, because the notebook shows that a cell is running."""
