"""What could be the training step of a program, by its source alone: for the message that none was found."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from mlpprof.programs.step_place import Loop, functions

PRODUCTS = frozenset(("dot", "matmul", "outer", "einsum", "tensordot", "multi_dot"))
"""Functions of NumPy that multiply matrices."""

WORDS = ("train", "step", "fit", "update", "backward", "backprop", "learn", "epoch", "batch")
"""Names of training steps contain these words."""

MOST = 2
"""So many functions, and so many loops, are named."""


def candidates(trees: Mapping[str, ast.Module]) -> list[str]:
    """The most likely functions and loops of some files, as `--step` takes them; the files by their paths."""
    named, loops = [], []
    for path, tree in trees.items():
        several = len(trees) > 1
        for name, node in functions(tree):
            points = _points(node) + 3 * any(word in node.name.lower() for word in WORDS)
            named.append((points, f"{Path(path).name}:{name}" if several else name))
        loops += [(_points(node), f"{Path(path).name}:{node.lineno}") for node in _outer_loops(tree)]
    return [text for found in (named, loops) for points, text in _best(found) if points > 0]


def _best(found: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return sorted(found, key=lambda one: -one[0])[:MOST]


def _points(node: ast.AST) -> int:
    """How much it looks like training: products, and changes of a value by itself; calls may lead to more."""
    points = 0
    for inner in ast.walk(node):
        match inner:
            case ast.BinOp(op=ast.MatMult()) | ast.AugAssign():
                points += 2
            case ast.Call(func=ast.Attribute(attr=name)) if name in PRODUCTS:
                points += 2
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
                points += 3 * any(word in name.lower() for word in WORDS)
    return points


def _outer_loops(tree: ast.AST) -> list[Loop]:
    """The loops that are in no other loop."""
    found: list[Loop] = []
    for node in ast.iter_child_nodes(tree):
        found += [node] if isinstance(node, Loop) else _outer_loops(node)
    return found
