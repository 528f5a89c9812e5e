"""Programs in the styles in which people write them, each with a hand-optimized twin that trains the same.

The marks and the comments `# fast: CODE` are those of `wild.truth`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.wild.truth import Truth, fast, truth

HERE = Path(__file__).parent
CELL = "# %%"

STYLES = {
    "script with argparse": "argparse_script.py",
    "module run by -m": "module_run/digits/__main__.py",
    "package with relative imports": "package_run/net/main.py",
    "notebook": "notebook.py",
    "functions and globals": "functions_globals.py",
    "class with fit": "fit_class.py",
    "layer objects": "layer_objects.py",
    "autograd tape": "autograd_tape.py",
    "generator of batches": "batch_generator.py",
    "dataclass state": "dataclass_state.py",
    "closures": "closures.py",
    "training in if __name__": "main_guard.py",
    "list of pairs rebound": "rebound_pairs.py",
    "dictionaries": "dictionary.py",
}
"""A style -> its program in this folder."""

EVERYTHING = bool(os.environ.get("MLPPROF_ALL_STYLES"))
"""Whether tests that take minutes go through all styles, and not only through those that differ the most."""

SHORTER = (
    list(STYLES)
    if EVERYTHING
    else ["module run by -m", "notebook", "closures", "class with fit", "layer objects", "generator of batches"]
)
"""The styles for tests that take minutes."""


@dataclass(frozen=True)
class Twins:
    """Two programs in one folder that train the same. slow, fast: as one types them there."""

    style: str
    slow: str
    fast: str

    @property
    def script(self) -> Path:
        """The file in this folder; a notebook's is a script with the same cells."""
        return HERE / STYLES[self.style]

    @property
    def truth(self) -> Truth:
        """The step and the flaws of the slow one, with the files and lines of this folder."""
        return truth(self.script)

    @property
    def steps(self) -> tuple[str, str]:
        """The steps of both, as mlpprof names them; they are in the same lines."""
        file, _, place = self.truth.step.partition(":")
        slow, fast = (
            f"{name.removeprefix('-m ').partition('.')[0]}/{file}" if name.startswith("-m ") else name
            for name in (self.slow, self.fast)
        )
        return f"{slow}:{place}", f"{fast}:{place}"

    def here(self, file: str, line: int, cell: int | None = None) -> tuple[str, int]:
        """Where a place of the slow one, as mlpprof names it, is in this folder. A cell is counted as in Jupyter."""
        if cell is not None:
            starts = [n for n, text in enumerate(self.script.read_text().splitlines(), 1) if text == CELL]
            line += starts[cell - 1]
        return self.script.name if file == self.slow else Path(file).name, line

    def under_python(self, folder: Path) -> list[str]:
        """The words after `python` for the slow one in a folder, which gets a script in place of a notebook."""
        if self.slow.endswith(".ipynb"):
            (folder / "as_script.py").write_text(self.script.read_text())
            return ["as_script.py"]
        return self.slow.split()

    def few(self, steps: int) -> tuple[str, ...]:
        """The arguments with which either makes so many steps."""
        return ("--steps", str(steps)) if self.style == "script with argparse" else (str(steps),)


def write(style: str, folder: Path) -> Twins:
    """Write both programs of a style into the folder."""
    script = HERE / STYLES[style]
    names = []
    for side, made in (("slow", str), ("fast", fast)):
        if script.parent == HERE:
            name = f"{side}.ipynb" if style == "notebook" else f"{side}.py"
            text = made(script.read_text())
            (folder / name).write_text(notebook(text) if style == "notebook" else text)
        else:
            package = script.parent.name
            (folder / f"{side}_{package}").mkdir()
            for file in script.parent.glob("*.py"):
                text = made(file.read_text()).replace(f"from {package}.", f"from {side}_{package}.")
                (folder / f"{side}_{package}" / file.name).write_text(text)
            name = f"-m {side}_{package}" + ("" if script.stem == "__main__" else f".{script.stem}")
        names.append(name)
    return Twins(style, *names)


def notebook(text: str) -> str:
    """A notebook with the cells of a text, in which each begins with a line `# %%`."""
    cells: list[dict[str, Any]] = []
    for part in text.split(CELL)[1:]:
        title, _, source = part.partition("\n")
        kind = "markdown" if "[markdown]" in title else "code"
        source = source.strip("\n").replace("# %matplotlib", "%matplotlib")
        code: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
        cells.append({"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True), **code})
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}, indent=1)
