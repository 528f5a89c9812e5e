"""The report on the terminal, made from the run alone, so that a stored run prints as it did when it was measured."""

from __future__ import annotations

import io
import json
import re
import textwrap
from collections.abc import Iterator, Sequence

from pyinstrument.renderers import ConsoleRenderer, HTMLRenderer, SpeedscopeRenderer
from pyinstrument.renderers.base import Renderer
from pyinstrument.session import Session
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mlpprof.errors import RunFileError
from mlpprof.machine.blas import blas_line, machine_line, pinned_kernel_warning
from mlpprof.report.numbers import (
    NO_BREAK,
    UNKNOWN,
    digits,
    format_number,
    format_percent,
    format_size,
    format_time,
    plain,
    printable,
)
from mlpprof.report.roofline import Ceiling, Point, distance, label_points, phase_points
from mlpprof.report.rows import (
    SMALL_SHARE,
    agreement_tables,
    agreements,
    batch_text,
    label_tables,
    memory_tables,
    not_separable,
    phase_tables,
    time_tables,
    verdict,
)
from mlpprof.report.terminal.console import (
    GAP,
    INDENT,
    Column,
    Group,
    group_tables,
    heading,
    indented,
    pairs,
    print_trimmed,
)
from mlpprof.results import BatchResult, CheckResult, LineProfile, LineTime, Run, StackProfile

# The line view: the variant's source with what line_profiler counted beside it.


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


# The roofline as tables for the terminal: what each phase and statement computes, moves and reaches.


SMALL_ROOFLINE_SHARE = 0.01
"""Statements below this share of the step, at every batch size, are left out unless verbose."""

Row = tuple[str, int | None, str | None]


def roofline_tables(run: Run, width: int, verbose: bool) -> Iterator[Padding]:
    """A row for every phase, and beneath it one for each of its statements; nothing where nothing was counted."""
    results = [result for result in run.results if result.operations]
    if not results:
        return
    ceiling = Ceiling.of(run)
    points = [_points(result, ceiling, verbose) for result in results]
    phases = dict.fromkeys(row[0] for found in points for row in found)
    rows = [row for phase in phases for row in dict.fromkeys(r for found in points for r in found) if row[0] == phase]
    rows.sort(key=lambda row: (list(phases).index(row[0]), row[2] is not None))
    left = [
        Column("phase", [plain(phase) if label is None else "" for phase, _, label in rows], is_text=True),
        Column("layer", ["" if layer is None else str(layer) for _, layer, _ in rows]),
        Column("label", ["" if label is None else plain(label) for _, _, label in rows], is_text=True),
    ]
    groups = [
        Group(batch_text(result) if len(results) > 1 else "", _columns([found.get(row) for row in rows]))
        for result, found in zip(results, points, strict=True)
    ]
    yield from group_tables(left, groups, ["bold" if label is None else "" for _, _, label in rows], width)


def _points(result: BatchResult, ceiling: Ceiling | None, verbose: bool) -> dict[Row, Point]:
    least_s = 0.0 if verbose else SMALL_ROOFLINE_SHARE * result.step_s.median
    shown = [*phase_points(result, ceiling), *(p for p in label_points(result, ceiling) if p.time_s >= least_s)]
    return {(p.phase, p.layer, p.label): p for p in shown}


def _columns(points: Sequence[Point | None]) -> list[Column]:
    return [
        Column("time", [UNKNOWN if p is None else format_time(p.time_s) for p in points]),
        Column("Mflop", [UNKNOWN if p is None or not p.operations else digits(1e-6 * p.flop) for p in points]),
        Column(
            "needed", [UNKNOWN if p is None or not p.flop else format_percent(p.useful_flop / p.flop) for p in points]
        ),
        Column("moved", [UNKNOWN if p is None or not p.operations else format_size(p.bytes_moved) for p in points]),
        Column("flop/B", [UNKNOWN if p is None else digits(p.intensity) for p in points]),
        Column("GFLOP/s", [UNKNOWN if p is None or p.gflops is None else digits(p.gflops) for p in points]),
        Column("of limit", [UNKNOWN if p is None else format_percent(p.share_of_limit) for p in points]),
    ]


TEXT_WIDTH = 100
"""Columns of the report as a text file."""


def print_run(run: Run, console: Console, *, verbose: bool = False) -> None:
    """Print the whole report of a run; verbose shows the small statements one by one."""
    print_trimmed(console, lambda width: _sections(run, width, verbose))


