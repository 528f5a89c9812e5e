"""Statements that replace an array by what is computed from it, as ``v = mu * v + g``, and the same in place.

Single operations would save nothing, because each writes as much as before. In place, the statement as a whole touches
fewer arrays, so the whole statement is performed both ways. Both forms are compiled, with recorded operands for what is
no elementwise operation. If NumPy would reuse a temporary (the result of a call, on the left or in a sum or a product),
both forms do.
"""

from __future__ import annotations

import ast
import operator
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlpprof.advise.kept_buffers import KeptBuffers
from mlpprof.advise.syntax import numpy_name, span
from mlpprof.instrument.numpy_costs import COPY, OPERATOR_NAMES
from mlpprof.instrument.rewriting import IN_PLACE_OPERATORS
from mlpprof.programs.record.arrays import Array
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import Action
from mlpprof.programs.record.trace import Event, Turn
from mlpprof.programs.step_place import functions

Span = tuple[int, int, int, int]

POWERS = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal}
"""The function that ``x ** k`` calls for these k."""


def elementwise(event: Event) -> np.ufunc | None:
    """The ufunc of an operation on arrays, if it is one and neither a product nor in place."""
    result = event.result
    if type(result) is not np.ndarray or event.is_own or event.options or event.writes:
        return None
    found: Any = event.function
    if found in OPERATOR_NAMES:
        if found is operator.pow:
            power = event.operands[1]
            return POWERS.get(power) if isinstance(power, int | float) and power in POWERS else np.power
        found = getattr(np, OPERATOR_NAMES[found], None)
    is_plain = isinstance(found, np.ufunc) and found.signature is None and found.nout == 1
    return found if is_plain and found.nin == len(event.operands) else None


def result_of(event: Event) -> Array:
    """The array that an elementwise operation gave."""
    assert isinstance(event.result, np.ndarray)
    return event.result


def operands_of(node: ast.expr) -> list[ast.expr]:
    """The operands of an operation, in the order of its event."""
    match node:
        case ast.BinOp(left=left, right=right):
            return [left, right]
        case ast.Compare(left=left, comparators=[right]):
            return [left, right]
        case ast.UnaryOp(operand=operand):
            return [operand]
        case ast.Call(args=args):
            return list(args)
    return []


def is_alike(a: Any, b: Any) -> bool:
    """Whether both are arrays of one shape and dtype."""
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape and a.dtype == b.dtype


BufferKind = tuple[tuple[int, ...], str, int]
"""Shape, dtype, and a number that distinguishes arrays of the same shape and dtype."""

REUSED_BYTES = 256 * 1024
"""From this size on, NumPy writes a result into an operand that nothing else holds."""

TARGET, OLD = "target", "target[0]"


