"""Large results go into arrays that are made once and used again in every step, where nothing else can hold them.

The next execution of an operation overwrites what the last one gave. That is right if only names of one function, or
of one script, ever hold the result, and nobody but operations that give new arrays reads these names. All of this is
known from the source, also for code that did not run.
"""

from __future__ import annotations

import ast
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from queue import SimpleQueue

import numpy as np

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.reached import may_call
from mlpprof.advise.editing.recorded_code import RecordedCode, bound_by, code_of, inside, names_in
from mlpprof.advise.in_place import elementwise, operands_of
from mlpprof.advise.syntax import last_name
from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

HELPER = '''

class {kind}:
    """Computes results into arrays that are made once and used again in every step, each under its name."""

    def __init__(self):
        self.arrays = {{}}

    def __call__(self, name, function, *operands):
        kinds = ((type(one), getattr(one, "shape", ()), getattr(one, "dtype", None)) for one in operands)
        kind = name, function, *kinds
        array = self.arrays.get(kind)
        if array is not None:
            return function(*operands, out=array)
        result = function(*operands)
        is_known = all(isinstance(one, ({np}.ndarray, {np}.generic, int, float)) for one in operands)
        if type(result) is {np}.ndarray and is_known:
            if len(self.arrays) > 500 or sum(one.nbytes for one in self.arrays.values()) > 4e9:
                self.arrays.clear()
            self.arrays[kind] = self.arrays.setdefault((name, result.shape, result.dtype), result)
        return result
'''
"""This is added to the program. An array has the shape and the dtype of the result, also where operands change.

The shape of a list is not known before it is converted, so its results are not kept. New shapes in every batch
must not fill the memory: beyond 500 entries or 4 GB, the class drops all its arrays and begins again.
"""

REDUCTIONS = frozenset(("sum", "mean", "max", "min", "argmax", "argmin", "std", "var", "any", "all", "prod", "item"))
"""Functions and methods of arrays that return numbers, or new arrays."""

NEW_ARRAYS = REDUCTIONS | {"dot", "vdot", "inner", "outer", "where", "clip"}
"""Functions of NumPy that return new arrays. No ufunc is among them: `np.square` takes `out` as its second argument."""

LOOKING = frozenset(("len", "float", "int", "print", "range", "isinstance", "type", "bool", "repr", "str"))
"""Built-in functions that do not keep what they get."""

PARTS_WITHOUT_VALUES = frozenset(("shape", "size", "ndim", "dtype", "nbytes", "itemsize"))
"""Attributes of an array that say nothing about its values."""

HIDING = frozenset(
    "threading concurrent asyncio _thread locals globals vars exec eval importlib __import__ multiprocessing joblib "  # noqa: SIM905 - words
    "dask ray gevent eventlet trio anyio greenlet http socketserver flask fastapi uvicorn gradio streamlit dash".split()
)
"""If a program imports or calls one of these, other code may hold a local name, or run a function at the same time."""

OPERATORS = frozenset(
    f"__{prefix}{name}__"
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
    for prefix in ("", "r", "i")
) | frozenset(("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__getitem__", "__setitem__"))
"""Methods of a user's class that get an array as an operand or as an index, and may keep it for a tape."""

OF_FUNCTIONS = frozenset(("__array_ufunc__", "__array_function__", "__array_prepare__", "__array_wrap__"))
"""Methods of a user's class that get the operands of NumPy's functions."""

MOST_CALLS = 3
"""An argument is followed through no more calls."""

Function = ast.FunctionDef | ast.Module


def kept_results(events: Iterable[Event], least_bytes: int, graph: Graph) -> Cure | None:
    """The edit that lets the operations on the lines of some events write into kept arrays; None if none may.

    least_bytes: smaller results stay as they are.
    """
    code = code_of(graph)
    nodes = [node for event in events if isinstance(node := code.node(event), ast.expr)]
    if not nodes or any(_hides(one) for one in code.nodes):
        return None
    scope, file = code.scope(nodes[0]), code.file(nodes[0])
    name = code.numpy_name(file)
    in_reach = [one for one in nodes if code.scope(one) is scope]
    if name is None or not isinstance(scope, Function) or file.endswith(".ipynb") or _may_overlap(scope, graph, code):
        return None
    lines = min(one.lineno for one in in_reach), max(one.lineno for one in in_reach)
    large = _Large(scope, lines, least_bytes, code)
    if not large.functions:
        return None
    edits = Edits(code)
    inner = min(large.functions, key=lambda node: node.lineno)
    first: ast.FunctionDef | ast.expr = scope if isinstance(scope, ast.FunctionDef) else inner
    helper = _helper(first, name, code, edits)
    if helper is None:
        return None
    places = _Places(scope, large, code)
    if not places.names:
        return None
    for node in places.tops():
        edits.replace(node, places.text(node, helper, name))
    return edits.cure()


