"""A page of text for each category of findings: what it is, why it costs time, an example, and the cure."""

from __future__ import annotations

from importlib.resources import files

from mlpprof.errors import UsageError, did_you_mean
from mlpprof.results.advice import CATEGORIES


def explanation(category: str) -> str:
    """The page of a category, as Markdown. Raises UsageError if there is no such category."""
    if category not in CATEGORIES:
        raise UsageError(
            f"there is no category '{category}'{did_you_mean(category, CATEGORIES)} (known: {', '.join(CATEGORIES)})"
        )
    return files(__name__).joinpath(f"{category}.md").read_text(encoding="utf-8")
