"""float64: every array of the step is made in float32 where it comes from.

The recording shows which operations of the step make float64 themselves, once all that they read is float32, and
which arrays come into the step from outside. The latter are followed through the text of the program to the statements
that made them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Any, cast

import libcst as cst
import numpy as np

from mlpprof.advise.bindings import Binding, Bindings, Path, called
from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.source import NodeChange, SourceTree, expression, named_argument, replaced, transformed
from mlpprof.advise.syntax import node_at, numpy_name, span
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

RANDOM = frozenset(
    (
        *("randn", "rand", "standard_normal", "normal", "uniform", "random", "random_sample"),
        *("exponential", "laplace", "gamma", "beta", "truncnorm"),
    )
)
"""Functions that draw random float64 numbers. They have no dtype, or draw other numbers with another one."""

PLACE_OF_DTYPE = {
    "zeros": 1,
    "ones": 1,
    "empty": 1,
    "array": 1,
    "asarray": 1,
    "asanyarray": 1,
    "ascontiguousarray": 1,
    "asfortranarray": 1,
    "full": 2,
    "identity": 1,
    "eye": 3,
    "linspace": 5,
    "loadtxt": 1,
    "genfromtxt": 1,
    "fromiter": 1,
    "frombuffer": 1,
    "fromfile": 1,
}
"""NumPy's functions with a parameter `dtype` -> its place among the parameters."""

FILLED = frozenset(("zeros", "ones", "empty", "full", "eye", "identity", "linspace"))
"""Functions that make float64 if they are not asked for another dtype."""

LIKE_INPUT = frozenset(("zeros_like", "ones_like", "empty_like", "full_like", "deepcopy", "copy"))
"""Functions whose result has the dtype of their argument."""

VIEWS = frozenset(("reshape", "transpose", "ravel", "flatten", "squeeze", "copy", "swapaxes", "T", "toarray"))
"""Methods and attributes of an array that give the same elements."""

CONTAINERS = frozenset(
    ("list", "tuple", "zip", "enumerate", "reversed", "dict", "sorted", "iter", "next", "deque", "map")
)
"""Functions that give their arguments, or what is in them, in another container."""

SCALARS = frozenset(("sqrt", "log", "exp", "power", "float64", "square", "abs", "cos", "sin", "tanh", "log2", "log10"))
"""Functions that turn a number into a np.float64. An array of float32 times that is float64."""

NO_DOUBLES = frozenset(
    (
        *("item", "tolist", "len", "int", "str", "bool", "range", "round", "isinstance", "getattr"),
        *("argmax", "argmin", "argsort", "arange", "randint", "integers", "permutation", "nonzero", "bincount"),
    )
)
"""Functions that give no array, or one of integers: nothing about them has to change."""

REDUCTIONS = frozenset(("mean", "sum", "average", "max", "min", "std", "var", "prod", "median", "any", "all"))
"""Functions that give a single number, as an accuracy or a loss, unless they are asked for an axis."""

LISTS_OF_VIEWS = frozenset(("split", "array_split", "hsplit", "vsplit", "dsplit"))
"""Functions that give a list of views of their first argument: the list itself has no dtype."""

LISTS = frozenset(("meshgrid", "broadcast_arrays", "nonzero", "unravel_index"))
"""Other functions of NumPy that give several arrays in a list or tuple."""

JOINING = frozenset(("c_", "r_"))
"""Objects of NumPy that join the arrays in their brackets. They have no dtype themselves."""

TAKING = frozenset(("get", "pop", "popleft", "setdefault"))
"""Methods of containers that give an item, or None where there is none yet."""

DOUBLES = frozenset(("float", "np.float64", "numpy.float64", "'float64'", "np.double", "'float'", "'d'", "'f8'"))
"""Ways to write the dtype float64."""

SINGLE = ("float32", "float16")

DEEPEST_PATH = 4
"""Containers within containers are followed to this depth."""

MOST_NODES = 5_000
"""No more expressions are followed, so that a large program does not take seconds."""


