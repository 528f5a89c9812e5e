"""JSON that any parser takes: there is no NaN in it."""

from __future__ import annotations

import json
import math
from typing import Any


def without_nan(value: Any) -> Any:
    """The same JSON value with null for every number that is not finite, and tuples as lists."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(document: dict[str, Any] | list[dict[str, Any]]) -> str:
    """The document in ASCII with a final newline, for files and for standard output alike."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"
