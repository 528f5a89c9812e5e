"""Indices that count with a loop's variable: the range of the variable, and the same index some turns later."""

from __future__ import annotations

import ast
import copy


def turn_step(loop: ast.For) -> int | None:
    """By how much the loop's variable grows in each turn; None if the loop does not count."""
    match loop.iter:
        case ast.Call(func=ast.Name(id="range"), args=[_] | [_, _]):
            return 1
        case ast.Call(func=ast.Name(id="range"), args=[_, _, step]):
            return _number(step)
        case ast.Call(func=ast.Name(id="reversed"), args=[ast.Call(func=ast.Name(id="range")) as inner]):
            one = turn_step(ast.For(loop.target, inner, [], []))
            return -one if one is not None else None
    return None


def moved(node: ast.expr, name: str, by: int) -> str:
    """An expression with `name + by` in place of a variable, its sums of the variable and numbers added up."""
    return ast.unparse(_Moving(name, by).visit(copy.deepcopy(node)))


class _Moving(ast.NodeTransformer):
    def __init__(self, name: str, by: int) -> None:
        self._name, self._by = name, by

    def visit(self, node: ast.AST) -> ast.AST:
        line = linear(node, self._name) if isinstance(node, ast.expr) else None
        if line is not None and line[0]:
            slope, rest = line
            return ast.parse(_text(self._name, slope, rest + slope * self._by), mode="eval").body
        return self.generic_visit(node)


def linear(node: ast.expr, name: str) -> tuple[int, int] | None:
    """(slope, rest) of an expression `slope * name + rest` with a slope of -1, 0 or 1; None if it is none."""
    match node:
        case ast.Name(id=found) if found == name:
            return 1, 0
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return 0, number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            line = linear(operand, name)
            return (-line[0], -line[1]) if line is not None else None
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            one, other = linear(left, name), linear(right, name)
            if one is None or other is None:
                return None
            sign = 1 if isinstance(op, ast.Add) else -1
            slope, rest = one[0] + sign * other[0], one[1] + sign * other[1]
            return (slope, rest) if abs(slope) <= 1 else None
    return None


def _text(name: str, slope: int, rest: int) -> str:
    variable = name if slope > 0 else f"-{name}"
    if not rest:
        return variable
    return f"{variable} {'+' if rest > 0 else '-'} {abs(rest)}"


def _number(node: ast.expr) -> int | None:
    line = linear(node, "")
    return line[1] if line is not None else None