class StatementForms:
    """Both forms of one execution of a statement.

    events: its elementwise operations by place. buffers: arrays for results, which other statements use as well.
    is_free: whether an operation is the last that reads its operand of a number; node: the operand in the source.
    text_of: how an operand is written in the new lines. numpy: the name of NumPy in the file.
    text: the new lines. scaled: operations that are done in such an operand, with its number.
    """

    def __init__(
        self,
        events: dict[Span, Event],
        target: ast.expr,
        buffers: dict[BufferKind, Array],
        is_free: Callable[[ast.expr, Event, int], bool],
        text_of: Callable[[ast.expr], str] = ast.unparse,
        numpy: str = "np",
    ) -> None:
        self._text_of, self._numpy = text_of, numpy
        self._events = events
        self._buffers = buffers
        self._is_free = is_free
        self.scaled: list[tuple[Event, int]] = []
        self._target = target
        self._names: dict[str, Any] = {}
        self._slow: list[str] = []
        self._fast: list[str] = []
        self.text: list[str] = []
        self.place_of_target: tuple[Event, int] | None = None

    def event_of(self, node: ast.expr) -> Event | None:
        """The elementwise operation that an expression was."""
        is_unpacked = isinstance(node, ast.Call) and any(isinstance(one, ast.Starred) for one in node.args)
        return None if is_unpacked else self._events.get(span(node))

    def actions(self, array: Array) -> tuple[Action, Action]:
        """The statement as it is, and in place; each on its own copy of the array that it changes."""
        return self._compiled(self._slow, array), self._compiled(self._fast, array)

    def _compiled(self, lines: list[str], array: Array) -> Action:
        space = {**self._names, TARGET: [array.copy(order="K")]}
        body = "".join(f"    {line}\n" for line in lines)
        exec(compile(f"def action():\n{body}", "<replay>", "exec"), space)  # text of this module alone
        action: Action = space["action"]
        return action

    def replaced(self, value: ast.expr) -> Array | None:
        """The array that ``X = f(X)`` replaces: of the result's shape and dtype, and writable."""
        top = self.event_of(value)
        found: list[Array] = []
        for node in ast.walk(value):
            event = self.event_of(node) if isinstance(node, ast.expr) else None
            if event is None or not isinstance(node, ast.expr):
                continue
            operands = operands_of(node)
            for number, (child, operand) in enumerate(zip(operands, event.operands, strict=True)):
                if self._is_target(child) and type(operand) is np.ndarray:
                    before = [x for x in event.operands[:number] if isinstance(x, np.ndarray)]
                    self.place_of_target = event, len(before)
                    found.append(operand)
        if top is None or not found or not found[0].flags.writeable:
            return None
        result = result_of(top)
        return found[0] if found[0].shape == result.shape and found[0].dtype == result.dtype else None

    def assigned(self, statement: ast.Assign) -> bool:
        """``X = f(X)``; whether there is a form in place."""
        self._slow.append(f"{OLD} = {self._native(statement.value)[0]}")
        return self._spine(statement.value)

    def stored(self, statement: ast.Assign, region: Array) -> bool:
        """``X[:] = ...``."""
        native, _ = self._native(statement.value)
        self._slow.append(f"{OLD}[...] = {native}")
        if self._mentions(statement.value) and self.replaced(statement.value) is not None:
            mark = len(self._fast), len(self.text)
            if self._spine(statement.value):
                return True
            del self._fast[mark[0] :], self.text[mark[1] :]
        event = self.event_of(statement.value)
        assert event is not None
        children = operands_of(statement.value)
        parts = [self._into(c, x)[0] for c, x in zip(children, event.operands, strict=True)]
        self._fast.append(f"{self._ufunc(event)}({self._arguments(event, parts)}, out={OLD})")
        texts = [self._text_of(child) for child in children]
        self.text.append(f"{self._name_of(event)}({self._arguments(event, texts)}, out={self._target_text()})")
        return True

    def augmented(self, statement: ast.AugAssign, top: Event) -> bool:
        """``X -= f(Y)``, if there is something to compute on the right."""
        right = self.event_of(statement.value)
        if right is None or len(top.operands) != 2 or type(top.operands[0]) is not np.ndarray:
            return False
        symbol = _symbol(statement.op)
        native, held = self._native(statement.value)
        if held:
            return False  # NumPy reuses a temporary here anyway
        self._slow.append(f"{OLD} {symbol}= {native}")
        scaled = self._scaled(statement.value)
        if scaled is not None:
            self._fast.append(f"{OLD} {symbol}= {scaled[0]}")
            self.text.append(f"{self._text_of(self._target)} {symbol}= {scaled[1]}")
            return True
        scratch = self._into(statement.value, top.operands[1])[0]
        self._fast.append(f"{OLD} {symbol}= {scratch}")
        self.text += [*self._scratch_text(statement.value), f"{self._text_of(self._target)} {symbol}= scratch"]
        return True

    def _is_target(self, node: ast.expr) -> bool:
        return self._text_of(node) in (self._text_of(self._target), self._target_text())

    def _target_text(self) -> str:
        """The array that is the target: X for ``X[:]``."""
        match self._target:
            case ast.Subscript(value=owner, slice=key) if ast.unparse(key) in (":", "..."):
                return self._text_of(owner)
        return self._text_of(self._target)

    def _mentions(self, node: ast.expr) -> bool:
        return any(isinstance(one, ast.expr) and self._is_target(one) for one in ast.walk(node))

    def _leaf(self, node: ast.expr, value: Any) -> tuple[str, str]:
        if self._is_target(node):
            return OLD, ""
        name = f"x{len(self._names)}"
        self._names[name] = value
        is_fresh = isinstance(node, ast.Call) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult))
        if not is_fresh or type(value) is not np.ndarray or value.nbytes < REUSED_BYTES:
            return name, ""
        return name, self._scratch(value)

    def _scratch(self, like: Array) -> str:
        name = f"x{len(self._names)}"
        used = [array for array in self._names.values() if any(array is one for one in self._buffers.values())]
        kind = like.shape, like.dtype.str, sum(is_alike(array, like) for array in used)
        self._names[name] = self._buffers.setdefault(kind, np.empty_like(like))
        return name

    def _ufunc(self, event: Event) -> str:
        found = elementwise(event)
        assert found is not None
        name = f"f_{found.__name__}"
        self._names[name] = found
        return name

    def _native(self, node: ast.expr, value: Any = None) -> tuple[str, str]:
        """The expression as it is written, and the buffer of its result, if NumPy reuses one."""
        event = self.event_of(node)
        if event is None:
            return self._leaf(node, value)
        parts = [self._native(child, x) for child, x in zip(operands_of(node), event.operands, strict=True)]
        result = result_of(event)
        for number, (_, buffer) in enumerate(parts):
            may = isinstance(node, ast.BinOp) and (number == 0 or isinstance(node.op, ast.Add | ast.Mult))
            if buffer and may and is_alike(self._names[buffer], result):
                arguments = self._arguments(event, [text for text, _ in parts])
                return f"{self._ufunc(event)}({arguments}, out={buffer})", buffer
        texts = [text for text, _ in parts]
        match node:
            case ast.BinOp():
                return f"({texts[0]} {_symbol(node.op)} {texts[1]})", ""
            case ast.Compare():
                return f"{self._ufunc(event)}({texts[0]}, {texts[1]})", ""
            case ast.UnaryOp():
                return f"{self._ufunc(event)}({texts[0]})", ""
        return f"{self._ufunc(event)}({', '.join(texts)})", ""

    def _into(self, node: ast.expr, value: Any) -> tuple[str, str]:
        """The expression with a kept array for each result, and the name of its own array."""
        event = self.event_of(node)
        if event is None:
            return self._leaf(node, value)
        parts = [self._into(child, x) for child, x in zip(operands_of(node), event.operands, strict=True)]
        result = result_of(event)
        out = next((buffer for _, buffer in parts if buffer and is_alike(self._names[buffer], result)), "")
        out = out or self._scratch(result)
        self._fast.append(f"{self._ufunc(event)}({self._arguments(event, [t for t, _ in parts])}, out={out})")
        return out, out

    def _spine(self, node: ast.expr) -> bool:
        """Apply one operation after the other to the target, in place."""
        if self._is_target(node):
            return True
        event = self.event_of(node)
        if event is None:
            return False
        children = operands_of(node)
        inside = [number for number, child in enumerate(children) if self._is_target(child)]
        inside = inside or [number for number, child in enumerate(children) if self._mentions(child)]
        if not inside or not is_alike(result_of(event), event.operands[inside[0]]):
            return False
        spine = inside[0]
        rest = [number for number in range(len(children)) if number != spine]
        is_begun = self._is_target(children[spine])
        if not is_begun and (any(self._mentions(children[n]) for n in rest) or not self._spine(children[spine])):
            return False
        scaled = self._scaled(children[rest[0]]) if len(rest) == 1 else None
        texts = {number: self._into(children[number], event.operands[number])[0] for number in rest if scaled is None}
        if scaled is not None:
            texts[rest[0]] = scaled[0]
        texts[spine] = OLD
        ordered = [texts[number] for number in range(len(children))]
        self._fast.append(f"{self._ufunc(event)}({self._arguments(event, ordered)}, out={OLD})")
        self._write_line(node, event, spine, "" if scaled is None else scaled[1])
        return True

    def _scaled(self, node: ast.expr) -> tuple[str, str] | None:
        """``k * Y`` in Y itself, if nothing reads its values again: the name and the text of Y."""
        event = self.event_of(node)
        if event is None or not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mult | ast.Div):
            return None
        children = operands_of(node)
        for number in (0, 1) if isinstance(node.op, ast.Mult) else (0,):
            value, factor, child = event.operands[number], event.operands[1 - number], children[number]
            is_held = isinstance(child, ast.Name | ast.Attribute | ast.Subscript) and self.event_of(child) is None
            is_scaling = isinstance(factor, int | float | np.generic) and is_alike(value, event.result)
            if is_held and is_scaling and value.flags.writeable and self._is_free(child, event, number):
                name, one = f"x{len(self._names)}", f"x{len(self._names)}_one"
                # times one: this runs many times here, and Y must not become zero
                self._names |= {name: value.copy(order="K"), one: type(factor)(1)}
                self._fast.append(f"{self._ufunc(event)}({name}, {one}, out={name})")
                self.text.append(f"{self._text_of(child)} {_symbol(node.op)}= {self._text_of(children[1 - number])}")
                self.scaled.append((event, number))
                return name, self._text_of(child)
        return None

    def _write_line(self, node: ast.expr, event: Event, spine: int, scaled: str) -> None:
        children = operands_of(node)
        name = self._target_text()
        if isinstance(node, ast.BinOp) and (spine == 0 or isinstance(node.op, ast.Add | ast.Mult)):
            other = children[1 - spine]
            line = f"{name} {_symbol(node.op)}= {scaled or self._text_of(other)}"
            if not scaled and self.event_of(other) is not None:
                line += f"  # or, with an array that is kept: {'; '.join(self._scratch_text(other))}; "
                line += f"{name} {_symbol(node.op)}= scratch"
        else:
            texts = [name if n == spine else scaled or self._text_of(child) for n, child in enumerate(children)]
            line = f"{self._name_of(event)}({self._arguments(event, texts)}, out={name})"
        self.text.append(line)

    def _scratch_text(self, node: ast.expr) -> list[str]:
        """The expression into `scratch`: operation by operation where that is one line each."""
        event = self.event_of(node)
        assert event is not None
        children = operands_of(node)
        deeper = [number for number, child in enumerate(children) if self.event_of(child) is not None]
        texts = [self._text_of(child) for child in children]
        first: list[str] = []
        inner = self.event_of(children[deeper[0]]) if len(deeper) == 1 else None
        if inner is not None and is_alike(result_of(inner), result_of(event)):
            first = self._scratch_text(children[deeper[0]])
            texts[deeper[0]] = "scratch"
        return [*first, f"{self._name_of(event)}({self._arguments(event, texts)}, out=scratch)"]

    def _name_of(self, event: Event) -> str:
        found = elementwise(event)
        assert found is not None
        return f"{self._numpy}.{found.__name__}"

    def _arguments(self, event: Event, texts: list[str]) -> str:
        found = elementwise(event)
        assert found is not None
        return ", ".join(texts[: found.nin])  # the name of np.square contains its exponent


