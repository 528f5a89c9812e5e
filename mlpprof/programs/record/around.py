"""The functions and loops around the step, rewritten so that each of their statements reports when it begins.

Which functions these are is known only when the step runs. Those whose code mentions the step, or a function that
mentions it, and so on, are rewritten before the program runs. One that then runs within a step gets its plain code
again (see `CodeExchange`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from mlpprof.instrument.rewriting import Rewriting, Site, call, copied, split_body, statement
from mlpprof.programs.record.hooks import AT, CLOSED, ENDED, ENTERED, LEFT, OPENED, SEEN, SPANS, TURNED, WATCHED
from mlpprof.programs.record.rewrite import SUSPENDING, ObservedForm
from mlpprof.programs.step_place import StepPlace

Step = ast.FunctionDef | ast.For | ast.While

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
"""What is written in these runs at another time."""

SILENT = (*FUNCTIONS, ast.Global, ast.Nonlocal, ast.Pass)
"""Statements that take no time of their own."""


def reaching(step: StepPlace, trees: Mapping[str, ast.Module]) -> frozenset[str]:
    """The names of functions that lead to the step: its own, or that of the function with its loop, and their callers.

    trees: the program's files, as far as its import statements name them.
    """
    names: set[str] = set()
    functions = {}
    for path, tree in trees.items():
        node = step.node(tree, path) if step.concerns(path) else None
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                functions[function] = set(_mentioned(function.body))
                if node is not None and any(one is node for one in _own_nodes(function.body)):
                    names.add(function.name)
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
    while more := {one.name for one, mentioned in functions.items() if mentioned & names} - names:
        names |= more
    return frozenset(names)


def _comes_first(node: ast.stmt) -> bool:
    """Whether a statement must stand at the beginning of a file: a text, or an import from ``__future__``."""
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_text or (isinstance(node, ast.ImportFrom) and node.module == "__future__")


def _between(beginning: str, body: list[ast.stmt], end: str) -> list[ast.stmt]:
    """Statements between two hooks, the second of which is called also if they fail."""
    if not body:
        return []
    made = [statement(beginning), ast.Try(body, [], [], [statement(end)])]
    return [ast.copy_location(one, body[0]) for one in made]


def _own_nodes(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of some statements without those of functions and classes that they define."""
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, FUNCTIONS):
            waiting += ast.iter_child_nodes(node)


def _mentioned(body: Iterable[ast.AST]) -> Iterator[str]:
    for node in _own_nodes(body):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name, ctx=ast.Load()):
                yield name
            case ast.Lambda(body=inner):
                yield from _mentioned([inner])


class AroundForm(Rewriting):
    """Rewrites what is around the step in one file.

    names: as `reaching` finds them. step: its node in this file. in_turns: gets the sites of statements that report
    only while the turn around the step has no instruments. Make it before the step and its loops are rewritten, and
    call `rewrite` afterwards.
    """

    def __init__(
        self,
        sites: list[Site],
        file: str,
        tree: ast.Module,
        names: frozenset[str],
        step: Step | None,
        in_turns: set[int],
    ) -> None:
        super().__init__(sites, file, tree)
        self._tree, self._names, self._step, self._in_turns = tree, names, step, in_turns
        self._turns: set[int] = set()
        self._leading = {id(one) for one in ast.walk(tree) if isinstance(one, ast.stmt) and self._leads(one)}
        self._functions = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            and node is not step
            and self._is_plain(node)
            and any(id(one) in self._leading for one in node.body)
            and not any(isinstance(one, SUSPENDING) for one in _own_nodes(node.body))
        ]

    def _leads(self, node: ast.stmt) -> bool:
        """Whether the step runs in a statement, as far as names show."""
        if isinstance(node, FUNCTIONS):
            return False
        return any(one is self._step for one in _own_nodes([node])) or not self._names.isdisjoint(_mentioned([node]))

    def rewrite(self, turns: Iterable[ast.For | ast.While]) -> None:
        """Rewrite the file. turns: the loops whose turns have been rewritten because they call the step."""
        self._turns = {id(loop) for loop in turns}
        for function in self._functions:
            first, body = split_body(function)
            function.body = [*first, *_between(ENTERED, self._timed(body, True), LEFT)]
        first = [one for one in self._tree.body if _comes_first(one)]
        body = [one for one in self._tree.body if not _comes_first(one)]
        self._tree.body = [*first, *_between(OPENED, self._timed(body, False), CLOSED)]

    def _timed(self, body: list[ast.stmt], is_repeated: bool) -> list[ast.stmt]:
        """The statements, each with its beginning reported. is_repeated: they may run several times."""
        return [one for node in body for one in self._of_statement(node, is_repeated)]

    def _of_statement(self, node: ast.stmt, is_repeated: bool) -> Iterator[ast.stmt]:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, SILENT) or is_text:
            yield node
            return
        number = self._number(node)
        yield self._reported(AT, number, node)
        if id(node) in self._leading or isinstance(node, ast.If | ast.With | ast.Try):
            self._within(node, number, is_repeated)
            yield node
        elif is_repeated and not any(isinstance(one, (*SUSPENDING, ast.FunctionDef)) for one in ast.walk(node)):
            yield self._recordable(node, number)
        else:
            yield node

    def _recordable(self, node: ast.stmt, number: ast.Constant) -> ast.stmt:
        """``if watched(n): try: observed finally: seen() else: plain``."""
        observed = ObservedForm(self._sites, self._file, self._tree).statements(copied([node]))
        guarded = ast.Try(observed, [], [], [statement(SEEN)])
        return ast.copy_location(ast.If(call(WATCHED, number), [guarded], [node]), node)

    def _within(self, node: ast.stmt, number: ast.Constant, is_repeated: bool) -> None:
        """Report the statements in the blocks of a statement in which the step runs."""
        match node:
            case ast.For() | ast.While():
                self._loop(node, number)
            case ast.If():
                node.body, node.orelse = self._timed(node.body, is_repeated), self._timed(node.orelse, is_repeated)
            case ast.With():
                node.body = self._timed(node.body, is_repeated)
            case ast.Try():
                node.body, node.orelse = self._timed(node.body, is_repeated), self._timed(node.orelse, is_repeated)
                node.finalbody = self._timed(node.finalbody, is_repeated)
            case ast.Match():
                for case in node.cases:
                    case.body = self._timed(case.body, is_repeated)

    def _loop(self, node: ast.For | ast.While, number: ast.Constant) -> None:
        turned, again = self._reported(TURNED, number, node), self._reported(AT, number, node)
        if node is self._step or id(node) in self._turns:
            guarded = node.body[-1]
            assert isinstance(guarded, ast.Try)
            chosen = guarded.body[0]
            assert isinstance(chosen, ast.If)
            if node is not self._step:
                before = len(self._sites)
                chosen.body = self._timed(chosen.body, False)
                self._in_turns.update(range(before, len(self._sites)))
            guarded.finalbody.append(again)
            node.body.insert(0, turned)
        else:
            node.body = [turned, *self._timed(node.body, True), again]
        if isinstance(node, ast.For):
            node.iter = ast.copy_location(call(SPANS, number, node.iter), node.iter)
        node.orelse = [self._reported(ENDED, number, node), *node.orelse]

    def _reported(self, hook: str, number: ast.Constant, node: ast.stmt) -> ast.stmt:
        return ast.copy_location(statement(hook, number), node)
