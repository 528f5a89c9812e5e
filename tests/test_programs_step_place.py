"""The step as the user names it."""

from __future__ import annotations

import ast

import pytest

from mlpprof.errors import UsageError
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


@pytest.mark.parametrize("text", ["", "net.py:", "net:step", ":"])
def test_what_is_no_place_is_refused(text):
    with pytest.raises(UsageError, match="is not a place; expected Class.method"):
        StepPlace.parse(text)


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
