"""What a step computes and moves, counted from the operands of its operations in a pass without a clock.

The variant's file runs rewritten, with its labels as in the labels pass. `numpy_costs` says what each operation did;
equal operations of a statement are kept once, with the number of their executions. The activations and losses of
`mlpprof.model`, and helpers that a user's file imports, are rewritten too and counted by what they do inside.
"""

from __future__ import annotations

import ast
import inspect
import operator
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from mlpprof.errors import MlpprofError, UsageError
from mlpprof.instrument.clocks import ENTER, EXIT, RunningPhase, labelled_tree, module_again
from mlpprof.instrument.numpy_costs import ARITHMETIC, NOTHING, Effect, effect_of, operation_of
from mlpprof.instrument.operations import Observer, Operations
from mlpprof.instrument.rewriting import CALL, OPERATE, STORE, OperationForm, Site
from mlpprof.results import Operation


class Rewriter:
    """Rewrites modules and functions for one observer; `hooks` are the names that rewritten code needs.

    is_open: whether a Python function that a rewritten file calls is rewritten too.
    """

    def __init__(self, observer: Observer, is_open: Callable[[FunctionType], bool]) -> None:
        self._is_open = is_open
        self.sites: list[Site] = []
        self._twins: dict[CodeType, CodeType | None] = {}
        self._compiled: dict[str, CodeType | None] = {}
        self.hooks = Operations(self.sites, observer, self.opened).hooks

    def rewrite(self, tree: ast.Module, file: str) -> ast.Module:
        """The tree with its operations observed; names that begin with `__mlpprof_` are left alone."""
        tree.body = OperationForm(self.sites, file, tree).statements(tree.body)
        return ast.fix_missing_locations(tree)

    def opened(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function rewritten, with its globals, defaults and closure; itself where it is not open."""
        if isinstance(function, MethodType):
            inner = self.opened(function.__func__)
            return function if inner is function.__func__ else MethodType(inner, function.__self__)
        if not isinstance(function, FunctionType):
            opened: Callable[..., Any] = self._opened_object(function)
            return opened
        code = self._twin(function)
        if code is None:
            return function
        function.__globals__.update(self.hooks)
        twin = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
        twin.__kwdefaults__ = function.__kwdefaults__
        return twin

    def _opened_object(self, thing: Any) -> Any:
        """An object that Python code makes callable: its `__call__`, opened."""
        bases = () if isinstance(thing, type) else type(thing).__mro__
        method = next((vars(base)["__call__"] for base in bases if "__call__" in vars(base)), None)
        if not isinstance(method, FunctionType):
            return thing
        inner = self.opened(method)
        return thing if inner is method else MethodType(inner, thing)

    def _twin(self, function: FunctionType) -> CodeType | None:
        code = function.__code__
        if code not in self._twins:
            is_rewritten = any({OPERATE, CALL, STORE} & set(one.co_names) for one in (code, *_nested(code)))
            self._twins[code] = None if is_rewritten or not self._is_open(function) else self._find(code)
        return self._twins[code]

    def _find(self, code: CodeType) -> CodeType | None:
        """The code of the same function in the rewritten file; None if its source is not there or ambiguous."""
        file = code.co_filename
        if file not in self._compiled:
            self._compiled[file] = self._compile(code)
        found = [
            inner
            for inner in _nested(self._compiled[file])
            if (inner.co_qualname, inner.co_firstlineno, inner.co_freevars)
            == (code.co_qualname, code.co_firstlineno, code.co_freevars)
        ]
        return found[0] if len(found) == 1 else None

    def _compile(self, code: CodeType) -> CodeType | None:
        module = inspect.getmodule(code)
        try:
            source = inspect.getsource(module) if module is not None else ""
        except (OSError, TypeError):
            return None
        tree = self.rewrite(ast.parse(source), code.co_filename)
        compiled: CodeType = compile(tree, code.co_filename, "exec", dont_inherit=True)
        return compiled


def _nested(code: CodeType | None) -> list[CodeType]:
    if code is None:
        return []
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return [*inner, *(deeper for one in inner for deeper in _nested(one))]


MOST_OPERATIONS = 400_000
"""Counting stops after so many operations. A step of scalar loops has millions, and each takes microseconds here."""

SCALARS = {
    function: Effect(ARITHMETIC, function.__name__, "float64", (), flop=1)
    for function in (operator.add, operator.sub, operator.mul, operator.truediv, operator.iadd, operator.isub)
}
"""The effects of arithmetic on Python's floats."""

LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
PACKAGE = Path(__file__).resolve().parent.parent


CALL_PHASE = "call"
"""The phase of operations that are not in a step."""


class TooManyOperations(MlpprofError):
    """The counted step has so many operations that counting them one by one takes too long."""


@dataclass(frozen=True)
class Statement:
    """Where an operation stands: phase, layer and label as in the labels pass, and the line of the variant's file."""

    phase: str
    layer: int | None
    label: str | None
    line: int


class OperationCounter:
    """Collects the effects of operations while `recording`."""

    def __init__(self, file: str, phase: str = "train_step") -> None:
        self._file = file
        self._running = RunningPhase(phase)
        self.watch = self._running.watch
        self._labels: list[tuple[str, int | None]] = []
        self._calls: list[int] = []
        self._effects: dict[tuple[Statement, Effect], int] = {}
        self._seen = 0
        self.uncounted: dict[str, None] = {}
        self.recording = False
        self.rewriter = Rewriter(self, is_open)

    def enter(self, label: str, layer: object = None) -> None:
        self._labels.append((label, layer if isinstance(layer, int) else None))

    def exit(self) -> None:
        self._labels.pop()

    def start(self) -> None:
        """Forget what was seen and begin to record."""
        self._effects.clear()
        self.uncounted.clear()
        self._seen = 0
        self.recording = True

    def is_observing(self) -> bool:
        return self.recording

    def before(
        self,
        number: int,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        is_call: bool,
    ) -> None:
        """Remember the last line of the variant's own file on the way to a helper."""
        if is_call:
            self._calls.append(self._line(self.rewriter.sites[number]))

    def after_call(self, begun: None) -> None:
        self._calls.pop()

    def after(
        self,
        begun: None,
        number: int,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        result: Any,
    ) -> None:
        """Add an operation to its statement. Raises TooManyOperations when there are more than `MOST_OPERATIONS`."""
        # What a step of scalar loops does by the million comes first.
        if type(result) is int or (function is operator.getitem and type(operands[0]) is list):
            return
        effect = SCALARS.get(function) if type(result) is float else None
        if effect is None:
            effect = _effect(function, operands, options, result)
        if effect is NOTHING:
            return
        if effect is None:
            self.uncounted[getattr(function, "__name__", type(function).__name__)] = None
            return
        label, layer = self._labels[-1] if self._labels else (None, None)
        key = (Statement(self._running.name, layer, label, self._line(self.rewriter.sites[number])), effect)
        self._effects[key] = self._effects.get(key, 0) + 1
        self._seen += 1
        if self._seen > MOST_OPERATIONS:
            self.recording = False
            raise TooManyOperations(
                f"a step has more than {MOST_OPERATIONS:,} operations: too many to count one by one"
            )

    def _line(self, site: Site) -> int:
        if site.file == self._file or not self._calls:
            return site.line
        return self._calls[-1]

    def operations(self) -> tuple[Operation, ...]:
        """What was counted, in the order of first execution; all of it taken as useful."""
        return tuple(
            operation_of(effect, times, at.phase, at.layer, at.label, at.line, is_useful=True)
            for (at, effect), times in self._effects.items()
        )


def _effect(
    function: Callable[..., Any], operands: tuple[Any, ...], options: Mapping[str, Any], result: Any
) -> Effect | None:
    """The effect; None if `numpy_costs` does not know such operands, because a count must not end a run."""
    try:
        return effect_of(function, operands, options, result)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def counted_module(module: ModuleType, source: str, counter: OperationCounter) -> ModuleType:
    """The module run again from its source, its labels and operations reported to the counter."""
    tree = counter.rewriter.rewrite(labelled_tree(source), str(module.__file__))
    return module_again(module, tree, {ENTER: counter.enter, EXIT: counter.exit, **counter.rewriter.hooks})


def count_call(function: Callable[..., Any], *arguments: Any) -> tuple[tuple[Operation, ...], tuple[str, ...]]:
    """The operations of one call of a Python function, all in phase CALL, and the names of what is not understood.

    Lines are those of the function's file. Raises UsageError where the source cannot be had, and TooManyOperations.
    """
    inner = getattr(function, "__func__", function)
    counter = OperationCounter(inner.__code__.co_filename, CALL_PHASE)
    counted = counter.rewriter.opened(function)
    if counted is function:
        raise UsageError(
            f"{inner.__qualname__} cannot be counted: its source is not found, or it is part of an installed library"
        )
    counter.start()
    counted(*arguments)
    return counter.operations(), tuple(counter.uncounted)


def is_open(function: FunctionType) -> bool:
    """Whether a helper is counted by what it does inside: the model's functions, and files outside all libraries."""
    if function.__module__.startswith("mlpprof.model."):
        return True
    file = Path(function.__code__.co_filename)
    return file.is_file() and not any(file.is_relative_to(folder) for folder in (*LIBRARIES, PACKAGE))