def _symbol(op: ast.operator) -> str:
    return ast.unparse(ast.AugAssign(ast.Name("x", ast.Store()), op, ast.Constant(1)))[2:-3]


Execution = tuple[tuple[int, ...], tuple[Turn, ...]]
"""The calls and the turns of loops that a statement is executed in."""


@dataclass(frozen=True)
class Update:
    """One execution of a statement: its operations, both forms of it, and the text of the new form (`cure`).

    changed: buffers of the array that it replaces and of the new one, if it is not in place already.
    """

    events: tuple[Event, ...]
    changed: frozenset[int]
    slow: Action
    fast: Action
    cure: tuple[str, ...]
    statement: ast.stmt
    file: str


def updates(graph: Graph, least_bytes: int) -> list[Update]:
    """The updates of large arrays in the last step that may be done in place, because nothing reads the old array."""
    found = []
    buffers: dict[BufferKind, Array] = {}
    names = KeptBuffers(graph)
    by_line: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in graph.last:
        site = graph.trace.sites[event.site]
        by_line[site.file, site.line].append(event)
    for path in {file for file, _ in by_line if not graph.is_ours(file)}:
        for node in ast.walk(graph.trees[path]):
            if isinstance(node, ast.AugAssign) or (isinstance(node, ast.Assign) and len(node.targets) == 1):
                turn = _turn_of_list(node, graph.trees[path])
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                inside = [
                    event for line in lines for event in by_line.get((path, line), ()) if _is_in(node, event, graph)
                ]
                for events in _executions(inside).values():
                    if any(isinstance(e.result, np.ndarray) and e.result.nbytes >= least_bytes for e in events):
                        one = _update(turn or node, path, events, buffers, names, graph)
                        if one is not None and turn is not None:
                            one = replace(one, statement=node, cure=_as_loop(node, one.cure, graph.trace.sources[path]))
                        found += [one] if one is not None else []
    return found