def report_text(run: Run) -> str:
    """The whole report as text without colours, `TEXT_WIDTH` wide, whatever the environment says."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=TEXT_WIDTH, color_system=None, force_terminal=False, force_jupyter=False)
    print_run(run, console)
    return buffer.getvalue()


def _sections(run: Run, width: int, verbose: bool) -> Iterator[RenderableType]:
    results = run.results
    separable = [result for result in results if result.phases]
    labelled = [result for result in results if result.labels]
    single = f" at {batch_text(results[0])}" if len(results) == 1 else ""

    yield Text.assemble((plain(run.variant.name), "bold"), "  ", plain(run.variant.summary))
    yield Text()
    yield indented(_facts(run, width))
    spans = " or ".join(dict.fromkeys(f"{r.steps_a_sample:,}" for r in results if r.steps_a_sample > 1))
    of = f"blocks of {spans} steps through train" if spans else "single steps"
    yield heading("Time", f"without instruments; the range holds 95 % of {of}")
    yield from time_tables(results, width)
    yield Text()
    yield indented(pairs([(batch_text(result), "", f"{verdict(result)}.") for result in results], width))
    caption = "shares of their sum" + ("; memory and page faults of one step" if single else "")
    yield heading(f"Phases{single}", caption if separable else "")
    if separable:
        yield from phase_tables(separable, width)
    if len(separable) < len(results):
        yield indented(Text(not_separable(next(result for result in results if not result.phases))))
    if len(separable) > 1:
        yield heading("Memory", "of one step: bytes allocated, the most held at a time, page faults")
        yield from memory_tables(separable, width)
    yield heading(f"Statements{single}", "shares of the whole step; * the three dearest" if labelled else "")
    if labelled:
        yield from label_tables(labelled, width, verbose)
    else:
        yield indented(Text("none is labelled: end a statement with a comment '# phase: my label' to see its time"))
    if any(result.operations for result in results):
        yield from _roofline(run, width, verbose, single)
    yield heading("Agreement", "how far each is from the step that it should equal")
    yield from agreement_tables(results, width)
    yield Text()
    yield indented(_doubts(results, width))
    if run.lines is not None:
        yield heading(f"Lines at batch {run.lines.batch:,}", "calls and time are of one step, with all that is called")
        yield source_table(run.lines, run.variant.source, width)
    if run.stacks is not None:
        # loading pyinstrument takes longer than the rest of the report
        pass

        yield heading(f"Calls at batch {run.stacks.batch:,}", "shares of all samples of the stack")
        tree = Text(call_tree(run.stacks))
        tree.highlight_regex(r"(?m)[│├└─]+|  \S+$", "dim")
        yield indented(tree)


def _roofline(run: Run, width: int, verbose: bool, single: str) -> Iterator[RenderableType]:
    yield heading(f"Roofline{single}", "what a step computes and moves, how much of it is needed, share of the limit")
    yield from roofline_tables(run, width, verbose)
    found = [(batch_text(result), distance(run, result)) for result in run.results]
    rows = [(name, "", f"{far.sentence} (bound {format_time(far.bound_s)}).") for name, far in found if far is not None]
    rows += [
        (batch_text(result), "yellow", f"not counted: {', '.join(result.uncounted)}")
        for result in run.results
        if result.uncounted
    ]
    if not run.limits:
        rows.append(("limits", "", "not measured (--no-limits), so there is no bound and no share of it"))
    if rows:
        yield Text()
        yield indented(pairs(rows, width))


def _facts(run: Run, width: int) -> Table:
    network = run.network
    loss = network.loss.replace("_", " ")
    penalties = {"momentum": network.momentum, "L1": network.l1, "L2": network.l2}
    training = [f"rate {network.rate:g}", *(f"{name} {value:g}" for name, value in penalties.items() if value > 0)]
    created = run.created.replace("T", " ").replace("+00:00", "Z").replace("Z", " UTC")
    native = " · --native-blas" if run.native_blas else ""
    pinned = pinned_kernel_warning(run.machine)
    warnings = dict.fromkeys([*([pinned] if pinned else []), *run.warnings])
    return pairs(
        [
            ("workload", "", f"{run.workload}: {run.data.name}, {run.data.samples:,} samples"),
            ("network", "", f"{network.text}, {network.hidden}, {network.output} output, {loss} loss"),
            ("training", "", f"{run.dtype}, {', '.join(training)}, seed {run.seed}"),
            ("check", *_check(run.check)),
            ("machine", "", machine_line(run.machine)),
            ("BLAS", "", blas_line(run.machine) + native),
            ("measured", "", f"{created} by mlpprof {run.mlpprof_version}: {run.command}"),
            *(("warning", "yellow", warning) for warning in warnings),
        ],
        width,
    )


def _check(check: CheckResult | None) -> tuple[str, str]:
    """Style and words of what was compared before anything was timed."""
    if check is None:
        return "yellow", "not checked (--no-check)"
    if check.ok is None:
        return "yellow", f"not checked: {check.skipped or 'no reason given'}"
    if not check.ok:
        return "red", f"FAILED: {check.message or check.what}"
    parts = ["ok", check.what, "" if check.layer is None else f"layer {check.layer}"]
    if check.deviation is not None and check.tolerance is not None:
        parts.append(f"deviation {check.deviation:.1e}, tolerance {check.tolerance:.1e}")
    return "", ", ".join(part for part in parts if part)


def _doubts(results: Sequence[BatchResult], width: int) -> RenderableType:
    """What a figure beyond its limit means, and at which batch sizes; a calm line where all is well."""
    if all(figure.ratio is None for result in results for figure in agreements(result)):
        return Text("No instrument was used that could disturb the step.", style="dim")
    doubts: dict[str, list[str]] = {}
    for result in results:
        for figure in agreements(result):
            if not figure.is_within:
                doubts.setdefault(figure.meaning, []).append(f"{result.batch:,}")
    if not doubts:
        return Text("All within their limits: the shares above hold.", style="dim")
    rows = [(f"! batch {', '.join(batches)}", "yellow", meaning) for meaning, batches in doubts.items()]
    return pairs(rows, width)


# The call view: a stored pyinstrument session, drawn by pyinstrument itself.
#
# Its own module, because loading pyinstrument takes longer than printing a report that has no call view.


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
        # whoever stored the run may have had another version of pyinstrument
        raise RunFileError(f"the call view of this run cannot be drawn: {printable(repr(error))}") from error
    return drawn
