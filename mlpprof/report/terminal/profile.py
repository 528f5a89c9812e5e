"""The report on the terminal, made from the run alone, so that a stored run prints as it did when it was measured."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from pyinstrument.renderers import ConsoleRenderer, HTMLRenderer, SpeedscopeRenderer
from pyinstrument.renderers.base import Renderer
from pyinstrument.session import Session
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from mlpprof.errors import RunFileError
from mlpprof.report.advice_words import PHASES_FROM
from mlpprof.report.distance import distance
from mlpprof.report.facts import run_facts
from mlpprof.report.numbers import NO_BREAK, format_number, format_percent, format_time, plain, printable
from mlpprof.report.rows import (
    SLOWEST,
    SMALL_SHARE,
    agreement_table,
    memory_table,
    phase_table,
    roofline_table,
    statement_table,
    time_table,
)
from mlpprof.report.sentences import agreements, batch_text, batches_text, doubts, not_separable, slowest_part
from mlpprof.report.story import Measured, Story
from mlpprof.report.terminal.console import (
    FIGURE,
    GAP,
    INDENT,
    WORDS,
    heading,
    indented,
    listing,
    pairs,
    print_trimmed,
    table_lines,
    text_of,
)
from mlpprof.report.terminal.program import program_section
from mlpprof.results import LineProfile, LineTime, Run, StackProfile

CONTEXT = 1
"""This many lines are shown before and after each line that was executed."""
HOT_SHARE = 0.1
"""Lines that take at least this share of the wall time are highlighted."""


def source_table(profile: LineProfile, source: str, width: int) -> Padding:
    """The lines that ran, and their neighbours: calls and time per step, share of the wall time, and the text."""
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

    table = listing([*((title, FIGURE) for title in titles), ("source", WORDS)])
    for previous, n, row, text in zip([0, *shown], shown, rows, code, strict=False):
        if previous and n > previous + 1:
            table.add_row("⋮", style="dim")
        hot = n in timed and profile.share(timed[n]) >= HOT_SHARE
        table.add_row(
            *row, Text(_folded(printable(text), code_width)), style="bold" if hot else "" if n in timed else "dim"
        )
    return Padding(table, (0, 0, 0, INDENT))


def _is_setup(line: LineTime, profile: LineProfile) -> bool:
    """Whether a line ran in fewer than all steps and took next to nothing, as a constructor's do."""
    return line.hits < profile.steps and profile.share(line) < SMALL_SHARE


def _figures(line: LineTime, profile: LineProfile) -> tuple[str, str, str]:
    calls, line_s, share = profile.calls(line), profile.line_s(line), profile.share(line)
    return format_number(calls), format_time(line_s), format_percent(share)


def _folded(text: str, width: int) -> str:
    """A line of code that is too long goes on beneath itself, further in than it began."""
    inner = " " * (len(text) - len(text.lstrip()) + 4)
    if len(text) <= width or width < len(inner) + 20:
        return text
    kept_together = re.sub(r"#.*", lambda comment: comment[0].replace(" ", NO_BREAK), text)
    lines = textwrap.wrap(kept_together, width, subsequent_indent=inner, break_on_hyphens=False)
    return "\n".join(lines).replace(NO_BREAK, " ")


def at_batch(view: LineProfile | StackProfile) -> str:
    """' at batch 500'; empty where the batch size is not known."""
    return f" at batch {view.batch:,}" if view.batch else ""


def by_file(profile: LineProfile) -> Iterator[tuple[str, LineProfile]]:
    """The line view of each file of a program; of a variant, its only file as ''."""
    for file in dict.fromkeys(line.file for line in profile.lines):
        yield file, replace(profile, lines=tuple(line for line in profile.lines if line.file == file))


def source_of(run: Run, file: str) -> str:
    """The text of a file of a program; for '', that of the variant."""
    return run.variant.source if run.program is None or not file else run.program.sources.get(file, "")


def print_run(run: Run, console: Console, *, verbose: bool = False) -> None:
    """Print the whole report of a run; verbose shows the small statements one by one."""
    print_trimmed(console, lambda width: _sections(run, width, verbose))


def report_text(run: Run) -> str:
    """The whole report as text without colours, `TEXT_WIDTH` wide, whatever the environment says."""
    return text_of(partial(print_run, run))


