"""Findings and step profiles on the terminal: a table, then each finding with its source and its cure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mlpprof.machine.blas import machine_line
from mlpprof.report.advice_words import (
    CureLine,
    SourceLine,
    caption_text,
    confidence_text,
    cure_lines,
    evidence_text,
    excerpt,
    looked_for,
    measured_text,
    other_lines,
    payoff_text,
    place_text,
    related_text,
    share_of_text,
    share_text,
    steps_text,
)
from mlpprof.report.numbers import format_time, plain, printable
from mlpprof.report.terminal.console import (
    FIGURE,
    GAP,
    INDENT,
    NAME,
    WORDS,
    heading,
    indented,
    listing,
    pairs,
    print_trimmed,
)
from mlpprof.report.terminal.program import program_section
from mlpprof.results.advice import Advice, Finding

WIDE = 110
"""From this width on, place and category have columns of their own in the table of findings."""
WIDEST_PLACE = 30
MARK, POINTER = ">", "^"
NUMBERS = 12
"""The line numbers of a source need no more columns than this."""
STYLES = {"+": "green", "-": "red", "@": "cyan", "code": "", "words": ""}
LABEL = 11
"""The names of a finding's parts take so many columns."""


def print_advice(advice: Advice, console: Console) -> None:
    """Print the findings, or a sentence that there are none."""
    print_trimmed(console, lambda width: _sections(advice, width))


def _sections(advice: Advice, width: int) -> Iterator[RenderableType]:
    yield Text.assemble(("advise", "bold"), "  ", plain(advice.step))
    yield Text()
    facts = [("step", "", f"{format_time(advice.step_s)}, {steps_text(advice)}")]
    if advice.environment:
        facts.append(("machine", "", machine_line(advice.environment)))
    yield indented(pairs(facts, width))
    if advice.program is not None:
        yield from program_section(advice.program, advice.step, width)
    if advice.findings:
        yield heading("Findings", caption_text(advice.findings))
        yield indented(_summary(advice.findings, width))
    else:
        yield heading("No findings")
        yield indented(pairs([("", "", looked_for())], width))
    for number, finding in enumerate(advice.findings, start=1):
        yield Text()
        yield _beside(Text(str(number), "dim"), Text(plain(finding.title), "bold"))
        yield Padding(Group(*_finding(advice, finding, width - INDENT)), (0, 0, 0, INDENT))
    for title, lines in other_lines(advice):
        if lines:
            yield heading(title)
            yield indented(pairs([(plain(place.text), "", text) for place, text in lines], width))
    if advice.notes:
        yield heading("Notes")
        yield indented(pairs([("!", "yellow", note) for note in advice.notes], width))


def _summary(findings: Sequence[Finding], width: int) -> Table:
    """One row per finding; if there is little room, its place and category are below its title."""
    places = [("place", WORDS), ("category", NAME)] if width >= WIDE else []
    table = listing([("#", FIGURE), *places, ("what", WORDS), ("time saved", FIGURE), ("share", FIGURE)])
    if places:
        table.columns[1].max_width = WIDEST_PLACE
    for number, finding in enumerate(findings, start=1):
        place, title = place_text(finding), plain(finding.title)
        if width >= WIDE:
            words = [Text(place), Text(finding.category), Text(title)]
        else:
            words = [Text.assemble(title, "\n", (f"{place}  {finding.category}", "dim"))]
        table.add_row(Text(str(number)), *words, Text(payoff_text(finding), "bold"), Text(share_text(finding)))
    return table


def _finding(advice: Advice, finding: Finding, width: int) -> Iterator[RenderableType]:
    likely = "" if finding.confidence == "certain" else f", {plain(finding.confidence)}"
    where = ", around the step" if finding.outside else ""
    yield Text.assemble((place_text(finding), "cyan"), ("  " + finding.category + likely + where, "dim"))
    source = excerpt(advice, finding)
    if source:
        yield indented(_source(source, width))
    yield _part("why", finding.why, width)
    evidence = evidence_text(finding.evidence)
    if evidence:
        yield _part("evidence", evidence, width)
    yield Text("cure", "dim")
    for line in cure_lines(finding.cure):
        yield indented(_cure_line(line))
    yield _part("payoff", f"{payoff_text(finding)} per {finding.per}, {share_of_text(finding)}", width, "bold green")
    measured = measured_text(finding)
    if measured:
        yield _part("measured", measured, width)
    if finding.confidence != "certain":
        yield _part("how sure", confidence_text(finding), width)
    if finding.related:
        yield _part("see also", related_text(finding), width)
    yield _part("more", f"mlpprof advise --explain {finding.category}", width)


def _part(name: str, text: str, width: int, style: str = "") -> Table:
    return pairs([(name.ljust(LABEL - GAP), style, text)], width)


def _source(lines: Sequence[SourceLine], width: int) -> Table:
    """The source with its line numbers, the finding's own lines marked, and a pointer below where it begins."""
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        mark = MARK if line.marked and line.number is not None else " "
        number = "" if line.number is None else str(line.number)
        table.add_row(Text(f"{mark} {number}"), Text(printable(line.text)), style="" if line.marked else "dim")
        # below a folded line it would point to the wrong place
        if line.begin and len(line.text) < width - NUMBERS and line.text[: line.begin].strip():
            table.add_row("", Text(" " * line.begin + POINTER, "cyan"))
    return table


def _cure_line(line: CureLine) -> RenderableType:
    """A line of code after its sign, also if it is folded; words have no sign."""
    text = Text(printable(line.text), STYLES[line.kind])
    if line.kind == "words":
        return text
    return _beside(Text(line.kind if line.kind in ("+", "-") else " ", STYLES[line.kind]), text, gap=1)


def _beside(left: Text, right: Text, gap: int = GAP) -> Table:
    """Two texts, of which the right one is folded beneath itself."""
    table = Table.grid(padding=(0, gap, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(left, right)
    return table
