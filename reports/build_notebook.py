"""From a text with fenced Python to a notebook that has run: what it shows was measured when it was made.

In the source, which is Markdown, every block fenced as ```python is a code cell, and the text between them Markdown
cells. The notebook runs in an empty folder that is removed, and keeps nothing of the machine's paths.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from mlpprof.errors import MissingExtra, MlpprofError, UsageError

FENCE = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
TIMEOUT_S = 600


def built(source: str) -> Any:
    """The notebook that a text describes, not yet run. Raises MissingExtra without nbformat."""
    v4 = _optional("nbformat.v4")
    cells: list[Any] = []
    for i, part in enumerate(FENCE.split(source)):
        if part.strip():
            make = v4.new_code_cell if i % 2 else v4.new_markdown_cell
            cells.append(make(part.strip("\n"), id=f"cell-{len(cells) + 1}"))
    return v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def executed(notebook: Any) -> Any:
    """The notebook with the outputs of a fresh kernel, without metadata of the execution.

    Raises UsageError with the one line of a cell that failed, and MissingExtra without nbclient.
    """
    nbclient = _optional("nbclient")
    with tempfile.TemporaryDirectory(prefix="mlpprof-notebook-", ignore_cleanup_errors=True) as folder:
        client = nbclient.NotebookClient(
            notebook, timeout=TIMEOUT_S, kernel_name=KERNEL["name"], resources={"metadata": {"path": folder}}
        )
        try:
            # IPython's own folder too, so that neither a user's settings nor the history of this kernel matter
            client.execute(env={**os.environ, "IPYTHONDIR": str(Path(folder) / ".ipython")})
        except nbclient.exceptions.CellExecutionError as error:
            raise UsageError(f"a cell of the notebook failed: {error.ename}: {error.evalue}") from error
        _clean(notebook)
        _refuse_paths(notebook, (folder, str(Path.home()), sys.prefix, str(Path.cwd())))
    return notebook


def write_notebook(source: Path, target: Path) -> None:
    """Build, run and write a notebook. Raises UsageError, OSError or MissingExtra."""
    notebook = executed(built(source.read_text(encoding="utf-8")))
    nbformat = _optional("nbformat")
    nbformat.validate(notebook)
    target.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def _clean(notebook: Any) -> None:
    """Drop times of execution, versions of the kernel, and what is left of bars that vanished."""
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_empty(output)]


def _is_empty(output: Any) -> bool:
    return output.output_type == "display_data" and not any(output.data.values())


def _refuse_paths(notebook: Any, paths: tuple[str, ...]) -> None:
    text = str(notebook)
    for path in paths:
        if len(path) > 1 and path in text:
            raise UsageError(f"the notebook would hold a path of this machine: {path}; name files relatively in it")


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"notebooks need {error.name}; install it with: pip install 'mlpprof[notebook]'") from error


# `python -m reports.build_notebook SOURCE.md TARGET.ipynb`: build a notebook, run it, write it.


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def main(source: Path, target: Path) -> None:
    """Build TARGET from SOURCE and run it."""
    try:
        write_notebook(source, target)
    except MlpprofError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
