"""Stored runs side by side: a hint at what changed, never a verdict, because they were measured at different times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mlpprof.machine.blas import blas_line, machine_line
from mlpprof.model import PHASES
from mlpprof.report.format import UNKNOWN, format_range, format_time, plain
from mlpprof.report.grid import GAP
from mlpprof.report.layout import heading, indented, pairs
from mlpprof.results import BatchResult, Run


def stored_sections(runs: Sequence[Run], width: int) -> Iterator[RenderableType]:
    """What the runs are, how they differ, their steps and phases at every batch size that the first one has."""
    names = _names(runs)
    yield Text(" → ".join(names), "bold")
    yield Text()
    warning = (
        "Unpaired: these runs were measured at different times, when the machine may have been faster or slower. "
        "Their ratios are hints and no verdict; mlpprof compare OLD NEW, with the names of the variants, races both."
    )
    differences = [("differs", "yellow", text) for text in _differences(runs)]
    measured = [
        (name, "", f"{run.created.replace('T', ' ')}: {run.command}") for name, run in zip(names, runs, strict=True)
    ]
    yield indented(pairs([*measured, *differences, ("hint", "yellow", warning)], width))
    for result in runs[0].results:
        found = [next((other for other in run.results if other.batch == result.batch), None) for run in runs]
        yield heading(f"batch {result.batch:,}", "medians; ratio of the first run's step to this one's")
        yield indented(_table(names, found))


def _names(runs: Sequence[Run]) -> list[str]:
    names = [plain(run.variant.name) for run in runs]
    return [f"{name} ({i + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _differences(runs: Sequence[Run]) -> Iterator[str]:
    """What the runs do not have in common, beside the variant."""
    facts = {
        "workload": [run.workload for run in runs],
        "network": [run.network.text for run in runs],
        "data": [f"{run.data.name} {run.data.sha256[:8]}" for run in runs],
        "dtype": [run.dtype for run in runs],
        "BLAS threads": [UNKNOWN if run.threads is None else str(run.threads) for run in runs],
        "BLAS": [blas_line(run.machine) for run in runs],
        "machine": [machine_line({**run.machine, "load_avg_1min": None}) for run in runs],
        "batch sizes": [", ".join(f"{result.batch:,}" for result in run.results) for run in runs],
    }
    for name, values in facts.items():
        if len(set(values)) > 1:
            yield f"{name}: {' | '.join(values)}"


def _table(names: Sequence[str], results: Sequence[BatchResult | None]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(Text(name), justify="right")
    table.add_row("step", *(_time(None if r is None else r.step_s.median) for r in results), style="bold")
    ranges = (UNKNOWN if r is None else format_range(r.step_s.low, r.step_s.high) for r in results)
    table.add_row("95 % of steps", *ranges, style="dim")
    first = results[0]
    for phase in PHASES:
        times = [r.phase_median_s(phase) if r is not None and phase in r.phases else None for r in results]
        table.add_row(phase, *map(_time, times))
    assert first is not None  # the batch sizes are the first run's
    table.add_row("ratio (a hint)", *(_ratio(first, result) for result in results), style="yellow")
    return table


def _time(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else format_time(seconds)


def _ratio(first: BatchResult, result: BatchResult | None) -> str:
    if result is None or result is first:
        return "" if result is first else UNKNOWN
    return f"{first.step_s.median / result.step_s.median:.2f}"
