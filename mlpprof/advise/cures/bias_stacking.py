"""bias-stacking: the array stays as it is, and the products take slices of the weights: ``W[:, 1:] @ A + W[:, :1]``.

Products in which the row or column of ones meets the biases become a product with a slice and a sum. Products in which
it gives the gradient of the biases become a product and a sum over the samples, stacked on each other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, Literal, cast

import libcst as cst
import numpy as np

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.source import NodeChange, SourceTree, expression, replaced, transformed
from mlpprof.advise.syntax import container_of, is_simple, node_at, numpy_name
from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

Side = Literal[0, 1]
Names = ast.Name | ast.Attribute

SPEAKING = frozenset(("one", "ones", "bias", "biases", "biased"))
"""A name of which one of these is a part speaks of the ones, so it gets another name when they go."""

WITHOUT_ONES = "inputs"
"""The name of the array that has no ones any more."""

STACKING = frozenset(("vstack", "hstack", "concatenate", "column_stack", "row_stack", "insert", "append", "c_", "r_"))
"""Functions of NumPy that put ones and an array together."""


def with_slices(event: Event, graph: Graph) -> Cure | None:
    """The edit that leaves out the stacking that an event is; None if another use of the result needs the ones."""
    return _Unstacking(event, graph).cure()


class _Unstacking:
    """Looks for all uses of what one expression has stacked. Each is a product, or there is no edit."""

    def __init__(self, event: Event, graph: Graph) -> None:
        self._graph = graph
        self._event = self._outermost(event)
        self._node = node_at(self._event, graph)
        self._file = graph.trace.sites[self._event.site].file
        self._tree = graph.trees.get(self._file)
        same = [one for one in graph.last if graph.span(one.site) == graph.span(self._event.site)]
        self._roots = {one.output.root for one in same if one.output is not None}

    def _outermost(self, event: Event) -> Event:
        """The call of a function of the program that returns the stacked array, if there is one."""
        assert event.output is not None
        for index in event.calls:
            call = self._graph.events[index]
            is_result = call.output is not None and call.output.root == event.output.root
            if is_result and sum(isinstance(one, np.ndarray) for one in call.operands) == 1:
                return call
        return event

    def cure(self) -> Cure | None:
        """The edit of the stacking and of the products."""
        graph, node = self._graph, self._node
        if self._tree is None or graph.is_ours(self._file) or not isinstance(node, ast.Call | ast.Subscript):
            return None
        array = self._array(node)
        alias = numpy_name(self._file, graph)
        products = self._products()
        if array is None or alias is None or not products:
            return None
        if not self._is_used_there_alone(node, [operand for _, operand, _, _ in products.values()]):
            return None
        text = graph.trace.sources[self._file]

        def change(module: cst.Module) -> cst.Module:
            tree = SourceTree(text)
            nodes: dict[cst.CSTNode, NodeChange] = {}
            stacked, kept = tree.of(Site.of(self._file, node)), tree.of(Site.of(self._file, array))
            if not isinstance(stacked, cst.BaseExpression) or not isinstance(kept, cst.BaseExpression):
                return module
            nodes[stacked] = lambda _: kept
            for product, (side, _, is_sum, is_last) in products.items():
                found = tree.of(Site.of(self._file, product))
                if not isinstance(found, cst.BaseExpression):
                    return module
                is_inside = isinstance(tree.parents()[found], cst.BaseExpression)
                nodes[found] = _written(tree, side, is_sum, is_last, alias, is_inside)
            fresh = cst.Name(tree.fresh_name(WITHOUT_ONES))
            for name in self._names_of_ones(node):
                if isinstance(found := tree.of(Site.of(self._file, name)), cst.Name):
                    nodes[found] = lambda _: fresh
            return replaced(tree.module, nodes)

        return transformed("safe", {self._file: text}, {self._file: change})

    def _names_of_ones(self, node: ast.expr) -> list[ast.Name]:
        """The places of a local name that speaks of the ones, if the array is all that it ever stands for."""
        assert self._tree is not None
        target, scope = _target(self._tree, node), _function(self._tree, node)
        if not isinstance(target, ast.Name) or scope is None or not SPEAKING & {*target.id.lower().split("_")}:
            return []
        names = [one for one in ast.walk(scope) if isinstance(one, ast.Name) and one.id == target.id]
        is_argument = any(isinstance(one, ast.arg) and one.arg == target.id for one in ast.walk(scope))
        return names if sum(isinstance(one.ctx, ast.Store) for one in names) == 1 and not is_argument else []

    def _array(self, node: ast.Call | ast.Subscript) -> ast.expr | None:
        """The expression of the array that the ones are stacked onto."""
        size = self._event.output.size if self._event.output is not None else 0
        if isinstance(node, ast.Subscript):  # np.c_[ones, X]
            is_index = isinstance(node.value, ast.Attribute) and node.value.attr in STACKING
            parts = node.slice.elts if is_index and isinstance(node.slice, ast.Tuple) else []
            values = self._event.operands[1] if len(self._event.operands) == 2 else ()
        elif self._event.is_own:
            parts, values = node.args, self._event.operands
        else:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            first = node.args[0] if node.args else None
            if name in ("insert", "append"):
                parts, values = node.args[:1], self._event.operands[:1]
            elif name in STACKING and isinstance(first, ast.Tuple | ast.List):
                parts, values = first.elts, self._event.operands[0]
            else:
                return None
        if len(parts) != len(values):
            return None
        held = [
            (part, value)
            for part, value in zip(parts, values, strict=True)
            if isinstance(value, np.ndarray) and value.ndim == 2 and size / 2 <= value.size < size
        ]
        return held[0][0] if len(held) == 1 else None

    def _products(self) -> dict[ast.expr, tuple[Side, ast.expr, bool, bool]] | None:
        """Each product that reads the result: the side of the result, its expression, whether the product sums over the
        ones, and whether they come last. None if something else reads it."""
        found: dict[ast.expr, tuple[Side, ast.expr, bool, bool]] = {}
        for event in self._graph.turn:
            roots = [value.root for value in event.inputs if value.is_array]
            if event.is_own or event.is_view or event is self._event or not self._roots & {*roots}:
                continue
            is_maker = event.output is not None and event.output.root in self._roots and event.index < self._event.end
            if is_maker or event.output is None or any(one in self._roots for one in event.writes):
                continue  # what gives no array, such as the `append` of a list, is judged by the text
            node = node_at(event, self._graph)
            sides = _sides(event, node)
            if event.kind != PRODUCT or sides is None or self._graph.trace.sites[event.site].file != self._file:
                return None
            operands, values = sides
            ours = [side for side in (0, 1) if _root(event, values[side]) in self._roots]
            ones = _ones(values[ours[0]]) if len(ours) == 1 else None
            if ones is None or not all(isinstance(one, np.ndarray) and one.ndim == 2 for one in values):
                return None
            side: Side = 0 if ours[0] == 0 else 1
            axis, is_last = ones
            is_sum = axis == 1 - side
            is_stacked = is_sum and _parts(operands[1 - side], side) is not None
            if not is_simple(operands[1 - side]) and not is_stacked:
                return None
            assert isinstance(node, ast.expr)
            use = (side, operands[side], is_sum, is_last)
            if found.setdefault(node, use) != use:
                return None
        for node in found:
            if not all(self._reads_ours(event) for event in self._graph.turn if node_at(event, self._graph) is node):
                return None
        return found

    def _reads_ours(self, event: Event) -> bool:
        return any(value.root in self._roots for value in event.inputs)

    def _is_used_there_alone(self, node: ast.expr, operands: list[ast.expr]) -> bool:
        """Whether the text shows no other use of the result, also in code that did not run in the step."""
        assert self._tree is not None
        if any(node is one for operand in operands for one in ast.walk(operand)):
            return True  # it stands in the product itself
        target = _target(self._tree, node)
        if target is None:
            return False
        inside = {id(one) for operand in operands for one in ast.walk(operand)}
        function = _function(self._tree, node)
        trees = list(self._graph.trees.values()) if isinstance(target, ast.Attribute) else [function or self._tree]
        return not any(
            id(one) not in inside and not _is_container(target, one, self._graph)
            for tree in trees
            for one in _loads(tree, target)
        )


def _loads(tree: ast.AST, target: Names) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        match node, target:
            case ast.Name(id=name, ctx=ast.Load()), ast.Name(id=wanted) if name == wanted:
                yield node
            case ast.Attribute(attr=name, ctx=ast.Load()), ast.Attribute(attr=wanted) if name == wanted:
                yield node


def _is_container(target: Names, load: ast.expr, graph: Graph) -> bool:
    """Whether the load only stores into an item of the container: ``self.A[l] = ...``, or ``A.append(...)``."""
    for tree in graph.trees.values():
        for node in ast.walk(tree):
            match node:
                case ast.Subscript(value=value, ctx=ast.Store()) if value is load:
                    return True
                case ast.Call(func=ast.Attribute(value=value, attr="append" | "insert")) if value is load:
                    return True
    return False


def _target(tree: ast.Module, node: ast.expr) -> Names | None:
    """The name or the attribute that an expression's value goes into, perhaps as an item."""
    for statement in ast.walk(tree):
        target: ast.expr
        match statement:
            case ast.Assign(targets=[target], value=value) if value is node:
                pass
            case ast.Call(func=ast.Attribute(value=target, attr="append"), args=[value]) if value is node:
                pass
            case _:
                continue
        held = container_of(target)
        return held if isinstance(held, Names) else None
    return None


