"""Cures of a notebook: they are edits of its code as one source, and the file has to get them in its cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlpprof.advise.editing.cure import Cure, LineEdit
from mlpprof.programs.notebook import SourceEdit, place_of, read_notebook, with_edits
from mlpprof.programs.step_place import NOTEBOOK, StepPlace


def is_notebook(path: str) -> bool:
    """Whether a file is a notebook."""
    return path.endswith(NOTEBOOK)


def cured_file(path: str, text: str, cures: Sequence[Cure]) -> str:
    """The file of a notebook after all cures, of which no two conflict. text: the file before."""
    edits = (SourceEdit(edit.start, edit.stop, edit.lines) for edit in _edits_of(path, cures))
    return with_edits(path, text, edits)


def moved_loop(step: str, path: str, before: str, after: str, cures: Sequence[Cure]) -> str:
    """A step as 'work.ipynb:cell 3:LINE' after the cures; other steps stay. before, after: the file."""
    place = StepPlace.parse(step)
    if place.cell is None or place.line is None or not place.concerns(path):
        return step
    line = read_notebook(path, before).line(place.cell, place.line)
    added = sum(len(edit.lines) - (edit.stop - edit.start) for edit in _edits_of(path, cures) if edit.stop < line)
    read_notebook(path, after)
    return place_of(str(Path(path).resolve()), line + added, place.file).text


def _edits_of(path: str, cures: Sequence[Cure]) -> list[LineEdit]:
    # two cures may need the same import
    return list(dict.fromkeys(edit for cure in cures for edit in cure.edits if edit.file == path))