def _hides(node: ast.AST) -> bool:
    """Whether other code may hold a local name, or run the same function at the same time."""
    match node:
        case ast.Import(names=names):
            return any(one.name.partition(".")[0] in HIDING for one in names)
        case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in HIDING:
            return True
        case ast.Name(id=name) | ast.Attribute(attr=("locals" | "globals" | "vars") as name):
            return name in HIDING
        case ast.FunctionDef(name=name) if name in OF_FUNCTIONS:
            return True
    return isinstance(node, ast.AsyncFunctionDef)


def _may_overlap(scope: Function, graph: Graph, code: RecordedCode) -> bool:
    """Whether a second execution may begin before the first one has ended, or it is not clear where it ends."""
    unclear = ast.Yield | ast.YieldFrom | ast.Await | ast.Try | ast.Global | ast.Nonlocal
    if any(isinstance(one, unclear) for one in inside(scope)):
        return True
    if isinstance(scope, ast.Module):
        return False
    calls = [event for event in graph.turn if event.is_own and code.function(event) is scope]
    is_nested = any(graph.events[index] in calls for event in calls for index in event.calls)
    return is_nested or may_call([scope], scope, code)


def _helper(first: ast.FunctionDef | ast.expr, name: str, code: RecordedCode, edits: Edits) -> str | None:
    """The name of what computes into kept arrays: the file has it already, or gets it after its imports.

    first: where it is used first. Imports below that have not run by then.
    """
    file = code.file(first)
    if helpers := _helpers(file, code):
        return helpers[0]
    statements = _module(file, code).body
    imports = [one for one in statements if isinstance(one, ast.Import | ast.ImportFrom) and one.lineno < first.lineno]
    if not any(name in bound_by(alias) for one in imports for alias in one.names):
        return None
    kind, kept = edits.fresh_name("Kept", file), edits.fresh_name("kept", file)
    edits.insert_after(imports[-1], HELPER.format(kind=kind, np=name))
    edits.insert_after(imports[-1], f"\n\n{kept} = {kind}()")
    return kept


def _module(file: str, code: RecordedCode) -> ast.Module:
    return next(one for one in code.modules if code.file(one) == file and isinstance(one, ast.Module))


def _helpers(file: str, code: RecordedCode) -> list[str]:
    """The names of what computes into kept arrays, in a file that has been changed before."""
    name, found = code.numpy_name(file), []
    for one, other in pairwise(_module(file, code).body):
        match one, other:
            case ast.ClassDef(name=kind), ast.Assign(targets=[ast.Name(id=kept)], value=ast.Call()):
                if ast.dump(one) == ast.dump(ast.parse(HELPER.format(kind=kind, np=name)).body[0]):
                    found.append(kept)
    return found


class _Large:
    """The operations of a function whose results are large and held by nothing but its names.

    functions: node -> the name of the function of NumPy. lines: those of the events, the first and the last.
    """

    def __init__(self, scope: Function, lines: tuple[int, int], least_bytes: int, code: RecordedCode) -> None:
        self._scope, self._code, self.lines = scope, code, lines
        executions: dict[ast.expr, list[Event]] = defaultdict(list)
        for event in code.graph.last:
            node = code.node(event)
            if isinstance(node, ast.expr) and code.scope(node) is scope:
                executions[node].append(event)
        within = {node for node in executions if lines[0] <= node.lineno <= lines[1]}
        read = set[str]().union(*map(names_in, within))
        executions = {
            node: events
            for node, events in executions.items()
            if node in within or (events[0].kind == PRODUCT and self._is_given_to(node, read))
        }
        self.functions: dict[ast.expr, str] = {}
        for node, events in executions.items():
            name = _function_of(node, events, least_bytes)
            if name and self._is_held_here(node):
                self.functions[node] = name

    def _is_given_to(self, node: ast.expr, names: set[str]) -> bool:
        """Whether an expression is assigned to one of these names: the operations may go on in its array."""
        match self._code.parent(node):
            case ast.Assign(targets=[ast.Name(id=name)]):
                return name in names
        return False

    def _is_held_here(self, node: ast.expr) -> bool:
        above = self._code.parent(node)
        match above:
            case ast.Assign(targets=[ast.Name(id=name)]):
                return is_local(name, self._scope, self._code)
        return is_consumed(node, self._code)