def _function(tree: ast.Module, node: ast.AST) -> ast.AST | None:
    around = [
        one
        for one in ast.walk(tree)
        if isinstance(one, ast.FunctionDef) and any(inner is node for inner in ast.walk(one))
    ]
    return around[-1] if around else None


def _sides(event: Event, node: ast.AST | None) -> tuple[tuple[ast.expr, ast.expr], tuple[Any, Any]] | None:
    """The expressions and the values of the two factors of a product."""
    match node:
        case ast.BinOp(left=left, right=right, op=ast.MatMult()) if len(event.operands) == 2:
            return (left, right), (event.operands[0], event.operands[1])
        case ast.Call(args=[left, right]) if len(event.operands) == 2 and not node.keywords:
            return (left, right), (event.operands[0], event.operands[1])
        case ast.Call(func=ast.Attribute(value=left, attr="dot"), args=[right]) if len(event.operands) == 1:
            return (left, right), (getattr(event.function, "__self__", None), event.operands[0])
    return None


def _root(event: Event, value: Any) -> int:
    if not isinstance(value, np.ndarray):
        return -2
    start = int(value.__array_interface__["data"][0])
    return next((one.root for one in event.inputs if one.start == start and one.shape == value.shape), -2)


def _ones(array: np.ndarray[Any, Any]) -> tuple[int, bool] | None:
    """The axis along which the ones are the first or the last element, and whether they are the last."""
    found = [
        (axis, is_last)
        for axis in (0, 1)
        for is_last in (False, True)
        if np.all(np.take(array, -1 if is_last else 0, axis) == 1)
    ]
    return found[0] if len(found) == 1 else None