@dataclass
class Changes:
    """What is changed: expression -> how. after: statement -> names that are converted after it.

    unsure: those among `astype` that call a function of which the text does not show that it gives an array.
    """

    astype: dict[ast.expr, None] = field(default_factory=dict)
    dtype: dict[ast.Call, None] = field(default_factory=dict)
    replaced: dict[ast.expr, None] = field(default_factory=dict)
    number: dict[ast.expr, None] = field(default_factory=dict)
    single: dict[ast.expr, None] = field(default_factory=dict)
    after: dict[ast.stmt, dict[str, None]] = field(default_factory=dict)
    unsure: dict[ast.expr, None] = field(default_factory=dict)

    def sure(self) -> Changes:
        """Without those of `unsure`."""
        kept = {node: None for node in self.astype if node not in self.unsure}
        return replace(self, astype=kept, unsure={})

    def nodes(self) -> list[ast.expr | ast.stmt]:
        """All nodes that are changed."""
        return [*self.astype, *self.dtype, *self.replaced, *self.number, *self.single, *self.after]


@dataclass(frozen=True)
class InSingle:
    """The cures, and the places that the first one changes: those that run for certain first, and of them the weights.

    The second cure, if there is one, leaves out the changes of calls that may give no array: those at `unsure`.
    """

    cures: tuple[Cure, ...]
    places: tuple[Site, ...]
    unsure: tuple[Site, ...]


def in_float32(graph: Graph) -> InSingle | None:
    """The program with every array of its step in float32; None if no place was found to change."""
    search = _Search(graph)
    search.step()
    changes = search.changes
    files, main = search.bindings.files, graph.trace.step_file
    nodes = changes.nodes()
    if not nodes or any(graph.is_ours(files[node]) for node in nodes):
        return None
    cures = [_cure(some, search.bindings, graph) for some in (changes, *([changes.sure()] if changes.unsure else ()))]
    found = tuple(one for one in cures if one is not None)
    if not found:
        return None

    def order(node: ast.expr | ast.stmt) -> tuple[bool | str | int, ...]:
        may_not_run = search.is_idle(node), search.is_in_branch(node)
        return (*may_not_run, files[node] != main, not _draws(node), files[node], node.lineno)

    changed = sorted(nodes, key=order)
    places, unsure = (
        tuple(dict.fromkeys(Site.of(files[node], node) for node in some)) for some in (changed, changes.unsure)
    )
    return InSingle(found, places, unsure)


def _cure(changes: Changes, bindings: Bindings, graph: Graph) -> Cure | None:
    files = dict.fromkeys(bindings.files[node] for node in changes.nodes())
    sources = {file: graph.trace.sources[file] for file in files}
    return transformed("precision", sources, {file: change_of(file, changes, bindings, graph) for file in files})


def _draws(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Call) and called(one) in RANDOM for one in ast.walk(node))


