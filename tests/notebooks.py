"""Notebooks for the tests, written as Jupyter stores them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def notebook_text(*cells: str, **changes: Any) -> str:
    """The JSON of a notebook with these code cells, each after a cell of text."""
    written: list[dict[str, Any]] = []
    for cell in cells:
        written.append({"cell_type": "markdown", "metadata": {}, "source": ["x = '%no magic'\n"]})
        written.append(
            {
                "cell_type": "code",
                "execution_count": None,
                "metadata": {},
                "outputs": [],
                "source": cell.splitlines(keepends=True),
            }
        )
    return json.dumps({"cells": written, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **changes})


def written(path: Path, *cells: str) -> Path:
    """A notebook on disk."""
    path.write_text(notebook_text(*cells), encoding="utf-8")
    return path
