"""The clocked form of a file: which expressions get which time."""

from __future__ import annotations

import ast

import pytest

from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record import hooks
from mlpprof.programs.record.clocks import Clocks
from mlpprof.programs.record.rewrite import ClockedForm

pytestmark = pytest.mark.usefixtures("no_hooks_left")


def test_what_is_inside_an_expression_is_counted(clock):
    clocks = Clocks(clock)
    pre, post = clocks.hooks[hooks.PRE], clocks.hooks[hooks.POST]
    for _ in range(2):
        pre(1), pre(2)  # the second ends in an exception: what is inside it is inside the first
        post(pre(3), None)
        clock.advance(1)
        post(1, None)
    assert clocks.take() == {1: (2.0, 2, 2), 3: (0.0, 2, 0)}


def clocked(text, clock, **names):
    """Seconds and executions by the source of each expression of a file that ran under clocks."""
    sites: list[Site] = []
    clocks = Clocks(clock)
    hooks.install(clocks.hooks)
    tree = ast.parse(text)
    tree.body = ClockedForm(sites, "net.py", ast.parse(text)).statements(tree.body)
    space = {"clock": clock, **names}
    exec(compile(ast.fix_missing_locations(tree), "net.py", "exec"), space)
    lines = text.splitlines()
    taken = {
        lines[sites[number].line - 1][sites[number].column : sites[number].end_column]: told
        for number, told in clocks.take().items()
    }
    return {text: tuple(own[:2]) for text, own in taken.items()}, clocks


def test_an_expression_gets_its_own_time_without_what_is_inside(clock):
    def spend(seconds):
        clock.advance(seconds)
        return seconds

    taken, clocks = clocked("x = spend(spend(1) + spend(2))\n", clock, spend=spend)
    assert taken == {
        "spend(1)": (1.0, 1),
        "spend(2)": (2.0, 1),
        "spend(1) + spend(2)": (0.0, 1),
        "spend(spend(1) + spend(2))": (3.0, 1),
    }
    assert clocks.take() == {}


def test_the_functions_of_the_program_are_distinguished_from_their_calls(clock):
    text = "def f(n):\n    clock.advance(4)\n    return n * 2\nx = f(3)\nx += f(1)\n"
    taken, _ = clocked(text, clock)
    assert taken == {
        "clock.advance(4)": (8.0, 2),
        "n * 2": (0.0, 2),
        "f(3)": (0.0, 1),
        "f(1)": (0.0, 1),
        "x += f(1)": (0.0, 1),
    }


def test_an_expression_that_ends_in_an_exception_is_left_out_and_those_around_it_are_not(clock):
    def fail():
        clock.advance(5)
        raise ValueError

    text = "def f():\n    try:\n        return 1 + fail()\n    except ValueError:\n        clock.advance(2)\nf()\n"
    taken, _ = clocked(text, clock, fail=fail)
    assert taken == {"clock.advance(2)": (2.0, 1), "f()": (5.0, 1)}


def test_statements_that_store_are_timed_and_generators_are_not(clock):
    text = (
        "def turns():\n    while True:\n        clock.advance((yield 1))\n"
        "g = turns()\nnext(g)\na = [0, 0]\na[a[0]] = g.send(3)\n"
    )
    taken, _ = clocked(text, clock)
    assert taken["a[a[0]] = g.send(3)"] == (0.0, 1)
    assert taken["g.send(3)"] == (3.0, 1)
    assert not any("yield" in expression for expression in taken)
