"""The forms of functions, and their exchange while a program runs."""

from __future__ import annotations

import pytest
from timed_program import Run

from mlpprof.programs.record import hooks
from mlpprof.programs.record.clocks import Clocks
from mlpprof.programs.record.forms import CLOCKED, OBSERVED, PLAIN, CodeExchange, Forms
from mlpprof.programs.record.recorder import Recorder
from mlpprof.programs.step_place import StepPlace

pytestmark = pytest.mark.usefixtures("no_hooks_left")


def test_functions_change_their_form_and_back_with_what_they_close_over(tmp_path, clock):
    path = str(tmp_path / "net.py")
    source = (
        "def outer():\n    count = 0\n    def inner(x):\n"
        "        nonlocal count\n        count += 1\n        return x * count\n"
        "    return inner\n\nclass Net:\n    def __init__(self):\n        self.__w = 2\n    @property\n"
        "    def w(self):\n        return self.__w + 0\n    def __matmul__(self, x):\n        return x * self.__w\n"
        "inner, net = outer(), Net()\n"
    )
    forms = Forms()
    clocks, recorder = Clocks(clock), Recorder(forms.sites)
    for instrument in (clocks, recorder):
        hooks.install(instrument.hooks)
    space: dict[str, object] = {"__name__": "net"}
    exec(forms.module_code(path, source), space)
    inner, net, switch = space["inner"], space["net"], CodeExchange(forms)
    plain = inner.__code__
    answers = []
    for mode in (PLAIN, CLOCKED, OBSERVED, CLOCKED, PLAIN):
        switch.to(mode)
        clocks.take()
        answers.append((inner(2), net.w, net @ 3))
        assert bool(clocks.take()) == (mode == CLOCKED)
    assert answers == [(2 * k, 2, 6) for k in range(1, 6)]
    assert inner.__code__ is plain


def test_a_closure_changes_its_form_with_the_function_that_makes_it_and_computes_nothing_itself(tmp_path, clock):
    source = "def outer(w):\n    def inner(x):\n        return x * w\n    return inner\n"
    forms, clocks = Forms(), Clocks(clock)
    hooks.install(clocks.hooks)
    space: dict[str, object] = {"__name__": "net"}
    exec(forms.module_code(str(tmp_path / "net.py"), source), space)
    CodeExchange(forms).to(CLOCKED)
    clocks.take()
    assert space["outer"](3)(2) == 6
    assert clocks.take()


def test_the_step_has_all_its_forms_side_by_side(clock):
    chosen = []
    forms = Forms(StepPlace.parse("net.py:Net.step"), with_turns=False)
    hooks.install(Clocks(clock).hooks)
    hooks.install(Recorder(forms.sites).hooks)
    told = {hooks.BEGIN: chosen.append, hooks.MODE: lambda: len(chosen) % 3, hooks.END: lambda is_turn: None}
    hooks.install(told)
    source = "class Net:\n    def step(self, x):\n        '''Docs.'''\n        y = x + 1\n        return y * 2\n"
    space: dict[str, object] = {"__name__": "net"}
    exec(forms.module_code("/some/net.py", source), space)
    assert forms.step_file == "/some/net.py"
    net = space["Net"]()
    assert [net.step(3) for _ in range(3)] == [8, 8, 8]
    assert chosen == [False] * 3
    assert net.step.__doc__ == "Docs."


@pytest.mark.parametrize(
    ("elements", "outside"),
    [
        ("sum(step(X[[n, n + 1]]) for n in range(4))", ["gather", "step"]),
        ("sum([1.0 * step(X[[n, n + 1]]) for n in range(4)])", ["gather", "step"]),
        ("sum(step(rows := X[[n, n + 1]]) for n in range(4))", []),  # the name belongs to the file
        ("sum(step(X[locals()['n'] + np.arange(2)]) for n in range(4))", []),
    ],
    ids=["generator expression", "list", "name", "frame"],
)
def test_what_a_comprehension_computes_for_the_step_is_around_it(elements, outside, clock):
    text = "import numpy as np\nX = np.arange(50.0).reshape(10, 5)\ndef step(x):\n    return float(x.sum())\n"
    run = Run(f"{text}total = {elements}\n", "step", clock, forms=[PLAIN, CLOCKED, OBSERVED])
    assert run.space["total"] == sum(sum(range(5 * n, 5 * n + 10)) for n in range(4))
    assert [one.name for one in run.steps.recorded.events if one.is_outside] == outside
