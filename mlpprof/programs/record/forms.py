"""The forms of a program's files: plain, clocked and observed. The step itself holds all three of them.

A file is compiled once in each form. The program runs in the plain one. For a step under an instrument, the functions
of its files get the code of the other form (see `CodeExchange`), and the step itself chooses among its three bodies.
"""

from __future__ import annotations

import ast
import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType

from mlpprof.instrument.compiled import is_within
from mlpprof.instrument.rewriting import Site, call, copied, split_body, statement
from mlpprof.programs.record.around import AroundForm, reaching
from mlpprof.programs.record.feed import add_feed
from mlpprof.programs.record.hooks import BEGIN, ELEMENT, END, ENTERED, FED, MODE, PRE, RECORDING, TESTED
from mlpprof.programs.record.rewrite import ClockedForm, ObservedForm
from mlpprof.programs.step_place import (
    Comprehension,
    StepPlace,
    comprehensions_around,
    loops_around,
    loops_that_feed,
)

PLAIN, CLOCKED, OBSERVED = 0, 1, 2

MARKS = {CLOCKED: PRE, OBSERVED: RECORDING}
"""Form -> a hook that every function in this form calls."""

Key = tuple[str, int, tuple[str, ...]]


@dataclass
class Forms:
    """Compiled files.

    step: where the step is; None if there is none to rewrite. with_turns: whether to rewrite loops that call the step.
    is_compiled: the step is compiled by numba, and stays as it is. imported: gives, for the first file of the program,
    the texts of all its files by path, so that what is around the step can be rewritten; None leaves that as it is.
    inside: code of functions that looked as if they were around the step, and run within it. in_turns: as for
    `AroundForm`. loops: the places of the loops around the step, as file and line.
    """

    step: StepPlace | None = None
    sites: list[Site] = field(default_factory=list)
    step_file: str | None = None
    with_turns: bool = True
    is_compiled: bool = False
    sources: dict[str, str] = field(default_factory=dict)
    loops: list[tuple[str, int]] = field(default_factory=list)
    imported: Callable[[str, str], Mapping[str, str]] | None = None
    inside: set[CodeType] = field(default_factory=set)
    in_turns: set[int] = field(default_factory=set)
    _names: frozenset[str] | None = None
    _twins: dict[tuple[str, int], dict[Key, CodeType]] = field(default_factory=dict)

    def module_code(self, path: str, source: str) -> CodeType:
        """The code to run: the plain form, except for the step. Raises SyntaxError as Python does."""
        self.sources[path] = source
        tree = self._parsed(path, source)
        node = None
        if self.step is not None and self.step_file in (None, path) and self.step.concerns(path):
            node = self.step.node(tree, path)
        around, elements, feeding = [], [], [] if node is None or isinstance(node, ast.FunctionDef) else [node]
        if self.step is not None and self.step.name is not None:
            around = loops_around(tree, self.step.name) if self.with_turns else []
            elements = comprehensions_around(tree, self.step.name) if self.with_turns else []
            feeding = loops_that_feed(tree, self.step.name)
            self.loops += [(path, loop.lineno) for loop in feeding]
        if node is not None:
            self.step_file = path
            self.is_compiled = is_within(node, tree)
        form = self._around(path, source, tree, node)
        if node is not None and not self.is_compiled:
            self._dispatch(node, path, tree, is_turn=False)
        for loop in around:
            self._dispatch(loop, path, tree, is_turn=True)
        for element in elements:
            self._dispatch_element(element, path, tree)
        if form is not None:
            form.rewrite(around)
        for loop in feeding:
            add_feed(loop, self.sites, path)
        return _compiled(tree, path)

    def _around(
        self, path: str, source: str, tree: ast.Module, node: ast.FunctionDef | ast.For | ast.While | None
    ) -> AroundForm | None:
        """What rewrites the code around the step, in a file that has some."""
        if self.imported is None or self.step is None or self.is_compiled:
            return None
        if self._names is None:
            trees = {}
            for one, text in self.imported(path, source).items():
                with contextlib.suppress(SyntaxError):  # the program may never import it
                    trees[one] = ast.parse(text, one)
            self._names = reaching(self.step, trees)
        return AroundForm(self.sites, path, tree, self._names, node, self.in_turns)

    def _parsed(self, path: str, source: str) -> ast.Module:
        """The file that the step is looked for in."""
        return ast.parse(source, path)

    def _dispatch(
        self, node: ast.FunctionDef | ast.For | ast.While, path: str, tree: ast.Module, *, is_turn: bool
    ) -> None:
        """``begin(); try: if mode() == 0: plain elif mode() == 1: clocked else: observed finally: end()``.

        is_turn: it is the loop around the step, which may prepare what the step works on.
        """
        if isinstance(node, ast.FunctionDef):
            first, body = split_body(node)
        else:
            first, body = [], node.body
        clocked = ClockedForm(self.sites, path, tree).statements(copied(body))
        form = ObservedForm(self.sites, path, tree)
        form.is_step = isinstance(node, ast.FunctionDef)
        observed = form.statements(copied(body))
        if isinstance(node, ast.While):
            observed = [ast.Try(observed, [], [], looks)] if (looks := form.looks(node.test)) else observed

        chosen = ast.If(_is_mode(PLAIN), body or [ast.Pass()], [ast.If(_is_mode(CLOCKED), clocked, observed)])
        guarded = ast.Try([chosen], [], [], [statement(END, ast.Constant(is_turn))])
        node.body = [*first, statement(BEGIN, ast.Constant(is_turn)), guarded]

    def _dispatch_element(self, node: Comprehension, path: str, tree: ast.Module) -> None:
        """``element(lambda: plain if mode() == 0 else clocked if mode() == 1 else observed)``: a turn with a step."""
        plain = node.elt
        clocked, observed = (
            form(self.sites, path, tree).statements(copied([ast.copy_location(ast.Expr(plain), plain)]))
            for form in (ClockedForm, ObservedForm)
        )
        assert isinstance(clocked[0], ast.Expr)
        assert isinstance(observed[0], ast.Expr)
        chosen = ast.IfExp(_is_mode(CLOCKED), clocked[0].value, observed[0].value)
        chosen = ast.IfExp(_is_mode(PLAIN), plain, chosen)
        nothing = ast.arguments([], [], None, [], [], None, [])
        node.elt = ast.copy_location(call(ELEMENT, ast.Lambda(nothing, chosen)), plain)

    def twin(self, code: CodeType, mode: int) -> CodeType | None:
        """The code of a plain function in another form; None if the file does not have exactly one such function."""
        path = code.co_filename
        if path not in self.sources:
            return None
        if (path, mode) not in self._twins:
            self._twins[path, mode] = self._compile(path, mode)
        return self._twins[path, mode].get(_key(code))

    def _compile(self, path: str, mode: int) -> dict[Key, CodeType]:
        tree = ast.parse(self.sources[path], path)
        if mode == PLAIN:
            codes = _nested(_compiled(tree, path))
            return {_key(code): code for code in codes}
        form = (ClockedForm if mode == CLOCKED else ObservedForm)(self.sites, path, tree)
        tree.body = form.statements(tree.body)
        found = [code for code in _nested(_compiled(tree, path)) if _is_marked(code, MARKS[mode])]
        times = Counter(_key(code) for code in found)
        return {_key(code): code for code in found if times[_key(code)] == 1}


