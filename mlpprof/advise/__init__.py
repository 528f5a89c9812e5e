"""Findings on somebody's own NumPy program, each with a measured payoff: `find(target)`.

The program runs as it stands in a process of its own; see `search` for how the step is found and recorded.
"""

from __future__ import annotations

from mlpprof.advise.find import Subject, find, profile_step

__all__ = ["Subject", "find", "profile_step"]
