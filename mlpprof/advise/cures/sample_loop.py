"""The edit that replaces a loop over samples by the same statements for all samples at once."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.recorded_code import code_of
from mlpprof.advise.editing.sample_to_batch import Batch, Form, Layout, NotBatched
from mlpprof.advise.editing.source import NodeChange, SourceTree, expression, replaced, statement, transformed
from mlpprof.advise.syntax import last_name
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


@dataclass(frozen=True)
class Attempt:
    """The edit, or why there is none. of_functions: the functions that it changes as well."""

    cure: Cure | None
    why_not: str = ""


def attempt(site: Site, turns: Sequence[Sequence[Event]], length: int, graph: Graph) -> Attempt:
    """The edit of a loop. turns: its recorded turns; length: of what it runs over, or -1 if that has none."""
    try:
        cure = transformed("safe", graph.trace.sources, _changes(site, turns, length, graph))
    except NotBatched as reason:
        return Attempt(None, str(reason))
    except cst.ParserSyntaxError:
        return Attempt(None, "a syntax that LibCST does not read")
    return Attempt(cure, "" if cure is not None else "the loop as it is written")


def _changes(
    site: Site, turns: Sequence[Sequence[Event]], length: int, graph: Graph
) -> dict[str, Callable[[cst.Module], cst.Module]]:
    trees = {site.file: SourceTree(graph.trace.sources[site.file])}
    tree = trees[site.file]
    loop = next((node for node in tree.all_at(site) if isinstance(node, cst.For)), None)
    if loop is None or len(turns) < 3:
        raise NotBatched("a loop without a `for` statement")
    _require_plain(loop, tree)
    batch = Batch(turns, graph, trees)
    header = _Header(loop, length, batch, tree, _is_range(site, graph))
    called_elsewhere = _called_elsewhere(turns, graph)
    inside = set(_within(loop))
    nodes: dict[str, dict[cst.CSTNode, NodeChange]] = {site.file: {}}
    for node in {*batch.forms, *batch.sums}:
        file = batch.file_of[node]
        is_shared = node not in inside and _function_of(node, trees[file]) in called_elsewhere
        rewriter = _Rewriter(trees[file], header if file == site.file else None, is_shared)
        make = _remade(node, batch, rewriter)
        if make is not None:
            if graph.is_ours(file):
                raise NotBatched(f"a function of {graph.shown(file)}")
            nodes.setdefault(file, {})[node] = make
    nodes[site.file][loop] = header.unrolled
    return {file: _replacing(trees[file], made) for file, made in nodes.items() if made}


def _is_range(site: Site, graph: Graph) -> bool:
    """Whether a loop runs over a parameter for which every call gives a range that a slice can replace."""
    code = code_of(graph)
    loop = code.node_of(site)
    if not isinstance(loop, ast.For) or not isinstance(loop.iter, ast.Name):
        return False
    function, name = code.scope(loop), loop.iter.id
    if not isinstance(function, ast.FunctionDef) or len(code.functions(function.name)) != 1:
        return False
    if function.decorator_list:  # a static method has no `self`, and other decorators may change the arguments
        return False
    names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    if name not in names or len(code.bindings(name, function)) != 1 or any(code.texts_of_importers({site.file})):
        return False
    place = names.index(name) - (code.owner(function) is not None)
    uses = [one for one in code.nodes if isinstance(one, ast.Name | ast.Attribute) and last_name(one) == function.name]
    calls = [code.parent(use) for use in uses]
    return bool(calls) and all(
        isinstance(call, ast.Call) and call.func is use and len(call.args) > place and _counts_up(call.args[place])
        for use, call in zip(uses, calls, strict=True)
    )


def _counts_up(node: ast.expr) -> bool:
    """Whether it is a range in steps of one, in whose ends nothing is negative or subtracted."""
    match node:
        case ast.Call(func=ast.Name(id="range"), args=[_] | [_, _] as ends, keywords=[]):
            # A range to -1 is empty, but a slice to -1 has all elements except the last one.
            return not any(isinstance(one, ast.Sub | ast.USub) for end in ends for one in ast.walk(end))
    return False


def _replacing(tree: SourceTree, nodes: dict[cst.CSTNode, NodeChange]) -> Callable[[cst.Module], cst.Module]:
    return lambda module: replaced(tree.module, nodes)


def _function_of(node: cst.CSTNode, tree: SourceTree) -> str:
    """The name of the function that an expression stands in; '' if there is none."""
    parents = tree.parents()
    while node in parents and not isinstance(node, cst.FunctionDef):
        node = parents[node]
    return node.name.value if isinstance(node, cst.FunctionDef) else ""


def _called_elsewhere(turns: Sequence[Sequence[Event]], graph: Graph) -> frozenset[str]:
    """Names of functions that are called at places which the turns of the loop have not passed."""
    sites = [graph.trace.sites[event.site] for turn in turns for event in turn if event.is_own]
    passed = {(site.file, site.line, site.column) for site in sites}
    found = set()
    for file, tree in graph.trees.items():
        for node in ast.walk(tree) if not graph.is_ours(file) else ():
            if isinstance(node, ast.Call) and (file, node.lineno, node.col_offset) not in passed:
                found.add(last_name(node.func))
    return frozenset(found)


def _require_plain(loop: cst.For, tree: SourceTree) -> None:
    """Raise NotBatched if the loop does something that is not done once for all samples."""
    if loop.orelse is not None or loop.asynchronous is not None or not isinstance(loop.body, cst.IndentedBlock):
        raise NotBatched("the form of the loop")
    for kind in (cst.Break, cst.Continue, cst.Return, cst.Yield, cst.Del, cst.If):
        found = next((node for node in _within(loop.body) if isinstance(node, kind)), None)
        if found is not None:
            raise NotBatched(f"`{kind.__name__.lower()}` in line {tree.line_of(found)}")
    own = _assigned(loop.target)
    for one in loop.body.body:
        for node in _within(one):
            if isinstance(node, cst.Assign | cst.AugAssign | cst.AnnAssign) and node.value is not None:
                targets = [t.target for t in node.targets] if isinstance(node, cst.Assign) else [node.target]
                if _names(node.value) & own:
                    own |= {name for target in targets for name in _assigned(target)}
            elif isinstance(node, cst.CompFor) and _names(node.iter) & own:
                own |= _assigned(node.target)
    for node in _within(loop.body):
        if isinstance(node, cst.AugAssign) and not _names(node.value) & own:
            raise NotBatched(f"`{tree.code(node)}` in line {tree.line_of(node)}, which does not depend on the sample")


def _within(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        if not isinstance(child, cst.FunctionDef | cst.Lambda | cst.ClassDef):
            yield from _within(child)


def _all(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from _all(child)


def _is_call_of(name: str, node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == name


def _is_index_named(name: str, key: cst.BaseSlice) -> bool:
    return isinstance(key, cst.Index) and isinstance(key.value, cst.Name) and key.value.value == name


def _names(node: cst.CSTNode) -> set[str]:
    return {one.value for one in _within(node) if isinstance(one, cst.Name)}


def _assigned(target: cst.CSTNode) -> set[str]:
    """The names that a target assigns, or that hold what it assigns to."""
    if isinstance(target, cst.Subscript | cst.Attribute):
        return _assigned(target.value) - {"self"}
    if isinstance(target, cst.Name):
        return {target.value}
    return {name for child in target.children for name in _assigned(child)}


class _Header:
    """What stands in place of the first line of the loop."""

    def __init__(self, loop: cst.For, length: int, batch: Batch, tree: SourceTree, is_range: bool = False) -> None:
        self._loop, self._length, self._batch, self._tree, self._is_range = loop, length, batch, tree, is_range
        self._np = numpy_name(tree.module)
        self.index: str | None = None
        """What the loop's variable becomes within a subscript, if the loop runs over a range."""
        self.variable = loop.target.value if isinstance(loop.target, cst.Name) else ""
        self._lines = list(self._made())

    def _made(self) -> Iterator[str]:
        loop, code = self._loop, self._tree.code
        target: cst.BaseExpression = loop.target
        over = loop.iter
        if _is_call_of("enumerate", over) and isinstance(target, cst.Tuple):
            counter, target = (element.value for element in target.elements)
            if _names(counter) & self._read():
                raise NotBatched(f"`{code(counter)}`, which counts the samples")
            over = cst.ensure_type(over, cst.Call).args[0].value
        if _is_call_of("range", over):
            self.index = self._range(cst.ensure_type(over, cst.Call))
            return
        read = self._read()
        if isinstance(target, cst.Name) and self._is_range and self._is_only_key(target.value):
            yield f"{target.value} = slice({code(over)}.start, {code(over)}.stop)"
            return
        if isinstance(target, cst.Name):
            yield f"{target.value} = {self._stacked(code(over), self._layout(target.value))}"
            return
        if not isinstance(target, cst.Tuple | cst.List) or not all(
            isinstance(element.value, cst.Name) for element in target.elements
        ):
            raise NotBatched(f"`{code(target)}`")
        names = [cst.ensure_type(element.value, cst.Name).value for element in target.elements]
        used = [name for name in names if name in read]
        if _is_call_of("zip", over) and len(cst.ensure_type(over, cst.Call).args) == len(names):
            parts = dict(zip(names, (code(arg.value) for arg in cst.ensure_type(over, cst.Call).args), strict=True))
            for name in used:
                yield f"{name} = {self._stacked(parts[name], self._layout(name))}"
            return
        layouts = {self._layout(name) for name in used}
        is_alike = used == names and len(layouts) == 1 and not layouts & {Layout.NUMBER, Layout.INDEX}
        if is_alike:
            yield f"{', '.join(names)} = map({self._np}.{_STACKING[layouts.pop()]}, zip(*{code(over)}))"
        elif self._length < 0:
            raise NotBatched(f"`{code(over)}`, which can be run through only once")
        else:
            for name in used:
                each = f"[{name} for {code(target)} in {code(over)}]"
                yield f"{name} = {self._stacked(each, self._layout(name))}"

    def _read(self) -> set[str]:
        return _names(self._loop.body)

    def _is_only_key(self, name: str) -> bool:
        """Whether the statements of the loop read a name only as the index of a subscript."""
        keys = [node for node in _all(self._loop.body) if isinstance(node, cst.SubscriptElement)]
        reads = [node for node in _all(self._loop.body) if isinstance(node, cst.Name) and node.value == name]
        return len(reads) == sum(_is_index_named(name, key.slice) for key in keys)

    def _layout(self, name: str) -> Layout:
        layout = self._batch.targets.get(name, Layout.NUMBER)
        keys = (element.slice for element in _all(self._loop.body) if isinstance(element, cst.SubscriptElement))
        if layout is Layout.NUMBER and any(_is_index_named(name, key) for key in keys):
            return Layout.INDEX
        if name not in self._batch.targets:
            raise NotBatched(f"`{name}`, whose shape was not seen")
        return layout

    def _stacked(self, samples: str, layout: Layout) -> str:
        if layout is Layout.NUMBER:
            columns = Layout.COLUMN in self._batch.targets.values()
            return f"{self._np}.asarray({samples})[{'None, :' if columns else ':, None'}]"
        return f"{self._np}.{_STACKING[layout]}({samples})"

    def _range(self, call: cst.Call) -> str:
        bounds = [self._tree.code(arg.value) for arg in call.args]
        if not self.variable or len(bounds) > 2:
            raise NotBatched(f"`{self._tree.code(call)}`")
        loose = [
            node
            for node in _within(self._loop.body)
            if isinstance(node, cst.Name) and node.value == self.variable and not self._is_key(node)
        ]
        if loose:
            raise NotBatched(f"`{self.variable}` in line {self._tree.line_of(loose[0])}")
        start, stop = ("", bounds[0]) if len(bounds) == 1 else bounds
        return f"{start}:{stop}"

    def _is_key(self, name: cst.Name) -> bool:
        parents = self._tree.parents()
        node: cst.CSTNode = name
        while node is not self._loop:
            if node in self._batch.forms and isinstance(node, cst.Subscript):
                return True
            node = parents[node]
        return False

    def whole(self, container: str, axis: int) -> str:
        """The part of an axis that the loop's range runs over; ':' for all of it."""
        all_of_it = (f":{container}.shape[{axis}]", *([f":len({container})"] if axis == 0 else []))
        return ":" if self.index in all_of_it else f"{self.index}"

    def unrolled(self, updated: cst.CSTNode) -> object:
        """The statements of the loop, once, after those that stack the samples."""
        loop = cst.ensure_type(updated, cst.For)
        block = cst.ensure_type(loop.body, cst.IndentedBlock)
        lines: list[cst.BaseStatement] = [statement(line) for line in self._lines]
        lines += [one for one in block.body if isinstance(one, cst.BaseStatement)]
        first = lines[0]
        leading = (*loop.leading_lines, *(() if self._lines else getattr(first, "leading_lines", ())))
        changes: dict[str, object] = {"leading_lines": leading}
        has_room = isinstance(first, cst.SimpleStatementLine) and first.trailing_whitespace.comment is None
        if block.header.comment is not None and has_room:
            changes["trailing_whitespace"] = block.header
        lines[0] = first.with_changes(**changes)
        return cst.FlattenSentinel(lines)


