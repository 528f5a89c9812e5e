"""The texts and figures of findings and step profiles, which the terminal, pages and files show alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

import numpy as np

from mlpprof.report.numbers import (
    UNKNOWN,
    digits,
    format_number,
    format_payoff,
    format_percent,
    format_shares,
    format_size,
    format_time,
    plain,
)
from mlpprof.results.advice import CATEGORIES, UNITS, Advice, Expensive, Finding
from mlpprof.results.place import Place
from mlpprof.results.proof import Proof, TriedCure

CONTEXT = 2
"""So many lines are shown above and below a finding."""

MOST_LINES = 9
"""If a finding has more lines, only its beginning and its end are shown."""

MOST_VALUES = 6
"""If a list of evidence is longer, only so many values are shown."""

MEASURED = "measured"
"""This key of a finding's evidence explains how its payoff was measured."""

LEFT_OUT = "⋮"

ONE_BY_ONE = "each saving is for that change alone; do not add them"
CONFIDENCE = {
    "certain": "certain: the change computes the same values",
    "likely": "likely: check that your program allows this change",
}

_NAMES = {
    "operation": "",
    "shapes": "",
    "shape": "",
    "dtypes": "",
    "dtype": "",
    "orders": "orders",
    "times_per_step": "",
    "times": "",
}
"""Keys of evidence that need no name because the values explain themselves, in the order in which they are shown."""


@dataclass(frozen=True)
class SourceLine:
    """One line of an excerpt; number None for a gap. marked: it is a line of the finding.

    begin: where in the text the finding begins, 0-based, in its first line.
    """

    number: int | None
    text: str
    marked: bool = False
    begin: int | None = None


@dataclass(frozen=True)
class CureLine:
    """One line of a cure: words, code as it stays, a line to add or to remove, or a gap."""

    kind: Literal["words", "code", "+", "-", "@"]
    text: str


def place_text(finding: Finding) -> str:
    """'net.py:41:9', or 'work.ipynb:cell 3:12:9'."""
    return f"{plain(finding.place.text)}:{finding.column}"


def payoff_text(finding: Finding) -> str:
    """'0.79–1.31 ms'."""
    return format_payoff(*finding.payoff_s)


def share_text(finding: Finding) -> str:
    """'10–12 %', or '60–80 % of an epoch' around the step."""
    share = format_shares(*finding.payoff_share)
    return share if finding.per == "step" else f"{share} of {UNITS[finding.per]}"


def share_of_text(finding: Finding) -> str:
    """'10–12 % of the step', or '60–80 % of an epoch'."""
    return f"{format_shares(*finding.payoff_share)} of {UNITS[finding.per]}"


def in_step(findings: Iterable[Finding]) -> list[Finding]:
    """The findings whose payoffs are for a step; all if there are none."""
    held = list(findings)
    return [one for one in held if one.per == "step"] or held


def caption_text(findings: Iterable[Finding]) -> str:
    """What to know about the order and the savings of findings."""
    has_others = any(one.per != "step" for one in findings)
    last = "; those around the step come after those in it"
    return ONE_BY_ONE + (last if has_others else "")


def related_text(finding: Finding) -> str:
    """'net.py:18, net.py:7'; empty where there is none."""
    return ", ".join(plain(place.text) for place in finding.related)


def confidence_text(finding: Finding) -> str:
    """What the word means for the user."""
    return CONFIDENCE.get(finding.confidence, plain(finding.confidence))


def measured_text(finding: Finding) -> str:
    """How the payoff was measured; empty if the finding does not say."""
    return _value_text(MEASURED, finding.evidence[MEASURED]) if MEASURED in finding.evidence else ""


def evidence_text(evidence: Mapping[str, object]) -> str:
    """Shapes, dtypes, orders, executions per step and other evidence, on one line."""
    known = [name for name in _NAMES if name in evidence]
    others = [name for name in evidence if name not in _NAMES and name != MEASURED]
    return ", ".join(text for name in (*known, *others) if (text := _evidence(name, evidence[name])))


EXPENSIVE = "Expensive, and not explained by a finding"
SMALL = "Small: each saves less than 1 % of the step"


