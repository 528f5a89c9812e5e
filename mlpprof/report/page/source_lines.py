"""A variant's source with the time of every line beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlpprof.results import Run


@dataclass(frozen=True)
class SourceLine:
    """One line; calls and time_s are of one step; share: of the wall time, None for a line that did not run."""

    number: int
    text: str
    calls: float | None = None
    time_s: float | None = None
    share: float | None = None

    @property
    def heat(self) -> float:
        """How strongly it is shaded, 0 to 1: a tenth of the step can be seen, a half stands out."""
        return 0.0 if self.share is None or self.share < 0.01 else min(1.0, 2.0 * self.share)


def source_lines(run: Run) -> list[SourceLine]:
    """All lines of the file; without times where the run has no line view.

    The time of a line holds what it calls, so that shares add up to 100 % within a function and not over all.
    """
    texts = re.split(r"\r\n?|\n", run.variant.source.rstrip().expandtabs(4))
    timed = {} if run.lines is None else {line.line: line for line in run.lines.lines}
    lines = []
    for number, text in enumerate(texts, start=1):
        line = timed.get(number)
        if line is None or run.lines is None or line.hits == 0:
            lines.append(SourceLine(number, text))
            continue
        steps, wall_s = run.lines.steps, run.lines.wall_s
        share = line.time_s / wall_s if wall_s > 0 else 0.0
        lines.append(SourceLine(number, text, line.hits / steps, line.time_s / steps, share))
    return lines
