"""`python -m reports.build_notebook SOURCE.md TARGET.ipynb`: make a notebook from Markdown, and run it.

Every block of the source that is fenced as ```python becomes a code cell, and the text between two blocks becomes a
Markdown cell. The notebook runs in an empty folder that is removed afterwards, and holds no path of this machine.
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

from mlpprof.errors import MissingExtra, UsageError
from mlpprof.files import require_writable, write_atomically
from reports.program import Program

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
            # IPython gets an empty folder too: the user's settings do not matter, and the history stays as it is.
            client.execute(env={**os.environ, "IPYTHONDIR": str(Path(folder) / ".ipython")})
        except nbclient.exceptions.CellExecutionError as error:
            raise UsageError(f"a cell of the notebook failed: {error.ename}: {error.evalue}") from error
        _clean(notebook)
        _refuse_paths(notebook, (folder, str(Path.home()), sys.prefix, str(Path.cwd())))
    return notebook


def write_notebook(source: Path, target: Path) -> None:
    """Build, run and write a notebook. Raises UsageError or MissingExtra."""
    notebook = executed(built(source.read_text(encoding="utf-8")))
    nbformat = _optional("nbformat")
    nbformat.validate(notebook)
    with write_atomically(target) as temporary:
        temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def _clean(notebook: Any) -> None:
    """Remove the times of execution, the version of the kernel, and empty outputs of progress bars."""
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
            raise UsageError(
                f"the notebook would contain a path of this machine, {path}; use relative paths in the source"
            )


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"notebooks need {error.name}; install it with: pip install 'mlpprof[notebook]'") from error


@click.command(cls=Program)
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def main(source: Path, target: Path) -> None:
    """Make the notebook TARGET from SOURCE, and run it."""
    require_writable(target)
    write_notebook(source, target)


if __name__ == "__main__":
    main(prog_name="python -m reports.build_notebook")