def _function_of(node: ast.expr, events: list[Event], least_bytes: int) -> str:
    """The name of NumPy's function for an operation that gives a new large array each time; '' for others."""
    names = set()
    if max((event.output.nbytes for event in events if event.output is not None), default=0) < least_bytes:
        return ""
    for event in events:
        result, found = event.result, elementwise(event)
        is_plain = all(type(x) is np.ndarray or isinstance(x, int | float | np.generic) for x in event.operands)
        is_made = type(result) is np.ndarray and result.dtype.kind in "fb" and not event.writes and not event.options
        if not is_plain or not is_made or event.output is None or event.is_view:
            return ""
        is_product = event.kind == PRODUCT and [getattr(x, "ndim", 0) for x in event.operands] == [2, 2]
        match node:
            case ast.BinOp(op=ast.MatMult()) if is_product:
                names.add("matmul")
            case ast.BinOp(op=ast.Pow(), right=right) if found is not np.power and not _is_number(right):
                return ""  # the exponent may be another one at another time
            case ast.Call(func=ast.Attribute(attr="dot" | "matmul" as called)) if is_product and len(node.args) == 2:
                names.add(called)
            case ast.BinOp() | ast.UnaryOp() | ast.Compare(comparators=[_]) if found is not None:
                names.add(found.__name__)
            case ast.Call(func=ast.Attribute(attr=called), keywords=[]) if found is not None:
                is_whole = getattr(np, called, None) is found and len(node.args) == len(events[0].operands)
                names.add(called if is_whole else "")
            case _:
                return ""
    is_unpacked = isinstance(node, ast.Call) and any(isinstance(one, ast.Starred) for one in node.args)
    return next(iter(names)) if len(names) == 1 and not is_unpacked else ""


def _is_number(node: ast.expr) -> bool:
    return isinstance(node.operand if isinstance(node, ast.UnaryOp) else node, ast.Constant)


def is_local(name: str, scope: Function, code: RecordedCode, calls: int = MOST_CALLS) -> bool:
    """Whether all that reads a name of a function or a script gives new arrays, or only looks at it."""
    around = ast.walk(scope) if isinstance(scope, ast.FunctionDef) else code.nodes
    mentions = [one for one in around if isinstance(one, ast.Name) and one.id == name]
    mentions = [one for one in mentions if code.file(one) == code.file(scope)]
    own = [one for one in mentions if code.scope(one) is scope]
    if isinstance(scope, ast.Module):  # other files and functions may read the name
        others = [one for one in code.nodes if isinstance(one, ast.Attribute) and one.attr == name]
        imported = any(isinstance(one, ast.alias) and one.name in (name, "*") for one in code.nodes)
        if others or imported or len(own) < len(mentions):
            return False
    elif len(own) < len(mentions) or any(name in bound_by(one) for one in inside(scope) if isinstance(one, ast.Global)):
        return False
    is_lazy = any(isinstance(above, ast.GeneratorExp) for one in own for above in code.around(one))
    return not is_lazy and all(is_consumed(one, code, calls) for one in own if isinstance(one.ctx, ast.Load))


def is_consumed(node: ast.expr, code: RecordedCode, calls: int = MOST_CALLS) -> bool:
    """Whether the code around an expression only reads its array, and keeps neither the array nor a view of it."""
    above = code.parent(node)
    match above:
        case ast.BinOp() | ast.Compare():
            return _is_of_arrays(above, code)
        case ast.UnaryOp() | ast.Expr() | ast.FormattedValue() | ast.Delete():
            return True
        case ast.AugAssign(value=value) if value is node:  # a list would keep the rows
            events = code.executions(above)
            return bool(events) and all(type(event.operands[0]) is np.ndarray for event in events if event.operands)
        case ast.Attribute(attr="T"):
            return is_consumed(above, code, calls)
        case ast.Attribute(attr=name) if name in PARTS_WITHOUT_VALUES:
            return True
        case ast.Attribute(attr=name):
            call = code.parent(above)
            return isinstance(call, ast.Call) and call.func is above and name in REDUCTIONS | {"dot"}
        case ast.Subscript(value=value) if value is node:
            return not isinstance(above.ctx, ast.Load) or is_consumed(above, code, calls)
        case ast.Subscript():
            return _is_of_arrays(above, code)
        case ast.keyword(arg="out"):
            call = code.parent(above)
            return isinstance(call, ast.Call) and _is_of_numpy(call, code) and isinstance(code.parent(call), ast.Expr)
        case ast.Call(func=function, args=args) if node in args:
            return _is_read_by(function, args.index(node), above, code, calls)
    return False


