"""`mlpprof profile FILE.py --step NAME --json`: the contract is `schemas/step.schema.json`; and the samples as CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

from mlpprof.report.export.json_text import without_nan
from mlpprof.report.step_words import disturbance, median_s, share_of
from mlpprof.results.step_profile import Expression, StepProfile

SCHEMA = 1
"""Raised when a key goes or changes its meaning; keys may be added without."""


def step_profile_json(profile: StepProfile) -> dict[str, Any]:
    """Phases and expressions of a step as plain JSON, with every raw sample; times in seconds."""
    document: dict[str, Any] = without_nan(
        {
            "schema": SCHEMA,
            "step": profile.step,
            "step_s": {"median": median_s(profile.step_s), "samples": profile.step_s},
            "clocked_s": {"median": median_s(profile.clocked_s), "samples": profile.clocked_s},
            "disturbance": disturbance(profile),
            "phases_from": profile.phases_from,
            "phases": {
                name: {"median_s": median_s(seconds), "share": share_of(seconds, profile), "samples": seconds}
                for name, seconds in profile.phases.items()
            },
            "expressions": [_expression(one, profile) for one in profile.expressions],
            "notes": profile.notes,
            "environment": profile.environment,
        }
    )
    return document


def _expression(one: Expression, profile: StepProfile) -> dict[str, Any]:
    return {
        "file": one.file,
        "line": one.line,
        "column": one.column,
        "text": one.text,
        "phase": one.phase,
        "times": one.times,
        "median_s": median_s(one.seconds),
        "share": share_of(one.seconds, profile),
        "samples": one.seconds,
        "kind": one.kind,
        "name": one.name,
        "dtype": one.dtype,
        "shape": one.shape,
        "orders": one.orders,
        "flop": one.flop,
        "bytes_moved": one.bytes_moved,
        "bytes_allocated": one.bytes_allocated,
    }


def step_profile_csv(profile: StepProfile) -> str:
    """Every raw sample, one a row: of the plain step, the clocked step, phases and expressions."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("what", "phase", "file", "line", "column", "text", "sample", "seconds"))
    series: list[tuple[tuple[object, ...], tuple[float, ...]]] = [
        (("step", "", "", "", "", ""), profile.step_s),
        (("clocked step", "", "", "", "", ""), profile.clocked_s),
        *((("phase", name, "", "", "", ""), seconds) for name, seconds in profile.phases.items()),
        *((("expression", x.phase, x.file, x.line, x.column, x.text), x.seconds) for x in profile.expressions),
    ]
    for cells, seconds in series:
        writer.writerows((*cells, i, repr(value)) for i, value in enumerate(seconds))
    return buffer.getvalue()
