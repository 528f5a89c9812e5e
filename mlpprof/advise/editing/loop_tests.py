"""Tests that are false in the first or in the last turn of a loop, written with the loop's own variable."""

from __future__ import annotations

import ast
from collections.abc import Callable
from enum import Enum

from mlpprof.advise.editing.indices import linear


class Turns(Enum):
    """Which turn of a loop."""

    FIRST = "first"
    LAST = "last"


Text = Callable[[ast.expr], str]


def is_other_turn(loop: ast.For, turn: Turns, text: Text) -> str | None:
    """A test that is false in that turn alone; None if the loop's variable does not show which turn it is.

    text: gives the source of an expression.
    """
    match loop.target, loop.iter:
        case ast.Name(id=name), ast.Call(func=ast.Name(id="range"), args=arguments):
            return _of_range(name, arguments, turn, text)
        case ast.Name(id=name), ast.Call(func=ast.Name(id="reversed"), args=[ast.Call(func=ast.Name(id="range")) as r]):
            other = Turns.LAST if turn is Turns.FIRST else Turns.FIRST
            return _of_range(name, r.args, other, text)
        case ast.Tuple(elts=[ast.Name(id=name), _]), ast.Call(func=ast.Name(id="enumerate"), args=[items]):
            return f"{name} > 0" if turn is Turns.FIRST else _below(name, _length(items, text))
        case ast.Name(id=name), items:
            place = _item(items, turn, text)
            return f"{name} is not {place}" if place is not None else None
        case ast.Tuple(elts=[ast.Name(id=name), *_]), ast.Call(func=ast.Name(id="zip"), args=[items, *_]):
            place = _item(items, turn, text)
            return f"{name} is not {place}" if place is not None else None
    return None


def _of_range(name: str, arguments: list[ast.expr], turn: Turns, text: Text) -> str | None:
    start, stop, step = (
        (ast.Constant(0), arguments[0], ast.Constant(1)) if len(arguments) == 1 else (*arguments, ast.Constant(1))[:3]
    )
    size = linear(step, "")
    if size is None or abs(size[1]) != 1:
        return None
    grows = size[1] == 1
    if turn is Turns.FIRST:
        return f"{name} {'>' if grows else '<'} {_plus(start, 0, text)}"
    return f"{name} {'<' if grows else '>'} {_plus(stop, -1 if grows else 1, text)}"


def _plus(node: ast.expr, number: int, text: Text) -> str:
    """The expression with a number added to it, in its shortest form."""
    line = linear(node, "")
    if line is not None:
        return str(line[1] + number)
    match node:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=ast.Constant(value=int(right))):
            node, number = left, number + (right if isinstance(op, ast.Add) else -right)
    shown = text(node)
    return shown if not number else f"{shown} {'+' if number > 0 else '-'} {abs(number)}"


def _length(items: ast.expr, text: Text) -> str | None:
    match items:
        case ast.Call(func=ast.Name(id="reversed" | "list" | "tuple"), args=[inner]):
            return _length(inner, text)
        case ast.Subscript(value=inner, slice=ast.Slice(lower=None, upper=None)):
            return _length(inner, text)
        case ast.Call(func=ast.Name(id="zip"), args=[first, *_]):
            return _length(first, text)
        case ast.Name() | ast.Attribute():
            return f"len({text(items)})"
    return None


def _below(name: str, length: str | None) -> str | None:
    return f"{name} < {length} - 1" if length is not None else None


def _item(items: ast.expr, turn: Turns, text: Text) -> str | None:
    """The element of a list that a turn of a loop over it has."""
    match items:
        case ast.Call(func=ast.Name(id="reversed"), args=[inner]):
            return _item(inner, Turns.LAST if turn is Turns.FIRST else Turns.FIRST, text)
        case ast.Subscript(value=inner, slice=ast.Slice(lower=None, upper=None, step=step)) if step is not None:
            if linear(step, "") == (0, -1):
                return _item(inner, Turns.LAST if turn is Turns.FIRST else Turns.FIRST, text)
        case ast.Name() | ast.Attribute():
            return f"{text(items)}[{0 if turn is Turns.FIRST else -1}]"
    return None
