"""The raw data within a page: every record and every sample, as JSON in which no tag can begin.

A run in it is what `mlpprof profile --json` prints, figures to six digits, and under `raw_ns` every sample of every
pass in whole nanoseconds, which is what the clock can tell. Where all of it would make the page too long to share, the
samples of single labels stay out, their medians do not, and `left_out` says so.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpprof import __version__
from mlpprof.report.export.comparison_json import comparison_json
from mlpprof.report.export.json_text import without_nan
from mlpprof.report.export.ladder_json import ladder_json
from mlpprof.report.export.profile_json import profile_json
from mlpprof.report.story import Story
from mlpprof.results import BatchResult, Run

SCHEMA = 1
BUDGET = 400_000
"""Characters from which on the samples of single labels stay out."""
LEFT_OUT = "samples of single labels: their medians are here, the samples in the run's .h5 file"


def embedded(story: Story) -> str:
    """All data of the story as JSON text that can stand within <script>."""
    text = script_text(document(story, with_labels=True))
    return text if len(text) <= BUDGET else script_text(document(story, with_labels=False))


def document(story: Story, *, with_labels: bool) -> dict[str, Any]:
    """All data of the story as plain JSON; with_labels: with every sample of every label."""
    whole = {
        "schema": SCHEMA,
        "mlpprof": __version__,
        "left_out": None if with_labels else LEFT_OUT,
        "runs": [{"name": name, **_run(run, with_labels)} for name, run in story.profiles],
        "comparisons": [comparison_json(one) for one in story.comparisons],
        "ladders": [ladder_json(one) for one in story.ladders],
    }
    found: dict[str, Any] = without_nan(whole)
    return found


def _run(run: Run, with_labels: bool) -> dict[str, Any]:
    plain = profile_json(run)
    plain["source"] = run.variant.source
    for found, result in zip(plain["results"], run.results, strict=True):
        # nanoseconds tell the same in fewer characters
        del found["step_s"]["samples"]
        found.update(_rounded(found))
        found["raw_ns"] = _raw_ns(result, with_labels)
    return plain


def _raw_ns(result: BatchResult, with_labels: bool) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "total": _whole_ns(result.total_s),
        "phases_pass": _whole_ns(result.phases_pass_s),
        "labels_pass": _whole_ns(result.labels_pass_s),
        "phases": {name: _whole_ns(phase.step_s) for name, phase in result.phases.items()},
    }
    if with_labels:
        raw["labels"] = [_whole_ns(label.step_s) for label in result.labels]
    return raw


def _whole_ns(samples: NDArray[np.float64]) -> list[list[int]]:
    whole: list[list[int]] = np.rint(samples * 1e9).astype(np.int64).tolist()
    return whole


def _rounded(value: Any) -> Any:
    """The same with six significant digits: no figure here is known better."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def script_text(content: dict[str, Any]) -> str:
    """ASCII, in which `<` is written as an escape: neither </script> nor <!-- can stand in it."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
