"""Names of what is changed from its own value and is no parameter: sums that start from zeros, and buffers."""

from __future__ import annotations

import ast
from collections.abc import Iterator

ZEROS = frozenset(("zeros", "zeros_like"))
ITERATORS = frozenset(("zip", "enumerate", "reversed"))


def buffers(trees: dict[str, ast.Module]) -> set[str]:
    """Names of what is written over: ``np.dot(x, W, out=z)``, whatever ``z += b`` does to it afterwards."""
    found = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                mentioned = {ast.unparse(one) for one in node.args}
                outs = [one.value for one in node.keywords if one.arg == "out"]
                found |= {_name(out) for out in outs if ast.unparse(out) not in mentioned}
    return found - {""}


def growing_sums(trees: dict[str, ast.Module]) -> set[str]:
    """Names that start from zeros, and that only updates, returns and calls of zip() read."""
    zeroed: set[str] = set()
    read: set[str] = set()
    for tree in trees.values():
        updates = {id(one) for node in ast.walk(tree) if _is_update(node) for one in ast.walk(node)}
        updates |= {id(part) for one in ast.walk(tree) if _is_filled(one) for part in ast.walk(one)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and _is_zero(node.value):
                zeroed |= {_name(target) for target in node.targets}
            is_read = isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
            if is_read and id(node) not in updates:
                read.add(_name(node))
        aliases = [pair for node in ast.walk(tree) for pair in _aliases(node)]
        zeroed |= {alias for alias, name in aliases if name in zeroed}
    return zeroed - read - {""}


def _aliases(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(w, weights) of ``for w, dw in zip(weights, gradients)``."""
    if isinstance(node, ast.For | ast.comprehension):
        yield from ((_name(target), _name(source)) for target, source in items_of(node.target, node.iter))


def items_of(target: ast.expr, iterable: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The targets of a loop, and what each is an item of: through `zip`, `enumerate` and `reversed`."""
    targets = target.elts if isinstance(target, ast.Tuple) else [target]
    sources = [iterable]
    while len(sources) == 1 and isinstance(sources[0], ast.Call) and _name(sources[0].func) in ITERATORS:
        if _name(sources[0].func) == "enumerate":
            inner = targets[1:]
            targets = inner[0].elts if inner and isinstance(inner[0], ast.Tuple) else inner
        sources = sources[0].args
    yield from zip(targets, sources, strict=False)


def _is_update(node: ast.AST) -> bool:
    if isinstance(node, ast.AugAssign):
        return True
    if isinstance(node, ast.Return):
        parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        return all(isinstance(part, ast.Name | ast.Attribute) for part in parts)
    if isinstance(node, ast.Assign):
        mentioned = {ast.unparse(one) for one in ast.walk(node.value) if isinstance(one, ast.expr)}
        return any(ast.unparse(target) in mentioned for target in node.targets)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr == "fill"  # with zeros, for the next sum
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("zip", "len")


def _is_filled(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)


def _is_zero(node: ast.expr) -> bool:
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
    return any(isinstance(one.func, ast.Attribute | ast.Name) and _name(one.func) in ZEROS for one in calls)


def _name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value):
            return _name(value)
    return ""