def expensive_text(one: Expensive) -> str:
    """'`X @ W` takes 45 % of the step (0.79 ms). It is a product of ...'."""
    return (
        f"`{plain(one.text)}` takes {format_percent(one.share)} of the step ({format_time(one.seconds)}). {one.known}"
    )


def small_text(finding: Finding) -> str:
    """A small finding in one line, after its place."""
    return f"{finding.category}: {plain(finding.title)} ({share_text(finding)})"


def other_lines(advice: Advice) -> list[tuple[str, list[tuple[Place, str]]]]:
    """What comes after the findings: a title, and for each line its place and its text."""
    return [
        (EXPENSIVE, [(one.place, expensive_text(one)) for one in advice.expensive]),
        (SMALL, [(one.place, small_text(one)) for one in advice.small]),
    ]


def headline_text(advice: Advice) -> str:
    """What was found, in one sentence."""
    step = plain(advice.step)
    if not advice.findings:
        return f"Nothing found in {step}"
    count = len(advice.findings)
    largest = max(in_step(advice.findings), key=lambda finding: finding.payoff_s[1])
    found = "One finding" if count == 1 else f"{count} findings"
    gives = f"gives {payoff_text(largest)} of its {format_time(advice.step_s)} ({share_text(largest)})"
    if largest.per != "step":
        gives = f"gives {payoff_text(largest)} per {largest.per} ({share_text(largest)})"
    return f"{found} in {step}; {'its cure' if count == 1 else 'the largest'} {gives}"


def looked_for() -> str:
    """All categories that were looked for, in one sentence."""
    return f"Looked for: {'; '.join(CATEGORIES.values())}."


def steps_text(advice: Advice) -> str:
    """'median of 5 steps without instruments'."""
    return f"median of {advice.steps:,} {'step' if advice.steps == 1 else 'steps'} without instruments"


def excerpt(advice: Advice, finding: Finding) -> list[SourceLine]:
    """The lines of a finding with their neighbours, moved left together; empty if the file's text is unknown."""
    source = advice.source.get(finding.place.source)
    if source is None:
        return []
    raw = re.split(r"\r\n?|\n", source)
    texts = [text.expandtabs(4) for text in raw]
    first, last = finding.line, max(finding.line, finding.end_line)
    if not 1 <= first <= len(texts):
        return []
    numbers = range(max(1, first - CONTEXT), min(len(texts), last + CONTEXT) + 1)
    if last - first >= MOST_LINES:
        half = MOST_LINES // 2
        hidden = range(first + MOST_LINES - half, last - half + 1)
        shown = [n for n in numbers if n not in hidden]
    else:
        shown = list(numbers)
    indent = min((len(texts[n - 1]) - len(texts[n - 1].lstrip()) for n in shown if texts[n - 1].strip()), default=0)
    lines: list[SourceLine] = []
    for previous, n in pairwise([shown[0] - 1, *shown]):
        if n > previous + 1:
            lines.append(SourceLine(None, LEFT_OUT, True))
        begin = len(raw[n - 1][: finding.column - 1].expandtabs(4)) - indent if n == first else None
        lines.append(SourceLine(n, texts[n - 1][indent:].rstrip(), first <= n <= last, begin))
    while lines and not lines[0].text and not lines[0].marked:
        del lines[0]
    while lines and not lines[-1].text and not lines[-1].marked:
        del lines[-1]
    return lines


def cure_lines(cure: str) -> list[CureLine]:
    """The lines of a cure, with its code moved left together.

    Lines that begin with '+' or '-' change, those that begin with a blank stay; all others are words.
    """
    raw = re.split(r"\r\n?|\n", cure.expandtabs(4).strip("\n"))
    lines = [_cure_line(line) for line in raw]
    code = [line.text for line in lines if line.kind in ("code", "+", "-") and line.text.strip()]
    indent = min((len(text) - len(text.lstrip()) for text in code), default=0)
    return [CureLine(line.kind, line.text[indent:] if line.kind in ("code", "+", "-") else line.text) for line in lines]


def _cure_line(line: str) -> CureLine:
    if line.startswith(("+++ ", "--- ", "@@")):
        return CureLine("@", line)
    if line.startswith(("+", "-")):
        return CureLine("+" if line[0] == "+" else "-", line[1:])
    if line.startswith(" "):
        return CureLine("code", line[1:])
    return CureLine("words", line.removeprefix("#").strip())


