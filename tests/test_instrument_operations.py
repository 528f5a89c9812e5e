"""The rewriting leaves every value as it is, and tells every operation with its operands."""

from __future__ import annotations

import ast
import importlib.util
import operator
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest
from wild import hard_cases

from mlpprof.instrument.clocks import module_again
from mlpprof.instrument.counts import Rewriter
from mlpprof.instrument.rewriting import Site

Seen = list[tuple[int, object, tuple[object, ...]]]


class Watch:
    """An observer that keeps line, function and operands."""

    def __init__(self, is_open=lambda function: False):
        self.seen_here: Seen = []
        self.depth = 0
        self.rewriter = Rewriter(self, is_open)

    def is_observing(self):
        return True

    def before(self, number, function, operands, options, is_call):
        self.depth += is_call

    def after_call(self, begun):
        self.depth -= 1

    def after(self, begun, number, function, operands, options, result):
        self.seen(self.rewriter.sites[number], function, operands)

    def seen(self, site: Site, function, operands):
        self.seen_here.append((site.line, function, operands))


def again(module: ModuleType, watch: Watch) -> ModuleType:
    """The module run again, rewritten."""
    file = str(module.__file__)
    tree = watch.rewriter.rewrite(ast.parse(Path(file).read_text(encoding="utf-8")), file)
    return module_again(module, tree, watch.rewriter.hooks)


def module_of(path: Path, source: str) -> ModuleType:
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def test_the_hard_cases_compute_bitwise_the_same_when_every_operation_is_watched(monkeypatch, capsys):
    watch = Watch()
    rewritten = again(hard_cases, watch)
    printed = []
    for module in (hard_cases, rewritten):
        monkeypatch.setitem(sys.modules, hard_cases.__name__, module)  # for what refers to its module by name
        module.main([""])  # the last line is a digest of all arrays
        printed.append(capsys.readouterr().out.splitlines())
    expected, found = printed
    is_of_frames = [line.startswith("scopes: ") for line in expected]  # a watched call has another frame around it
    assert [line for line, is_left_out in zip(found, is_of_frames, strict=True) if not is_left_out] == [
        line for line, is_left_out in zip(expected, is_of_frames, strict=True) if not is_left_out
    ]
    assert rewritten.scopes()[:4] == hard_cases.scopes()[:4]
    assert len(watch.seen_here) > 1_000
    assert watch.depth == 0


def test_an_exception_leaves_rewritten_code_as_it_was_raised(tmp_path):
    module = module_of(
        tmp_path / "raising.py", "def f(d):\n    return d['missing'] + 1\n\n\ndef g(x):\n    return f(x)\n"
    )
    watch = Watch()
    with pytest.raises(KeyError, match="missing"):
        again(module, watch).g({})
    assert watch.depth == 0


def test_operands_are_told_as_they_were_though_numpy_could_have_reused_them(tmp_path):
    module = module_of(tmp_path / "reuse.py", "def f(a):\n    return (a + a) * (a - 1)\n")
    watch = Watch()
    a = np.full((400, 400), 3.0)  # far above the size from which NumPy reuses temporaries
    assert (again(module, watch).f(a) == 12).all()
    added, subtracted, multiplied = watch.seen_here
    assert added[1] is operator.add
    assert (multiplied[2][0] == 6).all()
    assert (multiplied[2][1] == 2).all()
    assert subtracted[0] == 2


def test_a_helper_is_opened_only_if_it_is_asked_for(tmp_path):
    helper = module_of(tmp_path / "helper_of_test.py", "def square(x):\n    y = x * x\n    return y\n")
    main = module_of(
        tmp_path / "uses_helper.py", "from helper_of_test import square\n\n\ndef f(x):\n    return square(x)\n"
    )
    x = np.arange(3.0)
    closed = Watch()
    again(main, closed).f(x)
    assert [function for _, function, _ in closed.seen_here] == [helper.square]
    opened = Watch(lambda function: function.__module__ == "helper_of_test")
    assert (again(main, opened).f(x) == x * x).all()
    assert [function for _, function, _ in opened.seen_here] == [operator.mul, helper.square]


def test_closures_defaults_and_bound_methods_survive_opening():
    watch = Watch(lambda function: function.__module__ == hard_cases.__name__)
    increase = watch.rewriter.opened(hard_cases.counter())
    assert isinstance(increase, FunctionType)
    assert [increase(), increase(2)] == [1, 3]
    layer = hard_cases.Tanh(3, 2, np.random.default_rng(0))
    x = np.ones((4, 3))
    assert (watch.rewriter.opened(layer.forward)(x) == layer.forward(x)).all()
    assert {operator.add, operator.mul, np.tanh} <= {function for _, function, _ in watch.seen_here}
    assert watch.rewriter.opened(len) is len
    assert watch.rewriter.opened(np.sum) is np.sum


def test_sites_tell_file_line_and_column(tmp_path):
    module = module_of(tmp_path / "places.py", "def f(a):\n    b = 1 + a\n    return (\n        a @ a\n    )\n")
    places = []
    watch = Watch()
    watch.seen = lambda site, *rest: places.append((Path(site.file).name, site.line, site.column))  # type: ignore[method-assign]  # a probe
    again(module, watch).f(np.ones(2))
    assert places == [("places.py", 2, 8), ("places.py", 4, 8)]
