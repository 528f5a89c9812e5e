"""A program of a test, recorded in this process, and the same program after a cure: both train."""

from __future__ import annotations

import numpy as np
from recorded_step import FILE, recorded

from mlpprof.advise.editing.cure import applied


def cures_of(text, detector, line=None):
    """The cures of the first finding of a detector (on this line) on a program with `step` and `parameters`."""
    with recorded(text) as graph:
        found = [one for one in detector.detect(graph) if line is None or one.site.line == line]
        return found[0].cures if found else ()


def cured(text, cure):
    """The text after a cure."""
    return applied({FILE: text}, [cure])[FILE]


def assert_trains_as(text, other, rtol=0.0):
    """That two programs have the same parameters after some steps."""
    np.testing.assert_allclose(_trained(text), _trained(other), rtol=rtol)


def _trained(text):
    space = {}
    exec(compile(text, FILE, "exec", dont_inherit=True), space)
    for _ in range(3):
        space["step"]()
    return np.concatenate([W.ravel() for W in space["parameters"]()])
