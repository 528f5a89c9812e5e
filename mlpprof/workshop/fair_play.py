"""What a learner's file may not do: let others compute, take the solution from mlpprof, or change the clock.

The exercises are about NumPy, and the race runs in the process of the learner's code. Somebody who wants to cheat can
still do so; this finds what people try first, and says why it does not count.
"""

from __future__ import annotations

import ast
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

from mlpprof.workshop.exercises import HIDDEN_COURSE

FRAMEWORKS = ("torch", "jax", "tensorflow", "keras", "sklearn", "cupy", "autograd", "tinygrad", "numba", "theano")
"""Packages that would do the work of the exercises. The last exercise, in which everything is free, may use them."""

OURS = ("mlpprof.model", "mlpprof.engines.in_place")
"""The parts of mlpprof that solutions import: activations, losses, and functions that work in place."""

CLOCKS = ("perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time", "time")


def foreign_import(source: str, file: str, is_free: bool) -> str | None:
    """Return what is wrong with an import of a file; None if nothing is. is_free: frameworks are allowed."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None  # loading the file will say where the error is
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(node, ast.Constant) and isinstance(text, str) and HIDDEN_COURSE in PurePath(text).parts:
            return (
                f"{file}:{node.lineno} names {HIDDEN_COURSE}, the folder that has the solution. Remove it, and let "
                "your own code compute"
            )
    for line, module in _imports(tree):
        package = module.partition(".")[0]
        if package in FRAMEWORKS and not is_free:
            return (
                f"{file}:{line} imports {package}, but in this exercise your own code has to compute, with NumPy. "
                "Remove the import"
            )
        if package == "mlpprof" and module not in OURS and not any(module.startswith(f"{part}.") for part in OURS):
            return (
                f"{file}:{line} imports {module}, which may contain the solution. Import only from {' and '.join(OURS)}"
            )
    return None


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each module that a file imports, with `import` or with a call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "mlpprof":
                yield from ((node.lineno, f"mlpprof.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


@contextmanager
def intact_clocks() -> Iterator[dict[str, Any]]:
    """Yield Python's clocks by name, and put them back at the end."""
    clocks = {name: getattr(time, name) for name in CLOCKS}
    try:
        yield clocks
    finally:
        sys.modules["time"] = time
        for name, clock in clocks.items():
            setattr(time, name, clock)


def changed_clock(clocks: dict[str, Any], source: str, file: str) -> str | None:
    """Return what is wrong if one of the clocks is another one by now; None if all are the same."""
    changed = [f"time.{name}" for name, clock in clocks.items() if getattr(time, name) is not clock]
    if sys.modules.get("time") is not time:
        changed.append("time")
    if not changed:
        return None
    line = _line_that_replaces(changed[0].removeprefix("time."), source)
    place = file if line is None else f"{file}:{line}"
    return f"{place} replaces Python's clock {changed[0]}, so no time could be measured. Remove the statement"


def _line_that_replaces(name: str, source: str) -> int | None:
    """Return the line that assigns a clock; else one that calls setattr for a module; else the first with its name."""
    nodes = list(ast.walk(ast.parse(source)))
    assigned = [
        target
        for node in nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if name in (getattr(target, "attr", None), getattr(getattr(target, "slice", None), "value", None))
    ]
    called = [
        node
        for node in nodes
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", None) == "setattr"
        and getattr(node.args[0] if node.args else None, "id", None) != "self"
    ]
    lines = [node.lineno for node in assigned] or [node.lineno for node in called]
    if lines:
        return lines[0]
    return next((i for i, text in enumerate(source.splitlines(), start=1) if name in text), None)
