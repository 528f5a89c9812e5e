"""The resolution of a verdict, as users write it: 2%, or 0.02."""

from __future__ import annotations

import math

from mlpprof.compare.error_bounds import COARSEST, procedure_for
from mlpprof.errors import UsageError


def share_of(written: str | float) -> float:
    """'2%', '2 %', '0.02' or 0.02 -> 0.02. Raises UsageError for anything else, and as `procedure_for`."""
    text = str(written).strip()
    number = text.removesuffix("%").strip()
    try:
        value = math.nan if isinstance(written, bool) else float(number)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise UsageError(f"the resolution is {written!r}; expected a share such as 2% or 0.02")
    if 1 <= value <= 100 * COARSEST and not text.endswith("%"):
        raise UsageError(f"the resolution is {number}, which is {100 * value:g} %; for {number} %, type {number}%")
    share = round(value / 100 if text.endswith("%") else value, 9)
    procedure_for(share)
    return share
