"""A source file as lines, counted as Python counts them."""

from __future__ import annotations

import io


def lines_of(text: str) -> list[str]:
    """The lines of a source file as Python counts them, each with its end; a form feed ends none."""
    return list(io.StringIO(text, newline=""))
