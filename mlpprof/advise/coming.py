"""Whether files of a program's own are still to be imported, as its import statements tell."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path


def is_import_to_come(sources: Mapping[str, str], folder: str) -> bool:
    """Whether an import in one of these files names one in the script's folder that is none of them.

    sources: path -> text of the program's files so far.
    """
    loaded = {Path(path).resolve() for path in sources}
    return any(
        file.is_file() and file.resolve() not in loaded
        for path, source in sources.items()
        for file in _imported(Path(path).resolve(), source, Path(folder).resolve())
    )


def _imported(path: Path, source: str, folder: Path) -> Iterator[Path]:
    """The files that its import statements would be of, if they are the program's own; most of them do not exist."""
    for node in ast.walk(ast.parse(source)):
        dotted = []
        start = folder
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                start = path.parents[min(node.level, len(path.parents)) - 1]
            base = [node.module] if node.module else []
            dotted = [*base, *(".".join((*base, alias.name)) for alias in node.names)]
        for name in dotted:
            whole = start.joinpath(*name.split("."))
            yield whole.with_suffix(".py")
            yield whole / "__init__.py"
