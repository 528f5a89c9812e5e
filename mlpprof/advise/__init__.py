"""Findings on a user's own NumPy program, each with a measured payoff: `find(target)`.

The unchanged program runs in its own process; `find` explains how its step is found and recorded.
"""

from __future__ import annotations

from mlpprof.advise.find import Subject, find, profile_step

__all__ = ["Subject", "find", "profile_step"]
