"""The clean programs into which flaws are planted: twins of the wild corpus, of the styles, and the last rungs."""

from __future__ import annotations

import ast
import builtins
import os
import re
import runpy
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import StringIO
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

from mlpprof.catalog import find as variant
from reports.advise.forked import Failure, forked
from reports.advise.planting import Code, Region
from tests.program_styles.twins import HERE as STYLES_FOLDER
from tests.program_styles.twins import STYLES
from tests.wild.truth import Truth, fast, scripts, truth

MARKS = re.compile(r"(^ *# fast: .*\n)|( *# (planted|acceptable): .*)", re.MULTILINE)
"""What is written into flawed programs about their flaws, and what no cure should have to keep."""

RUNGS = {"tanh_sigmoid": ("temporaries",), "buffered": (), "chunked": ()}
"""The last rungs of the ladder that use nothing but NumPy, with the flaws that the next one cures."""

LOOP_OF_A_RUNG = """
if __name__ == "__main__":
    import sys

    from mlpprof.model import Network

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 4000)
    X = (rng.standard_normal((10, 200))[labels] + rng.standard_normal((4000, 200))).astype(np.float32)
    Y = np.eye(10, dtype=np.float32)[labels]
    sizes = (200, 60, 30, 10)
    parameters = [
        ((rng.standard_normal((n_out, n_in)) / n_in**0.5).astype(np.float32), np.zeros(n_out, np.float32))
        for n_in, n_out in zip(sizes, sizes[1:])
    ]
    net = MLP(Network(sizes, rate=0.2, momentum=0.9, l2=1e-4), parameters)
    for step in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000):
        net.train_step(X, Y, rng.integers(0, 4000, 200))
    print(*(float(np.abs(W).sum()) for W, b in net.parameters()))
"""
"""Training of a rung on made-up data."""

STEPS = "30"
"""A program that takes its number of steps is run for so many to see whether it trains the same."""

LONGEST_S = 60.0
"""A program that runs for longer is no subject."""

TOLERANCE, TOLERANCE_32 = 1e-6, 1e-3
"""The numbers that a program prints at its end may differ by these shares, in double and in single precision."""


@dataclass(frozen=True)
class Subject:
    """A program. files: path in its folder -> text. main: the file to run. few: arguments for a short run.

    flaws: categories that may be found anywhere in it, because it is only free of others.
    """

    name: str
    files: dict[str, str]
    main: str
    few: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()
    counts: dict[tuple[str, int], int] = field(default_factory=dict, compare=False)

    def write(self, folder: Path) -> Path:
        """Write the files into a folder, and return the path of the script."""
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        return folder / self.main

    def truth(self) -> Truth:
        """Its step and the findings that may come, from the marks in its text."""
        with tempfile.TemporaryDirectory() as folder:
            return truth(self.write(Path(folder)))

    @property
    def lines(self) -> int:
        """Number of lines of code: those that are neither empty nor a comment."""
        lines = [line.strip() for text in self.files.values() for line in text.splitlines()]
        return sum(bool(line) and not line.startswith("#") for line in lines)

    @property
    def is_single(self) -> bool:
        """Whether it computes in single precision."""
        return any("float32" in text for text in self.files.values())

    def run(self) -> list[float] | None:
        """The numbers in the last line that it prints; None if it ends with an error, or too late."""
        try:
            return numbers(forked(lambda: self._printed(None), LONGEST_S))
        except Failure:
            return None

    def trains_like(self, wanted: list[float], is_precise: bool = True) -> bool:
        """Whether it prints the same numbers. is_precise: nothing in it changes the precision."""
        found = self.run()
        if found is None or len(found) != len(wanted):
            return False
        tolerance = TOLERANCE_32 if self.is_single or not is_precise else TOLERANCE
        return all(
            abs(one - other) <= tolerance * max(1e-9, abs(other)) for one, other in zip(found, wanted, strict=True)
        )

    def step_s(self) -> float:
        """Processor seconds from the beginning of a step to that of the next one: the median of a run.

        Other programs on the machine change it less than the time on the clock. Raises Failure if it does not run.
        """
        return forked(self._stepped, LONGEST_S)

    def _stepped(self) -> float:
        file, _, place = self.truth().step.partition(":")
        tree = ast.parse(self.files[file])
        body = _node(tree, place).body
        is_documented = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
        body.insert(int(is_documented), ast.parse("step_begins()").body[0])
        begun_s: list[float] = []
        builtins.step_begins = lambda: begun_s.append(time.process_time())  # type: ignore[attr-defined]  # made here
        replace(self, files={**self.files, file: ast.unparse(tree)})._printed(None)
        return median(later - one for one, later in pairwise(begun_s))

    def traced(self) -> Subject:
        """The same with the number of times that each line has run. Raises Failure if it does not run."""

        def counted() -> dict[tuple[str, int], int]:
            counts: Counter[tuple[str, int]] = Counter()
            self._printed(counts)
            return dict(counts)

        return replace(self, counts=forked(counted, LONGEST_S))

    def _printed(self, counts: Counter[tuple[str, int]] | None) -> str:
        """Run it in this process, and return its last line. counts: gets how often each line runs."""
        with tempfile.TemporaryDirectory() as name, redirect_stdout(StringIO()) as printed:
            folder = Path(name).resolve()
            script = str(self.write(folder))
            os.chdir(folder)
            sys.argv[:] = [script, *self.few]
            sys.path.insert(0, str(folder))
            if counts is not None:
                sys.settrace(_counting(counts, f"{folder}{os.sep}"))
            try:
                runpy.run_path(script, run_name="__main__")
            finally:
                sys.settrace(None)
            return printed.getvalue().strip().splitlines()[-1]

    @cached_property
    def code(self) -> dict[str, Code]:
        """Its files with the regions of their lines; it is run for that if its lines have not been counted yet."""
        counts = self.counts or self.traced().counts
        file, _, place = self.truth().step.partition(":")
        trees = {name: ast.parse(text) for name, text in self.files.items()}
        step = _node(trees[file], place)
        body = [*step.body, *(node for one in _called(step, trees) for node in one.body)]
        inside = {
            (name, line)
            for name, tree in trees.items()
            for statement in ast.walk(tree)
            if statement in body
            for line in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
        }
        steps = min(count for statement in step.body if (count := counts.get((file, statement.lineno))))
        regions: dict[str, dict[Region, set[int]]] = {
            name: {"step": set(), "around": set(), "set-up": set()} for name in self.files
        }
        for (name, line), count in counts.items():
            region: Region = "step" if (name, line) in inside else "around" if count >= steps > 1 else "set-up"
            regions[name][region].add(line)
        return {
            name: Code(text, {region: frozenset(lines) for region, lines in regions[name].items()})
            for name, text in self.files.items()
        }


