"""The exercises as a notebook, made from the same pages and the same code as the folder.

The first code cell writes my_mlp.py; the learner changes it there, runs it, and runs the check below the page.
"""

from __future__ import annotations

import importlib
from html import escape
from pathlib import Path

from mlpprof.errors import MissingExtra
from mlpprof.workshop import exercises as setting
from mlpprof.workshop.check import examine, race
from mlpprof.workshop.exercises import EXERCISES, Exercise, exercise, start_text, text
from mlpprof.workshop.folder import MY_MLP, keep, learner_name, next_exercise, require_folder, stored_results
from mlpprof.workshop.result import Result
from mlpprof.workshop.words import last_line, rows, title

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def notebook_text() -> str:
    """The notebook as it stands in a file. Raises MissingExtra without nbformat."""
    try:
        nbformat = importlib.import_module("nbformat")
        v4 = importlib.import_module("nbformat.v4")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"the notebook needs {error.name}; install it with: pip install 'mlpprof[notebook]'"
        ) from error
    cells = [
        v4.new_markdown_cell(text("README.md"), id="readme"),
        v4.new_markdown_cell(
            f"## {MY_MLP}\n\nThis cell writes the file. Change it here, run it, then run the check of the exercise.",
            id="my-mlp",
        ),
        v4.new_code_cell(f"%%writefile {MY_MLP}\n{start_text()}", id="my-mlp-code"),
    ]
    for one in EXERCISES:
        cells.append(v4.new_markdown_cell(text(one.file_name), id=f"exercise-{one.number}"))
        cells.append(v4.new_code_cell(_check(one), id=f"check-{one.number}"))
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    nbformat.validate(notebook)
    return str(nbformat.writes(notebook)) + "\n"


def _check(exercise: Exercise) -> str:
    begin = "from mlpprof.workshop.notebook import check\n\n" if exercise.number == 0 else ""
    return f"{begin}check({exercise.number}, guess=None)  # {exercise.question} Your guess in place of None"


# `check` for notebooks: what `mlpprof workshop check` does, as a function whose result shows itself.


class Checked:
    """A result that shows itself as text and in a notebook."""

    def __init__(self, result: Result) -> None:
        self.result = result

    def __repr__(self) -> str:
        lines = [f"  {name:<10} {told}" for name, told in rows(self.result)]
        return "\n".join([title(self.result), *lines, last_line(self.result)])

    def _repr_html_(self) -> str:
        told = "".join(f"<tr><th>{escape(name)}</th><td>{escape(words)}</td></tr>" for name, words in rows(self.result))
        return (
            f"<p><b>{escape(title(self.result))}</b></p><table style='text-align: left'>{told}</table>"
            f"<p><b>{escape(last_line(self.result))}</b></p>"
        )


def check(
    number: int | None = None, guess: float | None = None, name: str | None = None, folder: str | Path = "."
) -> Checked:
    """Check my_mlp.py in a folder against an exercise (None: the first not yet passed), and keep the result.

    guess: what you expect of the measurement. Raises UsageError where there is no my_mlp.py or no such exercise.
    """
    place = Path(folder)
    require_folder(place)
    done = stored_results(place)
    chosen = exercise(next_exercise(done) if number is None else number)
    examined = examine(place, chosen, learner_name(name, done, place), setting.CLASSROOM, _silent)
    result = examined.result
    if result.outcome == "pass":
        earlier = done[chosen.number].guess if chosen.number in done else None
        result = race(examined, guess if guess is not None else earlier, _silent)
    keep(place, result)
    return Checked(result)


def _silent(what: str, share: float) -> None:
    """A notebook shows by itself that a cell is running."""