def _is_mode(number: int) -> ast.expr:
    return ast.Compare(call(MODE), [ast.Eq()], [ast.Constant(number)])


def _compiled(tree: ast.Module, path: str) -> CodeType:
    code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
    return code


def _nested(code: CodeType) -> list[CodeType]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return [*inner, *(deeper for one in inner for deeper in _nested(one))]


def _is_marked(code: CodeType, mark: str) -> bool:
    """Whether a function is in an instrument's form: the hook is called by it, or by code in it, such as a closure."""
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return mark in code.co_names or any(_is_marked(one, mark) for one in inner)


def _key(code: CodeType) -> Key:
    return code.co_qualname, code.co_firstlineno, code.co_freevars


class CodeExchange:
    """Puts all functions of a program's files into one form by exchanging their `__code__`, and nothing else.

    This reaches operators, properties, callbacks and closures as well, and references to functions stay valid.
    """

    def __init__(self, forms: Forms) -> None:
        self._forms = forms
        self._plain: dict[CodeType, CodeType] = {}

    def to(self, mode: int) -> None:
        """Exchange the code of every function.

        The step, which chooses by itself, the loops around it, and functions without a twin stay as they are.
        """
        for thing in gc.get_objects():
            if type(thing) is FunctionType and thing.__code__.co_filename in self._forms.sources:
                self._exchange(thing, mode)

    def _exchange(self, function: FunctionType, mode: int) -> None:
        plain = self._plain.get(function.__code__, function.__code__)
        if not {BEGIN, MODE, FED, TESTED}.isdisjoint(plain.co_names):
            return
        if ENTERED in plain.co_names:
            if plain not in self._forms.inside:
                return
            plain = self._forms.twin(plain, PLAIN) or plain
        code = plain if mode == PLAIN else self._forms.twin(plain, mode)
        if code is None:
            code = plain
        if code is not function.__code__ and code.co_freevars == function.__code__.co_freevars:
            self._plain[code] = plain
            function.__code__ = code
