"""The step as the user names it."""

from __future__ import annotations

import ast

import pytest
from notebooks import notebook_text

from mlpprof.errors import UsageError
from mlpprof.programs.notebook import read_notebook
from mlpprof.programs.record.graph import shown
from mlpprof.programs.step_place import StepPlace, functions

SOURCE = """
def step(x):
    def inner():
        pass
    return x

class Net:
    def fit(self):
        for epoch in range(3):
            if epoch:
                while True:
                    break

    class Part:
        def step(self):
            pass

if True:
    def late():
        pass
"""


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("step", "step", 2),
        ("net.py:step", "step", 2),
        ("lib/net.py:step", "step", 2),
        ("Net.fit", "fit", 8),
        ("fit", "fit", 8),
        ("Net.Part.step", "step", 15),
        ("Part.step", "step", 15),
        ("step.inner", "inner", 3),
        ("late", "late", 19),
        ("9", None, 9),
        ("net.py:11", None, 11),
        ("Net.fit.9", None, 9),
    ],
)
def test_a_step_is_named_by_a_function_or_by_the_line_of_a_loop(text, name, line):
    place = StepPlace.parse(text)
    node = place.node(ast.parse(SOURCE))
    assert node is not None
    assert (getattr(node, "name", None), node.lineno) == (name, line)


@pytest.mark.parametrize("text", ["nothing", "et.fit", "Net", "8", "4"])
def test_a_step_that_is_not_there_has_no_place(text):
    assert StepPlace.parse(text).node(ast.parse(SOURCE)) is None


@pytest.mark.parametrize("text", ["", "net.py:", "net:step", ":", "a:3:12", "3:step", "1:2:3"])
def test_what_is_no_place_is_refused(text):
    with pytest.raises(UsageError, match="is not a place; expected Class.method"):
        StepPlace.parse(text)


@pytest.mark.parametrize("text", ["2:3", "cell 2:3", "steps.ipynb:cell 2:3", "notes/steps.ipynb:2:3"])
def test_in_a_notebook_a_loop_is_named_by_its_cell_and_line(text, tmp_path):
    path = str(tmp_path / "notes" / "steps.ipynb")
    notebook = read_notebook(path, notebook_text("x = 1\n", "%time y = 2\nn = 3\nfor i in range(n):\n    x += i\n"))
    tree = ast.parse(notebook.source)
    place = StepPlace.parse(text)
    assert place.concerns(path)
    assert not place.concerns(str(tmp_path / "notes" / "net.py"))
    node = place.node(tree, path)
    assert node is not None
    assert node.lineno == 4
    assert place.text == "cell 2:3"
    assert place.words == "loop in line 3 of cell 2"
    assert StepPlace.parse("2:2").node(tree, path) is None
    with pytest.raises(UsageError, match="steps.ipynb has no cell 7"):
        StepPlace.parse("7:2").node(tree, path)


def test_a_line_without_a_cell_is_of_a_file_and_a_function_may_be_of_a_notebook():
    assert not StepPlace.parse("4").concerns("/a/work.ipynb")
    place = StepPlace.parse("work.ipynb:Net.step")
    assert (place.file, place.name) == ("work.ipynb", "Net.step")
    assert place.concerns("/a/work.ipynb")


def test_a_file_is_matched_from_its_end():
    place = StepPlace.parse("lib/net.py:step")
    assert place.concerns("/home/me/lib/net.py")
    assert not place.concerns("/home/me/net.py")
    assert not place.concerns("/home/me/glib/net.py")
    assert StepPlace.parse("step").concerns("/any/file.py")
    assert place.text == "step"
    assert [name for name, _ in functions(ast.parse(SOURCE))] == [
        *("step", "step.inner", "Net.fit", "Net.Part.step", "late"),
    ]


def test_a_file_beside_the_folder_of_the_program_is_shown_from_there_and_a_far_one_with_its_whole_path(tmp_path):
    folder = tmp_path / "a" / "b" / "c"
    files = [folder / "net.py", tmp_path / "a" / "src" / "net.py", tmp_path / "net.py"]
    assert [shown(str(file), str(folder)) for file in files] == ["net.py", "../../src/net.py", str(files[2])]
