"""Clocks on the five phases, and on labelled statements: those that end in a comment ``# phase: derivative``.

For Python a label is a comment and costs nothing. For the labels pass, the file is parsed, every labelled statement is
put between two clock readings, and the module runs in this form. The statement itself stays as it was written, so NumPy
reuses its temporaries as usual.

A label on the header of a `for`, `if` or `with` applies to the whole block. Labels can be nested: time under an inner
label does not count for the outer one. The loop variable `l` (or `layer`) of the innermost such loop names the layer.
"""

from __future__ import annotations

import ast
import io
import operator
import re
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from mlpprof.errors import VariantError
from mlpprof.model import PHASES, Variant

Clock = Callable[[], float]
Method = Callable[..., Any]


class PhaseClock:
    """Seconds that one instance spends in each phase, summed up until `take` reads and clears them.

    clock: seconds, monotonic, or anything else that only grows, such as the page faults of the process.
    Raises VariantError if the instance cannot be given methods of its own (__slots__).
    """

    def __init__(self, instance: Variant, clock: Clock) -> None:
        self._clock = clock
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._called = dict.fromkeys(PHASES, False)
        shadow_phases(instance, self._timed)

    def _timed(self, name: str, method: Method) -> Method:
        seconds, called, clock = self._seconds, self._called, self._clock

        def timed(*arguments: Any) -> Any:
            start = clock()
            result = method(*arguments)
            seconds[name] += clock() - start
            called[name] = True
            return result

        return timed

    @property
    def complete(self) -> bool:
        """Whether every phase has been called since the start; if not, the step fuses phases."""
        return all(self._called.values())

    def take(self) -> dict[str, float]:
        taken = dict(self._seconds)
        for name in PHASES:
            self._seconds[name] = 0.0
        return taken


def shadow_phases(instance: Variant, watched: Callable[[str, Method], Method]) -> None:
    """Replace the five methods of this instance only. watched: makes the new method from a phase and its method."""
    try:
        for name in PHASES:
            setattr(instance, name, watched(name, getattr(instance, name)))
    except AttributeError as error:
        raise VariantError(
            f"class {type(instance).__name__} forbids new attributes (__slots__), so its phases cannot be clocked; "
            "remove __slots__ or add '__dict__' to it"
        ) from error


class RunningPhase:
    """The phase that an instance is running, without reading a clock. name: `outside`, where it is in no phase."""

    def __init__(self, outside: str) -> None:
        self.name = outside

    def watch(self, instance: Variant) -> None:
        shadow_phases(instance, self._noting)

    def _noting(self, name: str, method: Method) -> Method:
        def noting(*arguments: Any) -> Any:
            outer, self.name = self.name, name
            try:
                return method(*arguments)
            finally:
                self.name = outer

        return noting


COMMENT = re.compile(r"#\s*phase:\s*(.*\S)\s*$")
LAYER_VARIABLES = ("l", "layer")
ENTER, EXIT = "__mlpprof_enter__", "__mlpprof_exit__"

LabelKey = tuple[str, int | None, str]
"""Phase, layer, label."""


@dataclass(frozen=True)
class StrayLabel:
    """A label comment that is on no statement, so that nothing can be timed under it."""

    line: int
    label: str


class LabelClock:
    """Seconds and calls by (phase, layer, label), summed up until `take` reads and clears them.

    clock: seconds, monotonic. Time between enter and exit of an inner label is subtracted from the outer one.
    """

    def __init__(self, clock: Clock) -> None:
        self._running = RunningPhase("train_step")
        self.watch = self._running.watch
        self._cells: dict[LabelKey, list[Any]] = {}  # [seconds, calls]
        self._open: list[tuple[str, Any, float]] = []  # label, layer, start
        self._inner: list[float] = []  # seconds of the labels within each open one
        self.enter, self.exit = self._make_hooks(clock)

    def _make_hooks(self, clock: Clock) -> tuple[Callable[..., None], Callable[[], None]]:
        """The hooks as closures: they run for every labelled statement, and attribute look-ups add up."""
        cells, opened, inner, running = self._cells, self._open, self._inner, self._running

        def enter(label: str, layer: object = None) -> None:
            inner.append(0.0)
            opened.append((label, layer, clock()))

        def leave() -> None:
            now = clock()
            label, layer, start = opened.pop()
            elapsed = now - start
            own = elapsed - inner.pop()
            if inner:
                inner[-1] += elapsed
            if layer is not None and type(layer) is not int:
                layer = _whole_number(layer)
            key = (running.name, layer, label)
            if key in cells:
                cell = cells[key]
                cell[0] += own
                cell[1] += 1
            else:
                cells[key] = [own, 1]

        return enter, leave

    def take(self) -> dict[LabelKey, tuple[float, int]]:
        """Seconds and calls by (phase, layer, label) since the last take, in the order of first execution."""
        taken = {key: (seconds, calls) for key, (seconds, calls) in self._cells.items()}
        for held in (self._cells, self._open, self._inner):
            held.clear()
        return taken


