"""The report on the terminal, made from the run alone, so that a stored run prints as it did when it was measured."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mlpprof.machine.blas import blas_line, machine_line, pinned_kernel_warning
from mlpprof.report.format import format_time, plain
from mlpprof.report.layout import heading, indented, pairs, print_trimmed
from mlpprof.report.roofline_reason import distance
from mlpprof.report.roofline_table import roofline_tables
from mlpprof.report.source_view import source_table
from mlpprof.report.tables import agreement_tables, batch_text, label_tables, memory_tables, phase_tables, time_tables
from mlpprof.report.verdict import agreements, not_separable, verdict
from mlpprof.results import BatchResult, CheckResult, Run

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
        from mlpprof.report.call_view import call_tree

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