def _evidence(name: str, value: object) -> str:
    text = _value_text(name, value)
    if not text:
        return ""
    if name in ("times", "times_per_step"):
        return "once per step" if value == 1 else f"{text} times per step"
    title = _NAMES.get(name, plain(name.removesuffix("_s").removesuffix("_share").replace("_", " ")))
    return f"{title} {text}".strip()


def _value_text(name: str, value: object) -> str:
    """A value of evidence as text; the end of its name gives the unit."""
    if value is None or value == [] or value == {} or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number_text(name, value)
    if isinstance(value, list | tuple):
        if name.startswith("shape") and all(isinstance(item, int) for item in value):
            return f"({', '.join(map(str, value))}{',' if len(value) == 1 else ''})"
        texts = [_value_text(name, item) or UNKNOWN for item in value]
        if name.startswith("shape") or name == "orders":
            return _operands(texts)
        return _few(list(dict.fromkeys(texts)), ", ")
    if isinstance(value, dict):
        return ", ".join(_items(value))
    return plain(str(value))


def _operands(texts: Sequence[str]) -> str:
    """One text per operand; those of equal arrays in a long list together: '(4,) × 200'."""
    runs = [(text, len(list(same))) for text, same in groupby(texts)]
    return _few([part for text, n in runs for part in ([text] * n if n <= 3 else [f"{text} × {n:,}"])], " · ")


def _few(texts: Sequence[str], joint: str) -> str:
    return joint.join([*texts[:MOST_VALUES], *(["…"] if len(texts) > MOST_VALUES else [])])


def _items(values: Mapping[str, object]) -> Iterator[str]:
    for name, value in values.items():
        yield f"{plain(str(name))} {_value_text(str(name), value) or UNKNOWN}"


def _number_text(name: str, value: float) -> str:
    if not math.isfinite(value):
        return UNKNOWN
    if name.endswith("_s"):
        return format_time(value)
    if name.endswith("_share") or name == "share":
        return format_percent(value)
    if "bytes" in name:
        return format_size(value)
    return format_number(value) if isinstance(value, int) else digits(value)


# Steps of programs: where their phases come from, and medians.

PHASES_FROM = {
    "comments": "from the step's `# phase:` comments",
    "calls": "from the calls that the step makes; add `# phase: NAME` after a statement to name your own",
    "statements": "only one, because the step calls no function of yours; add `# phase: NAME` after a statement",
}


def median_s(seconds: Sequence[float]) -> float:
    """The median of raw samples; NaN if there are none."""
    return float(np.median(seconds)) if len(seconds) else math.nan


# The proof of cures.


def proof_headline(program: str, proof: Proof) -> str:
    """'train.py: 6.03 ms -> 1.42 ms a step, 4.2 times as fast (4.1 to 4.4), trains the same over 50 steps'."""
    if proof.verdict is None:
        return f"{program}: none of the cures could be proven, so there is no patch"
    verdict, training = proof.verdict, proof.training
    times = f"{digits(verdict.ratio)} times as fast ({digits(verdict.low)} to {digits(verdict.high)})"
    figures = f"{program}: {format_time(proof.old_s)} -> {format_time(proof.new_s)} a step, {times}"
    if training is None or training.is_same is not True:
        why = "" if training is None else f": {training.reason}"
        return f"{figures}, but the cures together do not train the same, so there is no patch{why}"
    if not proof.is_proven:
        return f"{figures}: too little to be certain, so there is no patch"
    precision = ", in float32" if proof.changes_precision else ""
    around = ""
    if proof.epoch_s is not None:
        old_s, new_s = proof.epoch_s
        around = f"; {format_time(old_s)} -> {format_time(new_s)} an epoch in one run each, which is less exact"
    return f"{figures}, trains the same over {training.steps} steps{precision}{around}"


def promised_text(one: TriedCure) -> str:
    """'1.3x to 1.5x'."""
    return f"{digits(one.promised[0])}x to {digits(one.promised[1])}x"


def alone_text(one: TriedCure) -> str:
    """'1.38x'; a dash if it was not raced."""
    return "-" if one.alone is None else f"{digits(one.alone)}x"