_STACKING = {Layout.COLUMN: "hstack", Layout.ROW: "vstack", Layout.VECTOR: "asarray", Layout.INDEX: "asarray"}

_REDUCED = {
    Layout.COLUMN: "axis=1, keepdims=True",
    Layout.ROW: "axis=0, keepdims=True",
    Layout.VECTOR: "axis=0",
}
"""The sum over the samples, so that its shape is that of one sample."""


def numpy_name(module: cst.Module) -> str:
    """The name of NumPy in a file."""
    for node in _all(module):
        if isinstance(node, cst.ImportAlias) and node.evaluated_name == "numpy":
            return node.evaluated_alias or "numpy"
    raise NotBatched("a file that does not import numpy")


def _remade(node: cst.CSTNode, batch: Batch, rewriter: _Rewriter) -> NodeChange | None:
    """What makes the new form of an expression; None if it stays."""
    tree = rewriter.tree
    form, layout = batch.forms.get(node, (Form.SAME, Layout.NUMBER))
    summed = batch.sums.get(node)
    if form is Form.SAME and summed is None:
        is_sum = isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == "sum"
        if not is_sum or layout is not Layout.VECTOR:
            return None
        # Python's own `sum` adds up the rows of a matrix. np.sum adds up all numbers, as `sum` did for one sample.
        return lambda updated: cst.ensure_type(updated, cst.Call).with_changes(
            func=expression(f"{numpy_name(tree.module)}.sum")
        )
    total = batch.totals.get(node)
    if summed is not None and (summed not in _REDUCED or (node in batch.unsummed and total is None)):
        raise NotBatched(f"`{tree.code(node)}`")

    def make(updated: cst.CSTNode) -> object:
        assert isinstance(updated, cst.BaseExpression)
        one = updated if form is Form.SAME else rewriter.form(form, layout, updated)
        if summed is None:
            return one.with_changes(lpar=updated.lpar, rpar=updated.rpar) if updated.lpar and not one.lpar else one
        text = rewriter.rows(tree.code(one.with_changes(lpar=(), rpar=())), summed)
        text = f"{numpy_name(tree.module)}.sum({text}, {_REDUCED[summed]})"
        if node in batch.unsummed and total is not None:  # the same expression also gives what is summed already
            text = f"({tree.code(one)} if {tree.code(one)}.shape == {tree.code(total)}.shape else {text})"
        return expression(text)

    return make


