"""What is wrong with each program of this folder, read from comments at the ends of its own lines.

`# planted: CATEGORY` is a flaw that must be found there; `# acceptable: CATEGORY` may be reported there, and need not.
Marks of one line are separated by semicolons. `[name]` after the category makes marks one flaw with several places;
`anywhere` lets it be reported on any line of its file. `# step` marks the function or the loop that is the training
step. A mark covers the whole statement that it stands on: with a loop its body, with a function all of it.

Comments `# fast: CODE` are what the program's twin, which has no flaws, has in place of the statement before them; an
empty one leaves the statement out. Where they would be most of the twin, it has a file of its own, `clean.py`.
"""

from __future__ import annotations

import ast
import atexit
import io
import os
import re
import shutil
import tempfile
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MARK = re.compile(r"(planted|acceptable): ([a-z0-9-]+)( anywhere)?(?: \[(\w+)\])?")
FAST = "# fast:"
MAINS = ("main.py", "__main__.py")
"""Names of the scripts of packages."""
MARKS = re.compile(rf"  # {MARK.pattern}.*")
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

    def is_found_by(self, finding: Mapping[str, Any]) -> bool:
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
        return [flaw for flaw in self.flaws if flaw.planted and not any(map(flaw.is_found_by, told))]

    def wrong(self, findings: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Findings that tell no flaw, planted or acceptable."""
        return [finding for finding in findings if not any(flaw.is_found_by(finding) for flaw in self.flaws)]


def scripts(kind: str) -> list[Path]:
    """The scripts of all programs of a kind, "planted" or "clean"; a package's script is its `main.py`."""
    folders = (HERE,) if kind == "planted" else (HERE, _twins())
    return sorted((script for folder in folders for script in _scripts(folder, kind)), key=name)


def _scripts(folder: Path, kind: str) -> list[Path]:
    return [*folder.glob(f"*/{kind}.py"), *folder.glob(f"*/{kind}/main.py")]


def files_of(script: Path) -> list[Path]:
    """The script and, for a package, the modules beside it."""
    return sorted(script.parent.glob("*.py")) if script.name in MAINS else [script]


def name(script: Path) -> str:
    """The name of a program in tests, such as `adam_softmax/clean.py`."""
    return "/".join(script.parts[-3 if script.name in MAINS else -2 :])


def clean(planted: Path) -> Path:
    """The twin of a program, which has no flaws."""
    (twin,) = (one for one in scripts("clean") if name(one) == name(planted).replace("planted", "clean"))
    return twin


@cache
def _twins() -> Path:
    """A folder with the twins that have no file of their own; it goes with this process, and not with its forks."""
    folder, owner = Path(tempfile.mkdtemp(prefix="twins-", dir=os.environ.get("XDG_CACHE_HOME"))), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    for script in scripts("planted"):
        texts = {path: path.read_text() for path in files_of(script)}
        if any(FAST in text for text in texts.values()):
            for path, text in texts.items():
                target = folder / str(path.relative_to(HERE)).replace("planted", "clean")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(MARKS.sub("", fast(text)))
    return folder


def fast(text: str) -> str:
    """The twin of a program."""
    lines = text.splitlines()
    ends = {
        (node.end_lineno, node.col_offset): node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.stmt)
    }
    last, is_first = 0, False
    for number, line in enumerate(lines, 1):
        indent = len(line) - len(line.lstrip())
        if not line[indent:].startswith(FAST):
            if line.strip():
                last, is_first = number, True
            continue
        if is_first:
            first, is_first = ends[last, indent], False
            lines[first - 1 : last] = [""] * (last - first + 1)
        lines[number - 1] = line[:indent] + line[indent:].removeprefix(FAST).removeprefix(" ")
    return "\n".join(lines) + "\n"


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
    flaws: dict[tuple[bool, str, str], list[Place]] = {}
    steps: list[str] = []
    for path in files_of(script):
        marks, found = _marks(path, path.name)
        steps += found
        for planted, category, key, place in marks:
            flaws.setdefault((planted, category, key), []).append(place)
    if len(steps) != 1:
        raise ValueError(f"{script} marks {len(steps)} steps; one comment `# step` is expected")
    return Truth(script, steps[0], tuple(Flaw(c, planted, tuple(places)) for (planted, c, _), places in flaws.items()))