def _is_of_arrays(node: ast.expr, code: RecordedCode) -> bool:
    """Whether no object of a user's class takes part in an operation: its method may keep the other operand."""
    if not any(isinstance(one, ast.FunctionDef) and one.name in OPERATORS for one in code.nodes):
        return True
    plain = (np.ndarray, np.generic, int, float, slice, tuple)
    events = code.executions(node)
    return bool(events) and all(not one.is_own and all(isinstance(x, plain) for x in one.operands) for one in events)


def _is_of_numpy(call: ast.Call, code: RecordedCode) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Name(id=owner)):
            return owner == code.numpy_name(code.file(call))
    return False


def _is_read_by(function: ast.expr, place: int, call: ast.Call, code: RecordedCode, calls: int) -> bool:
    name = last_name(function)
    match function:
        case ast.Attribute() if _is_of_numpy(call, code):
            found = getattr(np, name, None)
            is_ufunc = isinstance(found, np.ufunc) and len(call.args) <= found.nin
            is_new = name in NEW_ARRAYS and place < (3 if name in ("where", "clip") else 2)  # `out` may come next
            return (is_ufunc or is_new) and not any(isinstance(one, ast.Starred) for one in call.args)
        case ast.Attribute(attr="dot"):
            return place == 0 and not code.functions("dot")
        case ast.Name(id=builtin) if builtin in LOOKING and not code.functions(builtin):
            return True
        case ast.Name(id=kept) if kept in _helpers(code.file(call), code):
            return True
    known = code.functions(name)
    if calls == 0 or len(known) != 1 or any(isinstance(one, ast.Starred) for one in call.args):
        return False
    [called] = known
    is_method = code.owner(called) is not None
    names = [one.arg for one in (*called.args.posonlyargs, *called.args.args)][is_method:]
    is_plain = not called.decorator_list and isinstance(function, ast.Attribute) == is_method and place < len(names)
    is_lazy = any(isinstance(one, ast.Yield | ast.YieldFrom | ast.Await) for one in inside(called))
    if is_method and any(hasattr(kind, name) for kind in (list, dict, set, deque, SimpleQueue)):
        return False  # it may be the method of a list, which keeps the array
    return is_plain and not is_lazy and is_local(names[place], called, code, calls - 1)