def _turn_of_list(node: ast.stmt, tree: ast.Module) -> ast.Assign | None:
    """``m = f(m, g)`` for ``self.m = [f(m, g) for m, g in zip(self.m, gradients)]``, which replaces every array."""
    match node:
        case ast.Assign(
            targets=[target],
            value=ast.ListComp(elt=value, generators=[ast.comprehension(target=names, iter=over, ifs=[], is_async=0)]),
        ):
            pass
        case _:
            return None
    match names, over:
        case ast.Tuple(elts=parts), ast.Call(func=ast.Name(id="zip"), args=lists, keywords=[]):
            pairs = list(zip(parts, lists, strict=False))
        case _:
            pairs = [(names, over)]
    bound = {one.id for one in ast.walk(names) if isinstance(one, ast.Name)}
    around = next((one for _, one in functions(tree) if node in ast.walk(one)), tree)
    local = {  # names that a list or a generator binds are no others' names
        one for made in ast.walk(around) if isinstance(made, ast.ListComp | ast.GeneratorExp) for one in ast.walk(made)
    }
    is_taken = any(
        getattr(one, "id", getattr(one, "arg", None)) in bound for one in ast.walk(around) if one not in local
    )
    part = next((part for part, held in pairs if ast.unparse(held) == ast.unparse(target)), None)
    if not isinstance(part, ast.Name) or is_taken:
        return None
    return ast.copy_location(ast.Assign([ast.copy_location(ast.Name(part.id, ast.Store()), part)], value), value)


