"""Small programs in many styles, each with its training step: what is found in all of them in one go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from under_instruments import outputs

in_forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="each program runs in a fork of one process")

HEAD = """
import numpy as np
rng = np.random.default_rng(0)
X = rng.standard_normal((64, 6))
Y = np.tanh(X[:, :2])
"""

Styles = dict[str, tuple[str, str]]
"""A name -> a program without its head, and its step; that of "loop" is the loop on the line marked THE STEP."""


def steps_found(styles: Styles, folder: Path) -> dict[str, tuple[str, str]]:
    """A name -> what is found in its program, and its step."""
    paths = [folder / f"style_{number}.py" for number in range(len(styles))]
    for path, (text, _) in zip(paths, styles.values(), strict=True):
        path.write_text(HEAD + text)
    answers = outputs(*({"script": str(path), "mode": "found"} for path in paths))
    return {
        style: (answer.splitlines()[-1], f"{path.name}:{_step(path, name)}")
        for (style, (_, name)), path, answer in zip(styles.items(), paths, answers, strict=True)
    }


def _step(path: Path, name: str) -> str:
    if name != "loop":
        return name
    (line,) = (str(n) for n, text in enumerate(path.read_text().splitlines(), 1) if "THE STEP" in text)
    return line
