"""The exercises as a notebook, made from the same pages and the same code as the folder.

The first code cell writes my_mlp.py; the learner changes it there, runs it, and runs the check below the page.
"""

from __future__ import annotations

import importlib

from mlpprof.errors import MissingExtra
from mlpprof.workshop.exercises import EXERCISES, Exercise, text
from mlpprof.workshop.folder import MY_MLP
from mlpprof.workshop.solutions import start_text

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
    for exercise in EXERCISES:
        cells.append(v4.new_markdown_cell(text(exercise.file_name), id=f"exercise-{exercise.number}"))
        cells.append(v4.new_code_cell(_check(exercise), id=f"check-{exercise.number}"))
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    nbformat.validate(notebook)
    return str(nbformat.writes(notebook)) + "\n"


def _check(exercise: Exercise) -> str:
    begin = "from mlpprof.workshop.session import check\n\n" if exercise.number == 0 else ""
    return f"{begin}check({exercise.number}, guess=None)  # {exercise.question} Your guess in place of None"
