"""A function of one number that np.vectorize calls for every element: written with NumPy's functions, for whole arrays.

A condition becomes np.where, or np.maximum where it is that of a rectifier, and `math.exp` becomes `np.exp`.
"""

from __future__ import annotations

import ast
import copy

import libcst as cst
from libcst import matchers

from mlpprof.advise.editing.cure import Cure, CureKind
from mlpprof.advise.editing.edits import Edits, tree_of
from mlpprof.advise.editing.loop_values import OF_NUMBERS, UFUNCS
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of
from mlpprof.advise.editing.source import NodeChange, replaced, statement, transformed
from mlpprof.advise.syntax import is_simple, last_name
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


class _NotForArrays(Exception):
    """The function does something that has no form for whole arrays."""


def for_whole_arrays(event: Event, graph: Graph) -> Cure | None:
    """The edit of a call of a vectorized function, or of the function itself; None if it has no such form."""
    code = code_of(graph)
    node = code.node(event)
    numpy = code.numpy_name(code.file(node)) if node is not None else None
    if numpy is None or not isinstance(node, ast.Call):
        return None
    try:
        match node:
            case ast.Call(func=ast.Call(args=[ast.Lambda() as function, *_]) as made, args=[argument]) if is_simple(
                argument
            ):
                if _has_options(made):
                    return None
                return _of_call(node, function, argument, numpy, code)
        name = getattr(getattr(event.function, "pyfunc", None), "__name__", "")
        functions = [one for one in code.functions(name) if code.file(one) == code.file(node)]
        return _of_function(functions[0], numpy, code) if len(functions) == 1 else None
    except _NotForArrays:
        return None


def _of_call(node: ast.Call, function: ast.Lambda, argument: ast.expr, numpy: str, code: RecordedCode) -> Cure | None:
    """The body of a lambda in place of its call."""
    names = [one.arg for one in function.args.args]
    if len(names) != 1 or function.args.defaults:
        return None
    body = _ForArrays(numpy, {names[0]: argument}).visit(copy.deepcopy(function.body))
    edits = Edits(code)
    edits.replace(node, ast.unparse(body))
    return edits.cure()


def _of_function(function: ast.FunctionDef, numpy: str, code: RecordedCode) -> Cure | None:
    """The function with a body for whole arrays; what makes np.vectorize of it gives the function itself."""
    value = _ForArrays(numpy, {}).visit(_one_expression(function.body))
    kept = [one for one in function.decorator_list if "vectorize" not in ast.unparse(one)]
    if any(isinstance(one, ast.Call) for one in function.decorator_list if one not in kept):
        return None  # it has options, such as the dtype of the results
    first = [one for one in function.body[:1] if ast.get_docstring(function) is not None]
    new = copy.copy(function)
    new.decorator_list, new.body = kept, [*first, ast.Return(value)]
    file = code.file(function)
    makers = [one for one in code.nodes if isinstance(one, ast.Call) and _makes(one, function.name)]
    dtype = _dtype_of_results(makers) if not function.decorator_list else None
    if dtype is not None:
        names = [one.arg for one in function.args.args]
        if len(names) != 1:
            return None
        given = ast.parse(f"{names[0]} = {numpy}.asarray({names[0]}, dtype={dtype})").body
        new.body = [*first, *given, ast.parse(f"return {numpy}.asarray({ast.unparse(value)}, dtype={dtype})").body[0]]
    text = ast.unparse(ast.fix_missing_locations(new))
    tree = tree_of(code.graph.trace.sources[file])
    line = min([function.lineno, *(one.lineno for one in function.decorator_list)])
    found = tree.compound_at(function.lineno) or tree.compound_at(line)
    if found is None or _has_comments(found):
        return None
    changes: dict[cst.CSTNode, NodeChange] = {found: lambda old: _with_lines(statement(f"{text}\n"), old)}
    if not function.decorator_list:
        if not makers or (dtype is None and any(map(_has_options, makers))):
            return None
        if dtype is not None and _is_used_beside(function, makers, code):
            return None  # a call with a number would get an array
        for one in makers:
            place = next((node for node in tree.all_at(Site.of(file, one)) if isinstance(node, cst.Call)), None)
            if place is None or code.file(one) != file:
                return None
            changes[place] = lambda _: cst.Name(function.name)
    kind: CureKind = "safe" if dtype is None or dtype.endswith(("float", "float64")) else "precision"
    return transformed(kind, {file: code.graph.trace.sources[file]}, {file: lambda _: replaced(tree.module, changes)})


def _is_used_beside(function: ast.FunctionDef, makers: list[ast.Call], code: RecordedCode) -> bool:
    """Whether the program uses a function in other places than the calls that vectorize it."""
    within = {node for one in makers for node in ast.walk(one)}
    uses = (one for one in code.nodes if isinstance(one, ast.Name | ast.Attribute | ast.alias) and one not in within)
    names = (one.name if isinstance(one, ast.alias) else last_name(one) for one in uses)
    return function.name in names or any(code.texts_of_importers({code.file(function)}))