class _Search:
    """Looks for what must change."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.bindings = Bindings({path: tree for path, tree in graph.trees.items() if not graph.is_ours(path)})
        self.changes = Changes()
        self._seen: set[tuple[ast.AST, Path]] = set()
        self._aliases = {path: numpy_name(path, graph) for path in graph.trees}
        self._executed = {graph.span(event.site) for event in graph.turn if not event.is_own}
        self._shapes = {graph.span(event.site): event for event in graph.turn}

    # What the step does itself.

    def step(self) -> None:
        """Follow the recorded operations in their order, as if all that comes from outside were float32."""
        made: set[int] = set()
        from_arrays: set[int] = set()
        for event in self._graph.turn:
            output = event.output
            if event.is_own or self._graph.is_ours(self._graph.trace.sites[event.site].file):
                continue
            node = node_at(event, self._graph)
            if isinstance(node, ast.expr | ast.AugAssign | ast.Assign):
                for operand, value, path in self._operands(event, node):
                    # One of a single element, as the bias of one output, makes float64 of float32 too.
                    is_double = isinstance(value, np.ndarray) and value.dtype == np.float64 and value.ndim > 0
                    if is_double and self._graph_root(event, value) not in made:
                        self._follow(operand, path, True)
                is_from_arrays = any(one.dtype.startswith("float") for one in event.inputs)
                is_double = output is not None and output.is_array and output.dtype == "float64"
                if isinstance(node, ast.Subscript) and not is_from_arrays and is_double:
                    self._follow(node, (), True)  # an item of a container that is no list
                elif isinstance(node, ast.Call) and called(node) in TAKING and not event.kind:
                    self._called(node, (), True)
                elif isinstance(node, ast.expr):
                    self._made_here(event, node, from_arrays)
            if output is not None:
                if output.is_array:
                    made.add(output.root)
                else:
                    from_arrays.add(output.content)

    def _graph_root(self, event: Event, value: np.ndarray[Any, Any]) -> int:
        """The number of the buffer of an operand."""
        start = int(value.__array_interface__["data"][0])
        return next((one.root for one in event.inputs if one.is_array and one.start == start), -2)

    def _operands(self, event: Event, node: ast.AST) -> Iterator[tuple[ast.expr, Any, Path]]:
        """The expressions of an operation's operands, and what they were: the array itself, or one in a list."""
        nodes: list[ast.expr] = []
        values = list(event.operands)
        match node:
            case ast.BinOp():
                nodes = [node.left, node.right]
            case ast.UnaryOp():
                nodes = [node.operand]
            case ast.Compare():
                nodes = [node.left, *node.comparators]
            case ast.Subscript():
                nodes = [node.value, node.slice]
            case ast.AugAssign():
                nodes = [node.target, node.value]
            case ast.Assign(targets=[ast.Subscript() as target]):
                nodes = [target.value, target.slice, node.value]
            case ast.Call():
                nodes = list(node.args)
                owner = getattr(event.function, "__self__", None)
                if isinstance(node.func, ast.Attribute) and isinstance(owner, np.ndarray):
                    yield node.func.value, owner, ()
                for keyword in node.keywords:
                    if keyword.arg is not None and keyword.arg in event.options:
                        yield keyword.value, event.options[keyword.arg], ()
        for one, value in zip(nodes, values, strict=False):
            if isinstance(one, ast.Starred):
                return
            if isinstance(value, list | tuple):
                parts = one.elts if isinstance(one, ast.List | ast.Tuple) and len(one.elts) == len(value) else []
                yield from ((part, inner, ()) for part, inner in zip(parts, value, strict=False))
                if not parts:
                    yield from ((one, inner, (None,)) for inner in value[:1])
            else:
                yield one, value, ()

    def _made_here(self, event: Event, node: ast.expr, from_arrays: set[int]) -> None:
        """What makes this operation's result float64 although all that it reads is float32."""
        output = event.output
        if output is None or not output.is_array or output.dtype != "float64" or output.size <= 1:
            return
        if event.is_view:
            # ``np.asarray(data, dtype=float)`` gives the array itself as long as that is float64.
            if isinstance(node, ast.Call) and self._is_numpy(node) and (dtype := dtype_of(node)) is not None:
                self._replace_dtype(dtype)
            return
        if event.writes or self._is_only_compared(event):
            return
        if isinstance(node, ast.Call):
            if called(node) == "astype" and node.args:
                self._replace_dtype(node.args[0])
                return
            dtype = dtype_of(node)
            if dtype is not None:
                self._replace_dtype(dtype)
                return
            if called(node) in FILLED and self._is_numpy(node):
                self.changes.dtype[node] = None
                return
        arrays = [one for one in event.inputs if one.is_array]
        if not any(one.dtype.startswith("float") for one in arrays):
            if called(node) in LIKE_INPUT if isinstance(node, ast.Call) else False:
                return
            if isinstance(node, ast.Call) and called(node) in PLACE_OF_DTYPE and self._is_numpy(node):
                self.changes.dtype[node] = None
            elif isinstance(node, ast.Call) and called(node) == "where" and self._has_alias(node):
                self.changes.single[node.args[-1]] = None
            else:
                self.changes.astype[node] = None
            return
        if isinstance(node, ast.Subscript):
            return
        for operand, value, _ in self._operands(event, node):
            if isinstance(value, np.float64) and not isinstance(operand, ast.Constant):
                is_reduced = hash((type(value).__name__, repr(value))) in from_arrays
                if not is_reduced:
                    self._number(operand)
            elif isinstance(node, ast.BinOp) and _is_wide_integer(value):
                changed = self.changes.single if self._is_given(operand) else self.changes.astype
                changed[operand] = None

    def _is_given(self, node: ast.expr) -> bool:
        """Whether it is a parameter, which other calls may give a number that has no `astype`."""
        scope = self.bindings.scope(node)
        has_name = self._aliases.get(self.bindings.files[node]) is not None
        if not isinstance(scope, ast.FunctionDef) or not isinstance(node, ast.Name):
            return False
        return has_name and any(isinstance(one, ast.arg) and one.arg == node.id for one in ast.walk(scope.args))

    def _is_only_compared(self, event: Event) -> bool:
        """Whether the result is only compared with something, as the random numbers of a dropout mask."""
        assert event.output is not None
        readers = [
            one
            for one in self._graph.turn
            if one.index > event.index and any(value.root == event.output.root for value in one.inputs)
        ]
        return bool(readers) and all(one.output is not None and one.output.dtype == "bool" for one in readers)

    def _number(self, node: ast.expr) -> None:
        """A np.float64 that was computed from numbers becomes a float of Python, which leaves float32 as it is."""
        if any(self._graph.span(one.site) in self._executed for one in self._events_in(node)):
            return
        if isinstance(node, ast.Name | ast.Attribute):
            known = self.bindings.of_name(node) if isinstance(node, ast.Name) else self.bindings.of_attribute(node.attr)
            for one in known:
                if not one.path and not one.is_item and (one.value, ()) not in self._seen:
                    self._seen.add((one.value, ()))
                    self._number(one.value)
            return
        if any(isinstance(one, ast.Call) and called(one) in SCALARS | RANDOM for one in ast.walk(node)):
            self.changes.number[node] = None
            return
        if isinstance(node, ast.BinOp):
            self._number(node.left)
            self._number(node.right)
        elif isinstance(node, ast.Call) and called(node) in self.bindings.functions:
            for value, _ in self.bindings.returns(called(node)):
                self._number(value)

    def _events_in(self, node: ast.expr) -> list[Event]:
        file = self.bindings.files[node]
        start, end = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
        return [
            event
            for span, event in self._shapes.items()
            if span[0] == file and start <= span[1:3] and span[3:] <= end and not event.is_own
        ]

    def _replace_dtype(self, node: ast.expr) -> None:
        """float64 where a dtype is written; or where the name of the dtype gets its value."""
        if ast.unparse(node) in DOUBLES:
            self.changes.replaced[node] = None
        elif isinstance(node, ast.Name | ast.Attribute) and (node, ()) not in self._seen:
            self._seen.add((node, ()))
            known = self.bindings.of_name(node) if isinstance(node, ast.Name) else self.bindings.of_attribute(node.attr)
            if isinstance(node, ast.Attribute) and node.attr == "dtype":
                self._follow(node.value, (), True)
            for one in known:
                self._replace_dtype(one.value)

    # What comes from outside.

    def _follow(self, node: ast.expr, path: Path, is_exact: bool) -> None:
        """Find what makes the value of an expression, and make it float32.

        path: which part of the value; a part of an array is the array. is_exact: it is certain that this part is an
        array of float64.
        """
        is_endless = len(path) > DEEPEST_PATH or len(self._seen) > MOST_NODES  # as from ``x = x[rows]`` in a loop
        if is_endless or (node, path) in self._seen or node not in self.bindings.files:
            return
        self._seen.add((node, path))
        is_executed = (self.bindings.files[node], *span(node)) in self._executed
        match node:
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                head, rest = (path[0], path[1:]) if path else (None, ())
                is_known = isinstance(head, int) and 0 <= head < len(parts) and isinstance(node, ast.Tuple)
                for part in [parts[head]] if is_known and isinstance(head, int) else parts:
                    self._follow(part, rest, is_exact and bool(path))
            case ast.Dict(keys=keys, values=values):
                head, rest = (path[0], path[1:]) if path else (None, ())
                for key, value in zip(keys, values, strict=True):
                    if head is None or not isinstance(key, ast.Constant) or key.value == head:
                        self._follow(value, rest, is_exact and bool(path))
            case ast.Name():
                for one in self.bindings.of_name(node):
                    self._bound(one, path, is_exact)
            case ast.Attribute(value=owner, attr=name):
                known = self.bindings.of_attribute(name) or self._in_module(node)
                for one in known:
                    self._bound(one, path, is_exact)
                if not known and name in VIEWS:
                    self._follow(owner, path, is_exact)
                elif not (known or is_executed or self._is_of_numpy(node)) and is_exact and _is_whole(path):
                    self.changes.astype[node] = None
            case ast.Subscript(value=ast.Attribute() as joined, slice=key) if self._joins(joined):
                if is_exact and not any(path) and not is_executed and not _is_single(node):
                    self.changes.astype[node] = None
                elif not is_executed:
                    for part in key.elts if isinstance(key, ast.Tuple) else [key]:
                        self._follow(part, (), False)
            case ast.Subscript(value=owner, slice=key):
                held = key.value if isinstance(key, ast.Constant) and isinstance(key.value, int | str) else None
                self._follow(owner, path if self._takes_part(node, key) else (held, *path), is_exact)
            case ast.Starred(value=inner) | ast.NamedExpr(value=inner):
                self._follow(inner, path, is_exact)
            case ast.IfExp(body=first, orelse=second):
                self._follow(first, path, is_exact)
                self._follow(second, path, is_exact)
            case ast.BoolOp(values=values):
                for value in values:
                    self._follow(value, path, is_exact)
            case ast.ListComp(elt=element) | ast.GeneratorExp(elt=element) | ast.DictComp(value=element):
                self._follow(element, path[1:], is_exact and bool(path))
            case ast.Call() if not is_executed or called(node) in CONTAINERS:
                self._called(node, path, is_exact)
            case ast.BinOp(left=left, right=right) if not is_executed:
                is_sum = isinstance(node.op, ast.Add) and bool(path) and not self._makes(node)
                is_list = isinstance(left, ast.List | ast.ListComp) or isinstance(right, ast.List | ast.ListComp)
                is_beside = self._is_in_step(node) and not self._makes(node)  # a branch of the step that did not run
                is_made = (is_exact and not is_beside) or self._makes(node)
                if not is_sum and not is_list and is_made and not _is_single(node):
                    self.changes.astype[node] = None
                else:
                    self._follow(left, path, False)
                    self._follow(right, path, False)
            case ast.UnaryOp(operand=inner) if not is_executed:
                self._follow(inner, path, is_exact)

    def _is_in_step(self, node: ast.expr) -> bool:
        """Whether an expression is in a function that the step has called, or between lines that the step has run."""
        scope = self.bindings.scope(node)
        lines = self._scopes.get(scope) if scope is not None else None
        return lines is not None and lines[0] <= node.lineno <= lines[1]

    @cached_property
    def _scopes(self) -> dict[ast.AST, tuple[float, float]]:
        """The functions of which the step has executed something, and which of their lines belong to it.

        All of a function that the step has called; of the one around the step, what comes before is no part of it.
        """
        found: dict[ast.AST, tuple[float, float]] = {}
        for event in self._shapes.values():
            node = node_at(event, self._graph)
            scope = self.bindings.scope(node) if node is not None else None
            if node is not None and scope is not None:
                first, last = found.get(scope, (inf, -inf))
                found[scope] = (-inf, inf) if event.calls else (min(first, node.lineno), max(last, node.lineno))
        return found

    def is_idle(self, node: ast.AST) -> bool:
        """Whether it is in a class of which the step has run no method, as a layer that the network does not have."""
        scope = self.bindings.scope(node)
        owner = self.bindings.parents.get(scope) if scope is not None else None
        return isinstance(owner, ast.ClassDef) and not any(self.bindings.parents.get(s) is owner for s in self._scopes)

    def is_in_branch(self, node: ast.AST) -> bool:
        """Whether it may not have run when its function was called, as one of the ways to initialise the weights."""
        scope, inner, outer = self.bindings.scope(node), node, self.bindings.parents.get(node)
        while outer is not None and inner is not scope:
            is_of_test = inner is getattr(outer, "test", None)
            is_branch = isinstance(outer, ast.If | ast.IfExp | ast.ExceptHandler) and not is_of_test
            if is_branch and not (isinstance(outer, ast.If) and "__name__" in ast.unparse(outer.test)):
                return True
            inner, outer = outer, self.bindings.parents.get(outer)
        return False

    def _bound(self, binding: Binding, path: Path, is_exact: bool) -> None:
        """Follow what a name or an attribute was bound to."""
        if binding.is_item:
            is_other = bool(path) and None not in (path[0], binding.key) and path[0] != binding.key
            if path and not is_other:  # what is stored into an array does not change its dtype
                self._follow(binding.value, (*binding.path, *path[1:]), is_exact)
            return
        is_unpacked = bool(binding.path) and not any(path) and isinstance(binding.node, ast.Assign)
        if is_exact and is_unpacked and isinstance(binding.target, ast.Name) and self._is_foreign(binding.value):
            assert isinstance(binding.node, ast.Assign)
            if binding.target.id not in self._converted_after(binding.node):
                self.changes.after.setdefault(binding.node, {})[binding.target.id] = None
            return
        self._follow(binding.value, (*binding.path, *path), is_exact)

    def _converted_after(self, statement: ast.stmt) -> set[str]:
        """The names that the statements right after one convert, as `X = X.astype(...)`: the dtype changes there."""
        block = getattr(self.bindings.parents.get(statement), "body", [])
        found = set[str]()
        for later in block[block.index(statement) + 1 :] if statement in block else ():
            match later:
                case ast.Assign(
                    targets=[ast.Name(id=name)],
                    value=ast.Call(func=ast.Attribute(value=ast.Name(id=source), attr="astype")),
                ) if name == source:
                    found.add(name)
                case _:
                    break
        return found

    def _takes_part(self, node: ast.Subscript, key: ast.expr) -> bool:
        """Whether an item is a part of an array, and not an element of a list."""
        event = self._shapes.get((self.bindings.files[node], *span(node)))
        if event is not None and event.operands:
            return isinstance(event.operands[0], np.ndarray) and event.operands[0].dtype != object
        return isinstance(key, ast.Slice) or (isinstance(key, ast.Tuple) and len(key.elts) > 1)

    def _in_module(self, node: ast.Attribute) -> list[Binding]:
        """The values of ``module.name``."""
        if not isinstance(node.value, ast.Name):
            return []
        found = ast.Name(node.attr, ast.Load(), lineno=10**9)
        for file, tree in self._graph.trees.items():
            if file.endswith(f"{node.value.id}.py"):
                self.bindings.files[found], self.bindings.parents[found] = file, tree
                return self.bindings.of_name(found)
        return []

    def _called(self, node: ast.Call, path: Path, is_exact: bool) -> None:
        """Follow a call that is not part of the step."""
        name = called(node)
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        is_numpy = self._is_numpy(node)
        is_whole = not any(path) if is_numpy else not path  # part 0 of what another function gives may be of a tuple
        event = self._shapes.get((self.bindings.files[node], *span(node)))
        if event is not None and event.is_own:  # also through a variable that holds the function
            # An object that is called has no name: what has run is the `__call__` of its class.
            self._returned(getattr(event.function, "__name__", "__call__"), path, is_exact)
        elif name in self.bindings.functions and not is_numpy:
            self._returned(name, path, is_exact)
        elif name in self.bindings.classes or _is_single(node) or _is_no_double(node):
            return
        elif name == "astype" and node.args:
            self._replace_dtype(node.args[0])
        elif (dtype := dtype_of(node)) is not None:
            self._replace_dtype(dtype)
        elif name in LIKE_INPUT and (node.args or owner is not None):
            argument = node.args[0] if node.args else owner
            assert argument is not None
            self._follow(argument, path, is_exact)
        elif is_numpy and name in LISTS_OF_VIEWS and node.args:
            self._follow(node.args[0], path[1:], is_exact and bool(path))
        elif is_numpy and name in LISTS:
            for argument in node.args:
                self._follow(argument, (), False)
        elif not is_numpy and name in CONTAINERS:
            self._in_container(node, name, path, is_exact)
        elif owner is not None and not is_numpy and name in TAKING | {"values", "items"}:
            rest = path[2:] if name == "items" else path[1:] if name == "values" else path
            self._follow(owner, (None, *rest), is_exact)
        elif is_numpy and (name in FILLED or (name in PLACE_OF_DTYPE and (is_exact or self._makes(node)))):
            self.changes.dtype[node] = None
        elif name in RANDOM and name not in self.bindings.functions and _is_array(node):
            self.changes.astype[node] = None
        elif name in VIEWS and not is_numpy and owner is not None and not self._makes(node):
            self._follow(owner, path, is_exact)
        elif (self._makes(node) and not path) or (is_exact and is_whole and name not in SCALARS | {"float"}):
            self.changes.astype[node] = None
            if not is_numpy:
                self.changes.unsure[node] = None
        else:
            for argument in node.args:
                self._follow(argument, (), False)

    def _returned(self, name: str, path: Path, is_exact: bool) -> None:
        """Follow what functions of the program return."""
        for value, is_yielded in self.bindings.returns(name):
            self._follow(value, path[1:] if is_yielded else path, is_exact)

    def _in_container(self, node: ast.Call, name: str, path: Path, is_exact: bool) -> None:
        """Follow what one of Python's functions for containers gives."""
        first = node.args[0] if node.args else None
        position = path[1] if len(path) > 1 else None
        match name:
            case "zip":
                chosen = node.args
                if isinstance(position, int) and position < len(node.args):
                    chosen = [node.args[position]]
                for one in chosen:
                    self._follow(one, (*path[:1], *path[2:]), is_exact)
            case "enumerate" if first is not None:
                if position in (None, 1):
                    self._follow(first, (*path[:1], *path[2:]), is_exact)
            case "list" | "tuple" | "reversed" | "sorted" | "iter" | "deque" if first is not None:
                self._follow(first, path, is_exact)
            case "next" if first is not None:
                self._follow(first, (None, *path), is_exact)
            case "dict" if first is not None:
                self._follow(first, (None, 1, *path[1:]), is_exact)
            case "map" if first is not None:
                if isinstance(first, ast.Lambda):
                    self._follow(first.body, path[1:], is_exact)
                elif isinstance(first, ast.Name):
                    self._returned(first.id, path[1:], is_exact)
            case "dict":
                for keyword in node.keywords:
                    if not path or path[0] in (None, keyword.arg):
                        self._follow(keyword.value, path[1:], is_exact and bool(path))

    def _is_foreign(self, value: ast.expr) -> bool:
        """Whether a value comes from a call of a library, whose parts have no text here."""
        if isinstance(value, ast.Subscript | ast.Attribute):
            return self._is_foreign(value.value)
        if not isinstance(value, ast.Call) or called(value) in CONTAINERS:
            return False
        if called(value) not in self.bindings.functions:
            return True
        # What a function of the program passes on from one that a variable holds has no text either.
        returned = [one for one, _ in self.bindings.returns(called(value))]
        return bool(returned) and all(
            isinstance(one, ast.Call) and called(one) not in self.bindings.functions and self._is_foreign(one)
            for one in returned
        )

    def _is_numpy(self, node: ast.Call) -> bool:
        """Whether a call is that of a function of NumPy, as far as the text shows it."""
        alias = self._aliases.get(self.bindings.files[node])
        owner: ast.expr = node.func
        while isinstance(owner, ast.Attribute):
            owner = owner.value
        if isinstance(owner, ast.Name) and isinstance(node.func, ast.Attribute):
            return owner.id == alias
        return isinstance(node.func, ast.Name) and node.func.id not in self.bindings.functions and alias is None

    def _is_of_numpy(self, node: ast.Attribute) -> bool:
        """Whether an expression is a name of the module NumPy, as ``np.c_``, which is no array."""
        alias = self._aliases.get(self.bindings.files[node])
        return isinstance(node.value, ast.Name) and node.value.id == alias

    def _joins(self, node: ast.Attribute) -> bool:
        return node.attr in JOINING and self._is_of_numpy(node)

    def _has_alias(self, node: ast.Call) -> bool:
        return self._is_numpy(node) and self._aliases.get(self.bindings.files[node]) is not None

    def _makes(self, node: ast.expr) -> bool:
        """Whether an array of float64 is made within an expression, unless it becomes one of float32."""
        return any(
            isinstance(one, ast.Call)
            and _is_array(one)
            and ((called(one) in FILLED and self._is_numpy(one)) or called(one) in RANDOM)
            and called(one) not in self.bindings.functions
            for one in ast.walk(node)
        )


