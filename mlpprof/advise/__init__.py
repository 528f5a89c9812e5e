"""Findings on a user's own NumPy program, each with a measured payoff: `find(target)`.

The unchanged program runs in its own process, where `programs` finds its step and records it (`worker`). The detectors
(`detect`, one module for each category) look for flaws in the recording, and `outside` around the steps; `findings`
chooses among what they found, and states what each finding saves. The cures (`cures`, one module for each category) are
edits of the source, made with the tools in `editing`. `proof` applies them, and keeps those that train the same and are
faster.
"""

from __future__ import annotations

from mlpprof.advise.find import Subject, find, profile_step

__all__ = ["Subject", "find", "profile_step"]
