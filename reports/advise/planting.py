"""Planting a flaw: an expression or a statement of a program gets another text that computes the same values.

A form says what is replaced and by what, in Python: names that end with an underscore after one capital letter stand
for any expression (`A_ @ B_`), and other names with an underscore are new variables. Text is replaced by its place in
the syntax tree, so everything else of the file stays as it is.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

HOLE = re.compile(r"\b([A-Z]_)(?!\w)")
SCOPES = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)
TIGHT = (ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.IfExp, ast.Attribute, ast.Subscript, ast.Starred)
"""Nodes in which an expression may need parentheses."""
ATOMS = (ast.Name, ast.Attribute, ast.Subscript, ast.Call, ast.Constant)

Region = Literal["step", "around", "set-up"]
"""Where a form is planted: in the step, in the loops around it, or in what runs before the training."""

Change = tuple[int, int, str]
"""The bytes of the file from here to there get this text."""


@dataclass(frozen=True)
class Code:
    """One file of a program. regions: the lines that run in each of them; lines that never run are in none."""

    text: str
    regions: Mapping[Region, frozenset[int]]
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict, compare=False)

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree, whose nodes `parents` knows."""
        tree = ast.parse(self.text)
        for node in ast.walk(tree):
            self.parents.update((child, node) for child in ast.iter_child_nodes(node))
        return tree

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for line in self.text.encode().splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        return starts

    def nodes(self, region: Region) -> Iterator[ast.AST]:
        """The nodes of statements that run in a region."""
        for node in ast.walk(self.tree):
            if hasattr(node, "lineno") and self.statement(node).lineno in self.regions[region]:
                yield node

    def statement(self, node: ast.AST) -> ast.stmt:
        """The statement that a node belongs to."""
        while not isinstance(node, ast.stmt):
            node = self.parents[node]
        return node

    def up(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes that a node lies in, the innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def of(self, node: ast.AST) -> str:
        """The text of a node."""
        return ast.get_source_segment(self.text, node) or ""

    def span(self, node: ast.AST) -> tuple[int, int]:
        """The bytes of a node."""
        assert isinstance(node, ast.expr | ast.stmt)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def instead(self, node: ast.AST, text: str) -> Change:
        """The change that gives a node another text; an expression gets parentheses where it may need them."""
        if isinstance(node, ast.expr) and isinstance(self.parents[node], TIGHT) and not _is_atom(text):
            text = f"({text})"
        if isinstance(node, ast.stmt):
            text = textwrap.indent(text, " " * node.col_offset).lstrip()
        return *self.span(node), text

    def before(self, node: ast.AST, text: str) -> Change | None:
        """The change that puts statements before that of a node; None where there is no line for them."""
        statement = self.statement(node)
        line = self.text.splitlines()[statement.lineno - 1]
        is_elif = line.lstrip().startswith("elif")
        if isinstance(statement, ast.While) or is_elif or line[: statement.col_offset].strip():
            return None
        start = self._starts[statement.lineno - 1]
        return start, start, textwrap.indent(text.rstrip(), " " * statement.col_offset) + "\n"

    def after(self, statement: ast.stmt, text: str) -> Change:
        """The change that puts statements after a statement, on lines of their own."""
        assert statement.end_lineno is not None
        start = self._starts[statement.end_lineno]
        return start, start, textwrap.indent(text.rstrip(), " " * statement.col_offset) + "\n"

    def changed(self, changes: Iterable[Change]) -> str:
        """The text of the file after changes."""
        data = self.text.encode()
        for start, end, text in sorted(changes, key=lambda one: one[:2], reverse=True):
            data = data[:start] + text.encode() + data[end:]
        return data.decode()


Sites = Callable[[Code], Iterator[list[Change]]]


@dataclass(frozen=True)
class Form:
    """A way to write a flaw.

    also: other categories that name the flaw as well. anywhere: a finding of the category is right on every line of the
    program, as that on an array in float64. sites: the changes that plant it, one list for each place.
    """

    category: str
    name: str
    sites: Sites
    also: tuple[str, ...] = ()
    anywhere: bool = False


def replacing(patterns: str | Iterable[str], becomes: str, before: str = "", region: Region = "step") -> Sites:
    """The sites of a form that is written as patterns. before: statements that are put before that of the site."""
    trees = [_parsed(pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns)]
    uses = HOLE.findall(becomes + before)

    def sites(code: Code) -> Iterator[list[Change]]:
        for node in code.nodes(region):
            held = next((found for tree in trees if (found := holes(tree, node)) is not None), None)
            if held is None or any(uses.count(name) > 1 and not is_simple(one) for name, one in held.items()):
                continue
            if before and any(isinstance(one, SCOPES[1:]) for one in _within_statement(code, node)):
                continue
            changes = [code.instead(node, filled(becomes, held, code))]
            if before:
                added = code.before(node, filled(before, held, code))
                if added is None:
                    continue
                changes.append(added)
            yield changes

    return sites


def _within_statement(code: Code, node: ast.AST) -> Iterator[ast.AST]:
    for one in code.up(node):
        if isinstance(one, ast.stmt):
            return
        yield one


def _parsed(pattern: str) -> ast.AST:
    [statement] = ast.parse(pattern).body
    return statement.value if isinstance(statement, ast.Expr) else statement


def holes(pattern: ast.AST, node: ast.AST, held: dict[str, ast.AST] | None = None) -> dict[str, ast.AST] | None:
    """What the holes of a pattern stand for if it fits a node; the same hole has to be the same text."""
    held = {} if held is None else held
    if isinstance(pattern, ast.Name) and HOLE.fullmatch(pattern.id):
        known = held.setdefault(pattern.id, node)
        is_same = known is node or ast.unparse(known) == ast.unparse(node)
        return held if isinstance(node, ast.expr) and is_same else None
    if type(pattern) is not type(node):
        return None
    for name, wanted in ast.iter_fields(pattern):
        found = getattr(node, name)
        if name in ("ctx", "kind", "type_comment"):
            continue
        pairs = [(wanted, found)]
        if isinstance(wanted, list):
            if len(wanted) != len(found):
                return None
            pairs = list(zip(wanted, found, strict=True))
        for one, other in pairs:
            if isinstance(one, ast.AST):
                if holes(one, other, held) is None:
                    return None
            elif one != other:
                return None
    return held


def _is_atom(text: str) -> bool:
    return isinstance(ast.parse(f"({text})", mode="eval").body, ATOMS)


def is_simple(node: ast.AST) -> bool:
    """Whether an expression can be written twice without computing much twice."""
    is_short = isinstance(node, ast.Name | ast.Attribute | ast.Subscript | ast.Constant)
    return is_short and not any(isinstance(one, ast.Call | ast.MatMult | ast.Slice) for one in ast.walk(node))


def filled(template: str, held: Mapping[str, ast.AST], code: Code) -> str:
    """A template with the texts of the holes."""

    def text(match: re.Match[str]) -> str:
        node = held[match[1]]
        found = code.of(node)
        return found if isinstance(node, ATOMS) else f"({found})"

    return HOLE.sub(text, template)
