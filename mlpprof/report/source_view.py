"""The line view: the variant's source with what line_profiler counted beside it."""

from __future__ import annotations

import re
import textwrap

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mlpprof.report.format import NO_BREAK, format_number, format_percent, format_time, printable
from mlpprof.report.grid import GAP, INDENT
from mlpprof.report.tables import SMALL_SHARE
from mlpprof.results import LineProfile, LineTime

CONTEXT = 1
"""Lines shown around each line that was executed."""
HOT_SHARE = 0.1
"""Lines from this share of the wall time on are highlighted."""


def source_table(profile: LineProfile, source: str, width: int) -> Padding:
    """Lines that steps ran, and their neighbours: executions and time a step, share of the wall time, the text.

    The time of a line holds what it calls, so that shares add up to 100 % within a function and not over all.
    """
    timed = {line.line: line for line in profile.lines if not _is_setup(line, profile)}
    texts = re.split(r"\r\n?|\n", source.rstrip().expandtabs(4))  # str.splitlines knows more line ends than Python does
    shown = [n for n in range(1, len(texts) + 1) if any(n + k in timed for k in range(-CONTEXT, CONTEXT + 1))]
    code = textwrap.dedent("\n".join(texts[n - 1] for n in shown)).split("\n")
    rows: list[tuple[str, ...]] = []
    for n in shown:
        line = timed.get(n)
        figures = ("", "", "") if line is None else _figures(line, profile)
        rows.append((str(n), *figures))
    titles = ("line", "calls", "time", "share")
    code_width = width - INDENT - sum(max(map(len, column)) + GAP for column in zip(titles, *rows, strict=True))

    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("source")
    for previous, n, row, text in zip([0, *shown], shown, rows, code, strict=False):
        if previous and n > previous + 1:
            table.add_row("⋮", style="dim")
        hot = n in timed and timed[n].time_s >= HOT_SHARE * profile.wall_s
        table.add_row(
            *row, Text(_folded(printable(text), code_width)), style="bold" if hot else "" if n in timed else "dim"
        )
    return Padding(table, (0, 0, 0, INDENT))


def _is_setup(line: LineTime, profile: LineProfile) -> bool:
    """Whether a line ran in fewer than all steps and took next to nothing, as a constructor's do."""
    return line.hits < profile.steps and line.time_s < SMALL_SHARE * profile.wall_s


def _figures(line: LineTime, profile: LineProfile) -> tuple[str, str, str]:
    share = line.time_s / profile.wall_s if profile.wall_s > 0 else 0.0
    return format_number(line.hits / profile.steps), format_time(line.time_s / profile.steps), format_percent(share)


def _folded(text: str, width: int) -> str:
    """A line of code that is too long goes on beneath itself, further in than it began."""
    inner = " " * (len(text) - len(text.lstrip()) + 4)
    if len(text) <= width or width < len(inner) + 20:
        return text
    kept_together = re.sub(r"#.*", lambda comment: comment[0].replace(" ", NO_BREAK), text)
    lines = textwrap.wrap(kept_together, width, subsequent_indent=inner, break_on_hyphens=False)
    return "\n".join(lines).replace(NO_BREAK, " ")
