"""Steps for https://www.speedscope.app: an evented profile a run and batch size, in nanoseconds.

The format: github.com/jlfwong/speedscope, src/lib/file-format-spec.ts. Events stand in order of time, and every frame
that was opened is closed by an event of the same frame while it is the innermost one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlpprof import __version__
from mlpprof.report.export.timeline import Slice, openings, timeline, track_names
from mlpprof.results import Run

SCHEMA_URL = "https://www.speedscope.app/file-format-schema.json"

Frame = tuple[str, str, int | None]
"""Name, file and line of what takes time; equal ones are one frame."""


def speedscope_json(runs: Sequence[Run]) -> dict[str, Any]:
    """One median step of every run at every batch size, with phases and labelled statements nested in it."""
    frames: dict[Frame, int] = {}
    profiles = [
        {
            "type": "evented",
            "name": f"{name}, batch {result.batch:,}",
            "unit": "nanoseconds",
            "startValue": 0,
            "endValue": slices[0].end_ns,
            "events": _events(slices, f"{run.variant.name}.py", frames),
        }
        for name, run in zip(track_names(tuple(runs)), runs, strict=True)
        for result in run.results
        for slices in [timeline(result)]
    ]
    return {
        "$schema": SCHEMA_URL,
        "exporter": f"mlpprof@{__version__}",
        "name": "one median step: " + ", ".join(dict.fromkeys(run.variant.name for run in runs)),
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(frame) for frame in frames]},
        "profiles": profiles,
    }


def _events(slices: Sequence[Slice], file: str, frames: dict[Frame, int]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for one, opens in openings(slices):
        line = min((o.line for o in one.operations), default=None) if one.label else None
        number = frames.setdefault((one.name, file, line), len(frames))
        at = one.begin_ns if opens else one.end_ns
        events.append({"type": "O" if opens else "C", "frame": number, "at": at})
    return events


def _frame(frame: Frame) -> dict[str, Any]:
    name, file, line = frame
    return {"name": name, "file": file} if line is None else {"name": name, "file": file, "line": line}
