"""Which findings are reported: by category, by comments in the source that silence them, and by a baseline file."""

from __future__ import annotations

import ast
import hashlib
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path

from mlpprof.errors import UsageError, did_you_mean
from mlpprof.files import write_atomically
from mlpprof.programs.source_lines import lines_of
from mlpprof.results.advice import CATEGORIES, Advice, Finding
from mlpprof.results.json import WrongJson, decode, encode, json_text, read_json
from mlpprof.results.place import Place

SILENCE = re.compile(r"#\s*mlpprof:\s*ignore(?:\[(?P<categories>[^\]]*)\])?")
"""The comment that silences the findings on its statement: all of them, or those of some categories."""


@dataclass(frozen=True)
class Baseline:
    """Findings that are known: a digest of category, file and source text -> how many there are."""

    findings: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """The baseline in a file. Raises UsageError if the file is missing or is no baseline."""
        if not path.is_file():
            raise UsageError(f"there is no baseline '{path}'; write it first: --baseline {path} --update-baseline")
        try:
            return decode(cls, read_json(path))
        except WrongJson as error:
            raise UsageError(f"'{path}' is not a baseline of mlpprof advise: {error}") from error

    @classmethod
    def of(cls, advice: Advice) -> Baseline:
        """The baseline that knows all findings."""
        return cls(dict(Counter(key_of(one, advice) for one in (*advice.findings, *advice.small))))

    def write(self, path: Path) -> None:
        """Write the file. Raises UsageError if it cannot be written."""
        with write_atomically(path) as temporary:
            temporary.write_text(json_text(encode(self)), encoding="utf-8")


@dataclass(frozen=True)
class Selection:
    """Which findings are wanted. select: categories, all if empty; ignore: categories to leave out."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    baseline: Baseline = field(default_factory=Baseline)

    def __post_init__(self) -> None:
        for name in (*self.select, *self.ignore):
            if name not in CATEGORIES:
                raise UsageError(
                    f"there is no category '{name}'{did_you_mean(name, CATEGORIES)} (known: {', '.join(CATEGORIES)})"
                )

    def wanted(self, advice: Advice) -> list[bool]:
        """For each finding, and then for each small one, whether it is reported."""
        known = Counter(self.baseline.findings)
        answers = []
        for one in (*advice.findings, *advice.small):
            is_wanted = self._is_chosen(one) and not is_silenced(one, advice)
            key = key_of(one, advice)
            if is_wanted and known[key] > 0:
                known[key] -= 1
                is_wanted = False
            answers.append(is_wanted)
        return answers

    def _is_chosen(self, one: Finding) -> bool:
        return (not self.select or one.category in self.select) and one.category not in self.ignore


def selected(advice: Advice, wanted: Sequence[bool]) -> Advice:
    """The findings that are wanted, with a note on how many others there are."""
    count = len(advice.findings)
    kept, small = (
        tuple(compress(found, answers))
        for found, answers in ((advice.findings, wanted[:count]), (advice.small, wanted[count:]))
    )
    advice = replace(advice, small=small)
    left_out = count - len(kept)
    if not left_out:
        return advice
    what = "one finding is" if left_out == 1 else f"{left_out} findings are"
    note = f"{what} not shown: left out by --select or --ignore, silenced by a comment, or known in the baseline"
    return replace(advice, findings=kept, notes=(*advice.notes, note))


def is_silenced(finding: Finding, advice: Advice) -> bool:
    """Whether a comment silences a finding, on its own statement or at one of its related places."""
    places = [finding.place, *finding.related]
    return any(
        categories is None or finding.category in categories
        for place in places
        for categories in _comments(place, advice.source.get(place.source))
    )


def key_of(finding: Finding, advice: Advice) -> str:
    """What identifies a finding although lines move: category, file, and the source text of its lines."""
    lines = lines_of(advice.source.get(finding.place.source, ""))[finding.line - 1 : finding.end_line]
    text = "\n".join(" ".join(line.split()) for line in lines)
    what = "\0".join((finding.category, finding.place.source, text))
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def _comments(place: Place, source: str | None) -> Iterable[frozenset[str] | None]:
    """The categories that the comments on a statement silence; None for all."""
    if source is None or "mlpprof:" not in source:
        return
    wanted = _statement_lines(source, place.line)
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return
    for token in tokens:
        if token.type == tokenize.COMMENT and token.start[0] in wanted and (found := SILENCE.search(token.string)):
            names = found["categories"]
            yield None if names is None else frozenset(name.strip() for name in names.split(","))


def _statement_lines(source: str, line: int) -> range:
    """The lines of the innermost statement at a line; of a compound statement, those before its body."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return range(line, line + 1)
    around = [lines for node in ast.walk(tree) if isinstance(node, ast.stmt) and line in (lines := _own_lines(node))]
    return min(around, key=len, default=range(line, line + 1))


def _own_lines(node: ast.stmt) -> range:
    """The lines of a statement without those of its body."""
    body = getattr(node, "body", None)
    last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
    return range(node.lineno, max(node.lineno, last) + 1)


@dataclass(frozen=True)
class FailOn:
    """When findings make the exit code 1: one of a category, or one that promises a share of the step, 0 to 1."""

    category: str | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> FailOn:
        """From a category, '5%' or '0.05'. Raises UsageError for anything else."""
        if text in CATEGORIES:
            return cls(category=text)
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise UsageError(
                f"--fail-on {text}: expected a category ({', '.join(CATEGORIES)}), or a share of the step such as 5%"
            )
        return cls(share=share)

    def fails(self, advice: Advice) -> bool:
        """Whether one of the findings is meant."""
        return any(
            one.category == self.category
            if self.share is None
            else one.per == "step" and sum(one.payoff_share) / 2 >= self.share
            for one in advice.findings
        )
