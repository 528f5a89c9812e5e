"""Findings where changes are reviewed: annotations on GitHub, Markdown, and SARIF 2.1.0 for code scanning.

GitHub and SARIF count the lines of the file itself, and those of a notebook are JSON. A finding in a notebook is
therefore shown at its first line, and its text says in which line of which cell it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlpprof
from mlpprof.report.advice_words import (
    confidence_text,
    cure_lines,
    headline_text,
    looked_for,
    other_lines,
    payoff_text,
    share_text,
)
from mlpprof.report.files.markup import annotation, inline, markdown_row, markdown_table
from mlpprof.report.numbers import format_time, plain
from mlpprof.report.program_rows import known_text, program_table, program_words
from mlpprof.results.advice import CATEGORIES, Advice, Edit, Finding
from mlpprof.results.category_pages import explanation
from mlpprof.results.json import json_text
from mlpprof.results.place import Place
from mlpprof.results.proof import IN_THE_PATCH

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
PROVEN = "proven: it trains the same, and is faster"
UNPROVEN = "not proven; mlpprof advise --prove shows whether it trains the same, and how much faster it is"


def github_text(advice: Advice) -> str:
    """One annotation per finding, as GitHub reads them from the output of a step of a workflow."""
    return "".join(f"{line}\n" for line in _annotations(advice))


def _annotations(advice: Advice) -> Iterator[str]:
    for one in advice.findings:
        title = f"{one.category}: {plain(one.title)}{_in_cell(one.place)}"
        line, end_line = _lines(one.place, one.end_line)
        text = f"{one.why}\nIt saves {payoff_text(one)} per {one.per} ({share_text(one)}).\n{one.cure}"
        yield annotation("warning", title, text, path_of(advice, one.place), line, end_line)
    for title, lines in other_lines(advice):
        for place, text in lines:
            line = _lines(place, place.line)[0]
            yield annotation("notice", title + _in_cell(place), text, path_of(advice, place), line)
    for note in advice.notes:
        yield annotation("notice", "mlpprof", note)


def _in_cell(place: Place) -> str:
    """' (line 12 of cell 3)' in a notebook, else nothing."""
    return "" if place.cell is None else f" ({place.words})"


def _lines(place: Place, end_line: int) -> tuple[int, int]:
    """The first and the last line of the file; 1 for a notebook."""
    return (place.line, max(place.line, end_line)) if place.cell is None else (1, 1)


def markdown_text(advice: Advice) -> str:
    """The findings as Markdown: a table, then each finding with its cure."""
    return "".join(f"{line}\n" for line in _markdown(advice))


def _markdown(advice: Advice) -> Iterator[str]:
    yield f"### mlpprof: {inline(headline_text(advice))}"
    yield ""
    yield f"A step takes {format_time(advice.step_s)}."
    yield ""
    if advice.program is not None:
        yield inline(program_words(advice.program))
        yield ""
        yield from markdown_table(program_table(advice.program, advice.step))
        yield ""
        yield from (f"- {inline(text)}" for text in known_text(advice.program))
        yield ""
    if not advice.findings:
        yield looked_for()
        yield ""
    else:
        yield "| # | place | category | what | time saved | share |"
        yield "| ---: | --- | --- | --- | ---: | ---: |"
    for number, one in enumerate(advice.findings, start=1):
        cells = (inline(one.place.text), one.category, inline(one.title), payoff_text(one), share_text(one))
        yield markdown_row((str(number), *cells))
    for number, one in enumerate(advice.findings, start=1):
        yield ""
        yield f"**{number}. {inline(one.title)}** ({inline(one.place.text)})"
        yield ""
        yield f"{inline(one.why)} How sure: {confidence_text(one)}."
        yield ""
        yield from _cure(one)
    for title, lines in other_lines(advice):
        if lines:
            yield from ("", f"**{title}**", "", *(f"- {inline(f'{place.text}: {text}')}" for place, text in lines))
    if advice.notes:
        yield ""
        yield from (f"- {inline(note)}" for note in advice.notes)


def _cure(one: Finding) -> Iterator[str]:
    """The words as text, and the lines of code as a block that is coloured like a diff."""
    lines = cure_lines(one.cure)
    yield from (inline(line.text) for line in lines if line.kind == "words")
    code = [f"{' ' if line.kind == 'code' else line.kind}{line.text}" for line in lines if line.kind != "words"]
    if code:
        fence = "`" * (1 + max([2, *(len(run) for line in code for run in re.findall("`+", line))]))
        yield from ("", f"{fence}diff", *(line.replace("@@@ ", "@@ ").rstrip() for line in code), fence)


def sarif_text(advice: Advice) -> str:
    """The findings as SARIF 2.1.0, with the safe edits as fixes."""
    categories = list(CATEGORIES)
    driver = {
        "name": "mlpprof",
        "version": mlpprof.__version__,
        "rules": [
            {
                "id": name,
                "shortDescription": {"text": what},
                "help": {"text": explanation(name), "markdown": explanation(name)},
                "defaultConfiguration": {"level": "warning"},
            }
            for name, what in CATEGORIES.items()
        ],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [
            _result(advice, one, categories.index(one.category), level)
            for level, findings in (("warning", advice.findings), ("note", advice.small))
            for one in findings
        ],
    }
    return json_text({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]})


def _result(advice: Advice, one: Finding, rule: int, level: str) -> dict[str, Any]:
    text = f"{plain(one.title)}{_in_cell(one.place)}. It saves {payoff_text(one)} per {one.per} ({share_text(one)})."
    text += f" {plain(one.why)}"
    result: dict[str, Any] = {
        "ruleId": one.category,
        "ruleIndex": rule,
        "level": level,
        "message": {"text": text},
        "locations": [_location(advice, one.place, one.end_line, one.column)],
        "properties": {
            "payoff_s": list(one.payoff_s),
            "payoff_share": list(one.payoff_share),
            "confidence": one.confidence,
            "kind": one.kind,
        },
    }
    if one.related:
        result["relatedLocations"] = [
            {"id": number, **_location(advice, place, place.line)} for number, place in enumerate(one.related)
        ]
    if one.kind == "safe" and one.edits and all(edit.cell is None for edit in one.edits):
        words = f"{cure_lines(one.cure)[0].text} ({PROVEN if _is_proven(advice, one) else UNPROVEN})"
        result["fixes"] = [{"description": {"text": words}, **_changes(advice, one)}]
    return result


def _is_proven(advice: Advice, one: Finding) -> bool:
    proof = advice.proof
    found = (one.category, one.title)
    return (
        proof is not None
        and proof.is_proven
        and any((cure.category, cure.title) == found and cure.outcome == IN_THE_PATCH for cure in proof.cures)
    )


def _location(advice: Advice, place: Place, end_line: int, column: int = 1) -> dict[str, Any]:
    first, last = _lines(place, end_line)
    region = {"startLine": first, "startColumn": column if place.cell is None else 1, "endLine": last}
    uri = Path(path_of(advice, place)).as_posix()
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
    if place.cell is not None:
        location["message"] = {"text": place.words}
    return location


def _changes(advice: Advice, one: Finding) -> dict[str, Any]:
    by_file: dict[str, list[Edit]] = {}
    for edit in one.edits:
        by_file.setdefault(edit.file, []).append(edit)
    return {
        "artifactChanges": [
            {
                "artifactLocation": {"uri": Path(path_of(advice, Place(file, 1))).as_posix()},
                "replacements": [
                    {
                        "deletedRegion": {
                            "startLine": edit.line,
                            "startColumn": 1,
                            "endLine": edit.end_line,
                            "endColumn": 1,
                        },
                        "insertedContent": {"text": edit.text},
                    }
                    for edit in edits
                ],
            }
            for file, edits in by_file.items()
        ]
    }


def path_of(advice: Advice, place: Place) -> str:
    """The path of a file from the working directory, as tools that read the whole repository want it."""
    return os.path.relpath(Path(advice.folder, place.file))