def _dtype_of_results(makers: list[ast.Call]) -> str | None:
    """The dtype in ``np.vectorize(f, otypes=[np.float32])``, if that is the only option, and the same everywhere.

    In single precision, the new function computes with rounded numbers; the old one rounded only what it returned.
    """
    found = set()
    for one in makers:
        match one:
            case ast.Call(args=[_], keywords=[ast.keyword(arg="otypes", value=ast.List(elts=[dtype]))]) if last_name(
                dtype
            ) in ("float", "float32", "float64"):
                found.add(ast.unparse(dtype))
            case _:
                return None
    return next(iter(found)) if len(found) == 1 else None


def _has_options(call: ast.Call) -> bool:
    """Whether what makes a vectorized function names the dtype of its results, or something else about it."""
    is_vectorize = isinstance(call.func, ast.Attribute) and call.func.attr == "vectorize"
    return bool(call.keywords) or (is_vectorize and len(call.args) > 1)


def _has_comments(function: cst.CSTNode) -> bool:
    """Whether a function has comments, which a new body would lose; those above it stay."""
    above = sum(one.comment is not None for one in getattr(function, "leading_lines", ()))
    return len(matchers.findall(function, matchers.Comment())) > above


def _with_lines(new: cst.BaseStatement, old: cst.CSTNode) -> cst.CSTNode:
    """A statement with the empty lines and comments above the old one."""
    return new.with_changes(leading_lines=getattr(old, "leading_lines", ()))


def _makes(call: ast.Call, name: str) -> bool:
    """Whether a call is `np.vectorize(f)` of a function with this name."""
    is_vectorize = isinstance(call.func, ast.Attribute) and call.func.attr in ("vectorize", "frompyfunc")
    return is_vectorize and bool(call.args) and isinstance(call.args[0], ast.Name) and call.args[0].id == name


def _one_expression(body: list[ast.stmt]) -> ast.expr:
    """What some statements return, as one expression: each test of an `if` chooses between two."""
    match body:
        case [ast.Expr(value=ast.Constant()), *rest]:
            return _one_expression(rest)
        case [ast.Return(value=ast.expr() as value)]:
            return copy.deepcopy(value)
        case [ast.If(test=test, body=chosen, orelse=[]), *rest] if rest:
            return ast.IfExp(copy.deepcopy(test), _one_expression(chosen), _one_expression(rest))
        case [ast.If(test=test, body=chosen, orelse=other)] if other:
            return ast.IfExp(copy.deepcopy(test), _one_expression(chosen), _one_expression(other))
    raise _NotForArrays


class _ForArrays(ast.NodeTransformer):
    """An expression of numbers as one of arrays. names: what stands in place of parameters."""

    def __init__(self, numpy: str, names: dict[str, ast.expr]) -> None:
        self._numpy, self._names = numpy, names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """A parameter becomes its argument."""
        return copy.deepcopy(self._names.get(node.id, node))

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        """A condition chooses element by element."""
        match node:
            case ast.IfExp(
                test=ast.Compare(left=left, ops=[ast.Gt() | ast.GtE()], comparators=[ast.Constant(value=0) as zero]),
                body=body,
                orelse=ast.Constant(value=0) | ast.BinOp(op=ast.Mult(), right=ast.Constant(value=0)),
            ) if ast.dump(left) == ast.dump(body) and is_simple(left):
                return self._call("maximum", self.visit(left), zero)
            case ast.IfExp(test=ast.Compare(ops=[_])):
                return self._call("where", *(self.visit(one) for one in (node.test, node.body, node.orelse)))
        raise _NotForArrays

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """A function of numbers becomes that of NumPy."""
        count = len(node.args)
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name), keywords=[]):
                if module in ("math", self._numpy) and UFUNCS.get(name) == count:
                    return self._call(name, *map(self.visit, node.args))
            case ast.Call(func=ast.Name(id=name), keywords=[]) if UFUNCS.get(OF_NUMBERS.get(name, "")) == count:
                return self._call(OF_NUMBERS[name], *map(self.visit, node.args))
            case ast.Call(func=ast.Name(id="float"), args=[argument], keywords=[]):
                inner: ast.expr = self.visit(argument)
                return inner
        raise _NotForArrays

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Only sums, products, powers and comparisons are the same for arrays."""
        same = ast.BinOp | ast.UnaryOp | ast.Compare | ast.Constant | ast.operator | ast.unaryop | ast.cmpop | ast.Load
        if not isinstance(node, same) or isinstance(node, ast.Not):
            raise _NotForArrays
        return super().generic_visit(node)

    def _call(self, name: str, *arguments: ast.expr) -> ast.expr:
        return ast.Call(ast.Attribute(ast.Name(self._numpy, ast.Load()), name, ast.Load()), [*arguments], [])
