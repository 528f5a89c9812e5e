"""A program of a test, recorded in this process, and the same program after a cure: both run and print parameters."""

from __future__ import annotations

import subprocess
import sys

from recorded_step import FILE, recorded

from mlpprof.advise.cures.cure import applied

END = """
if __name__ == "__main__":
    for _ in range(3):
        step()
    print(*[float(x) for W in parameters() for x in W.ravel()])
"""


def cures_of(text, detector, line=None):
    """The cures of the first finding of a detector (on this line) on a program with `step` and `parameters`."""
    with recorded(text) as graph:
        found = [one for one in detector.detect(graph) if line is None or one.site.line == line]
        return found[0].cures if found else ()


def cured(text, cure):
    """The text after a cure."""
    return applied({FILE: text}, [cure])[FILE]


def trained(text, folder):
    """The parameters after some steps of a program."""
    path = folder / FILE
    path.write_text(text + END, encoding="utf-8")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [float(x) for x in done.stdout.split()]
