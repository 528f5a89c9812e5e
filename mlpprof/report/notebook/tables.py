"""Cells for the tables of a notebook: what is in them, not how they look. Times are medians."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlpprof.compare.waterfall import REST
from mlpprof.machine.blas import blas_line, machine_line, pinned_kernel_warning
from mlpprof.report.numbers import UNKNOWN, format_number, format_percent, format_range, format_size, format_time, plain
from mlpprof.report.roofline import distance
from mlpprof.report.rows import SMALL_SHARE, TOP, agreements, batch_text, verdict
from mlpprof.report.terminal.compare import claim_text, ratio_text
from mlpprof.results import BatchResult, CheckResult, Comparison, LabelSamples, Run

Fact = tuple[str, str, str]
"""Name, class of the text, text."""


@dataclass(frozen=True)
class Row:
    """One row; strong: the numbers of cells to be seen first. style: "", "strong" or "quiet"."""

    cells: tuple[str, ...]
    strong: frozenset[int] = frozenset()
    style: str = ""


@dataclass(frozen=True)
class Table:
    """words: so many columns at the left hold words. groups: names above the others, with the columns of each."""

    caption: str
    titles: tuple[str, ...]
    rows: tuple[Row, ...]
    words: int = 1
    groups: tuple[tuple[str, int], ...] = ()


def sentences(run: Run) -> list[tuple[str, str]]:
    """The verdict of every batch size, and how far the step is from what the machine could do."""
    found = []
    for result in run.results:
        found.append((batch_text(result), f"{verdict(result)}."))
        far = distance(run, result)
        if far is not None:
            found.append((batch_text(result), f"{far.sentence}."))
    return found


def warnings_of(run: Run) -> list[str]:
    """What a reader has to know before believing the figures."""
    pinned = pinned_kernel_warning(run.machine)
    unchecked = [] if run.check is not None else ["the gradients were not checked (--no-check)"]
    doubts = [
        f"{batch_text(result)}: {figure.meaning}"
        for result in run.results
        for figure in agreements(result)
        if not figure.is_within
    ]
    return [plain(text) for text in dict.fromkeys([*([pinned] if pinned else []), *run.warnings, *unchecked, *doubts])]


def run_facts(run: Run) -> list[Fact]:
    """What was measured and where, and what was checked first."""
    network = run.network
    return [
        ("workload", "", plain(f"{run.workload}: {run.data.name}, {run.data.samples:,} samples")),
        ("network", "", f"{network.text}, {network.hidden}, {network.output} output, {network.loss.replace('_', ' ')}"),
        ("precision", "", f"{run.dtype}, seed {run.seed}"),
        ("check", *_check(run.check)),
        ("machine", "", machine_line(run.machine)),
        ("BLAS", "", blas_line(run.machine)),
        ("measured", "", plain(f"{run.created} by mlpprof {run.mlpprof_version}: {run.command}")),
    ]


def _check(check: CheckResult | None) -> tuple[str, str]:
    if check is None:
        return "warning", "not checked (--no-check)"
    if check.ok is None:
        return "warning", f"not checked: {plain(check.skipped or 'no reason given')}"
    deviation = "" if check.deviation is None else f", deviation {check.deviation:.1e}"
    return "", plain(f"ok, {check.what}{deviation}")


def time_table(results: Sequence[BatchResult]) -> Table:
    """A batch size a row."""
    rows = []
    for result in results:
        step = result.step_s
        rate = result.batch / step.median if step.median > 0 else math.nan
        cells = (
            batch_text(result),
            format_time(step.median),
            format_range(step.low, step.high),
            format_time(result.epoch_s.median),
            format_number(float(f"{rate:.3g}")),
            format_number(result.total_s.size * result.steps_a_sample),
        )
        rows.append(Row(cells, frozenset({1})))
    titles = ("", "step, median", "95 % of steps", "epoch, median", "samples per second", "steps measured")
    return Table("Time, without instruments", titles, tuple(rows))


def phase_table(results: Sequence[BatchResult]) -> Table:
    """A phase a row; with a single batch size what it asks of memory beside it."""
    shown = [result for result in results if result.phases]
    alone = len(shown) == 1
    titles = ("share", "time", "allocated", "peak", "page faults") if alone else ("share", "time")
    rows = []
    for name in dict.fromkeys(name for result in shown for name in result.phases):
        cells: list[str] = [plain(name)]
        strong = set()
        for result in shown:
            if name not in result.phases:
                cells += [UNKNOWN] * len(titles)
                continue
            if name == max(result.phases, key=result.phase_share):
                strong.add(len(cells))
            phase = result.phases[name]
            cells += [format_percent(result.phase_share(name)), format_time(result.phase_median_s(name))]
            if alone:
                cells += [format_size(phase.bytes_allocated), format_size(phase.peak_bytes)]
                cells.append(format_number(phase.page_faults))
        rows.append(Row(tuple(cells), frozenset(strong)))
    groups = () if alone else tuple((batch_text(result), len(titles)) for result in shown)
    return Table("Phases, shares of their sum", ("phase", *titles * len(shown)), tuple(rows), groups=groups)


def statement_table(results: Sequence[BatchResult], verbose: bool) -> Table:
    """A labelled statement a row, with its first line in the file; small ones only if verbose."""
    shown = [result for result in results if result.labels]
    found: dict[tuple[str, int | None, str], dict[int, LabelSamples]] = {}
    for i, result in enumerate(shown):
        for label in result.labels:
            found.setdefault((label.phase, label.layer, label.label), {})[i] = label
    top = [sorted(result.labels, key=result.label_share, reverse=True)[:TOP] for result in shown]
    rows = []
    for (phase, layer, name), by_result in found.items():
        shares = {i: shown[i].label_share(label) for i, label in by_result.items()}
        if not verbose and max(shares.values()) < SMALL_SHARE:
            continue
        cells = [plain(phase), "" if layer is None else str(layer), plain(name), _line(shown, phase, layer, name)]
        strong = set()
        for i in range(len(shown)):
            if i not in by_result:
                cells += [UNKNOWN, UNKNOWN]
                continue
            if any(by_result[i] is dearest for dearest in top[i]):
                strong.add(len(cells))
            cells += [format_percent(shares[i]), format_time(float(np.median(by_result[i].step_s)))]
        rows.append(Row(tuple(cells), frozenset(strong)))
    hidden = len(found) - len(rows)
    caption = "Labelled statements, shares of the step" + (f"; {hidden} small ones are left out" if hidden else "")
    groups = tuple((batch_text(result), 2) for result in shown) if len(shown) > 1 else ()
    titles = ("phase", "layer", "label", "line", *("share", "time") * len(shown))
    return Table(caption, titles, tuple(rows), 4, groups)


def _line(results: Sequence[BatchResult], phase: str, layer: int | None, label: str) -> str:
    lines = [
        operation.line
        for result in results
        for operation in result.operations
        if (operation.phase, operation.layer, operation.label) == (phase, layer, label)
    ]
    return str(min(lines)) if lines else UNKNOWN


def comparison_facts(one: Comparison) -> list[Fact]:
    """The ratio first, then the verdict and what it rests on."""
    race, found = one.race, one.verdict
    claim = "none asked for (--at-least R makes it a gate)"
    if found.outcome is not None:
        claim = claim_text(found)
    equivalent = "not checked (--no-check)" if one.equivalent is None else "same gradients"
    pinned = pinned_kernel_warning(one.machine)
    return [
        ("ratio", "", ratio_text(found)),
        ("step", "", f"{format_time(race.step_s(0))} → {format_time(race.step_s(1))}"),
        ("verdict", found.outcome or "muted", claim),
        ("equivalent", "warning" if one.equivalent is None else "", equivalent),
        ("on", "", plain(f"{one.workload}, {one.network.text}, {' and '.join(dict.fromkeys(race.dtypes))}")),
        ("machine", "", machine_line(one.machine)),
        ("BLAS", "", blas_line(one.machine)),
        *([("warning", "warning", pinned)] if pinned else []),
    ]


def change_table(one: Comparison) -> Table:
    """A phase a row: what it cost, costs now, and its share of the difference."""
    rows = [
        Row(
            (
                "rest" if change.phase == REST else plain(change.phase),
                format_time(change.old_s),
                format_time(change.new_s),
                format_percent(round(change.share, 3) + 0.0),
            )
        )
        for change in one.waterfall
        if not change.label
    ]
    if rows:
        step = (format_time(one.race.step_s(0)), format_time(one.race.step_s(1)), format_percent(1.0))
        rows.append(Row(("step", *step), style="strong"))
    return Table("Where the difference lies", ("phase", "old", "new", "share of the difference"), tuple(rows))
