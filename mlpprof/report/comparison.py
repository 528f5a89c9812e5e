"""Comparisons and ladders in the terminal: ratio with interval, verdict, and where the difference lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mlpprof.machine.blas import blas_line, machine_line, pinned_kernel_warning
from mlpprof.report.format import bar, format_time, plain
from mlpprof.report.grid import GAP, INDENT
from mlpprof.report.layout import indented, pairs, print_trimmed
from mlpprof.report.stored_runs import stored_sections
from mlpprof.report.waterfall_table import waterfall_sections
from mlpprof.results import Comparison, Json, Ladder, Run, Rung, Verdict

WIDEST_BAR, NARROWEST_BAR = 40, 6
THROUGH_TRAIN = "through train, which spans steps, a turn at a time"
OUTCOME_STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """One comparison: the verdict first, then the waterfall."""
    print_trimmed(console, lambda width: _comparison_sections(comparison, width))


def print_stored(runs: Sequence[Run], console: Console) -> None:
    """Stored runs side by side, the first as the baseline: unpaired, so their ratio is a hint and no verdict."""
    print_trimmed(console, lambda width: stored_sections(runs, width))


def print_ladder(ladder: Ladder, console: Console) -> None:
    """A line a rung: its step, against its parent, against the root; the bar is the speedup over the root."""
    print_trimmed(console, lambda width: _ladder_sections(ladder, width))


def ratio_text(verdict: Verdict) -> str:
    """'1.312 x as fast (95 %: 1.284–1.341), 5 processes'; above 1, the new one is faster."""
    of = "groups of blocks in this process" if verdict.in_process else "processes"
    return f"{verdict.ratio:.3f} x as fast (95 %: {verdict.low:.3f}–{verdict.high:.3f}), {verdict.processes} {of}"


def _comparison_sections(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    race, verdict = comparison.race, comparison.verdict
    dtypes = " and ".join(dict.fromkeys(race.dtypes))
    yield Text.assemble(
        (f"{plain(comparison.old)} → {plain(comparison.new)}", "bold"),
        f"  {plain(comparison.workload)}, {comparison.network.text}, batch {comparison.batch:,}, {dtypes}",
    )
    yield Text()
    yield indented(
        pairs(
            [
                ("step", "", f"{format_time(race.step_s(0))} → {format_time(race.step_s(1))}"),
                ("ratio", "bold", ratio_text(verdict)),
                ("verdict", *_outcome(verdict)),
                ("equivalent", *_equivalence(comparison)),
                *(("timed", "", f"{plain(name)} {THROUGH_TRAIN}") for name in race.trained),
                *(("engine", "", plain(engine)) for engine in comparison.engines),
                *_machine(comparison.machine),
            ],
            width,
        )
    )
    if comparison.waterfall:
        yield from waterfall_sections(comparison, width)


def _outcome(verdict: Verdict) -> tuple[str, str]:
    if verdict.outcome is None:
        return "dim", "none asked for (--at-least R makes it a gate)"
    return OUTCOME_STYLES[verdict.outcome], claim_text(verdict)


def claim_text(verdict: Verdict) -> str:
    """'PASS: required 1.5x, measured 14.7x (95 %: 13.7-15.7)'; what is open says what was required before why."""
    if verdict.outcome is None or verdict.at_least is None:
        return ""
    required = f"required {verdict.at_least:.4g}x; " if verdict.outcome == "inconclusive" else ""
    return f"{verdict.outcome.upper()}: {required}{verdict.reason}"


def _equivalence(comparison: Comparison) -> tuple[str, str]:
    if comparison.equivalent is None:
        return "yellow", "not checked (--no-check)"
    if comparison.engines:
        return "", "same losses over the first steps; each in a process of its own, kernel pins cleared"
    return "", "same gradients, on random networks and on this one"


def _machine(machine: Json) -> list[tuple[str, str, str]]:
    warning = pinned_kernel_warning(machine)
    rows = [("machine", "", machine_line(machine)), ("BLAS", "", blas_line(machine))]
    return rows if warning is None else [*rows, ("warning", "yellow", warning)]


def _ladder_sections(ladder: Ladder, width: int) -> Iterator[RenderableType]:
    race = ladder.race
    processes = len(race.turns_s)
    yield Text.assemble(
        ("ladder", "bold"), f"  {plain(ladder.workload)}, {ladder.network.text}, batch {ladder.batch:,}"
    )
    yield Text()
    yield indented(pairs(_machine(ladder.machine), width))
    yield Text()
    yield indented(_ladder_table(ladder, width))
    yield Text()
    notes = [
        f"Ratios are paired within {processes} processes, with 95 % intervals: bold where 1 is outside, red if slower."
    ]
    if race.slow:
        notes.append("† slow: timed on part of the work, in the first blocks of each process only.")
    notes += [f"{plain(name)} is timed {THROUGH_TRAIN}." for name in race.trained]
    for note in notes:
        yield indented(Text(note, "dim"))
    for name, why in ladder.skipped.items():
        yield indented(Text(f"{plain(name)} did not take part: {plain(why)}", "yellow"))


def _ladder_table(ladder: Ladder, width: int) -> Table:
    race, rungs = ladder.race, ladder.rungs
    root = plain(rungs[0].name)
    names = [plain(rung.name) + (" †" if rung.name in race.slow else "") for rung in rungs]
    parents = [_ratio_cell(rung.over_parent, rung) for rung in rungs]
    roots = [_ratio_cell(rung.over_root, rung) for rung in rungs]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    titles = ("variant", "dtype", "step", "over its parent", f"over {root}")
    widths = [max(map(len, (title, *cells))) for title, cells in zip(titles[3:], (parents, roots), strict=True)]
    left = max(map(len, names)) + len("float64") + len("99.9 ms") + sum(widths) + 5 * GAP + INDENT
    bar_width = min(WIDEST_BAR, width - left)
    for i, title in enumerate(titles):
        table.add_column(Text(title), justify="left" if i < 2 else "right", no_wrap=True)
    if bar_width >= NARROWEST_BAR:
        table.add_column("", no_wrap=True)
    ratios = [1.0 if rung.over_root is None else rung.over_root.ratio for rung in rungs]
    for i, rung in enumerate(rungs):
        cells = [
            Text(names[i]),
            Text(race.dtypes[race.variants.index(rung.name)]),
            Text(format_time(rung.step_s)),
            Text(parents[i], _ratio_style(rung.over_parent)),
            Text(roots[i], _ratio_style(rung.over_root)),
        ]
        if bar_width >= NARROWEST_BAR:
            cells.append(Text(bar(ratios[i], max(ratios), bar_width), "cyan"))
        table.add_row(*cells)
    return table


def _ratio_cell(verdict: Verdict | None, rung: Rung) -> str:
    """'1.19 (1.15–1.24)'; nothing for the root, a dash where the parent was not in the race."""
    if verdict is None:
        return "–" if rung.parent is not None and rung.over_root is not None else ""
    decimals = 2 if verdict.ratio < 100 else 0
    low, high = (f"{end:.{decimals}f}" for end in (verdict.low, verdict.high))
    return f"{verdict.ratio:.{decimals}f} ({low}–{high})"


def _ratio_style(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    return "bold red" if verdict.high < 1 else "bold" if verdict.low > 1 else "dim"
