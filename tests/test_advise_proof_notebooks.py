"""Cures of a notebook: edits of its source become edits of its cells, in the file and in its overlay."""

from __future__ import annotations

from pathlib import Path

import pytest
from notebooks import written

from mlpprof.advise.editing.cure import Cure, LineEdit
from mlpprof.advise.proof.notebooks import moved_loop
from mlpprof.advise.proof.prove import Version
from mlpprof.programs.notebook import read_notebook
from mlpprof.programs.request import request_for

CELLS = ("%matplotlib inline\nx = 1\n", "for i in range(3):\n    x += 1\n    y = x\n", "print(y)\n")


def edit(path: Path, start: int, stop: int, *lines: str) -> Cure:
    return Cure("safe", (LineEdit(str(path), start, stop, lines),))


def test_a_cured_notebook_is_a_notebook_whose_source_is_the_cured_source(tmp_path: Path):
    path = written(tmp_path / "work.ipynb", *CELLS)
    text = path.read_text(encoding="utf-8")
    source = read_notebook(str(path)).source
    version = Version(request_for(path, step="2:1"), {str(path): source})
    cured = version.cured(
        [edit(path, 2, 2, "z = 2\n"), edit(path, 4, 5, "    y = x + z\n"), edit(path, 2, 2, "z = 2\n")]
    )
    after = cured.request.overlay[str(path)]
    assert after == cured.file(str(path))
    assert cured.texts[str(path)] == read_notebook(str(path), after).source
    assert [cell.text for cell in read_notebook(str(path), after).cells] == [
        CELLS[0],
        "z = 2\nfor i in range(3):\n    x += 1\n    y = x + z\n",
        CELLS[2],
    ]
    assert cured.request.step is not None
    assert cured.request.step.endswith("cell 2:2")
    again = cured.cured([edit(path, 1, 2)])
    assert read_notebook(str(path), again.file(str(path))).cells[0].text == "%matplotlib inline\n"
    assert path.read_text(encoding="utf-8") == text == version.file(str(path))


@pytest.mark.parametrize(("step", "moved"), [("3:1", "cell 3:1"), ("2:2", "cell 2:3"), ("Net.step", "Net.step")])
def test_a_loop_is_found_again_in_the_cured_notebook(tmp_path: Path, step: str, moved: str):
    path = written(tmp_path / "work.ipynb", *CELLS)
    before = path.read_text(encoding="utf-8")
    cure = edit(path, 2, 2, "z = 2\n")
    after = Version(request_for(path), {str(path): read_notebook(str(path)).source}).cured([cure]).file(str(path))
    assert moved_loop(step, str(path), before, after, [cure]).endswith(moved)