def _is_wide_integer(value: object) -> bool:
    """Whether an array has integers of so many bits that they and float32 together become float64."""
    is_array = isinstance(value, np.ndarray) and value.size > 1
    return is_array and value.dtype.kind in "iu" and value.dtype.itemsize > 2  # type: ignore[attr-defined]  # it is an array


def dtype_of(node: ast.Call) -> ast.expr | None:
    """The dtype that a call asks for."""
    for keyword in node.keywords:
        if keyword.arg == "dtype":
            return keyword.value
    place = PLACE_OF_DTYPE.get(called(node))
    return node.args[place] if place is not None and len(node.args) > place else None


def _is_no_double(node: ast.Call) -> bool:
    """Whether a call gives no array of float64: a number, integers, or a container that is still empty."""
    name = called(node)
    is_method = isinstance(node.func, ast.Attribute) and not node.args
    has_axis = any(keyword.arg == "axis" for keyword in node.keywords) or (len(node.args) > (0 if is_method else 1))
    return name in NO_DOUBLES or (name in REDUCTIONS and not has_axis)


def _is_array(node: ast.Call) -> bool:
    """Whether a call makes an array: a function that draws numbers gives a single one without a size."""
    inner = [one for one in ast.walk(node) if isinstance(one, ast.Call) and called(one) in RANDOM]
    for one in inner or [node]:
        name = called(one)
        has_size = any(keyword.arg == "size" for keyword in one.keywords)
        least = {"normal": 3, "uniform": 3, "gamma": 3, "laplace": 3, "beta": 3, "exponential": 2}.get(name, 1)
        if name not in RANDOM or has_size or len(one.args) >= least:
            return True
    return False


