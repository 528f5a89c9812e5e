"""Functions that numba compiles: they run as machine code, which calls no hooks."""

from __future__ import annotations

import ast

WORDS = "compiled by numba, so mlpprof cannot see its operations"
ADVICE = "remove the compilation to analyse the same code in Python"


def numba_functions(tree: ast.Module) -> frozenset[str]:
    """Names of the functions of a file that numba compiles, by a decorator or by a call."""
    modules, names = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {one.asname or "numba" for one in node.names if one.name.partition(".")[0] == "numba"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "numba":
            names |= {one.asname or one.name for one in node.names}

    def is_numba(node: ast.expr) -> bool:
        match node:
            case ast.Call(func=inner) | ast.Attribute(value=inner):
                return is_numba(inner)
            case ast.Name(id=name):
                return name in modules | names
        return False

    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(map(is_numba, node.decorator_list)):
            found.add(node.name)
        elif isinstance(node, ast.Call) and is_numba(node.func):
            found |= {one.id for one in node.args if isinstance(one, ast.Name)}
    return frozenset(found)


def is_within(node: ast.stmt, tree: ast.Module) -> bool:
    """Whether a function or a loop is, or is in, a function that numba compiles."""
    compiled = numba_functions(tree)
    functions = (one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef) and one.name in compiled)
    return any(one.lineno <= node.lineno <= (one.end_lineno or one.lineno) for one in functions)
