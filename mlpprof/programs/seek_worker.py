"""The worker that runs a program to find its step. It imports nothing of what is done with the step later."""

from __future__ import annotations

from typing import Any

from mlpprof.process import Progress, serve
from mlpprof.programs.in_worker import opened, sought


def _seek(report: Progress, program: dict[str, Any]) -> dict[str, Any]:
    return sought(report, opened(program))


def main() -> None:
    """Serve until the input closes."""
    serve({"seek": _seek})
