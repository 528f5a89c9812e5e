"""Makes an exercise of a teacher's pair: `mlpprof workshop author SLOW FAST`.

The folder has the format of the built-in exercises (`exercises`), and everything in it is a draft that the teacher may
change: the texts, the facts to check, and the target.
"""

from __future__ import annotations

import ast
import difflib
import json
import math
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import StrictUndefined

from mlpprof import catalog
from mlpprof.compare.entrants import Environment
from mlpprof.errors import UsageError
from mlpprof.owned import new_folder
from mlpprof.process import Progress
from mlpprof.programs.name import ProgramName
from mlpprof.report.code_diff import code_diff, code_lines
from mlpprof.report.numbers import plain
from mlpprof.results.advice import CATEGORIES, Finding
from mlpprof.workloads import resolve
from mlpprof.workshop.exercises import (
    COURSE_FILE,
    FORMAT,
    MY_MLP,
    README,
    SPEEDUP_QUESTION,
    Course,
    Exercise,
    Version,
    read_course,
    require_free_names,
)
from mlpprof.workshop.folder import make_whole, require_new
from mlpprof.workshop.pair import Measured, is_pair_of_programs, measure_programs, measure_variants
from mlpprof.workshop.right_structure import (
    FACTS,
    LARGE,
    PROGRAM,
    SAMPLE_LOOPS,
    VARIANT,
    Broken,
    counted_text,
    fact_text,
)
from mlpprof.workshop.solutions import without_parent

START, SOLUTION = "start.py", "solution.py"
SHARES = ((1.5, 0.6), (1.25, 0.5), (1.0, 0.3))
"""Each pair has the least speedup of a solution, and the share of it that is required, on a logarithmic scale.

A small gain gets a small share, because noise in a classroom may hide a part of it. No share is 0, because the check
has to distinguish the solution from the start.
"""
CLEAR_SPEEDUP = 1.25
"""If both versions make nearly the same operations, the solution has to be this many times as fast as the start."""
LEAST_S, ROOM = 15.0, 5
"""A check may take this many seconds before the race, or this many times what the start has needed if that is more.

A learner's laptop may be slower than the teacher's.
"""
LINE = 120
"""The texts are wrapped at this many characters."""
MOST_DIFF_LINES, MOST_FINDINGS = 60, 3
"""A hint shows at most this many changed lines, or findings."""


@dataclass(frozen=True)
class Wanted:
    """What a teacher asks for. step: the training step of two programs. files: other files that the code needs."""

    slow: str
    fast: str
    title: str | None = None
    workload: str = "workshop"
    step: str | None = None
    files: tuple[Path, ...] = ()


Measure = Callable[[Path, Path, Wanted, Progress], Measured]
"""Measures the copies of a pair; a test hands in one that takes no time."""


def author(wanted: Wanted, out: Path, progress: Progress, measure: Measure | None = None) -> Measured:
    """Make the folder of an exercise, as a whole or not at all, and return what was measured.

    Raises UsageError if the pair does not make an exercise, or if the folder exists.
    """
    require_new(out)
    is_program = is_pair_of_programs(wanted.slow, wanted.fast)
    _require_free_names(wanted, slug(out), is_program)
    measure = measure or (_measured_programs if is_program else _measured_variants)
    folder = Path(new_folder("author"))
    try:
        for path in wanted.files:
            _copy(path, folder)
        slow, fast = folder / START, folder / SOLUTION
        for name, path in ((wanted.slow, slow), (wanted.fast, fast)):
            path.write_text(source_of(name, is_program), encoding="utf-8")
        measured = measure(slow, fast, wanted, progress)
        name = slug(out)
        texts = (path.read_text(encoding="utf-8") for path in (slow, fast))
        for file, text in drafts(wanted, name, is_program, measured, *texts).items():
            (folder / file).write_text(text, encoding="utf-8")
        read_course(folder)
        make_whole(out, lambda part: _fill(folder, part))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return measured


