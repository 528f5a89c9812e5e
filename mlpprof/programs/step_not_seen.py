"""In the worker: why a named step was not reached, or did not end, and what to type then."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

from mlpprof.errors import did_you_mean
from mlpprof.programs.load import PACKAGE
from mlpprof.programs.notebook import READ, place_of
from mlpprof.programs.record.forms import Forms
from mlpprof.programs.step_place import StepPlace, async_functions, functions
from mlpprof.programs.why_no_step import Signs


def too_long(step: StepPlace, forms: Forms, longest_s: float, at: str, is_users: bool) -> str:
    """What to do about a step that does not end. is_users: the user may have named it; it is not that of a variant."""
    assert forms.step_file is not None
    name = Path(forms.step_file).name
    takes = f"a single step '{step.text}' in {name} takes more than {longest_s:.0f} seconds; it was at {at}"
    if not is_users:
        return f"{takes}. If that line waits for something, let it return; else, give it less to do"
    node = step.node(ast.parse(forms.sources[forms.step_file]), forms.step_file)
    inner = [one for one in ast.walk(node) if isinstance(one, ast.For | ast.While)] if node is not None else []
    lines = sorted(one.lineno for one in inner if one is not node)
    names = [f"--step {shlex.quote(place_of(forms.step_file, line).text)}" for line in lines]
    what = f". Name a loop inside it: {' or '.join(names)}" if names else ""
    return f"{takes}. It seems to be the whole training{what}. Without --step, mlpprof looks for the step itself"


ASYNC = (
    "is an `async def`, and mlpprof does not follow those, because other code may run while it waits. Put its "
    "computation into a plain function, and name that one with --step"
)


def not_seen(step: StepPlace, forms: Forms, signs: Signs) -> str:
    """Why a named step was not reached."""
    if forms.step_file is not None:
        return f"the step '{step.text}' in {Path(forms.step_file).name} never ran: {signs.without_step()}"
    sources = {path: source for path, source in forms.sources.items() if not Path(path).is_relative_to(PACKAGE)}
    names = [name for path, source in sources.items() for name, _ in functions(ast.parse(source, path))]
    files = ", ".join(Path(path).name for path in sources)
    waiting = [name for source in sources.values() for name in async_functions(ast.parse(source))]
    if step.name is not None and any(f".{name}".endswith(f".{step.name}") for name in waiting):
        return f"the step '{step.text}' in {files} {ASYNC}"
    hint = ""
    if step.line is not None and step.cell is None and any(path in READ for path in sources):
        hint = f". A line of a notebook has its cell before it: --step 3:{step.line} is line {step.line} of cell 3"
    return (
        f"no {step.words} in {files or 'the program'}{did_you_mean(step.text, names)} "
        f"(functions: {', '.join(names) or 'none'}){hint}"
    )
