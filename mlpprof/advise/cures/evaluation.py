"""Evaluation sample by sample: the network is called once for all samples, and the loop goes over its outputs.

The rest of the loop stays as it is: comparing labels, counting, collecting.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.editing.edits import Edits
from mlpprof.advise.editing.recorded_code import RecordedCode, code_of
from mlpprof.advise.loops import PythonLoop
from mlpprof.advise.syntax import is_simple, numpy_name
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event

ANSWERS_AT_ONCE = "Take the largest outputs of all samples in one call before the loop."
"""What `answers_before_the_loop` does, in words."""


@dataclass(frozen=True)
class _Samples:
    """How all samples become one argument, what goes over the outputs, and the axis of each output.

    outputs: with `{}` for what the network gives for all samples.
    """

    stacked: str
    outputs: str
    axis: int


def forward_before_the_loop(loop: PythonLoop, graph: Graph) -> tuple[Cure, ...]:
    """The edits that may be right, the likelier one first; which one is, the proof finds out."""
    code = code_of(graph)
    statement, head = _head(loop, code)
    if statement is None or head is None or not loop.turns:
        return ()
    file = code.file(statement)
    name = numpy_name(file, graph)
    variables = {one.id for one in ast.walk(head.target) if isinstance(one, ast.Name)}
    if name is None or not _may_be_run_twice(head.iter):
        return ()
    for event, call, place in _network_calls(loop.turns[0], variables, code):
        sample = event.operands[len(event.operands) - len(call.args) + place]
        taken, result = _taken_of(call, event.result, code)
        each = _all_of(call.args[place], head, variables)
        if each is not None and isinstance(sample, np.ndarray) and isinstance(result, np.ndarray):
            layouts = _layouts(sample, result, each, name)
            cures = (_cure(samples, call, taken, place, head, statement, code) for samples in layouts)
            return tuple(cure for cure in cures if cure is not None)
    return ()


def answers_before_the_loop(loop: PythonLoop, graph: Graph) -> tuple[Cure, ...]:
    """The edit that takes the largest output of all samples at once, where the network has been called before the loop.

    The loop goes over the answers: in `for i in range(n)`, `np.argmax(outputs[i])` becomes `answers[i]`.
    """
    code = code_of(graph)
    statement, head = _head(loop, code)
    if statement is None or head is None or not loop.turns or not _may_be_run_twice(head.iter):
        return ()
    if any(event.is_own for turn in loop.turns for event in turn):
        return ()  # the call may change what the loop goes over
    variables = {one.id for one in ast.walk(head.target) if isinstance(one, ast.Name)}
    for event in loop.turns[0]:
        node = code.node(event)
        row = event.operands[0] if event.operands else None
        if not isinstance(node, ast.Call) or not isinstance(row, np.ndarray) or row.ndim != 1:
            continue
        match node:
            case ast.Call(func=ast.Attribute(attr="argmax"), args=[argument], keywords=[]):
                every = _all_of(argument, head, variables)
            case _:
                continue
        # a list comprehension would be a second loop, and the answers must not depend on what this loop changes
        if every is None or every.startswith("[") or _changes(statement, every, code):
            continue
        edits = Edits(code)
        all_names, one_name = (edits.fresh_name(name, code.file(statement)) for name in ("answers", "answer"))
        edits.insert_before(statement, f"{all_names} = {code.text(node.func)}({every}, axis=1)")
        if isinstance(argument, ast.Subscript):
            edits.replace(node, f"{all_names}[{code.text(argument.slice)}]")
        else:
            edits.replace(node, one_name)
            edits.replace(head.target, f"{one_name}, {ast.unparse(head.target)}")
            edits.replace(head.iter, f"zip({all_names}, {code.text(head.iter)})")
        cure = edits.cure()
        return (cure,) if cure is not None else ()
    return ()


def _changes(statement: ast.stmt, text: str, code: RecordedCode) -> bool:
    """Whether a statement gives what an expression reads, or an item of it, another value."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            stored: ast.expr = node
            while isinstance(stored, ast.Subscript):
                stored = stored.value
            if re.search(rf"(?<![\w.]){re.escape(code.text(stored))}\b", text):
                return True
    return False


def _cure(
    samples: _Samples,
    call: ast.Call,
    taken: ast.expr,
    place: int,
    head: ast.For | ast.comprehension,
    statement: ast.stmt,
    code: RecordedCode,
) -> Cure | None:
    """The edit for one way to put the samples into one array. taken: the call, or the item of what it returns."""
    edits, file, used = Edits(code), code.file(statement), taken
    largest = _argmax_of(taken, code)
    names = ("outputs", "output") if largest is None else ("answers", "answer")
    all_names, one_name = (edits.fresh_name(name, file) for name in names)
    arguments = [samples.stacked if n == place else ast.unparse(one) for n, one in enumerate(call.args)]
    item = f"[{ast.unparse(taken.slice)}]" if isinstance(taken, ast.Subscript) else ""
    text, over = f"{ast.unparse(call.func)}({', '.join(arguments)}){item}", samples.outputs.format(all_names)
    if largest is not None:
        used, over = largest, all_names
        text = f"{ast.unparse(largest.func)}({text}, axis={samples.axis})"
    edits.insert_before(statement, f"{all_names} = {text}")
    edits.replace(used, one_name)
    sample, loops = call.args[place], head.target
    within = [*ast.walk(statement if isinstance(statement, ast.For) else code.parent(head) or statement)]
    inside = {id(one) for one in ast.walk(used)} | {id(one) for one in ast.walk(loops)}
    is_needed = not isinstance(sample, ast.Name) or any(
        isinstance(one, ast.Name) and one.id == sample.id and id(one) not in inside for one in within
    )
    parts = loops.elts if isinstance(loops, ast.Tuple) else []
    number = next((n for n, one in enumerate(parts) if ast.unparse(one) == ast.unparse(sample)), None)
    is_zip = isinstance(head.iter, ast.Call) and ast.unparse(head.iter.func) == "zip"
    if not is_needed and isinstance(loops, ast.Name):
        edits.replace(loops, one_name)
        edits.replace(head.iter, over)
    elif not is_needed and is_zip and number is not None and isinstance(head.iter, ast.Call):
        edits.replace(parts[number], one_name)
        edits.replace(head.iter.args[number], over)
    else:
        edits.replace(loops, f"{one_name}, {ast.unparse(loops)}")
        edits.replace(head.iter, f"zip({over}, {ast.unparse(head.iter)})")
    return edits.cure()


