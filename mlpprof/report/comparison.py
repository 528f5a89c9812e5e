"""Comparisons and ladders in the terminal: ratio with interval, verdict, and where the difference lies."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mlpprof.report.format import bar, format_percent, format_time, plain
from mlpprof.results import Change, Comparison, Ladder, Run, Verdict

BAR_WIDTH = 24
LADDER_BAR_WIDTH = 12
SMALL_SHARE = 0.02
"""Labels that hold less of the difference than this are left to their phase's line."""
OUTCOME_STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """One comparison: the verdict first, then the waterfall."""
    race, verdict = comparison.race, comparison.verdict
    network = comparison.network
    dtypes = " and ".join(dict.fromkeys(race.dtypes))
    title = Text(f"{plain(comparison.old)} → {plain(comparison.new)}", "bold")
    title.append(f"  {comparison.workload}, {network.text}, batch {comparison.batch:,}, {dtypes}", "not bold")
    console.print(title)
    facts = Table.grid(padding=(0, 2))
    old_s, new_s = race.step_s(0), race.step_s(1)
    facts.add_row("  step", f"{format_time(old_s)} → {format_time(new_s)}")
    facts.add_row("  ratio", ratio_text(verdict))
    facts.add_row("  verdict", _outcome(verdict))
    facts.add_row("  equivalent", _equivalence(comparison.equivalent))
    console.print(facts)
    if comparison.waterfall:
        _print_waterfall(comparison.waterfall, old_s, new_s, console)


def ratio_text(verdict: Verdict) -> str:
    """'1.31 x faster (95 %: 1.28–1.34), 5 processes'."""
    word = "faster" if verdict.ratio >= 1 else "as fast"
    of = "blocks of one process" if verdict.in_process else "processes"
    return f"{verdict.ratio:.3f} x {word} (95 %: {verdict.low:.3f}–{verdict.high:.3f}), {verdict.processes} {of}"


def _outcome(verdict: Verdict) -> Text:
    if verdict.outcome is None:
        return Text("none asked for (--at-least R makes it a gate)", "dim")
    return Text(verdict.outcome.upper(), OUTCOME_STYLES[verdict.outcome]).append(f"  {verdict.reason}", "not bold")


def _equivalence(equivalent: bool | None) -> Text:
    if equivalent is None:
        return Text("not checked (--no-check)", "yellow")
    return Text("yes: same gradients on random networks and on this one")


def _print_waterfall(changes: Sequence[Change], old_s: float, new_s: float, console: Console) -> None:
    saved = old_s - new_s
    console.print()
    console.print(Text(f"Where the difference of {format_time(abs(saved))} lies", "bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name, justify in (("phase", "left"), ("layer", "right"), ("label", "left"), ("old", "right"), ("new", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # rich's own literal type
    table.add_column("share", justify="right")
    table.add_column("")
    phases = [change for change in changes if not change.label]
    largest = max(abs(change.share) for change in changes) or 1.0
    for phase in phases:
        _add(table, phase, phase.phase, largest, "bold")
        for label in changes:
            if label.label and label.phase == phase.phase and abs(label.share) >= SMALL_SHARE:
                _add(table, label, "", largest, "")
    console.print(Padding(table, (0, 0, 0, 2)))
    note = "instrumented passes, scaled to the uninstrumented steps; the phases and the rest add up to 100 %"
    console.print(Padding(Text(note, "dim"), (0, 0, 0, 2)))


def _add(table: Table, change: Change, phase: str, largest: float, style: str) -> None:
    grown = change.share < 0
    table.add_row(
        plain(phase),
        "" if change.layer is None else str(change.layer),
        plain(change.label),
        format_time(change.old_s),
        format_time(change.new_s),
        format_percent(change.share),
        Text(bar(abs(change.share), largest, BAR_WIDTH), "red" if grown else "green"),
        style=style,
    )


def print_ladder(ladder: Ladder, console: Console) -> None:
    """A line a rung: its step, against its parent, against the root; the bar is the speedup over the root."""
    root = ladder.rungs[0].name
    title = Text("ladder", "bold").append(
        f"  {ladder.workload}, {ladder.network.text}, batch {ladder.batch:,}, {len(ladder.race.turns_s)} processes",
        "not bold",
    )
    console.print(title)
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("variant")
    table.add_column("dtype")
    table.add_column("step", justify="right")
    table.add_column("over its parent", justify="right")
    table.add_column(Text("95 %"))
    table.add_column(Text(f"over {plain(root)}"), justify="right")
    table.add_column(Text("95 %"))
    table.add_column("")
    fastest = max((rung.over_root.ratio for rung in ladder.rungs if rung.over_root), default=1.0)
    for rung in ladder.rungs:
        slow = " †" if rung.name in ladder.race.slow else ""
        over_root = rung.over_root
        table.add_row(
            Text(plain(rung.name) + slow),
            ladder.race.dtypes[ladder.race.variants.index(rung.name)],
            format_time(rung.step_s),
            *_ratio_cells(rung.over_parent),
            *_ratio_cells(over_root),
            Text(bar(over_root.ratio if over_root else 1.0, fastest, LADDER_BAR_WIDTH), "cyan"),
        )
    console.print(Padding(table, (0, 0, 0, 2)))
    if ladder.race.slow:
        note = "† slow: timed on part of the work, in the first blocks of each process only"
        console.print(Padding(Text(note, "dim"), (0, 0, 0, 2)))
    for name, why in ladder.skipped.items():
        console.print(Padding(Text(f"{plain(name)} did not take part: {plain(why)}", "yellow"), (0, 0, 0, 2)))


def _ratio_cells(verdict: Verdict | None) -> tuple[str, str]:
    if verdict is None:
        return "", ""
    return f"{verdict.ratio:.2f}", f"{verdict.low:.2f}–{verdict.high:.2f}"


def print_stored(runs: Sequence[Run], console: Console) -> None:
    """Stored runs side by side, the first as the baseline; their ratio is a hint, never a verdict."""
    console.print(Text("stored runs, measured at different times", "bold"))
