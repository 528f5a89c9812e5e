"""Which functions some code may call, by the names in the source, so also where nothing ran."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable

from mlpprof.advise.editing.recorded_code import RecordedCode
from mlpprof.advise.syntax import last_name

CALLING_NOTHING = frozenset(("print", "len", "range", "float", "int", "str"))
"""These built-in functions call no function that they are given."""


def may_call(nodes: Iterable[ast.AST], function: ast.FunctionDef, code: RecordedCode) -> bool:
    """Whether some code calls a function, directly or through other functions.

    What a name without a function stands for may be an object, whose `__call__` is then called.
    """
    functions: dict[str, list[ast.FunctionDef]] = defaultdict(list)
    for one in code.nodes:
        if isinstance(one, ast.FunctionDef):
            functions[one.name].append(one)
    known = functions.keys() | CALLING_NOTHING
    reached, new = set[str](), [*nodes]
    while new:
        called = [one.func for node in new for one in ast.walk(node) if isinstance(one, ast.Call)]
        names = {last_name(one) for one in called}
        if any(isinstance(one, ast.Name) and one.id not in known for one in called):
            names.add("__call__")
        if function.name in names:
            return True
        new = [one for name in names - reached for one in functions.get(name, ())]
        reached |= names
    return False
