"""What is wrong with each program of this folder, read from comments at the ends of its own lines.

`# planted: CATEGORY` is a flaw that must be found there; `# acceptable: CATEGORY` may be reported there, and need not.
Marks of one line are separated by semicolons. `[name]` after the category makes marks one flaw with several places;
`anywhere` lets it be reported on any line of its file. `# step` marks the function or the loop that is the training
step. A mark covers the whole statement that it stands on: with a loop its body, with a function all of it.
"""

from __future__ import annotations

import ast
import io
import os
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MARK = re.compile(r"(planted|acceptable): ([a-z0-9-]+)( anywhere)?(?: \[(\w+)\])?")
MAINS = ("main.py", "__main__.py")
"""Names of the scripts of packages."""
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Place:
    """Lines of a file (its path relative to the script's folder), 1-based, both ends included."""

    file: str
    line: int
    end_line: int


@dataclass(frozen=True)
class Flaw:
    """A finding that must come (planted) or may come, at any one of its places."""

    category: str
    planted: bool
    places: tuple[Place, ...]

    def is_told_by(self, finding: Mapping[str, Any]) -> bool:
        """Whether a finding (`category`, `file`, `line`, `end_line`) has this category and touches a place."""
        return finding["category"] == self.category and any(
            finding["file"] == place.file
            and finding["line"] <= place.end_line
            and place.line <= (finding.get("end_line") or finding["line"])
            for place in self.places
        )


@dataclass(frozen=True)
class Truth:
    """One program: `script`, its step as `main.py:Net.update` or, a loop, `main.py:LINE`, and its flaws."""

    script: Path
    step: str
    flaws: tuple[Flaw, ...]

    def missed(self, findings: Iterable[Mapping[str, Any]]) -> list[Flaw]:
        """Planted flaws that no finding tells."""
        told = list(findings)
        return [flaw for flaw in self.flaws if flaw.planted and not any(map(flaw.is_told_by, told))]

    def wrong(self, findings: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Findings that tell no flaw, planted or acceptable."""
        return [finding for finding in findings if not any(flaw.is_told_by(finding) for flaw in self.flaws)]


def scripts(kind: str = "*") -> list[Path]:
    """The scripts of all programs, or of one kind: "planted" or "clean"; a package's script is its `main.py`."""
    return sorted([*HERE.glob(f"*/{kind}.py"), *HERE.glob(f"*/{kind}/main.py")])


def every(number: int, kind: str) -> list[Path]:
    """Every third program of a kind, say, so that a test takes seconds; all of them with MLPPROF_ALL_STYLES=1."""
    return scripts(kind)[:: 1 if os.environ.get("MLPPROF_ALL_STYLES") else number]


def _marks(path: Path, name: str) -> tuple[list[tuple[bool, str, str, Place]], list[str]]:
    """The marks of one file as (planted, category, key, place), and its steps."""
    source = path.read_text()
    tree = ast.parse(source)
    owner: dict[ast.AST, str] = {}
    for node in ast.walk(tree):
        prefix = owner.get(node, "") + (f"{node.name}." if isinstance(node, SCOPES) else "")
        owner.update((child, prefix) for child in ast.iter_child_nodes(node))
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    marks, steps = [], []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        found = list(MARK.finditer(token.string))
        if not found and token.string != "# step":
            continue
        node = max((s for s in statements if s.lineno <= line <= (s.end_lineno or 0)), key=lambda s: s.lineno)
        place = Place(name, node.lineno, node.end_lineno or node.lineno)
        if not found:
            steps.append(f"{name}:{owner[node] + node.name if isinstance(node, SCOPES) else node.lineno}")
        for kind, category, anywhere, key in (match.groups() for match in found):
            where = Place(name, 1, len(source.splitlines())) if anywhere else place
            marks.append((kind == "planted", category, key or f"{name}:{line}", where))
    return marks, steps


def truth(script: Path) -> Truth:
    """What is true of a program: the marks of the script and, for a package, of the modules beside it.

    Raises ValueError if the program marks no step, or more than one.
    """
    files = sorted(script.parent.glob("*.py")) if script.name in MAINS else [script]
    flaws: dict[tuple[bool, str, str], list[Place]] = {}
    steps: list[str] = []
    for path in files:
        marks, found = _marks(path, path.name)
        steps += found
        for planted, category, key, place in marks:
            flaws.setdefault((planted, category, key), []).append(place)
    if len(steps) != 1:
        raise ValueError(f"{script} marks {len(steps)} steps; one comment `# step` is expected")
    return Truth(script, steps[0], tuple(Flaw(c, planted, tuple(places)) for (planted, c, _), places in flaws.items()))
