"""Findings and step profiles on the terminal: a table, then each finding with its source and its cure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mlpprof.machine.blas import machine_line
from mlpprof.report.advice_words import (
    MOST_DISTURBED,
    ONE_BY_ONE,
    PHASES_FROM,
    CureLine,
    SourceLine,
    confidence_text,
    cure_lines,
    disturbance,
    evidence_text,
    excerpt,
    gflop_per_s,
    looked_for,
    measured_text,
    median_s,
    payoff_text,
    place_text,
    related_text,
    share_of,
    share_text,
    steps_text,
)
from mlpprof.report.numbers import (
    bar,
    digits,
    format_change,
    format_number,
    format_percent,
    format_range,
    format_size,
    format_time,
    plain,
    printable,
)
from mlpprof.report.terminal.console import GAP, INDENT, heading, indented, pairs, print_trimmed
from mlpprof.results.advice import Advice, Finding
from mlpprof.results.step_profile import Expression, StepProfile

WIDE = 110
"""From this width on, place and category have columns of their own in the table of findings."""
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
    if advice.findings:
        yield heading("Findings", ONE_BY_ONE)
        yield indented(_summary(advice.findings, width))
    else:
        yield heading("No findings")
        yield indented(pairs([("", "", looked_for())], width))
    for number, finding in enumerate(advice.findings, start=1):
        yield Text()
        yield _beside(Text(str(number), "dim"), Text(plain(finding.title), "bold"))
        yield Padding(Group(*_finding(advice, finding, width - INDENT)), (0, 0, 0, INDENT))
    if advice.notes:
        yield heading("Notes")
        yield indented(pairs([("!", "yellow", note) for note in advice.notes], width))


def _summary(findings: Sequence[Finding], width: int) -> Table:
    """One row per finding; if there is little room, its place and category are below its title."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    table.add_column("#", justify="right", no_wrap=True)
    if width >= WIDE:
        table.add_column("place", overflow="fold", max_width=30)
        table.add_column("category", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("time saved", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
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
    yield Text.assemble((place_text(finding), "cyan"), ("  " + finding.category + likely, "dim"))
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
    yield _part("payoff", f"{payoff_text(finding)} per step, {share_text(finding)} of it", width, "bold green")
    measured = measured_text(finding)
    if measured:
        yield _part("measured", measured, width)
    if finding.confidence != "certain":
        yield _part("how sure", confidence_text(finding), width)
    if finding.related:
        yield _part("see also", related_text(finding), width)


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


# Step profiles: phases, and the array expressions by their time.

SMALL_SHARE = 0.01
"""Expressions below this share of the step are summed up in one line unless `verbose`."""
WIDE_STEP = 120
"""From this width on, place and operands have columns of their own; else they are below the expression."""
BAR = 20


def print_step_profile(profile: StepProfile, console: Console, *, verbose: bool = False) -> None:
    """Print phases and expressions; verbose: also those that take next to no time."""
    print_trimmed(console, lambda width: _step_sections(profile, width, verbose))


def _step_sections(profile: StepProfile, width: int, verbose: bool) -> Iterator[RenderableType]:
    yield Text.assemble(("profile", "bold"), "  ", plain(profile.step))
    yield Text()
    yield indented(pairs(_facts(profile), width))
    if profile.phases:
        yield heading("Phases", PHASES_FROM.get(profile.phases_from, plain(profile.phases_from)))
        yield indented(_phases(profile))
    caption = "own time, all executions in a step together" if profile.expressions else ""
    yield heading("Expressions", caption)
    if profile.expressions:
        yield indented(_expressions(profile, width, verbose))
    else:
        yield indented(Text("The step evaluates no expression on arrays."))
    if profile.notes:
        yield heading("Notes")
        yield indented(pairs([("!", "yellow", note) for note in profile.notes], width))


def _facts(profile: StepProfile) -> list[tuple[str, str, str]]:
    steps = len(profile.step_s)
    spread = f" ({format_range(min(profile.step_s), max(profile.step_s))})" if steps > 1 else ""
    ratio = disturbance(profile)
    clocks = f"{format_change(ratio)} compared with it"
    if ratio > MOST_DISTURBED:
        clocks += ". The clocks slow this step down, so the shares of small expressions are rough"
    median = f"{format_time(median_s(profile.step_s))}{spread}"
    facts = [
        ("step", "", f"{median}, median of {steps:,} {'step' if steps == 1 else 'steps'} without instruments"),
        ("under clocks", "yellow" if ratio > MOST_DISTURBED else "", clocks),
    ]
    if profile.environment:
        facts.append(("machine", "", machine_line(profile.environment)))
    return facts


def _phases(profile: StepProfile) -> Table:
    """One row per phase, the most expensive first."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    table.add_column("phase", overflow="fold")
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, style="cyan")
    table.add_column("time", justify="right", no_wrap=True)
    shares = {name: share_of(seconds, profile) for name, seconds in profile.phases.items()}
    largest = max(shares.values())
    for name, seconds in sorted(profile.phases.items(), key=lambda item: -shares[item[0]]):
        strong = "bold" if shares[name] == largest else ""
        time = format_time(median_s(seconds))
        table.add_row(
            Text(plain(name), strong),
            Text(format_percent(shares[name]), strong),
            bar(shares[name], largest, BAR),
            Text(time, strong),
        )
    return table


def _expressions(profile: StepProfile, width: int, verbose: bool) -> Table:
    """One row per expression, the most expensive first; the small ones in one line at the end unless verbose."""
    ordered = sorted(profile.expressions, key=lambda one: -median_s(one.seconds))
    small = [one for one in ordered if share_of(one.seconds, profile) < SMALL_SHARE]
    folded = small if len(small) > 1 and not verbose else []
    wide = width >= WIDE_STEP
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    if wide:
        table.add_column("place", overflow="fold", max_width=24)
    table.add_column("expression", overflow="fold")
    for title in ("times", "time", "share", "GFLOP/s", "bytes"):
        table.add_column(title, justify="right", no_wrap=True)
    if wide:
        table.add_column("operands", overflow="fold", max_width=26)
    for one in ordered[: len(ordered) - len(folded)]:
        table.add_row(*_row(one, profile, wide))
    if folded:
        table.add_row(*_rest(folded, profile, wide), style="dim")
    return table


def _row(one: Expression, profile: StepProfile, wide: bool) -> list[Text]:
    place, text, operands = f"{plain(one.file)}:{one.line}", plain(one.text), _operands(one)
    figures = [
        *_figures(one.times, median_s(one.seconds), share_of(one.seconds, profile)),
        digits(gflop_per_s(one)),
        format_size(one.bytes_moved),
    ]
    if wide:
        return [Text(place), Text(text), *map(Text, figures), Text(operands, "dim")]
    return [Text.assemble(text, (f"\n{place}  {operands}", "dim")), *map(Text, figures)]


def _rest(folded: Sequence[Expression], profile: StepProfile, wide: bool) -> list[Text]:
    time_s = sum(median_s(one.seconds) for one in folded)
    share = sum(share_of(one.seconds, profile) for one in folded)
    words = f"{len(folded)} below {100 * SMALL_SHARE:g} % each (-v shows them)"
    figures = _figures(sum(one.times for one in folded), time_s, share)
    return [*([Text("other")] if wide else []), Text(words), *map(Text, figures)]


def _figures(times: int, time_s: float, share: float) -> tuple[str, str, str]:
    return format_number(times), format_time(time_s), format_percent(share)


def _operands(one: Expression) -> str:
    """'matmul float64 (30, 784, 500) C·F': what it is, on what."""
    shape = f"({', '.join(map(str, one.shape))})" if one.shape else ""
    return plain(" ".join(filter(None, (one.name, one.dtype, shape, one.orders))))
