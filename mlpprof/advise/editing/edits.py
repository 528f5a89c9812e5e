"""Changes of the recorded code, gathered by a cure: other expressions, statements more or fewer."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import replace
from functools import lru_cache
from typing import Any

import libcst as cst

from mlpprof.advise.editing.cure import Cure, CureKind
from mlpprof.advise.editing.recorded_code import RecordedCode
from mlpprof.advise.editing.source import (
    NO_SPACE_EQUAL,
    SourceTree,
    after,
    before,
    expression,
    named_argument,
    replaced,
    statement,
    transformed,
)
from mlpprof.instrument.rewriting import Site


class Edits:
    """Changes of the recorded code that become one cure."""

    def __init__(self, code: RecordedCode) -> None:
        self._code = code
        self._texts: dict[ast.expr, str] = {}
        self._before: dict[ast.stmt, list[str]] = defaultdict(list)
        self._after: dict[ast.stmt, list[str]] = defaultdict(list)
        self._removed: dict[ast.stmt, None] = {}
        self._replaced: dict[ast.stmt, str] = {}
        self._guarded: dict[ast.stmt, tuple[str, list[ast.stmt]]] = {}
        self._added: dict[ast.Call | ast.FunctionDef, tuple[str, str]] = {}
        self._taken: dict[str, set[str]] = defaultdict(set)

    def __bool__(self) -> bool:
        return bool(self._texts or self._added or self._statements())

    def _statements(self) -> list[ast.stmt]:
        """The statements that are changed as such."""
        held = (self._before, self._after, self._removed, self._replaced, self._guarded)
        return [*dict.fromkeys(one for changes in held for one in changes)]

    def fresh_name(self, wanted: str, file: str) -> str:
        """A name that neither the file nor another of these changes uses."""
        name, number = self._tree(file).fresh_name(wanted), 2
        while name in self._taken[file]:
            name, number = self._tree(file).fresh_name(f"{wanted}{number}"), number + 1
        self._taken[file].add(name)
        return name

    def replace(self, node: ast.expr, text: str) -> None:
        """Write another expression."""
        self._texts[node] = text

    def replace_statement(self, one: ast.stmt, text: str) -> None:
        """Write a simple statement in place of a statement."""
        self._replaced[one] = text

    def insert_before(self, one: ast.stmt, text: str) -> None:
        """Write a statement before another one."""
        if text not in self._before[one]:
            self._before[one].append(text)

    def insert_after(self, one: ast.stmt, text: str) -> None:
        """Write a statement after another one."""
        if text not in self._after[one]:
            self._after[one].append(text)

    def remove(self, one: ast.stmt) -> None:
        """Leave a statement out."""
        self._removed[one] = None

    def guard(self, ones: list[ast.stmt], test: str) -> None:
        """Let statements that follow each other run only if a test is true."""
        self._guarded[ones[0]] = test, ones[1:]
        for one in ones[1:]:
            self.remove(one)

    def add_parameter(self, function: ast.FunctionDef, name: str, default: str) -> None:
        """Give a function one more parameter, which may be left out."""
        self._added[function] = name, default

    def add_argument(self, call: ast.Call, name: str, value: str) -> None:
        """Give a call one more argument, by its name."""
        self._added[call] = name, value

    def cure(self, kind: CureKind = "safe") -> Cure | None:
        """The cure; None if there is none, or if a place was not found again."""
        nodes = [*self._texts, *self._added, *self._statements()]
        files = dict.fromkeys(self._code.file(node) for node in nodes)
        if not files or not all(self._is_found(file) for file in files):
            return None
        return transformed(kind, self._code.graph.trace.sources, {file: self._change(file) for file in files})

    def _tree(self, file: str) -> SourceTree:
        return tree_of(self._code.graph.trace.sources[file])

    def _in(self, file: str, nodes: Any) -> list[Any]:
        return [node for node in nodes if self._code.file(node) == file]

    def _is_found(self, file: str) -> bool:
        places = [self._of(node) for node in self._in(file, self._texts)]
        places += [self._taking(node) for node in self._in(file, self._added)]
        places += [self._line(one) for one in self._in(file, self._statements())]
        whole = [
            self._line(one) for guard in self._in(file, self._guarded) for one in (guard, *self._guarded[guard][1])
        ]
        if any(isinstance(one, cst.BaseSmallStatement) for one in whole):
            return False  # a statement that shares its line has no room for a test
        return all(place is not None for place in places)

    def _taking(self, node: ast.Call | ast.FunctionDef) -> cst.CSTNode | None:
        return self._line(node) if isinstance(node, ast.FunctionDef) else self._of(node)

    def _of(self, node: ast.expr | ast.stmt) -> cst.CSTNode | None:
        file = self._code.file(node)
        site = Site.of(file, node)
        wanted = cst.BaseExpression if isinstance(node, ast.expr) else cst.BaseSmallStatement
        found = next((one for one in self._tree(file).all_at(site) if isinstance(one, wanted)), None)
        if found is None and isinstance(node, ast.Tuple):  # the place of a concrete tuple is without its parentheses
            site = replace(site, column=site.column + 1, end_column=site.end_column - 1)
            found = next((one for one in self._tree(file).all_at(site) if isinstance(one, cst.Tuple)), None)
        return found

    def _line(self, one: ast.stmt) -> cst.CSTNode | None:
        """The concrete statement: a line of its own, or the part of a line that is shared."""
        tree = self._tree(self._code.file(one))
        if isinstance(one, ast.For | ast.While | ast.If | ast.With | ast.Try | ast.FunctionDef | ast.ClassDef):
            return tree.compound_at(one.lineno)
        node = self._of(one)
        line = tree.parents().get(node) if node is not None else None
        return line if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1 else node

    def _change(self, file: str) -> Any:
        makes: dict[cst.CSTNode, Any] = {}
        for node in self._in(file, self._texts):
            new = expression(self._texts[node], parenthesized=self._needs_parentheses(node))
            makes[self._found(self._of(node))] = lambda _, new=new: new
        for node in self._in(file, self._added):
            name, value = self._added[node]
            makes[self._found(self._taking(node))] = lambda made, name=name, value=value: _with(made, name, value)
        lines: dict[cst.CSTNode, list[ast.stmt]] = defaultdict(list)
        for one in self._in(file, self._statements()):
            lines[self._found(self._line(one))].append(one)
        emptied = self._emptied()
        for line, (one, *_) in lines.items():
            if isinstance(line, cst.BaseSmallStatement) and (one in self._before or one in self._after):
                line = self._tree(file).parents()[line]
                if not isinstance(line, cst.SimpleStatementLine):
                    return lambda module: module  # `if a: b` has no room for another line
            makes[line] = lambda node, one=one: self._made(node, one, one in emptied)
        return lambda module: replaced(self._tree(file).module, makes)

    def _emptied(self) -> set[ast.stmt]:
        """One statement of each block that is removed as a whole."""
        found = set()
        for one in self._removed:
            block = self._code.block(one)
            if block and all(other in self._removed for other in block):
                found.add(block[0])
        return found

    def _made(self, node: Any, one: ast.stmt, is_last: bool) -> Any:
        if one in self._removed:
            if not is_last:
                return cst.RemoveFromParent()
            return cst.Pass() if isinstance(node, cst.BaseSmallStatement) else statement("pass\n")
        if one in self._replaced:
            new = statement(f"{self._replaced[one]}\n")
            if isinstance(node, cst.BaseSmallStatement):
                assert isinstance(new, cst.SimpleStatementLine)
                return new.body[0]
            new = new.with_changes(leading_lines=node.leading_lines)
            is_line = isinstance(node, cst.SimpleStatementLine)
            end = node.trailing_whitespace if is_line else getattr(node.body, "header", None)  # a comment stays
            node = new.with_changes(trailing_whitespace=end) if end is not None else new
        if one in self._guarded:
            test, rest = self._guarded[one]
            others: list[Any] = [self._line(other) for other in rest]
            body = cst.IndentedBlock([node.with_changes(leading_lines=()), *others])
            return cst.If(expression(test), body, leading_lines=node.leading_lines)
        added = [statement(f"{text}\n") for text in self._before.get(one, ())]
        later = [statement(f"{text}\n") for text in self._after.get(one, ())]
        made = before(node, added)
        return after(made, later) if later else made

    def _needs_parentheses(self, node: ast.expr) -> bool:
        """Whether the place of an expression is not one that holds any expression."""
        above = self._code.parent(node)
        is_whole = isinstance(
            above, ast.Assign | ast.AugAssign | ast.Return | ast.Expr | ast.keyword | ast.If | ast.While | ast.List
        )
        is_target = isinstance(above, ast.For | ast.comprehension) and node is above.target
        return not (is_whole or is_target or (isinstance(above, ast.Call) and node in above.args))

    @staticmethod
    def _found(node: cst.CSTNode | None) -> cst.CSTNode:
        assert node is not None  # `_is_found` has looked
        return node


def _with(node: Any, name: str, value: str) -> Any:
    """A call with one more argument, or a function with one more parameter."""
    if isinstance(node, cst.Call):
        return node.with_changes(args=[*node.args, named_argument(name, value)])
    parameter = cst.Param(cst.Name(name), default=expression(value), equal=NO_SPACE_EQUAL)
    parameters = node.params
    if isinstance(parameters.star_arg, cst.Param | cst.ParamStar) or parameters.star_kwarg:
        changed = parameters.with_changes(kwonly_params=[*parameters.kwonly_params, parameter])
    else:
        changed = parameters.with_changes(params=[*parameters.params, parameter])
    return node.with_changes(params=changed)


@lru_cache(maxsize=16)
def tree_of(text: str) -> SourceTree:
    """The concrete syntax of a file, parsed once."""
    return SourceTree(text)
