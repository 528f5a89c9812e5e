"""Findings, and the profile of a program's own step, as files; the end of the file's name picks the format.

| name ends in | findings                       | step profile                            |
| ------------ | ------------------------------ | --------------------------------------- |
| .html        | one page (`report.page.advice`)|                                         |
| .json        | `schemas/advice.schema.json`   | `schemas/step.schema.json`              |
| .csv         |                                | raw samples, one a row                  |
| .txt         | the report of the terminal     | the report of the terminal              |
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console

from mlpprof.errors import UsageError
from mlpprof.files import write_atomically
from mlpprof.report.advice import print_advice
from mlpprof.report.export.advice_json import advice_json
from mlpprof.report.export.json_text import json_text
from mlpprof.report.export.step_profile_json import step_profile_csv, step_profile_json
from mlpprof.report.step_profile import print_step_profile
from mlpprof.report.terminal import TEXT_WIDTH
from mlpprof.results.advice import Advice
from mlpprof.results.step_profile import StepProfile


def write_advice(path: Path, advice: Advice) -> Path:
    """Write findings, replacing what is there; returns the path.

    Raises UsageError as `require_advice_ending`, and where the file cannot be written.
    """
    return _write(path, _ADVICE_TEXTS[require_advice_ending(path)](advice))


def write_step_profile(path: Path, profile: StepProfile) -> Path:
    """Write a step profile, replacing what is there; returns the path.

    Raises UsageError as `require_step_ending`, and where the file cannot be written.
    """
    return _write(path, _STEP_TEXTS[require_step_ending(path)](profile))


def require_advice_ending(path: Path) -> str:
    """The ending of a file that `write_advice` can write; raises UsageError for any other, before time is spent."""
    return _ending(path, _ADVICE_TEXTS)


def require_step_ending(path: Path) -> str:
    """The ending of a file that `write_step_profile` can write; raises UsageError for any other."""
    return _ending(path, _STEP_TEXTS)


def _ending(path: Path, known: Iterable[str]) -> str:
    ending = path.suffix.lower()
    if ending not in known:
        found = f"has extension '{path.suffix}'" if path.suffix else "has no extension"
        raise UsageError(f"cannot write {path}: it {found}; expected one of {', '.join(known)}")
    return ending


def _advice_page(advice: Advice) -> str:
    # drawing needs matplotlib, which takes a while to load
    from mlpprof.report.page.advice import advice_html

    return advice_html(advice)


def _printed(show: Callable[[Console], None]) -> str:
    """What is printed on a console, as text without colours, whatever the environment says."""
    buffer = io.StringIO()
    show(Console(file=buffer, width=TEXT_WIDTH, color_system=None, force_terminal=False, force_jupyter=False))
    return buffer.getvalue()


def _write(path: Path, text: str) -> Path:
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


_ADVICE_TEXTS: dict[str, Callable[[Advice], str]] = {
    ".html": _advice_page,
    ".json": lambda advice: json_text(advice_json(advice)),
    ".txt": lambda advice: _printed(lambda console: print_advice(advice, console)),
}
_STEP_TEXTS: dict[str, Callable[[StepProfile], str]] = {
    ".json": lambda profile: json_text(step_profile_json(profile)),
    ".csv": step_profile_csv,
    ".txt": lambda profile: _printed(lambda console: print_step_profile(profile, console)),
}
