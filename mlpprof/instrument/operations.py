"""Every operation of a file as it runs: an expression's operands and its result, handed to an observer.

The file is rewritten (`rewriting`), so that each operator, call, subscript and augmented assignment goes through a
function of `Rewriter`, which performs it as Python would and then tells the observer. The values are bitwise those of
the plain file.

Not for a pass that is timed: handing operands to a function keeps NumPy from reusing its temporaries.

Helpers are opened: a Python function that an observed call reaches is rewritten too, if `is_open` says so.
"""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any, Protocol

from mlpprof.instrument.rewriting import CALL, OPERATE, SLICE, STORE, OperationHooks, Site


class Observer(Protocol):
    """Who is told of operations."""

    def seen(
        self,
        site: Site,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        result: Any,
    ) -> None:
        """An operation has run: `operator.matmul`, `operator.setitem`, or whatever was called."""

    def before_call(self, site: Site) -> None:
        """A call begins; until `after_call` whatever is seen happens inside it."""

    def after_call(self) -> None:
        """The call that began last has ended, with a result or an exception."""


class Rewriter:
    """Rewrites modules and functions for one observer; `hooks` are the names that rewritten code needs.

    is_open: whether a Python function that a rewritten file calls is rewritten too.
    """

    def __init__(self, observer: Observer, is_open: Callable[[FunctionType], bool]) -> None:
        self._observer = observer
        self._is_open = is_open
        self._sites: list[Site] = []
        self._twins: dict[CodeType, CodeType | None] = {}
        self._compiled: dict[str, CodeType | None] = {}
        self.hooks: dict[str, Any] = {OPERATE: self._operate, CALL: self._call, STORE: self._store, SLICE: slice}

    def rewrite(self, tree: ast.AST, file: str) -> ast.AST:
        """The tree with its operations observed; names that begin with `__mlpprof_` are left alone."""
        rewritten: ast.AST = OperationHooks(self._sites, file).visit(tree)
        return ast.fix_missing_locations(rewritten)

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
        """The code of the same function in the rewritten file; None where its source is gone or ambiguous."""
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
        assert isinstance(tree, ast.Module)
        compiled: CodeType = compile(tree, code.co_filename, "exec", dont_inherit=True)
        return compiled

    def _operate(self, number: int, /, *operands: Any) -> Any:
        site = self._sites[number]
        assert site.function is not None
        # A second reference: NumPy would else write the result into an operand that nobody seems to hold.
        held = [*operands]
        result = site.function(*held)
        self._observer.seen(site, site.function, operands, {}, result)
        return result

    def _store(self, number: int, value: Any, target: Any, key: Any, /) -> None:
        """``target[key] = value``, in Python's order of evaluation."""
        target[key] = value
        self._observer.seen(self._sites[number], operator.setitem, (target, key, value), {}, None)

    def _call(self, number: int, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        site, observer = self._sites[number], self._observer
        observer.before_call(site)
        try:
            result = self.opened(function)(*arguments, **options)
        finally:
            observer.after_call()
        observer.seen(site, function, arguments, options, result)
        return result


def _nested(code: CodeType | None) -> list[CodeType]:
    if code is None:
        return []
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return [*inner, *(deeper for one in inner for deeper in _nested(one))]
