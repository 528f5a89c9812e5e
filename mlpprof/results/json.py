"""JSON that any parser takes: there is no NaN in it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np

from mlpprof.results import BatchResult, CheckResult, LabelSamples, LineProfile, LineTime, Operation, PhaseSamples


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


# A measured result as JSON on its way from a worker: arrays become nested lists, whose floats survive exactly.


Message = dict[str, Any]


def encode(record: BatchResult | CheckResult | LineProfile) -> Message:
    """A record as plain JSON."""
    encoded: Message = _plain(asdict(record))
    return encoded


def decode_batch_result(message: Message) -> BatchResult:
    """The BatchResult that `encode` was given."""
    return BatchResult(
        **{
            **message,
            **{name: np.array(message[name]) for name in ("total_s", "phases_pass_s", "labels_pass_s", "losses")},
            "phases": {
                name: PhaseSamples(**{**phase, "step_s": np.array(phase["step_s"])})
                for name, phase in message["phases"].items()
            },
            "labels": tuple(
                LabelSamples(**{**label, "step_s": np.array(label["step_s"])}) for label in message["labels"]
            ),
            "operations": tuple(Operation(**{**o, "shape": tuple(o["shape"])}) for o in message["operations"]),
            "uncounted": tuple(message["uncounted"]),
        }
    )


def decode_line_profile(message: Message) -> LineProfile:
    """The LineProfile that `encode` was given."""
    return LineProfile(**{**message, "lines": tuple(LineTime(**line) for line in message["lines"])})


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
