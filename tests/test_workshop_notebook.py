"""The notebook version is made from the same pages and the same code, and it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from workshop_results import result

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_OK, EXIT_USAGE
from mlpprof.workshop import conditions
from mlpprof.workshop.conditions import Conditions
from mlpprof.workshop.exercises import built_in
from mlpprof.workshop.notebook import Checked, check, notebook_text, with_pictures
from mlpprof.workshop.solutions import start_text

COURSE = built_in()
EXERCISES = COURSE.exercises
text = COURSE.text

QUICKLY = """
from mlpprof.compare.error_bounds import Procedure
from mlpprof.workshop import conditions
short = {"procedure": Procedure(looks=(2, 3)), "blocks": 4, "roofline": False}
conditions.CLASSROOM = conditions.Conditions(workload="tiny", **short)
"""
"""A cell for the test alone, which makes checks short: the small embedded set replaces the digits."""


def test_the_notebook_has_the_pages_and_the_code_of_the_folder():
    pytest.importorskip("nbformat")
    cells = json.loads(notebook_text(COURSE))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert texts[0] == text("README.md").rstrip("\n") or texts[0] == text("README.md")
    for exercise in EXERCISES:
        assert with_pictures(text(exercise.file_name)).rstrip() in [found.rstrip() for found in texts]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code[0] == f"%%writefile my_mlp.py\n{start_text(COURSE)}"
    assert [f"check({e.number}, guess=None)" in cell for e, cell in zip(EXERCISES, code[1:], strict=True)] == [True] * 8


def test_in_the_notebook_a_picture_replaces_the_text_diagram_before_it():
    page = "a\n\n```text\n+-+\n```\n\n![what it shows](figures/x.svg)\n\n```text\nstays\n```\n"
    assert with_pictures(page) == "a\n\n![what it shows](exercises/figures/x.svg)\n\n```text\nstays\n```\n"


def test_a_missing_extra_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nbformat", None)
    assert run(["workshop", "new", str(tmp_path / "anna"), "--notebook"]) == EXIT_USAGE
    assert "pip install 'mlpprof[notebook]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_check_in_a_notebook_shows_what_the_command_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(conditions, "CLASSROOM", Conditions(workload="tiny", roofline=False))
    (tmp_path / "my_mlp.py").write_text(start_text(COURSE), encoding="utf-8")
    checked = check(1, folder=tmp_path, name="<b>Anna</b>")
    assert checked.result.outcome == "fail"
    assert "loop over samples" in repr(checked)
    assert "NOT THERE YET" in checked._repr_html_()
    assert "<b>Anna" not in checked._repr_html_()
    assert len(list((tmp_path / "results").iterdir())) == 1


def test_the_roofline_of_the_learner_is_a_picture_in_the_notebook_with_an_alternative_text():
    plain, drawn = Checked(COURSE, result(7)), Checked(COURSE, result(7), b"<svg/>")
    assert "<img" not in plain._repr_html_()
    assert '<img alt="Your statements below the limits of this machine" src="data:image/svg+xml' in drawn._repr_html_()
    assert repr(plain) == repr(drawn)


@pytest.mark.slow
@pytest.mark.timing
def test_the_cells_of_the_notebook_run_up_to_the_check_of_exercise_1(tmp_path: Path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    assert run(["workshop", "new", str(tmp_path / "anna"), "--notebook"]) == EXIT_OK
    folder = tmp_path / "anna"
    (folder / "my_mlp.py").unlink()
    notebook = nbformat.read(folder / "workshop.ipynb", as_version=4)
    last = next(i for i, cell in enumerate(notebook.cells) if cell.id == "check-1")
    notebook.cells = notebook.cells[: last + 1]
    notebook.cells.insert(0, nbformat.v4.new_code_cell(QUICKLY))
    path = folder / "executed.ipynb"
    nbformat.write(notebook, path)
    # a kernel's client leaves sockets and warnings behind, so it gets a process of its own
    program = (
        "import sys, nbformat, nbclient\n"
        "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
        "nbclient.NotebookClient(notebook, timeout=300, resources={'metadata': {'path': sys.argv[2]}}).execute()\n"
        "nbformat.write(notebook, sys.argv[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(folder)], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(path, as_version=4)
    shown = [cell.outputs for cell in executed.cells if cell.cell_type == "code" and "check(" in cell.source]
    assert len(shown) == 2
    assert "PASS" in shown[0][0]["data"]["text/plain"]
    assert "loop over samples" in shown[1][0]["data"]["text/plain"]
    assert (folder / "my_mlp.py").read_text(encoding="utf-8").rstrip() == start_text(COURSE).rstrip()
    del nbclient