@dataclass
class _Places:
    """Decides under which name each result is kept.

    An operation on an array that nothing reads later writes its result over it, so that fewer arrays are touched.
    """

    scope: Function
    large: _Large
    code: RecordedCode
    names: dict[ast.expr, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for call in self.code.nodes:  # of the helper, in a file that has been changed before
            match call:
                case ast.Call(args=[ast.Constant(value=str(name)), *_]):
                    self.taken.add(name)
        self.taken |= {name for name, lines in self.code.kept_names.items() if lines != self._lines}
        for block in self._blocks(self.scope):
            self._place(block)

    @property
    def _lines(self) -> tuple[str, int, int]:
        return self.code.file(self.scope), *self.large.lines

    def tops(self) -> Iterator[ast.expr]:
        """The operations that are in no other one."""
        for node in self.names:
            if not any(above in self.names for above in self.code.around(node)):
                yield node

    def text(self, node: ast.expr, helper: str, numpy: str) -> str:
        """The operation as a call of the helper."""
        if node not in self.names:
            return self.code.text(node)
        function = self.large.functions[node]
        taken = operands_of(node)[: getattr(getattr(np, function), "nin", 2)]
        operands = ", ".join(self.text(one, helper, numpy) for one in taken)  # np.square(z) has no exponent
        return f'{helper}("{self.names[node]}", {numpy}.{function}, {operands})'

    def _blocks(self, node: ast.AST) -> Iterator[list[ast.stmt]]:
        for one in (node, *inside(node)):
            for name in ("body", "orelse", "finalbody"):
                block = getattr(one, name, None)
                is_inner = one is not node and isinstance(one, ast.FunctionDef | ast.ClassDef)
                if isinstance(block, list) and not is_inner:
                    yield block

    def _place(self, block: list[ast.stmt]) -> None:
        held: dict[str, str] = {}  # name -> where its array is kept
        for number, one in enumerate(block):
            if isinstance(one, ast.Assign | ast.AugAssign | ast.Expr | ast.Return | ast.AnnAssign) and one.value:
                self._visit(one.value, _Moment(block, number, held, self), is_whole=True)
            for name in _stored(one):
                held.pop(name, None)
            if any(isinstance(part, ast.Break | ast.Continue) for part in ast.walk(one)):
                held.clear()  # if the turn ends here, later names keep what the turn before has given them
            match one:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if value in self.names:
                    if not self._is_carried(name, block):
                        held[name] = self.names[value]

    def _visit(self, node: ast.AST, moment: _Moment, is_whole: bool = False) -> None:
        if isinstance(node, ast.Lambda | ast.GeneratorExp | ast.ListComp | ast.DictComp | ast.SetComp):
            return
        children = operands_of(node) if node in self.large.functions and isinstance(node, ast.expr) else None
        for child in children if children is not None else ast.iter_child_nodes(node):
            self._visit(child, moment)
        if children is None or not isinstance(node, ast.expr):
            return
        target = moment.target if is_whole else ""
        is_carried = bool(target) and self._is_carried(target, moment.block)
        is_product = self.large.functions[node] in ("dot", "matmul")
        place = ""
        if not is_carried and not is_product:
            for child in children:
                place = place or (self.names.get(child, "") if isinstance(child, ast.expr) else "")
            for child in children:
                if not place and isinstance(child, ast.Name) and moment.is_last_read(child.id):
                    place = moment.held[child.id]
        self.names[node] = place or self._fresh(moment.target or "result")

    def _fresh(self, target: str) -> str:
        around = self.scope.name if isinstance(self.scope, ast.FunctionDef) else ""
        owner = self.code.owner(self.scope) if around else None
        stem = ".".join(part for part in (owner.name if owner else "", around, target) if part)
        name, number = stem, 2
        while name in self.taken:
            name, number = f"{stem} {number}", number + 1
        self.taken.add(name)
        self.code.kept_names[name] = self._lines
        return name

    def _is_carried(self, name: str, block: list[ast.stmt]) -> bool:
        """Whether a turn of a loop may read what the turn before has given a name."""
        for one in block:
            if name in _loaded(one) or (name in _stored(one) and not _is_plain(one)):
                return True
            if name in _stored(one):
                return False
        return True


@dataclass(frozen=True)
class _Moment:
    """A statement of a block, and where the arrays of names are kept when it begins."""

    block: list[ast.stmt]
    number: int
    held: Mapping[str, str]
    places: _Places

    @property
    def target(self) -> str:
        """The name that the statement gives a value."""
        match self.block[self.number]:
            case ast.Assign(targets=[ast.Name(id=name)]):
                return name
        return ""

    def is_last_read(self, name: str) -> bool:
        """Whether the array of a name is kept, and nothing reads it after this operation."""
        now = self.block[self.number]
        here = [one for one in ast.walk(now) if isinstance(one, ast.Name) and one.id == name]
        is_changed = isinstance(now, ast.AugAssign) and name in _stored(now)
        if name not in self.held or is_changed or sum(isinstance(one.ctx, ast.Load) for one in here) != 1:
            return False
        for one in self.block[self.number :]:
            if one is not now and name in _loaded(one):
                return False
            if any(isinstance(part, ast.Break | ast.Continue) for part in ast.walk(one)):
                break
            if name in _stored(one) and _is_plain(one):
                return True
        return self._is_unread_outside(name)

    @cached_property
    def _within(self) -> frozenset[ast.AST]:
        return frozenset(node for one in self.block for node in ast.walk(one))

    def _is_unread_outside(self, name: str) -> bool:
        """Whether nothing but this block reads a name, which each turn of a loop gives another value first."""
        above = self.places.code.parent(self.block[0])
        if not isinstance(above, ast.FunctionDef | ast.For | ast.While | ast.Module):
            return False
        return not any(
            isinstance(one, ast.Name) and one.id == name and isinstance(one.ctx, ast.Load) and one not in self._within
            for one in ast.walk(self.places.scope)
        )


def _is_plain(one: ast.stmt) -> bool:
    return isinstance(one, ast.Assign | ast.AnnAssign)


def _stored(one: ast.stmt) -> frozenset[str]:
    return frozenset(name for node in (one, *ast.walk(one)) for name in bound_by(node))


def _loaded(one: ast.stmt) -> frozenset[str]:
    names = {node.id for node in ast.walk(one) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    added = {one.target.id} if isinstance(one, ast.AugAssign) and isinstance(one.target, ast.Name) else set()
    return frozenset(names | added)
