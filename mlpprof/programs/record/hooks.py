"""The names by which rewritten code calls the instruments, and where it finds them.

They are put among Python's builtins, so that neither the globals of a module nor those of a function change. They end
in two underscores, so that a class does not mangle them.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping
from typing import Any

BEGIN, MODE, END = "__mlpprof_begin__", "__mlpprof_mode__", "__mlpprof_end__"
"""A step begins; what form of it runs; it has ended."""

RECORDING, LOOP, OVER, TURN, LEAVE, TURNS, USED, GIVEN, LOCALS = (
    f"__mlpprof_{name}__" for name in ("recording", "loop", "over", "turn", "leave", "turns", "used", "given", "locals")
)
"""Of the observed form: whether to observe; a loop begins, what it runs over, it turns, it ends; the turns of a
comprehension; a value is looked at, or goes to code that may not be seen; the names of a
frame."""

PRE, POST, OPEN, CLOSE = (f"__mlpprof_{name}__" for name in ("pre", "post", "open", "close"))
"""Of the clocked form: around an expression, and around a statement."""

CALLED, RETURNED, MULTIPLIED, UPDATED, QUIET = (
    f"__mlpprof_{name}__" for name in ("called", "returned", "multiplied", "updated", "quiet")
)
"""Of the search for the step: a function begins and ends; a product is made; something is changed; whether an item or
an attribute can be read once more without anybody noticing."""


def install(hooks: Mapping[str, Any]) -> None:
    """Make hooks known to rewritten code, in place of those before them."""
    for name, hook in hooks.items():
        setattr(builtins, name, hook)


def call(name: str, *arguments: ast.expr) -> ast.Call:
    """A call of a hook."""
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def statement(name: str, *arguments: ast.expr) -> ast.Expr:
    """A call of a hook as a statement."""
    return ast.Expr(call(name, *arguments))