def _sections(run: Run, width: int, verbose: bool) -> Iterator[RenderableType]:
    results, measured = run.results, Story.of(runs=[run]).measured
    separable = [one for one in measured if one.result.phases]
    labelled = any(result.labels for result in results)
    is_program = run.program is not None
    single = f" at {batch_text(results[0])}" if len(results) == 1 and not is_program else ""

    yield Text.assemble((plain(run.variant.name), "bold"), "  ", plain(run.variant.summary))
    yield Text()
    yield indented(pairs(run_facts(run), width))
    spans = " or ".join(dict.fromkeys(f"{r.steps_a_sample:,}" for r in results if r.steps_a_sample > 1))
    of = f"blocks of {spans} steps through train" if spans else "single steps"
    if run.program is not None and run.program.time is not None:
        yield from program_section(run.program.time, run.program.step, width)
    yield heading("Time", f"without instruments; the range contains 95 % of {of}")
    yield from table_lines(time_table(measured).transposed(), width)
    yield Text()
    yield indented(pairs([(batch_text(result), "", f"{slowest_part(result)}.") for result in results], width))
    caption = "shares of the step" + ("; memory and page faults of one step" if single else "")
    if run.program is not None:
        caption = PHASES_FROM.get(run.program.phases_from, caption)
    yield heading(f"Phases{single}", caption if separable else "")
    if separable:
        yield from table_lines(phase_table(measured), width)
    if len(separable) < len(results):
        yield indented(Text(f"{not_separable(next(result for result in results if not result.phases))}."))
    if len(separable) > 1:
        yield heading("Memory", "of one step: bytes allocated, the most held at a time, page faults")
        yield from table_lines(memory_table(measured), width)
    caption = f"shares of the step; * marks the {SLOWEST} slowest" if labelled else ""
    yield heading("Expressions" if is_program else f"Statements{single}", caption)
    if labelled:
        yield from table_lines(statement_table(measured, verbose=verbose), width)
    elif is_program:
        yield indented(Text("The step evaluates no expression that could be timed."))
    else:
        yield indented(Text("No statement has a label: end one with a comment '# phase: my label' to see its time."))
    if any(result.operations for result in results):
        yield from _roofline(measured, width, verbose, single)
    yield heading("Agreement", "difference between each measuring pass and the unprofiled step")
    yield from table_lines(agreement_table(measured).transposed(), width)
    yield Text()
    yield indented(_doubts(run, width))
    if run.lines is not None:
        yield heading(f"Lines{at_batch(run.lines)}", "per step; the time of a line contains all that it calls")
        for file, lines in by_file(run.lines):
            if file:
                yield indented(Text(plain(file), "bold"))
            yield source_table(lines, source_of(run, file), width)
    if run.stacks is not None:
        yield heading(f"Calls{at_batch(run.stacks)}", "shares of all samples of the stack")
        tree = Text(call_tree(run.stacks))
        tree.highlight_regex(r"(?m)[│├└─]+|  \S+$", "dim")
        yield indented(tree)


def _roofline(measured: tuple[Measured, ...], width: int, verbose: bool, single: str) -> Iterator[RenderableType]:
    is_known = all(one.run.network is not None for one in measured)
    needed = ", how much of it is needed" if is_known else ""
    yield heading(f"Roofline{single}", f"what a step computes and moves{needed}, share of the limit")
    yield from table_lines(roofline_table(measured, verbose=verbose), width)
    rows = []
    for one in measured:
        far = distance(one.run, one.result)
        if far is not None:
            rows.append((batch_text(one.result), "", f"{far.sentence}. {far.minimum}"))
        if one.result.uncounted:
            rows.append((batch_text(one.result), "warning", f"not counted: {', '.join(one.result.uncounted)}"))
    if not is_known:
        rows.append(("needed", "", "how much of this work is needed is not known: mlpprof does not know your network"))
    if not measured[0].run.limits:
        rows.append(("limits", "", "not measured (--no-limits), so there is no minimum and no share of a limit"))
    if rows:
        yield Text()
        yield indented(pairs(rows, width))


def _doubts(run: Run, width: int) -> RenderableType:
    """What a figure beyond its limit means, and at which batch sizes; a calm line where all is well."""
    if all(figure.ratio is None for result in run.results for figure in agreements(result)):
        return Text("No instrument was used that could slow the step down.", style="dim")
    rows = [(f"! {batches_text(batches)}", "warning", meaning) for meaning, batches in doubts(run).items()]
    return pairs(rows, width) if rows else Text("All are within their limits: you can trust the shares.", style="dim")


# The call view: a stored pyinstrument session, drawn by pyinstrument itself.


class _TreeRenderer(ConsoleRenderer):
    """pyinstrument's tree without its banner."""

    def render_preamble(self, session: Session) -> str:
        """Nothing: the report has said what was measured."""
        return ""


def call_tree(profile: StackProfile) -> str:
    """The tree of calls as text, each with its share; where it cannot be drawn, one line that says why."""
    try:
        tree = _drawn(profile, _TreeRenderer(unicode=True, time="percent_of_total"))
    except RunFileError as error:
        return str(error)
    return "\n".join(printable(line.rstrip()) for line in tree.strip("\n").splitlines())


def call_page(profile: StackProfile) -> str:
    """pyinstrument's own HTML page; raises RunFileError where the session cannot be read."""
    return _drawn(profile, HTMLRenderer())


def call_speedscope_json(profile: StackProfile) -> str:
    """The session for https://www.speedscope.app; raises RunFileError where it cannot be read."""
    return _drawn(profile, SpeedscopeRenderer())


def _drawn(profile: StackProfile, renderer: Renderer) -> str:
    try:
        drawn: str = renderer.render(Session.from_json(json.loads(profile.session_json)))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # the run may have been stored with another version of pyinstrument
        raise RunFileError(f"the call view of this run cannot be drawn: {printable(repr(error))}") from error
    return drawn