def _as_loop(node: ast.stmt, lines: tuple[str, ...], source: str) -> tuple[str, ...]:
    """The lines as the body of a loop over what the list was made of."""
    assert isinstance(node, ast.Assign)
    assert isinstance(node.value, ast.ListComp)
    made = node.value.generators[0]
    over = ast.get_source_segment(source, made.iter) or ast.unparse(made.iter)
    names = ast.unparse(made.target).strip("()")
    return ("\n".join([f"for {names} in {over}:", *(f"    {line.partition('  # ')[0]}" for line in lines)]),)


def _is_in(node: ast.stmt, event: Event, graph: Graph) -> bool:
    site = graph.trace.sites[event.site]
    start, end = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    return start <= (site.line, site.column) and (site.end_line, site.end_column) <= end


def _executions(events: list[Event]) -> dict[Execution, list[Event]]:
    """The operations of each execution of a statement, without those of functions that it calls."""
    found: dict[Execution, list[Event]] = defaultdict(list)
    for event in events:
        found[event.calls, event.loops].append(event)
    return found


def _update(
    statement: ast.Assign | ast.AugAssign,
    file: str,
    events: list[Event],
    buffers: dict[BufferKind, Array],
    names: KeptBuffers,
    graph: Graph,
) -> Update | None:
    target = statement.target if isinstance(statement, ast.AugAssign) else statement.targets[0]
    places = {graph.span(event.site)[1:]: event for event in events if elementwise(event) is not None}
    forms = StatementForms(
        places,
        target,
        buffers,
        lambda node, event, number: _is_given(node, event, number, file, names, graph),
        lambda node: _written(node, graph.trace.sources[file]),
        numpy_name(file, graph) or "np",
    )
    store = next((event for event in events if event.effect is not None and event.name == "store"), None)
    if isinstance(statement, ast.AugAssign):
        top = next((event for event in events if event.function in IN_PLACE_OPERATORS), None)
        array = top.operands[0] if top is not None else None
        is_done = top is not None and forms.augmented(statement, top)
    else:
        top = forms.event_of(statement.value)
        if top is None:
            return None
        if store is not None:
            array = _region(store, top)
            is_done = array is not None and forms.stored(statement, array)
        elif any(event.name == "fill" for event in events):  # it sets a part of an array to a number
            return None
        else:
            array = forms.replaced(statement.value)
            is_done = array is not None and forms.assigned(statement)
            is_done = is_done and _is_free(forms, statement, top, file, graph)
    if top is None or not is_done or not isinstance(array, np.ndarray):
        return None
    slow, fast = forms.actions(array)
    used = [event for event in events if elementwise(event) is not None or event in (top, store)]
    changed = {event.inputs[_array_number(event, number)].root for event, number in forms.scaled}
    if isinstance(statement, ast.Assign) and store is None and forms.place_of_target is not None:
        reader, number = forms.place_of_target
        changed |= {reader.inputs[number].root} | ({top.output.root} if top.output is not None else set())
    return Update(tuple(used), frozenset(changed), slow, fast, tuple(forms.text), statement, file)


