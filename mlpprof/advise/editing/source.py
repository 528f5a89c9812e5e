"""A user's file as a concrete syntax tree in which nodes are found by their place, for the cures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider

from mlpprof.advise.editing.cure import Cure, CureKind, LineEdit, Sources, line_edits
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.source_lines import lines_of

Found = cst.BaseExpression | cst.BaseSmallStatement | cst.BaseCompoundStatement
NodeChange = Callable[[cst.CSTNode], object]
"""It makes the new node of an old one: a node, `cst.RemoveFromParent()`, or a `cst.FlattenSentinel` of statements."""


class SourceTree:
    """The syntax tree of a file. `of(site)` finds a node, and `replaced` gives the tree with other nodes."""

    def __init__(self, text: str) -> None:
        self._lines = lines_of(text)
        wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        self.module = wrapper.module
        self._ranges: Mapping[cst.CSTNode, CodeRange] = wrapper.resolve(PositionProvider)

    def of(self, site: Site) -> Found | None:
        """The outermost expression or statement at exactly this place; None if there is none."""
        for node in self.all_at(site):
            if isinstance(node, Found):
                return node
        return None

    def all_at(self, site: Site) -> tuple[cst.CSTNode, ...]:
        """All nodes at exactly this place, the outermost first, such as a statement and its only expression.

        Sites come from `ast`, whose columns count bytes of UTF-8.
        """
        start = site.line, self._column(site.line, site.column)
        end = site.end_line, self._column(site.end_line, site.end_column)
        parents = self.parents()
        return tuple(sorted(self._by_place.get((*start, *end), ()), key=lambda node: _depth(node, parents)))

    @cached_property
    def _by_place(self) -> dict[tuple[int, int, int, int], list[cst.CSTNode]]:
        found: dict[tuple[int, int, int, int], list[cst.CSTNode]] = {}
        for node, place in self._ranges.items():
            key = (place.start.line, place.start.column, place.end.line, place.end.column)
            found.setdefault(key, []).append(node)
        return found

    def compound_at(self, line: int) -> cst.BaseCompoundStatement | None:
        """The compound statement, such as a loop, that begins on a line."""
        for node, place in self._ranges.items():
            if isinstance(node, cst.BaseCompoundStatement) and place.start.line == line:
                return node
        return None

    def code(self, node: cst.CSTNode) -> str:
        """The text of a node."""
        return self.module.code_for_node(node)

    def line_of(self, node: cst.CSTNode) -> int:
        """The first line of a node, 1-based."""
        return self._ranges[node].start.line

    def statement_at(self, line: int) -> cst.SimpleStatementLine | cst.BaseCompoundStatement | None:
        """The innermost whole statement, simple or compound, that contains a line."""
        around = [
            node
            for node, place in self._ranges.items()
            if isinstance(node, cst.SimpleStatementLine | cst.BaseCompoundStatement)
            and place.start.line <= line <= place.end.line
        ]
        return max(around, key=lambda node: self._ranges[node].start.line, default=None)

    def parents(self) -> Mapping[cst.CSTNode, cst.CSTNode]:
        """Each node's parent."""
        return self._parents

    @cached_property
    def _parents(self) -> dict[cst.CSTNode, cst.CSTNode]:
        found: dict[cst.CSTNode, cst.CSTNode] = {}

        def visit(node: cst.CSTNode) -> None:
            for child in node.children:
                found[child] = node
                visit(child)

        visit(self.module)
        return found

    def names(self) -> set[str]:
        """All identifiers of the file."""
        return {node.value for node in self._ranges if isinstance(node, cst.Name)}

    def fresh_name(self, wanted: str) -> str:
        """A name that the file does not use: `wanted`, or with a number after it."""
        taken = self.names()
        return next(name for name in (wanted, *(f"{wanted}{i}" for i in range(2, 1_000))) if name not in taken)

    def _column(self, line: int, byte_column: int) -> int:
        return len(self._lines[line - 1].encode()[:byte_column].decode(errors="ignore"))


def _depth(node: cst.CSTNode, parents: Mapping[cst.CSTNode, cst.CSTNode]) -> int:
    depth = 0
    while node in parents:
        node, depth = parents[node], depth + 1
    return depth


class _Replacing(cst.CSTTransformer):
    def __init__(self, nodes: Mapping[cst.CSTNode, NodeChange]) -> None:
        super().__init__()
        self._nodes = nodes

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> object:  # type: ignore[override]  # any node
        make = self._nodes.get(original_node)
        return updated_node if make is None else make(updated_node)


def replaced(module: cst.Module, nodes: Mapping[cst.CSTNode, NodeChange]) -> cst.Module:
    """The tree with other nodes."""
    result = module.visit(_Replacing(nodes))
    assert isinstance(result, cst.Module)
    return result


def transformed(
    kind: CureKind, sources: Sources, changes: Mapping[str, Callable[[cst.Module], cst.Module]]
) -> Cure | None:
    """The cure that changes of syntax trees make; None if nothing changes, or the result is not valid Python.

    changes: path -> the function that gives the new tree of the file. It keeps comments and formatting if it only
    replaces the nodes that it means.
    """
    edits: list[LineEdit] = []
    for path, change in changes.items():
        before = sources[path]
        try:
            after = change(cst.parse_module(before)).code
            compile(after, path, "exec", dont_inherit=True)
        except (SyntaxError, cst.ParserSyntaxError, ValueError):
            return None
        edits += line_edits(path, before, after)
    return Cure(kind, tuple(edits)) if edits else None


def expression(text: str, *, parenthesized: bool = False) -> cst.BaseExpression:
    """An expression from its text; parenthesized: with parentheses if it is not a name, a call or an item."""
    node = cst.parse_expression(text)
    is_plain = isinstance(node, cst.Name | cst.Attribute | cst.Call | cst.Subscript | cst.SimpleString | cst.Integer)
    if parenthesized and not is_plain and not node.lpar:
        node = node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return node


NO_SPACE_EQUAL = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))


def named_argument(name: str, value: str) -> cst.Arg:
    """An argument of a call with its name: ``name=value``."""
    return cst.Arg(expression(value), cst.Name(name), NO_SPACE_EQUAL)


def statement(text: str) -> cst.SimpleStatementLine | cst.BaseCompoundStatement:
    """A statement from its text."""
    return cst.parse_statement(text)


def before(node: cst.BaseStatement, added: Sequence[cst.BaseStatement]) -> cst.FlattenSentinel[cst.BaseStatement]:
    """A statement with others before it; its comments stay above all of them."""
    if not added:
        return cst.FlattenSentinel([node])
    first, *rest = added
    leading = getattr(node, "leading_lines", ())
    return cst.FlattenSentinel([first.with_changes(leading_lines=leading), *rest, node.with_changes(leading_lines=())])


def after(
    nodes: cst.FlattenSentinel[cst.BaseStatement], added: Sequence[cst.BaseStatement]
) -> cst.FlattenSentinel[cst.BaseStatement]:
    """Statements with others after them."""
    return cst.FlattenSentinel([*nodes, *added])
