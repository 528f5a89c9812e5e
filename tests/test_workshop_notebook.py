"""The notebook version: made from the same pages and the same code, and it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_OK, EXIT_USAGE
from mlpprof.workshop import exercises as setting
from mlpprof.workshop.exercises import EXERCISES, Setting, start_text, text
from mlpprof.workshop.notebook import check, notebook_text

QUICKLY = """
from mlpprof.compare import Procedure
from mlpprof.workshop import setting
setting.CLASSROOM = setting.Setting(workload="tiny", procedure=Procedure(looks=(2, 3)), blocks=4, roofline=False)
"""
"""A cell for the test alone: the small embedded set instead of the digits."""


def test_the_notebook_has_the_pages_and_the_code_of_the_folder():
    pytest.importorskip("nbformat")
    cells = json.loads(notebook_text())["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert texts[0] == text("README.md").rstrip("\n") or texts[0] == text("README.md")
    for exercise in EXERCISES:
        assert text(exercise.file_name).rstrip() in [found.rstrip() for found in texts]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code[0] == f"%%writefile my_mlp.py\n{start_text()}"
    assert [f"check({e.number}, guess=None)" in cell for e, cell in zip(EXERCISES, code[1:], strict=True)] == [True] * 8


def test_a_missing_extra_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nbformat", None)
    assert run(["workshop", "new", str(tmp_path / "anna"), "--notebook"]) == EXIT_USAGE
    assert "pip install 'mlpprof[notebook]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_check_in_a_notebook_shows_what_the_command_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(setting, "CLASSROOM", Setting(workload="tiny", roofline=False))
    (tmp_path / "my_mlp.py").write_text(start_text(), encoding="utf-8")
    checked = check(1, folder=tmp_path, name="<b>Anna</b>")
    assert checked.result.outcome == "fail"
    assert "loop over samples" in repr(checked)
    assert "NOT THERE YET" in checked._repr_html_()
    assert "<b>Anna" not in checked._repr_html_()
    assert len(list((tmp_path / "results").iterdir())) == 1


@pytest.mark.timing
def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    assert run(["workshop", "new", str(tmp_path / "anna"), "--notebook"]) == EXIT_OK
    folder = tmp_path / "anna"
    (folder / "my_mlp.py").unlink()
    notebook = nbformat.read(folder / "workshop.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(QUICKLY))
    path = folder / "executed.ipynb"
    nbformat.write(notebook, path)
    # in a process of its own: a kernel's client leaves sockets and warnings behind that are not ours
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
    assert len(shown) == len(EXERCISES)
    assert "PASS" in shown[0][0]["data"]["text/plain"]
    assert "loop over samples" in shown[1][0]["data"]["text/plain"]
    assert (folder / "my_mlp.py").read_text(encoding="utf-8").rstrip() == start_text().rstrip()
    del nbclient
