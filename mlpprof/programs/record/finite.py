"""Whether a training has failed: its values are NaN or infinite, which slows down and falsifies everything after it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlpprof.instrument.rewriting import Site
from mlpprof.programs.notebook import place_of
from mlpprof.programs.record.trace import Event
from mlpprof.programs.why_no_step import FAILED


def not_finite(value: Any) -> str | None:
    """'NaN' or 'infinite' if a number, or an element of an array, is that; else None."""
    if isinstance(value, float | np.floating):
        return None if math.isfinite(value) else "NaN" if math.isnan(value) else "infinite"
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not value.size:
        return None
    with np.errstate(all="ignore"):
        if math.isfinite(value.sum()):  # cheap; it may overflow though all elements are finite
            return None
        if np.isnan(value).any():
            return "NaN"
        return "infinite" if np.isinf(value).any() else None


def failure_in(events: list[Event], sites: list[Site], sources: Mapping[str, str]) -> str | None:
    """The sentence about the first matrix product or change in place of a recorded step that gives NaN or infinity.

    Other operations may rightly give infinity, such as the logarithm of a zero that is then replaced.
    """
    for event in events:
        is_telling = event.kind == "product" or event.writes
        if is_telling and (word := not_finite(event.result)) is not None:
            site = sites[event.site]
            lines = sources[site.file].split("\n")[site.line - 1 : site.end_line]
            text = (
                lines[0].encode()[site.column : site.end_column if len(lines) == 1 else None].decode(errors="replace")
            )
            return f"`{text}` ({place_of(site.file, site.line).text}) is {word} in the recorded step: {FAILED}"
    return None