def _taken_of(call: ast.Call, result: Any, code: RecordedCode) -> tuple[ast.expr, Any]:
    """The item of what a call returns that the loop uses, as in ``forward(x)[1]``; else the call and its result."""
    above = code.parent(call)
    if isinstance(result, tuple | list) and isinstance(above, ast.Subscript) and above.value is call:
        match above.slice:
            case ast.Constant(value=int(number)) if number < len(result):
                return above, result[number]
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))) if number <= len(result):
                return above, result[-number]
    return call, result


def _argmax_of(call: ast.expr, code: RecordedCode) -> ast.Call | None:
    """`np.argmax(...)` of what a call gives, with nothing else."""
    above = code.parent(call)
    is_alone = isinstance(above, ast.Call) and above.args == [call] and not above.keywords
    is_largest = is_alone and isinstance(above, ast.Call) and ast.unparse(above.func).endswith(".argmax")
    return above if is_largest and isinstance(above, ast.Call) else None


def _head(loop: PythonLoop, code: RecordedCode) -> tuple[ast.stmt | None, ast.For | ast.comprehension | None]:
    """The statement to insert a line before, and what has the target and the iterable of the loop."""
    node = code.node_at(loop.longest.site)
    if isinstance(node, ast.For):
        return node, node
    if isinstance(node, ast.ListComp | ast.GeneratorExp) and len(node.generators) == 1:
        around = [node, *code.around(node)]
        within = next((n for n, one in enumerate(around) if isinstance(one, ast.stmt)), len(around))
        if any(isinstance(one, ast.Lambda | ast.ListComp | ast.GeneratorExp) for one in around[1:within]):
            return None, None
        statement = around[within] if within < len(around) else None
        if isinstance(statement, ast.Assign | ast.AugAssign | ast.Return | ast.Expr):
            return statement, node.generators[0]
    return None, None


def _may_be_run_twice(node: ast.expr) -> bool:
    """Whether an iterable gives its items a second time: a name, or `zip`, `enumerate` or `range` of such."""
    match node:
        case ast.Call(func=ast.Name(id="zip" | "enumerate" | "range" | "len"), args=args, keywords=[]):
            return all(map(_may_be_run_twice, args))
    return is_simple(node)


def _network_calls(turn: list[Event], variables: set[str], code: RecordedCode) -> Iterator[tuple[Event, ast.Call, int]]:
    """Calls of the program's own functions, the outermost first, of which one argument depends on the sample."""
    for event in turn:
        node = code.node(event)
        if not event.is_own or not isinstance(node, ast.Call) or node.keywords or len(event.operands) < len(node.args):
            continue
        names = [{one.id for one in ast.walk(arg) if isinstance(one, ast.Name)} & variables for arg in node.args]
        dependent = [number for number, found in enumerate(names) if found]
        is_plain = not any(isinstance(one, ast.Starred) for one in node.args)
        if is_plain and len(dependent) == 1 and is_simple(node.func):
            yield event, node, dependent[0]


def _all_of(argument: ast.expr, head: ast.For | ast.comprehension, variables: set[str]) -> str | None:
    """What holds all samples, for the argument of one: an array or a list, as text."""
    over, target = head.iter, head.target
    if isinstance(over, ast.Call) and isinstance(over.func, ast.Name):
        name = over.func.id
        parts = target.elts if isinstance(target, ast.Tuple) else []
        if name == "enumerate" and len(parts) == 2:
            over, target = over.args[0], parts[1]
        elif name == "zip" and len(parts) == len(over.args):
            for part, source in zip(parts, over.args, strict=True):
                if ast.unparse(part) == ast.unparse(argument):
                    return ast.unparse(source)
        elif name == "range" and len(over.args) == 1:
            match argument:
                case ast.Subscript(value=owner, slice=ast.Name(id=index)) if index in variables and is_simple(owner):
                    return f"{ast.unparse(owner)}[:{ast.unparse(over.args[0])}]"
            return None
    if ast.unparse(target) == ast.unparse(argument):
        return ast.unparse(over)
    if isinstance(over, ast.Call):
        return None
    return ast.unparse(ast.ListComp(argument, [ast.comprehension(target, over, [], 0)]))


def _layouts(sample: np.ndarray, result: np.ndarray, each: str, np_name: str) -> Iterator[_Samples]:
    """The ways to put all samples into one array. `{}` is the outputs for all of them."""
    match sample.shape, result.shape:
        case (_, 1), (_, 1):
            yield _Samples(f"{np_name}.hstack({each})", "{}.T[:, :, None]", 0)
        case (1, _), (1, _):
            yield _Samples(f"{np_name}.vstack({each})", "{}[:, None]", 1)
        case (_,), (_,):
            rows = f"{np_name}.asarray({each})"
            yield _Samples(rows, "{}", 1)
            yield _Samples(f"{rows}.T", "{}.T", 0)
