"""What becomes of the operations on one sample when they get all samples of a batch at once.

A sample's vector becomes a row of a matrix, and so does a (1, n) row; a sample's (n, 1) column becomes a column of one.
The operations of one recorded turn of the loop are followed: most do the same for a whole batch as they are written,
some need another form, and where a turn adds to a sum, what still has one entry for each sample has to be summed.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import libcst as cst
import numpy as np

from mlpprof.advise.editing.source import SourceTree
from mlpprof.instrument.numpy_costs import ARITHMETIC, EVALUATION
from mlpprof.instrument.rewriting import IN_PLACE_OPERATORS
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

Array = np.ndarray[Any, Any]


class Role(Enum):
    """SAMPLE: it has an entry for each sample. SUM: it is the sum over the samples. GROWING: the loop adds to it."""

    SAMPLE, SUM, GROWING = "sample", "sum", "growing"


class Layout(Enum):
    """How the values of one sample lie in an array: a number, (n,), (1, n) or (n, 1). INDEX: a number that selects."""

    NUMBER, VECTOR, ROW, COLUMN, INDEX = "number", "vector", "row", "column", "index"


class Form(Enum):
    """The form of an expression for the whole batch."""

    SAME = "as it is written"
    OPERAND = "its operand"
    TRANSPOSED = "its operand, transposed"
    SWAPPED = "W @ x -> x @ W.T"
    OUTER = "a product that sums over the samples"
    TOTAL = "the sum of the element-wise product"
    KEEPS_AXIS = "a reduction for each sample"
    SUM_OF_MEANS = "the sum of the samples' means"
    SELECT = "the rows of all samples"
    SELECT_STACKED = "the matrices of all samples, stacked into one"
    SELECT_COLUMNS = "the columns of all samples"
    SELECT_TRANSPOSED = "the columns of all samples, as rows"


class NotBatched(Exception):
    """The operations of one sample cannot be followed; the text names the expression."""


PASSED_ON = frozenset(("zip", "enumerate", "list", "tuple", "reversed", "len", "append", "insert", "extend", "print"))
"""Calls that only pass arrays on."""

VIEWS = frozenset(
    ("reshape", "ravel", "flatten", "squeeze", "atleast_2d", "atleast_1d", "expand_dims", "transpose", "getitem")
)
COPIES = frozenset(("copy", "array", "asarray", "ascontiguousarray", "astype", "zeros_like", "ones_like", "empty_like"))
NEW = frozenset(("zeros", "zeros_like"))
LARGEST = frozenset(("max", "min", "amax", "amin"))
PER_SAMPLE = frozenset(("softmax", "log_softmax"))
PRODUCTS = frozenset(("dot", "matmul"))


@dataclass(frozen=True)
class Operand:
    """An operand of an event: the thing itself, what it is, and the expression that gives it, if it is known."""

    thing: Any
    kind: Role | None
    layout: Layout
    node: cst.BaseExpression | None

    @property
    def is_sample(self) -> bool:
        """Whether it has an entry for each sample."""
        return self.kind is Role.SAMPLE

    @property
    def is_array(self) -> bool:
        """Whether it is an array."""
        return isinstance(self.thing, np.ndarray)


class Batch:
    """The forms of all expressions of a loop's turn for the whole batch.

    forms: expression -> its form, and the layout of its operand. sums: the expressions that must be summed over the
    samples, with their layouts. totals: these expressions -> the sum that they are added to, if it is known.
    unsummed: expressions that are added as they are. targets: how the values of
    a name lie in arrays. Raises NotBatched if that cannot be found out.
    """

    def __init__(self, turns: Sequence[Sequence[Event]], graph: Graph, trees: dict[str, SourceTree]) -> None:
        self._graph, self._trees = graph, trees
        self.forms: dict[cst.CSTNode, tuple[Form, Layout]] = {}
        self.sums: dict[cst.CSTNode, Layout] = {}
        self.totals: dict[cst.CSTNode, cst.BaseExpression | None] = {}
        self.unsummed: set[cst.CSTNode] = set()
        self.targets: dict[str, Layout] = {}
        self.file_of: dict[cst.CSTNode, str] = {}
        self._roots: dict[int, Role] = {}
        self._views: dict[tuple[int, int], Role] = {}
        self._numbers: dict[int, cst.CSTNode | None] = {}
        self._axes: dict[int, Layout] = {}
        first, second = turns[1], turns[2]
        self._find_growing(turns[0], first)
        self._find_samples(first, second)
        has_columns = any(x.ndim == 2 and x.shape[1] == 1 < x.shape[0] for e in first for x in self._samples_of(e))
        self._of_one = Layout.COLUMN if has_columns else Layout.ROW
        for event, following in zip(first, second, strict=True):
            self._follow(event, following)

    # What varies from turn to turn, and what grows

    def _find_growing(self, before: Sequence[Event], turn: Sequence[Event]) -> None:
        made = _made(before)
        made |= {id(_root(x)) for e in before if e.writes for x in e.operands[:1] if isinstance(x, np.ndarray)}
        own = _made(turn)
        for event in turn:
            for array in _arrays((*event.operands, getattr(event.function, "__self__", None))):
                if id(_root(array)) in made - own:
                    self._roots[id(_root(array))] = Role.GROWING

    def _find_samples(self, turn: Sequence[Event], following: Sequence[Event]) -> None:
        if [e.site for e in turn] != [e.site for e in following]:
            raise NotBatched("its turns are not alike")
        own = _made(turn)
        for event, other in zip(turn, following, strict=True):
            for one, two in zip(_arrays(event.operands), _arrays(other.operands), strict=False):
                root = id(_root(one))
                if root in own or root in self._roots or event.name == "getitem":
                    continue
                if root != id(_root(two)) or _start(one) != _start(two):
                    self._views[root, _start(one)] = Role.SAMPLE

    def _samples_of(self, event: Event) -> list[Array]:
        return [x for x in _arrays(event.operands) if self._kind(x) is Role.SAMPLE]

    def _kind(self, thing: Any) -> Role | None:
        if isinstance(thing, np.ndarray):
            root = _root(thing)
            return self._roots.get(id(root)) or self._views.get((id(root), _start(thing)))
        if isinstance(thing, list | tuple):
            kinds = {self._kind(x) for x in thing} - {None}
            return kinds.pop() if len(kinds) == 1 else Role.SAMPLE if kinds else None
        return Role.SAMPLE if id(thing) in self._numbers else None

    def _layout(self, thing: Any) -> Layout:
        if not isinstance(thing, np.ndarray) or thing.ndim == 0:
            return Layout.NUMBER
        if thing.ndim == 1:
            return self._axes.get(id(thing), Layout.VECTOR)
        if thing.ndim == 2 and thing.size == 1:
            return self._of_one
        if thing.ndim == 2 and 1 in thing.shape:
            return Layout.COLUMN if thing.shape[1] == 1 else Layout.ROW
        return Layout.NUMBER

    # Events

    def _follow(self, event: Event, following: Event) -> None:
        nodes = self._nodes(event)
        operands = self._operands(event, nodes)
        self._note_targets(operands)
        if event.is_own:
            return
        kinds = {one.kind for one in operands} - {None}
        if not kinds:
            self._follow_others(event, following, nodes)
        elif event.name in PASSED_ON and not isinstance(getattr(event.function, "__self__", None), np.ndarray):
            return
        elif Role.GROWING in kinds:
            self._grow(event, operands)
        elif Role.SAMPLE in kinds and Role.SUM in kinds:
            raise self._failed(event)
        elif Role.SUM in kinds:
            self._follow_sum(event, operands)
        else:
            self._follow_sample(event, operands, nodes)

    def _nodes(self, event: Event) -> tuple[cst.CSTNode, ...]:
        site = self._graph.trace.sites[event.site]
        if site.file not in self._trees:
            self._trees[site.file] = SourceTree(self._graph.trace.sources[site.file])
        nodes = self._trees[site.file].all_at(site)
        for node in nodes:
            self.file_of[node] = site.file
        return nodes

    def _operands(self, event: Event, nodes: tuple[cst.CSTNode, ...]) -> list[Operand]:
        owner = getattr(event.function, "__self__", None)
        things: list[Any] = list(event.operands)
        expressions = _operand_nodes(nodes, event)
        if isinstance(owner, np.ndarray):
            things.insert(0, owner)
        elif expressions and isinstance(expressions[0], _Owner):
            expressions = expressions[1:]
        known = [one.node if isinstance(one, _Owner) else one for one in expressions]
        known += [None] * (len(things) - len(known))
        found = []
        for thing, node in zip(things, known, strict=False):
            if node is not None:
                self.file_of[node] = self._graph.trace.sites[event.site].file
            found.append(Operand(thing, self._kind(thing), self._layout(thing), node))
        return found

    def _note_targets(self, operands: list[Operand]) -> None:
        for one in operands:
            node, layout = one.node, one.layout
            if isinstance(node, cst.Attribute) and node.attr.value == "T":
                node, layout = node.value, _OTHER_WAY.get(layout, layout)
            if isinstance(node, cst.Name):
                self.targets.setdefault(node.value, layout)

    def _follow_others(self, event: Event, following: Event, nodes: tuple[cst.CSTNode, ...]) -> None:
        """An operation that has no sample among its operands: it selects one, or it does the same in each turn."""
        if isinstance(event.result, np.ndarray) and event.name in NEW:
            self._roots[id(_root(event.result))] = Role.GROWING  # zeros can be added to
            return
        if not isinstance(event.result, np.ndarray) or event.output is None or following.output is None:
            return
        node = next((one for one in nodes if isinstance(one, cst.Subscript)), None)
        is_moved = event.output.content != following.output.content
        if event.is_view and event.output.start != following.output.start:
            is_moved = True
        if not is_moved:
            return
        if event.function is not operator.getitem or node is None:
            raise self._failed(event)
        container, key = event.operands
        layout = self._layout(event.result)
        parts = key if isinstance(key, tuple) else (key,)
        form = None
        match [_part(part) for part in parts], container.ndim:
            case (["one"], 2) | (["one", "all"], 2):
                form = Form.SELECT
            case (["few"], 2) | (["few", "all"], 2):
                form = Form.SELECT
            case ["all", "one"], 2:
                form = Form.SELECT_TRANSPOSED
            case ["all", "few"], 2:
                form = Form.SELECT_COLUMNS
            case (["one"], 3):  # (samples, n, 1) or (samples, 1, n)
                form = Form.SELECT_STACKED
        if form is None or layout is Layout.NUMBER:
            raise self._failed(event)
        self._decide(node, form, layout, event)
        if event.is_view:
            self._views[id(_root(event.result)), _start(event.result)] = Role.SAMPLE
        else:
            self._roots[id(event.result)] = Role.SAMPLE

    def _grow(self, event: Event, operands: list[Operand]) -> None:
        """Something is added to a sum."""
        name = event.name
        if isinstance(event.result, np.ndarray) and event.is_view:
            return
        if event.function is operator.setitem or (event.effect is not None and event.effect.name == "store"):
            self._store(event, operands)
            return
        added = [one for one in operands if one.kind is not Role.GROWING]
        if name in ("zip", "getitem") or not added:
            self._keep(event, Role.GROWING)
            return
        if name not in ("add", "subtract") or len(added) != 1 or added[0].kind is None:
            raise self._failed(event)
        (one,) = added
        if one.node is None:
            raise self._failed(event)
        if one.is_sample:
            if one.node in self.sums and self.sums[one.node] is not one.layout:
                raise self._failed(event)
            self.sums[one.node] = one.layout
            self.totals[one.node] = next((other.node for other in operands if other.kind is Role.GROWING), None)
        else:
            self.unsummed.add(one.node)
        self._keep(event, Role.GROWING)

    def _store(self, event: Event, operands: list[Operand]) -> None:
        target, value = operands[0], operands[-1]
        if not target.is_array or value.kind is Role.SAMPLE:
            raise self._failed(event)
        if value.kind is Role.SUM:
            self._roots[id(_root(target.thing))] = Role.SUM

    def _follow_sum(self, event: Event, operands: list[Operand]) -> None:
        sums = [one for one in operands if one.kind is Role.SUM]
        if event.function is operator.setitem or (event.effect is not None and event.effect.name == "store"):
            self._store(event, operands)
            return
        is_scaled = event.name in ("multiply", "divide", "true_divide") and len(sums) == 1
        is_added = event.name in ("add", "subtract") and len(sums) == len(operands)
        if not (is_scaled or is_added or event.name in ("negative", *VIEWS, *COPIES) or event.is_view):
            raise self._failed(event)
        self._keep(event, Role.SUM)

    def _follow_sample(self, event: Event, operands: list[Operand], nodes: tuple[cst.CSTNode, ...]) -> None:
        name, result = event.name, event.result
        samples = [one for one in operands if one.is_sample]
        node = next((one for one in nodes if isinstance(one, cst.BaseExpression)), None)
        if "out" in event.options:
            raise self._failed(event)
        if name in PRODUCTS and len(operands) == 2:
            self._product(event, operands, node)
        elif name == "outer" and len(samples) == 2:
            self._decide(node, Form.OUTER, samples[0].layout, event)
            self._keep(event, Role.SUM)
        elif event.is_view or name in VIEWS:
            self._view(event, samples, node)
        elif name in ("sum", "mean") or name in LARGEST or name in PER_SAMPLE:
            self._reduction(event, samples, node)
        elif name in COPIES and isinstance(result, np.ndarray) and result.shape == np.shape(samples[0].thing):
            self._decide(node, Form.SAME, samples[0].layout, event)
            self._keep(event, Role.SAMPLE)
        elif event.kind in (ARITHMETIC, EVALUATION):
            self._elementwise(event, operands, node)
        elif event.function is operator.setitem and self._is_masked(operands):
            return
        else:
            raise self._failed(event)

    def _is_masked(self, operands: list[Operand]) -> bool:
        target, key = operands[0], operands[1]
        is_mask = key.is_array and key.thing.dtype == bool and key.thing.shape == np.shape(target.thing)
        return target.is_sample and is_mask and not operands[2].is_array

    def _product(self, event: Event, operands: list[Operand], node: cst.CSTNode | None) -> None:
        left, right = operands
        is_ready = False
        match left.is_sample, left.layout, right.is_sample, right.layout:
            case True, (Layout.VECTOR | Layout.ROW), False, _:
                is_ready = right.is_array and right.thing.ndim == 2
            case False, _, True, Layout.COLUMN:
                is_ready = True
            case False, _, True, Layout.VECTOR:
                if left.is_array and left.thing.ndim == 2:
                    self._decide(node, Form.SWAPPED, right.layout, event)
                    self._keep(event, Role.SAMPLE)
                    return
            case True, Layout.COLUMN, True, Layout.ROW:
                self._decide(node, Form.SAME, left.layout, event)
                self._keep(event, Role.SUM)
                return
            case True, Layout.VECTOR, True, Layout.VECTOR:
                self._decide(node, Form.TOTAL, left.layout, event)
                return
        if not is_ready:
            raise self._failed(event)
        self._decide(node, Form.SAME, left.layout if left.is_sample else right.layout, event)
        self._keep(event, Role.SAMPLE)

    def _view(self, event: Event, samples: list[Operand], node: cst.CSTNode | None) -> None:
        (one,) = samples
        result = event.result
        if not isinstance(result, np.ndarray) or result.size != np.size(one.thing):
            raise self._failed(event)
        before, after = one.layout, self._layout(result)
        is_turned = (before is Layout.COLUMN) != (after is Layout.COLUMN)
        self._decide(node, Form.TRANSPOSED if is_turned else Form.OPERAND, before, event)
        self._keep(event, Role.SAMPLE)

    def _reduction(self, event: Event, samples: list[Operand], node: cst.CSTNode | None) -> None:
        (one,) = samples
        result, layout = event.result, one.layout
        axis = event.options.get("axis", _second(event))
        if event.name in PER_SAMPLE:
            self._decide(node, Form.SAME if axis is not None else Form.KEEPS_AXIS, layout, event)
            self._keep(event, Role.SAMPLE)
            return
        if axis is None and not isinstance(result, np.ndarray):
            if event.name in LARGEST:
                self._decide(node, Form.KEEPS_AXIS, layout, event)
            elif event.name == "mean":
                self._decide(node, Form.SUM_OF_MEANS, layout, event)
            elif node is not None:
                self.forms.setdefault(node, (Form.SAME, layout))
            self._numbers[id(result)] = node
            self._axes[id(result)] = layout
            return
        axis = axis % np.ndim(one.thing) if isinstance(axis, int) else axis
        if (layout is Layout.COLUMN and axis == 1) or (layout is Layout.ROW and axis == 0):
            if event.name != "sum":
                raise self._failed(event)
            self._decide(node, Form.SAME, layout, event)
            self._keep(event, Role.SUM)
            return
        has_axis = isinstance(result, np.ndarray) and result.ndim == 2
        if layout is Layout.VECTOR or not (has_axis or layout is Layout.COLUMN):
            raise self._failed(event)
        self._decide(node, Form.SAME, layout, event)
        self._keep(event, Role.SAMPLE)
        if isinstance(result, np.ndarray) and result.ndim == 1:
            self._axes[id(result)] = Layout.NUMBER  # one number for each column

    def _elementwise(self, event: Event, operands: list[Operand], node: cst.CSTNode | None) -> None:
        samples = [one for one in operands if one.is_sample]
        for one in samples:
            if not one.is_array:  # the result of a reduction: one number for each sample is needed, not their sum
                made = self._numbers[id(one.thing)]
                if made is None or self.forms.get(made, (Form.SAME,))[0] not in (Form.SAME, Form.KEEPS_AXIS):
                    raise self._failed(event)
                self.forms[made] = (Form.KEEPS_AXIS, self._axes[id(one.thing)])
        arrays = [one for one in samples if one.is_array and one.layout is not Layout.NUMBER]
        layouts = {Layout.ROW if one.layout is Layout.VECTOR else one.layout for one in arrays}
        if not arrays:
            raise self._failed(event)
        if len(layouts) > 1:
            is_outer = event.name == "multiply" and len(operands) == 2 == len(arrays)
            if not is_outer or arrays[0].layout is not Layout.COLUMN:
                raise self._failed(event)
            self._decide(node, Form.OUTER, Layout.NUMBER, event)
            self._keep(event, Role.SUM)
            return
        others = [one.thing for one in operands if one.is_array and not one.is_sample and one.thing.size > 1]
        is_column = arrays[0].layout is Layout.COLUMN
        if any((x.ndim != 2 or x.shape[1] != 1) if is_column else (x.ndim == 2 and x.shape[0] != 1) for x in others):
            raise self._failed(event)
        self._decide(node, Form.SAME, arrays[0].layout, event)
        if event.function in IN_PLACE_OPERATORS and self._kind(event.operands[0]) is not Role.SAMPLE:
            raise self._failed(event)
        self._keep(event, Role.SAMPLE)

    def _keep(self, event: Event, kind: Role) -> None:
        result = event.result
        if isinstance(result, np.ndarray):
            root = id(_root(result))
            if event.is_view and root not in self._roots:
                self._views[root, _start(result)] = kind
            else:
                self._roots[root] = kind

    def _decide(self, node: cst.CSTNode | None, form: Form, layout: Layout, event: Event) -> None:
        if node is None:
            if form is not Form.SAME:
                raise self._failed(event)
            return
        known = self.forms.setdefault(node, (form, layout))
        if known[0] is Form.KEEPS_AXIS and form is Form.SAME:
            return
        if known[0] is not form:
            raise self._failed(event)

    def _failed(self, event: Event) -> NotBatched:
        return NotBatched(f"`{self._graph.text(event)}` in {self._graph.place(self._graph.site(event))}")


@dataclass(frozen=True)
class _Owner:
    """The expression before the dot of a method call."""

    node: cst.BaseExpression


_OTHER_WAY = {Layout.ROW: Layout.COLUMN, Layout.COLUMN: Layout.ROW}


def _operand_nodes(nodes: tuple[cst.CSTNode, ...], event: Event) -> list[Any]:
    """The expressions of an event's operands; an empty list if they are not known."""
    for node in nodes:
        match node:
            case cst.BinaryOperation():
                return [node.left, node.right]
            case cst.AugAssign():
                return [node.target, node.value] if event.function in IN_PLACE_OPERATORS else []
            case cst.Comparison():
                return [node.left, node.comparisons[0].comparator]
            case cst.UnaryOperation():
                return [node.expression]
            case cst.Subscript():
                return [node.value]
            case cst.Assign() if event.function is operator.setitem:
                return [None, None, node.value]
            case cst.Call():
                if any(arg.star for arg in node.args):
                    return []
                owner = [_Owner(node.func.value)] if isinstance(node.func, cst.Attribute) else []
                return [*owner, *(arg.value for arg in node.args if arg.keyword is None)]
    return []


def _arrays(things: Sequence[Any]) -> list[Array]:
    found: list[Array] = []
    for thing in things:
        if isinstance(thing, np.ndarray):
            found.append(thing)
        elif isinstance(thing, list | tuple):
            found += _arrays(thing)
    return found


def _root(array: Array) -> Array:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _made(events: Sequence[Event]) -> set[int]:
    """The buffers that events have made."""
    results = (e.result for e in events if not e.is_view and not e.writes)
    return {id(_root(result)) for result in results if isinstance(result, np.ndarray)}


def _start(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _second(event: Event) -> Any:
    """The axis where it is not named: the second argument of a function, the first one of a method."""
    place = 0 if isinstance(getattr(event.function, "__self__", None), np.ndarray) else 1
    return event.operands[place] if len(event.operands) > place else None


def _part(part: Any) -> str:
    """A part of a key: 'all', 'one' or 'few', which keeps the axis."""
    if isinstance(part, slice):
        is_all = part.start is None and part.stop is None and part.step is None
        return "all" if is_all else "few"
    return "one" if isinstance(part, int | np.integer) else "few" if isinstance(part, list) else "other"