def _written(node: ast.expr, source: str) -> str:
    """An expression as the file has it, if that is one line."""
    text = ast.get_source_segment(source, node) or ""
    return text if text and "\n" not in text else ast.unparse(node)


def _region(store: Event, top: Event) -> Array | None:
    """The view that is stored into, if the result fits it as it is."""
    container, key, value = store.operands
    keys = key if isinstance(key, tuple) else (key,)
    if value is not top.result or not all(isinstance(k, int | slice | type(...) | np.integer) for k in keys):
        return None
    region = container[key]
    fits = type(region) is np.ndarray and region.shape == value.shape and region.dtype == value.dtype
    return region if fits and store.kind == COPY else None


def _is_free(forms: StatementForms, statement: ast.Assign, top: Event, file: str, graph: Graph) -> bool:
    """Whether nothing read again the arrays that the statement replaced in the first recorded step.

    An argument of a function belongs to its caller, so it must have been freed when the function returned.
    """
    if len(graph.trace.steps) < 2 or graph.trace.is_blind:
        return False
    end = graph.trace.steps[1][1]
    is_argument = _is_argument(statement.targets[0], file, graph)
    tops = [event for event in graph.first if graph.span(event.site) == graph.span(top.site)]
    assert forms.place_of_target is not None
    reader, number = forms.place_of_target
    for event in tops:
        siblings = (
            e for e in graph.first if (e.calls, e.loops) == (event.calls, event.loops) and e.index <= event.index
        )
        reads = [e for e in siblings if graph.span(e.site) == graph.span(reader.site)]
        if not reads or number >= len(reads[-1].inputs):
            return False
        root = reads[-1].inputs[number].root
        returned = graph.events[event.calls[-1]].end if event.calls else 0
        if not _is_last_read(root, event, max(event.index + 1, returned) if is_argument else end, graph):
            return False
    return bool(tops)


def _is_given(node: ast.expr, event: Event, number: int, file: str, names: KeptBuffers, graph: Graph) -> bool:
    """Whether the step has made an operand itself, and nothing reads it after the operation."""
    if len(graph.trace.steps) < 2 or graph.trace.is_blind or _is_argument(node, file, graph):
        return False
    if names.is_named_unseen(file, node):
        return False
    end, place = graph.trace.steps[1][1], _array_number(event, number)
    same = [one for one in graph.first if graph.span(one.site) == graph.span(event.site)]
    made = {one.output.root for one in graph.first if one.output is not None and not one.is_view}
    roots = [(one.inputs[place].root if place < len(one.inputs) else -1, one) for one in same]
    return bool(roots) and all(root in made and _is_last_read(root, one, end, graph) for root, one in roots)


def _array_number(event: Event, number: int) -> int:
    """The number of an array operand among the inputs of an event, which begin with the arrays."""
    return sum(isinstance(x, np.ndarray) for x in event.operands[:number])


def _is_last_read(root: int, event: Event, end: int, graph: Graph) -> bool:
    """Whether nothing reads a buffer after an event, and it was freed before another one."""
    died = graph.trace.died.get(root)
    if died is None or died > end or graph.is_taken(root, event) or graph.is_unseen_between(event.index, died):
        return False
    return not any(index > event.index for index in graph.trace.reads.get(root, ()))


def _is_argument(node: ast.expr, file: str, graph: Graph) -> bool:
    name = node.id if isinstance(node, ast.Name) else ""
    around = [
        one for _, one in functions(graph.trees[file]) if one.lineno <= node.lineno <= (one.end_lineno or one.lineno)
    ]
    return any(
        name == one.arg for node in around for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    )