def _parts(node: ast.expr, side: Side) -> tuple[ast.expr, ast.expr] | None:
    """The weights and the biases that an operand stacks for this product, as in ``np.vstack([W, b])``."""
    stacking = ("vstack", "concatenate") if side == 0 else ("hstack",)
    match node:
        case ast.Call(func=ast.Attribute(attr=name), args=[ast.List(elts=parts) | ast.Tuple(elts=parts)], keywords=[]):
            if name in stacking and len(parts) == 2 and all(map(is_simple, parts)):
                return parts[0], parts[1]
    return None


def _written(tree: SourceTree, side: Side, is_sum: bool, is_last: bool, alias: str, is_inside: bool) -> NodeChange:
    """The product without the ones."""
    weights = (":-1", "-1") if is_last else ("1:", "0")
    columns = (":, :-1", ":, -1:") if is_last else (":, 1:", ":, :1")

    def make(node: cst.CSTNode) -> cst.CSTNode:
        product = cast(cst.BaseExpression, node).with_changes(lpar=[], rpar=[])
        other = _factor(product, 1 - side)
        text = tree.code(other.with_changes(lpar=[], rpar=[]))
        held = text if isinstance(other, cst.Name | cst.Attribute | cst.Call | cst.Subscript) else f"({text})"
        if is_sum:
            parts = _parts(ast.parse(held, mode="eval").body, side)
            if parts is not None:
                kept, added = map(ast.unparse, parts if is_last else reversed(parts))
                factor = expression(kept, parenthesized=True)
                written = f"{tree.code(_with_factor(product, 1 - side, factor))} + {added}"
                return expression(written, parenthesized=is_inside)
            part, biases = weights if side == 0 else columns
            sliced = _with_factor(product, 1 - side, expression(f"{held}[{part}]"))
            written = f"{tree.code(sliced)} + {held}[{biases}]"
        else:
            stack, total = ("vstack", "axis=0") if side == 0 else ("hstack", "axis=1, keepdims=True")
            both = [f"{held}.sum({total})", tree.code(product)]
            written = f"{alias}.{stack}(({', '.join(reversed(both) if is_last else both)}))"
        return expression(written, parenthesized=is_inside)

    return make


def _factor(product: cst.BaseExpression, side: int) -> cst.BaseExpression:
    match product:
        case cst.BinaryOperation(left=left, right=right):
            return left if side == 0 else right
        case cst.Call(args=[first, second]):
            return first.value if side == 0 else second.value
        case cst.Call(func=cst.Attribute(value=owner), args=[only]):
            return owner if side == 0 else only.value
    raise ValueError("no product")


def _with_factor(product: cst.BaseExpression, side: int, factor: cst.BaseExpression) -> cst.BaseExpression:
    match product:
        case cst.BinaryOperation():
            return product.with_changes(**{"left" if side == 0 else "right": factor})
        case cst.Call(args=[first, second]):
            args = (
                [first.with_changes(value=factor), second] if side == 0 else [first, second.with_changes(value=factor)]
            )
            return product.with_changes(args=args)
        case cst.Call(func=cst.Attribute() as function, args=[only]):
            if side == 0:
                return product.with_changes(func=function.with_changes(value=factor))
            return product.with_changes(args=[only.with_changes(value=factor)])
    raise ValueError("no product")