def _whole_number(layer: Any) -> int | None:
    """The value of a loop variable if it is an integer, also one of NumPy; a loop may run over anything."""
    try:
        return operator.index(layer)
    except TypeError:
        return None


def labels_of(source: str) -> dict[int, str]:
    """The labels in a file's comments: line number -> label."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        match = COMMENT.match(token.string) if token.type == tokenize.COMMENT else None
        if match:
            found[token.start[0]] = match.group(1)
    return found


def stray_labels(source: str) -> list[StrayLabel]:
    """Labels that no statement ends in; raises SyntaxError if the source does not parse."""
    held = {_label_line(node) for node in ast.walk(ast.parse(source)) if _can_be_labelled(node)}
    return [StrayLabel(line, label) for line, label in labels_of(source).items() if line not in held]


def instrumented_module(module: ModuleType, source: str, clock: LabelClock) -> ModuleType:
    """The module run again from its source with clocks on its labelled statements."""
    return module_again(module, labelled_tree(source), {ENTER: clock.enter, EXIT: clock.exit})


def labelled_tree(source: str) -> ast.Module:
    """The parsed file with every labelled statement between calls of `ENTER` and `EXIT`."""
    tree = _Wrap(labels_of(source)).visit(ast.parse(source))
    assert isinstance(tree, ast.Module)
    return ast.fix_missing_locations(tree)


def module_again(module: ModuleType, tree: ast.Module, hooks: Mapping[str, Any]) -> ModuleType:
    """The module run again in a rewritten form, which may call the hooks by name.

    Names and file are those of the original, so that imports, tracebacks and relative imports work as there.
    """
    copy = ModuleType(module.__name__, module.__doc__)
    for name in ("__file__", "__package__", "__spec__", "__loader__"):
        setattr(copy, name, getattr(module, name, None))
    vars(copy).update(hooks)
    # dont_inherit: the __future__ imports of this file are not the variant's
    exec(compile(tree, str(module.__file__), "exec", dont_inherit=True), vars(copy))
    return copy


def _can_be_labelled(node: ast.AST) -> bool:
    return isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _label_line(statement: ast.AST) -> int:
    """The line of this statement's label: its last line, or the last one of a block's header."""
    header: ast.AST = statement
    match statement:
        case ast.For(iter=last) | ast.While(test=last) | ast.If(test=last) | ast.Match(subject=last):
            header = last
        case ast.With(items=items):
            header = items[-1].optional_vars or items[-1].context_expr
        case ast.Try() | ast.TryStar():
            return statement.lineno
    return int(getattr(header, "end_lineno", 0))


class _Wrap(ast.NodeTransformer):
    """Puts every labelled statement into try/finally between enter and exit; of a block and its parts, the block."""

    def __init__(self, labels: dict[int, str]) -> None:
        self._labels = dict(labels)
        self._layers: list[str | None] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """A function body starts outside every loop."""
        outer, self._layers = self._layers, []
        self.generic_visit(node)
        self._layers = outer
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Wrap labelled statements, outer ones before inner ones."""
        line = _label_line(node) if _can_be_labelled(node) else 0
        label = self._labels.pop(line, None)
        layer = self._layers[-1] if self._layers else None
        if isinstance(node, ast.For):
            self._layers.append(_layer_variable(node.target) or layer)
            super().generic_visit(node)
            self._layers.pop()
        else:
            super().generic_visit(node)
        if label is None:
            return node
        self._labels[line] = label  # for the next statement on the same line
        return _between_clocks(node, label, layer)


def _layer_variable(target: ast.expr) -> str | None:
    names = [n.id for n in ast.walk(target) if isinstance(n, ast.Name)]
    return next((name for name in LAYER_VARIABLES if name in names), None)


def _between_clocks(statement: ast.AST, label: str, layer: str | None) -> ast.AST:
    """``enter(label, l)``, then the statement in a try whose finally is ``exit()``: it may return or break."""
    arguments: list[ast.expr] = [ast.Constant(label)]
    if layer is not None:
        arguments.append(ast.Name(layer, ast.Load()))
    enter = ast.Expr(ast.Call(ast.Name(ENTER, ast.Load()), arguments, []))
    leave = ast.Expr(ast.Call(ast.Name(EXIT, ast.Load()), [], []))
    assert isinstance(statement, ast.stmt)
    # One `if True:` contains both, because a statement may only be replaced by a single one in some places.
    block = ast.If(ast.Constant(True), [enter, ast.Try([statement], [], [], [leave])], [])
    return ast.copy_location(block, statement)