def _counting(counts: Counter[tuple[str, int]], folder: str) -> Callable[[FrameType, str, Any], Any]:
    """A function for `sys.settrace` that counts the lines of the files in a folder."""

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        del argument
        name = frame.f_code.co_filename
        if not name.startswith(folder):
            return None
        if event == "line":
            counts[name.removeprefix(folder), frame.f_lineno] += 1
        return trace

    return trace


def numbers(line: str) -> list[float]:
    """The numbers of a line; a checksum after a colon is none."""
    return [float(word) for word in re.findall(r"(?<![\w:.])-?\d+(?:\.\d*)?(?:e[+-]?\d+)?(?=[:\s]|$)", line)]


def _node(tree: ast.Module, place: str) -> ast.FunctionDef | ast.For | ast.While:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == place.rpartition(".")[2]:
            return node
        if isinstance(node, ast.For | ast.While) and str(node.lineno) == place:
            return node
    raise ValueError(f"there is no step {place}")


def _called(step: ast.AST, trees: dict[str, ast.Module]) -> list[ast.FunctionDef]:
    """The functions of the program whose names stand in the step, or in one of these functions."""
    functions = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found: list[ast.FunctionDef] = []
    open_: list[ast.AST] = [step]
    while open_:
        node = open_.pop()
        names = {
            one.id if isinstance(one, ast.Name) else one.attr
            for one in ast.walk(node)
            if isinstance(one, ast.Name | ast.Attribute)
        }
        for one in functions:
            if one.name in names and one not in found and one is not step:
                found.append(one)
                open_.append(one)
    return found


def subjects() -> Iterator[Subject]:
    """All clean programs."""
    yield from _wild("clean")
    yield from _styles(fast)
    for rung, flaws in RUNGS.items():
        text = variant(rung).path.read_text(encoding="utf-8")
        text = text.replace("def train_step(self, X, Y, index):", "def train_step(self, X, Y, index):  # step")
        yield Subject(f"rungs/{rung}", {"program.py": text + LOOP_OF_A_RUNG}, "program.py", (STEPS,), flaws)


def with_twins() -> Iterator[tuple[Subject, Subject]]:
    """The flawed programs of the wild corpus and of the styles, without the marks of the flaws; and the clean twins."""
    clean = {one.name: one for one in subjects()}
    for one in (*_wild("planted"), *_styles(str)):
        yield replace(one, files={name: MARKS.sub("", text) for name, text in one.files.items()}), clean[one.name]


def _wild(kind: str) -> Iterator[Subject]:
    for script in scripts(kind):
        is_package = script.name == "main.py"
        files = sorted(script.parent.glob("*.py")) if is_package else [script]
        folder = script.parents[1] if is_package else script.parent
        texts = {path.name: path.read_text(encoding="utf-8") for path in files}
        yield Subject(f"wild/{folder.name}", texts, script.name)


def _styles(made: Callable[[str], str]) -> Iterator[Subject]:
    """The programs in one file; packages need another command."""
    for style, file in STYLES.items():
        if "/" not in file:
            few = ("--steps", STEPS) if style == "script with argparse" else (STEPS,)
            text = made((STYLES_FOLDER / file).read_text(encoding="utf-8"))
            yield Subject(
                f"styles/{Path(file).stem}", {"program.py": text}, "program.py", few, ("float64", "temporaries")
            )