def _fill(folder: Path, part: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_file():  # not __pycache__
            shutil.copy(path, part / path.name)


def _require_free_names(wanted: Wanted, name: str, is_program: bool) -> None:
    """Raise UsageError for the name of a further file that the folder could not have."""
    course = Course(
        title=name,
        start=Version(START),
        exercises=(Exercise(name, name, solution=Version(SOLUTION)),),
        kind=PROGRAM if is_program else VARIANT,
        workload=wanted.workload,
        files=tuple(path.name for path in wanted.files),
    )
    try:
        require_free_names(course)
    except ValueError as error:
        raise UsageError(f"--file cannot be used: {error}") from error


def _copy(path: Path, folder: Path) -> None:
    try:
        shutil.copy(path, folder / path.name)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; --file takes a file") from error


def _measured_variants(slow: Path, fast: Path, wanted: Wanted, progress: Progress) -> Measured:
    trained = resolve(wanted.workload)
    if LARGE in trained.network.layers:
        raise UsageError(
            f"the network {trained.network.text} has a layer of {LARGE} neurons, which the check of the structure "
            f"would confuse with its batch of {LARGE} samples; choose another workload"
        )
    return measure_variants(slow, fast, trained, progress, Environment())


def _measured_programs(slow: Path, fast: Path, wanted: Wanted, progress: Progress) -> Measured:
    return measure_programs(slow, fast, wanted.step, progress, Environment())


def source_of(name: str, is_program: bool) -> str:
    """Return the text of a version as a teacher names it; raise UsageError for one that is not a single file."""
    if is_program:
        program = ProgramName.parse(name)
        if program.kind != "script" or program.ref is not None:
            raise UsageError(f"'{name}' is not a script; expected the file of a program, such as slow.py")
        return _read(Path(program.target))
    entry = catalog.find(name)
    if entry.own:
        return without_parent(entry)
    if entry.module is not None:
        raise UsageError(f"'{name}' is a part of a package; expected a file, such as slow.py")
    if entry.class_name not in (None, catalog.class_name_in(replace(entry, class_name=None))):
        raise UsageError(f"{entry.path.name} has several variants; put {entry.class_name} into a file of its own")
    return _read(entry.path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows may write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def slug(folder: Path) -> str:
    """Return the name of a folder as a name for results and pages: small letters, digits, and dashes."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:60].strip("-")
    return name or "exercise"


def drafts(wanted: Wanted, name: str, is_program: bool, measured: Measured, slow: str, fast: str) -> dict[str, str]:
    """Return the texts of the folder by file name. slow, fast: the texts of the two versions."""
    at_most = measured.at_most
    if not at_most and measured.speedup.low < CLEAR_SPEEDUP:
        raise UsageError(
            f"FAST is {measured.speedup.ratio:.2f} times as fast as SLOW, and both make nearly the same operations, "
            f"so that a check could hardly distinguish them; expected at least {CLEAR_SPEEDUP} times. Choose versions "
            "that differ more"
        )
    changed = changed_lines(slow, fast)
    counted = {FACTS[name].category: None for name in at_most}
    shown = [
        one for one in measured.findings if one.category in counted or changed & set(range(one.line, one.end_line + 1))
    ][:MOST_FINDINGS]
    # the flaw is about the first of the facts, and a finding may be about the same
    is_shown = next(iter(counted), None) in {one.category for one in shown}
    categories = list(dict.fromkeys([*(one.category for one in shown), *counted]))
    title = plain(wanted.title or _title(categories))
    speedup = measured.speedup
    values: dict[str, Any] = {
        "created": datetime.now(UTC).date().isoformat(),
        "speedup": f"{speedup.ratio:.2f} times as fast as the start (95 %: {speedup.low:.2f} to {speedup.high:.2f})",
        "same": plain(measured.same[0].upper() + measured.same[1:]),
        "format": FORMAT,
        "name": name,
        "title": title,
        "kind": PROGRAM if is_program else VARIANT,
        "workload": wanted.workload,
        "files": [path.name for path in wanted.files],
        "start": START,
        "solution": SOLUTION,
        "steps": measured.steps,
        "share": next(share for least, share in SHARES if speedup.ratio >= least),
        "teaches": categories,
        "longest_s": min(600.0, float(max(LEAST_S, math.ceil(ROOM * measured.seconds)))),
        "limits": [
            (key, most, fact_text(key, most), measured.slow[key], measured.fast[key]) for key, most in at_most.items()
        ],
        "facts": [fact_text(key, most) for key, most in at_most.items()],
        "page": f"0-{name}.md",
        "question": SPEEDUP_QUESTION,
        "correct": _correct(is_program),
        "learn": _learn(categories),
        "where": _where(slow, changed),
        "what": _what(shown, None if is_shown else measured.flaw),
        "diff": _diff(slow, fast),
        "counted": _counted(measured),
    }
    names = {COURSE_FILE: "course.toml.jinja", README: "README.md.jinja", values["page"]: "page.md.jinja"}
    return {file: _rendered(template, values) for file, template in names.items()}


def _rendered(template: str, values: dict[str, Any]) -> str:
    source = (files("mlpprof.workshop") / "texts" / "draft" / template).read_text(encoding="utf-8")
    templates = Templates(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    templates.filters["wrapped"] = _wrapped
    templates.filters["toml"] = lambda value: json.dumps(value, ensure_ascii=False)  # these are valid TOML too
    return templates.from_string(source).render(values)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, LINE, break_long_words=False, break_on_hyphens=False)


def _title(categories: Sequence[str]) -> str:
    if not categories:
        return "Make the step faster"
    what = CATEGORIES[categories[0]]
    return what[0].upper() + what[1:]


def _correct(is_program: bool) -> str:
    if is_program:
        return "The check compares the parameters after 20 training steps with those of the solution."
    return "The check compares the gradients, 20 training steps and the predictions with a reference."


def _learn(categories: Sequence[str]) -> str:
    if not categories:
        return "How to find what takes the time of a training step, and how to make it faster."
    return f"How to find and remove {', and '.join(CATEGORIES[category] for category in categories[:2])}."


def changed_lines(slow: str, fast: str) -> set[int]:
    """Return the lines of the slow version that the fast one changes, apart from the docstring of the file."""
    before, first = code_lines(slow)
    after, _ = code_lines(fast)
    found: set[int] = set()
    for tag, start, stop, _, _ in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            found |= set(range(first + start + 1, first + max(stop, start + 1) + 1))
    return found


def _functions(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield each function of a file with its first and last line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node.lineno, node.end_lineno or node.lineno


def _where(slow: str, changed: set[int]) -> str:
    inside = {
        f"`{name}`"
        for name, start, stop in _functions(slow)
        if name != "__init__" and changed & set(range(start, stop + 1))
    }
    if inside:
        return f"Look at {' and '.join(sorted(inside))}. Which statements take the most time there?"
    lines = sorted(changed)
    return f"Look at the lines from {lines[0]} on. Which statements take the most time there?" if lines else ""


def _what(shown: Sequence[Finding], flaw: Broken | None) -> str:
    texts = [f"Line {one.line}: {plain(one.title)}. {plain(one.why)}" for one in shown]
    if flaw is not None:
        texts.append(f"Line {flaw.line}: {flaw.what}. {flaw.advice}.")
    if not texts:
        texts.append("Compare the time of each statement with its work: how many numbers does it compute or copy?")
    return "\n\n".join(_wrapped(text.replace(START, MY_MLP)) for text in texts)


def _diff(slow: str, fast: str) -> str:
    """Return the lines that the fast version changes, without the docstring of the file."""
    shown = ["..." if line.kind == "@" else line.kind + line.text for line in code_diff(slow, fast)]
    if len(shown) > MOST_DIFF_LINES:
        shown = [*shown[:MOST_DIFF_LINES], f"... and {len(shown) - MOST_DIFF_LINES} more lines"]
    return "\n".join(line.replace("```", "'''") for line in shown)


def _counted(measured: Measured) -> str:
    rows = [
        f"- {counted_text(name)}: {measured.slow[name]:,} before, {measured.fast[name]:,} after"
        for name in measured.at_most
        if name != SAMPLE_LOOPS  # it is known whether there is a loop, but not how many there are
    ]
    if not rows:
        return "Put the profiles of both versions side by side. Which statements are gone, and which gained most?"
    return "\n".join(["What mlpprof counts in one step changes:", "", *rows])