class _Rewriter:
    """Makes the new form of an expression whose parts are new already.

    is_shared: other code calls the function that it stands in, perhaps with the vector of a single sample.
    """

    def __init__(self, tree: SourceTree, header: _Header | None, is_shared: bool) -> None:
        self.tree, self._header, self._is_shared = tree, header, is_shared
        self._np = numpy_name(tree.module)

    def rows(self, text: str, layout: Layout) -> str:
        """The samples as the rows of a matrix, also if it is a single vector."""
        return f"{self._np}.atleast_2d({text})" if self._is_shared and layout is Layout.VECTOR else text

    def form(self, form: Form, layout: Layout, node: cst.BaseExpression) -> cst.BaseExpression:
        """The expression in a form. layout: that of the operand of one sample."""
        return expression(self._text(form, layout, node))

    def _text(self, form: Form, layout: Layout, node: cst.BaseExpression) -> str:
        match form:
            case Form.OPERAND:
                return self.rows(self._operand(node), layout)
            case Form.TRANSPOSED:
                if self._is_shared and layout is Layout.COLUMN:
                    raise NotBatched(f"`{self.tree.code(node)}`, which other code also calls with one sample")
                return _transposed(self.rows(self._operand(node), layout))
            case Form.SWAPPED:
                left, right = self._operands(node)
                return self._product(node, right, _transposed(left))
            case Form.OUTER:
                left, right = (self.rows(one, layout) for one in self._operands(node))
                if layout is Layout.COLUMN:
                    right = _transposed(right)
                elif layout is not Layout.NUMBER:
                    left = _transposed(left)
                return self._product(node, left, right)
            case Form.TOTAL:
                left, right = self._operands(node)
                return f"{self._np}.sum({left} * {right})"
            case Form.KEEPS_AXIS:
                return self._with_axis(node, layout, keeps=True)
            case Form.SUM_OF_MEANS:
                return f"{self._np}.sum({self._with_axis(node, layout, keeps=False)})"
            case Form.SELECT_STACKED:
                return f"{self._np}.{_STACKING[layout]}({self._selected(Form.SELECT, node)})"
        return self._selected(form, node)

    def _operand(self, node: cst.BaseExpression) -> str:
        """What a view is made of."""
        match node:
            case cst.Subscript():
                return self._atom(node.value)
            case cst.Call(func=cst.Attribute(value=owner)) if self.tree.code(owner) != self._np:
                return self._atom(owner)
            case cst.Call() if node.args:
                return self._atom(node.args[0].value)
        raise NotBatched(f"`{self.tree.code(node)}`")

    def _operands(self, node: cst.BaseExpression) -> tuple[str, str]:
        match node:
            case cst.BinaryOperation():
                return self._atom(node.left), self._atom(node.right)
            case cst.Call(func=cst.Attribute(value=owner), args=[one]) if self.tree.code(owner) != self._np:
                return self._atom(owner), self._atom(one.value)
            case cst.Call(args=[one, other]):
                return self._atom(one.value), self._atom(other.value)
        raise NotBatched(f"`{self.tree.code(node)}`")

    def _product(self, node: cst.BaseExpression, left: str, right: str) -> str:
        """The product in the style of the file; a call where an operator would need parentheses."""
        if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.MatrixMultiply):
            return f"{left} @ {right}"
        return f"{self._np}.dot({left}, {right})"

    def _with_axis(self, node: cst.BaseExpression, layout: Layout, keeps: bool) -> str:
        match node:
            case cst.Call(func=cst.Name(value="max" | "min" | "sum" as name), args=[one]) if layout is Layout.VECTOR:
                keeping = ", keepdims=True" if keeps else ""  # Python's own function would take whole rows
                return f"{self._np}.{name}({self.tree.code(one.value)}, axis=-1{keeping})"
        if not isinstance(node, cst.Call) or not isinstance(node.func, cst.Attribute):
            raise NotBatched(f"`{self.tree.code(node)}`")
        added = ["axis=0" if layout is Layout.COLUMN else "axis=-1"]
        if keeps and node.func.attr.value not in ("softmax", "log_softmax"):
            added.append("keepdims=True")
        kept = [self.tree.code(arg.with_changes(comma=cst.MaybeSentinel.DEFAULT)) for arg in node.args]
        return f"{self.tree.code(node.func)}({', '.join([*kept, *added])})"

    def _selected(self, form: Form, node: cst.BaseExpression) -> str:
        if not isinstance(node, cst.Subscript):
            raise NotBatched(f"`{self.tree.code(node)}`")
        container = self._atom(node.value)
        key = self._key(node, 0 if form is Form.SELECT else 1, container)
        if form is Form.SELECT:
            return container if key == ":" else f"{container}[{key}]"
        text = container if key == ":" else f"{container}[:, {key}]"
        return text if form is Form.SELECT_COLUMNS else _transposed(text)

    def _key(self, node: cst.Subscript, axis: int, container: str) -> str:
        element = node.slice[axis].slice
        one = element.value if isinstance(element, cst.Index) else cst.ensure_type(element, cst.Slice).lower
        if self._header is None or one is None:
            raise NotBatched(f"`{self.tree.code(node)}`")
        variable, index = self._header.variable, self._header.index
        if index is None:
            return self.tree.code(one)
        match one:
            case cst.Name(value=name) if name == variable:
                return self._header.whole(container, axis)
            case cst.Subscript(value=indexed, slice=[only]) if _is_index_named(variable, only.slice):
                inner = self._atom(indexed)
                part = self._header.whole(inner, 0)
                return inner if part == ":" else f"{inner}[{part}]"
            case cst.BinaryOperation(operator=cst.Add(), left=offset, right=cst.Name(value=name)) if name == variable:
                return _moved(index, self.tree.code(offset))
            case cst.BinaryOperation(operator=cst.Add(), left=cst.Name(value=name), right=offset) if name == variable:
                return _moved(index, self.tree.code(offset))
        raise NotBatched(f"`{self.tree.code(node)}`")

    def _atom(self, node: cst.BaseExpression) -> str:
        text = self.tree.code(node)
        is_atom = node.lpar or isinstance(node, cst.Name | cst.Attribute | cst.Call | cst.Subscript)
        return text if is_atom else f"({text})"


def _moved(index: str, offset: str) -> str:
    """The part of an axis, moved by an offset: `:m` becomes `k:k + m`."""
    start, stop = index.split(":")
    return f"{offset} + {start}:{offset} + {stop}" if start not in ("", "0") else f"{offset}:{offset} + {stop}"


def _transposed(text: str) -> str:
    return text.removesuffix(".T") if text.endswith(".T") else f"{text}.T"