def _is_whole(path: Path) -> bool:
    """Whether a path leads to a whole value, or to a part of no certain number or name, as a row of an array."""
    return all(part is None for part in path)


def _is_single(node: ast.expr) -> bool:
    """Whether an expression is float32 already, as far as its text shows it."""
    text = ast.unparse(node)
    has_scalars = any(isinstance(one, ast.Call) and called(one) in SCALARS for one in ast.walk(node))
    is_last = isinstance(node, ast.Call) and any(one in ast.unparse(node) for one in SINGLE)
    return any(one in text for one in SINGLE) and (not has_scalars or is_last)


def change_of(
    file: str, changes: Changes, bindings: Bindings, graph: Graph, dtype: str = "float32"
) -> Callable[[cst.Module], cst.Module]:
    """The change of one file. dtype: the new one."""
    alias = numpy_name(file, graph)
    wanted = f"'{dtype}'" if alias is None else f"{alias}.{dtype}"

    def cast_to(node: cst.CSTNode) -> cst.CSTNode:
        inner = cast(cst.BaseExpression, node)
        needs = not isinstance(inner, cst.Name | cst.Attribute | cst.Call | cst.Subscript)
        if needs and not inner.lpar:
            inner = inner.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        return cst.Call(cst.Attribute(inner, cst.Name("astype")), [cst.Arg(expression(wanted))])

    def with_dtype(node: cst.CSTNode) -> cst.CSTNode:
        assert isinstance(node, cst.Call)
        added = named_argument("dtype", wanted)
        *before, last = node.args
        comma: Any = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
        if isinstance(last.comma, cst.Comma):  # a trailing comma, and what follows it, stay at the end
            added = added.with_changes(comma=last.comma)
            comma = before[-1].comma if before else comma
        return node.with_changes(args=[*before, last.with_changes(comma=comma), added])

    def float_of(node: cst.CSTNode) -> cst.CSTNode:
        inner = cast(cst.BaseExpression, node).with_changes(lpar=[], rpar=[])
        return cst.Call(cst.Name("float"), [cst.Arg(inner)])

    def single_of(node: cst.CSTNode) -> cst.CSTNode:
        inner = cast(cst.BaseExpression, node).with_changes(lpar=[], rpar=[])
        return cst.Call(expression(wanted), [cst.Arg(inner)])

    def followed_by(names: dict[str, None]) -> NodeChange:
        def make(node: cst.CSTNode) -> object:
            added = [cst.parse_statement(f"{name} = {name}.astype({wanted})") for name in names]
            return cst.FlattenSentinel([cast(cst.BaseStatement, node), *added])

        return make

    def change(module: cst.Module) -> cst.Module:
        tree = SourceTree(graph.trace.sources[file])
        nodes: dict[cst.CSTNode, NodeChange] = {}
        outer = {id(one) for node in changes.astype for one in ast.walk(node) if one is not node}
        for one in ast.walk(graph.trees[file]):  # what the program casts already needs no second cast
            match one:
                case ast.Call(func=ast.Attribute(value=inner, attr="astype"), args=[to, *_]) if (
                    ast.unparse(to) == wanted
                ):
                    outer |= {id(one), id(inner)} & set(map(id, changes.astype))
        for held, make in (
            (changes.astype, cast_to),
            (changes.dtype, with_dtype),
            (changes.number, float_of),
            (changes.single, single_of),
            (changes.replaced, lambda node: expression(wanted)),
        ):
            for node in held:
                # Within an expression that becomes float32 as a whole, nothing else has to.
                found = tree.of(Site.of(file, node)) if bindings.files[node] == file and id(node) not in outer else None
                if found is not None:
                    nodes[found] = make
        for statement, names in changes.after.items():
            line = tree.statement_at(statement.lineno) if bindings.files[statement] == file else None
            if isinstance(line, cst.SimpleStatementLine):
                nodes[line] = followed_by(names)
        return replaced(tree.module, nodes)

    return change
