"""Where the values of names, attributes and items come from, as far as the text of a program shows it.

Nothing is executed, and the order of statements hardly matters: every statement that may have bound a name counts,
except those that a later one in the same block replaces.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlpprof.advise.syntax import last_name

Function = ast.FunctionDef | ast.AsyncFunctionDef
Path = tuple[int | str | None, ...]
"""Which part of a value is meant: the index or the key at each level. None is any of them."""

KEEPING = frozenset(("append", "extend", "insert", "appendleft"))
"""Methods of lists that keep their last argument."""


@dataclass(frozen=True)
class Binding:
    """One value that a name, an attribute or an item of it may have.

    node: the statement (or the generator of a comprehension). target: what is bound, None for the parameter of a
    function and for an item that is added. path: which part of the value, for a tuple of targets: (0, 1) is
    ``value[0][1]``. is_item: the value becomes an item of what is bound. is_element: the items of the value are bound,
    as by a loop. key: the key of the item, if it is a constant.
    """

    file: str
    node: ast.AST
    value: ast.expr
    target: ast.expr | None = None
    path: Path = ()
    is_item: bool = False
    key: int | str | None = None


class Bindings:
    """The bindings of a program's files. trees: path -> parsed file."""

    def __init__(self, trees: Mapping[str, ast.Module]) -> None:
        self.parents: dict[ast.AST, ast.AST] = {}
        self.files: dict[ast.AST, str] = {}
        self.functions: dict[str, list[Function]] = defaultdict(list)
        self.classes: dict[str, list[ast.ClassDef]] = defaultdict(list)
        self._calls: dict[str, list[ast.Call]] = defaultdict(list)
        self._names: dict[tuple[ast.AST | None, str], list[Binding]] = defaultdict(list)
        self._attributes: dict[str, list[Binding]] = defaultdict(list)
        self._globals: set[tuple[ast.AST | None, str]] = set()
        for file, tree in trees.items():
            for node in ast.walk(tree):
                self.files[node] = file
                for child in ast.iter_child_nodes(node):
                    self.parents[child] = node
        for node in [one for tree in trees.values() for one in ast.walk(tree)]:
            self._note(node)

    def _note(self, node: ast.AST) -> None:
        file = self.files[node]
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.functions[node.name].append(node)
            case ast.ClassDef():
                self.classes[node.name].append(node)
            case ast.Global(names=names):
                self._globals |= {(self.scope(node), name) for name in names}
            case ast.Call():
                self._calls[called(node)].append(node)
                if isinstance(node.func, ast.Attribute) and node.func.attr in KEEPING and node.args:
                    self._bind(node.func.value, Binding(file, node, node.args[-1], is_item=True))
                if isinstance(node.func, ast.Attribute) and node.func.attr == "update" and len(node.args) == 1:
                    self._items(file, node, node.func.value, node.args[0])
            case ast.Assign():
                for target in node.targets:
                    self._target(file, node, target, node.value, ())
            case ast.AnnAssign(value=ast.expr() as value) | ast.NamedExpr(value=value):
                self._target(file, node, node.target, value, ())
            case ast.AugAssign(op=ast.BitOr()):
                self._items(file, node, node.target, node.value)
            case ast.AugAssign(value=ast.List() | ast.Tuple() | ast.ListComp()):
                self._target(file, node, node.target, node.value, ())
            case ast.For() | ast.comprehension():
                self._target(file, node, node.target, node.iter, (None,))
            case ast.With():
                for item in node.items:
                    if item.optional_vars is not None:
                        self._target(file, node, item.optional_vars, item.context_expr, ())

    def _items(self, file: str, node: ast.AST, target: ast.expr, added: ast.expr) -> None:
        """The items that a dictionary written out adds to what is bound."""
        if isinstance(added, ast.Dict):
            for key, value in zip(added.keys, added.values, strict=True):
                held = key.value if isinstance(key, ast.Constant) and isinstance(key.value, int | str) else None
                self._bind(target, Binding(file, node, value, is_item=True, key=held))

    def _target(self, file: str, node: ast.AST, target: ast.expr, value: ast.expr, path: Path) -> None:
        match target:
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                known = value.elts if isinstance(value, ast.Tuple | ast.List) and not path else []
                for number, part in enumerate(parts):
                    if len(known) == len(parts):
                        self._target(file, node, part, known[number], ())
                    else:
                        self._target(file, node, part, value, (*path, number))
            case ast.Starred(value=inner):
                self._target(file, node, inner, value, path[:-1])
            case ast.Subscript(value=owner, slice=key):
                held = key.value if isinstance(key, ast.Constant) and isinstance(key.value, int | str) else None
                self._bind(owner, Binding(file, node, value, target, path, True, held))
            case _:
                self._bind(target, Binding(file, node, value, target, path))

    def _bind(self, target: ast.expr, binding: Binding) -> None:
        match target:
            case ast.Name(id=name):
                self._names[self.scope(target), name].append(binding)
            case ast.Attribute(attr=name):
                self._attributes[name].append(binding)
            case ast.Subscript(value=owner):
                self._bind(owner, binding)

    def scope(self, node: ast.AST) -> Function | ast.Lambda | None:
        """The function around a node; None at the top of a file. The body of a class belongs to what is around it."""
        found = self.parents.get(node)
        while found is not None and not isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found = self.parents.get(found)
        return found

    def of_name(self, name: ast.Name) -> list[Binding]:
        """The values that a name may have where it stands."""
        scope: Function | ast.Lambda | None = self.scope(name)
        while scope is not None:
            held = [] if (scope, name.id) in self._globals else [*self._names.get((scope, name.id), ())]
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) and name.id in _parameters(scope):
                return [*self._latest(held, name), *self._arguments(scope, name.id, held, name)]
            if not all(one.is_item for one in held):
                return self._latest(held, name)
            scope = self.scope(scope)
        here = [one for one in self._names.get((None, name.id), ()) if one.file == self.files[name]]
        at_top = here or list(self._names.get((None, name.id), ()))  # imported from another file of the program
        in_functions = [
            one
            for (where, known), bindings in self._names.items()
            if known == name.id and where is not None and self._is_global(where, known, bindings)
            for one in bindings
        ]
        return [*(self._latest(at_top, name) if self.scope(name) is None else at_top), *in_functions]

    def _is_global(self, scope: ast.AST, name: str, bindings: list[Binding]) -> bool:
        """Whether a function binds a name of its file: it declares that, or it only stores items."""
        is_parameter = isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) and name in _parameters(scope)
        return (scope, name) in self._globals or (not is_parameter and all(one.is_item for one in bindings))

    def of_attribute(self, name: str) -> list[Binding]:
        """The values that an attribute of this name may have, in any class."""
        in_classes = [
            one
            for (_, known), bindings in self._names.items()
            if known == name
            for one in bindings
            if isinstance(self.parents.get(one.node), ast.ClassDef)
        ]
        return [*self._attributes.get(name, ()), *in_classes]

    def returns(self, name: str) -> list[tuple[ast.expr, bool]]:
        """What the program's functions of this name return or yield, and whether they yield it."""
        return [
            (node.value, isinstance(node, ast.Yield))
            for function in self.functions.get(name, ())
            for node in ast.walk(function)
            if isinstance(node, ast.Return | ast.Yield) and node.value is not None and self.scope(node) is function
        ]

    def statement(self, node: ast.AST) -> ast.stmt | None:
        """The statement that a node is in."""
        found: ast.AST | None = node
        while found is not None and not isinstance(found, ast.stmt):
            found = self.parents.get(found)
        return found

    def _latest(self, bindings: list[Binding], use: ast.Name) -> list[Binding]:
        """Without those that another one, directly in the body around the use, has replaced before it."""
        scope = self.scope(use)
        body = scope.body if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) else None
        last = 0
        for one in bindings:
            parent = self.parents.get(one.node)
            is_direct = parent is scope if body is not None else isinstance(parent, ast.Module)
            is_whole = isinstance(one.node, ast.Assign | ast.AnnAssign) and not one.is_item
            line = getattr(one.node, "lineno", 0)
            if is_direct and is_whole and last < line < use.lineno:
                last = line
        return [one for one in bindings if getattr(one.node, "lineno", last) >= last]

    def _arguments(self, function: Function, name: str, bindings: list[Binding], use: ast.Name) -> Iterator[Binding]:
        """What calls of a function give for a parameter, unless the function has replaced it before the use."""
        for one in bindings:
            is_whole = isinstance(one.node, ast.Assign) and not one.is_item and self.parents[one.node] is function
            if is_whole and one.node.lineno < use.lineno:  # type: ignore[attr-defined]  # a statement
                return
        owner = self.parents.get(function)
        positions = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
        is_static = any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in function.decorator_list)
        if isinstance(owner, ast.ClassDef) and not is_static:
            positions = positions[1:]
        names = [function.name]
        if isinstance(owner, ast.ClassDef) and function.name == "__init__":
            heirs = [one.name for held in self.classes.values() for one in held if _inherits(one, owner.name)]
            names = [owner.name, *heirs, "__init__"]
        for call in [one for known in names for one in self._calls.get(known, ())]:
            keywords = [one.value for one in call.keywords if one.arg == name]
            place = positions.index(name) if name in positions else len(call.args)
            starred = next((n for n, one in enumerate(call.args) if isinstance(one, ast.Starred)), len(call.args))
            if keywords:
                yield Binding(self.files[call], call, keywords[0])
            elif place < starred:
                yield Binding(self.files[call], call, call.args[place])
            elif name in positions and starred < len(call.args):
                inner = call.args[starred]
                assert isinstance(inner, ast.Starred)
                yield Binding(self.files[call], call, inner.value, path=(place - starred,))


def called(node: ast.Call) -> str:
    """The name of what is called, without the owner's."""
    return last_name(node.func)


def _parameters(function: Function) -> set[str]:
    held = function.args
    return {one.arg for one in (*held.posonlyargs, *held.args, *held.kwonlyargs)}


def _inherits(node: ast.ClassDef, name: str) -> bool:
    return any(isinstance(base, ast.Name) and base.id == name for base in node.bases)
