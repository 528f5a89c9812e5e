"""Comparisons and ladders in the terminal: ratio with interval, verdict, and where the difference lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mlpprof.compare.waterfall import REST
from mlpprof.machine.blas import blas_line, machine_line, pinned_kernel_warning
from mlpprof.model import PHASES
from mlpprof.report.numbers import UNKNOWN, bar, digits, format_percent, format_range, format_time, plain
from mlpprof.report.terminal.console import GAP, INDENT, heading, indented, pairs, print_trimmed
from mlpprof.results import BatchResult, Change, Comparison, Json, Ladder, Run, Rung, Speedup, Verdict

# The waterfall in the terminal: from the old step to the new one, phase by phase, statements beneath.


SMALL_SHARE = 0.05
"""Statements that moved less than this share of all that phases moved are added up in one line of their phase."""
MOST_STATEMENTS = 6
"""Statements of one phase that are shown at most."""
WIDEST_WATERFALL_BAR = 36
LABEL_WIDTH = 22


@dataclass(frozen=True)
class _Row:
    names: tuple[str, str, str]
    old_s: float
    new_s: float
    share: float
    ends: tuple[float, float] | None = None
    """Where the bar begins and ends, in shares of the difference; None for a statement."""


def waterfall_sections(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    """The table, and what has to be known to read it."""
    old_s, new_s = comparison.race.step_s(0), comparison.race.step_s(1)
    word = "saved" if new_s <= old_s else "lost"
    yield heading(
        "Where the difference lies", f"{format_time(abs(old_s - new_s))} {word} in a step of {format_time(old_s)}"
    )
    yield indented(_waterfall_table(_rows(comparison.waterfall, old_s, new_s), width))
    yield Text()
    notes = [
        "From passes with clocks, scaled to the steps without: the phases and the rest make up 100 %. "
        "What went the other way is negative, and its bar hatched."
    ]
    if comparison.verdict.low <= 1 <= comparison.verdict.high:
        notes.append("The whole difference is within the noise, so its shares say little.")
    for note in notes:
        yield indented(Text(note, "dim" if note is notes[0] else "yellow"))


def _rows(changes: Sequence[Change], old_s: float, new_s: float) -> list[_Row]:
    phases = [change for change in changes if not change.label]
    moved_s = sum(abs(change.old_s - change.new_s) for change in phases)
    rows = []
    level = 0.0
    for phase in phases:
        name = "rest" if phase.phase == REST else plain(phase.phase)
        ends = (level, level + phase.share)
        rows.append(_Row((name, "", ""), phase.old_s, phase.new_s, phase.share, ends))
        level += phase.share
        rows += _statements(phase, [c for c in changes if c.label and c.phase == phase.phase], moved_s)
    return [*rows, _Row(("step", "", ""), old_s, new_s, 1.0, (0.0, 1.0))]


def _statements(phase: Change, labels: Sequence[Change], moved_s: float) -> list[_Row]:
    """The statements that moved most, in the order of the code, and the rest of their phase in one line."""
    large = [change for change in labels if abs(change.old_s - change.new_s) >= SMALL_SHARE * moved_s]
    shown = sorted(large, key=lambda change: -abs(change.old_s - change.new_s))[:MOST_STATEMENTS]
    if not shown:
        return []
    rows = [
        _Row(("", "" if c.layer is None else str(c.layer), plain(c.label)), c.old_s, c.new_s, c.share)
        for c in labels
        if c in shown
    ]
    other_s = [phase.old_s - sum(c.old_s for c in shown), phase.new_s - sum(c.new_s for c in shown)]
    rest = phase.share - sum(c.share for c in shown)
    return [*rows, _Row(("", "", "(others)"), max(0.0, other_s[0]), max(0.0, other_s[1]), rest)]


def _waterfall_table(rows: Sequence[_Row], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    table.add_column("phase", no_wrap=True)
    table.add_column("layer", justify="right", no_wrap=True)
    table.add_column("statement", max_width=LABEL_WIDTH)
    for name in ("old", "new", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    label_width = min(LABEL_WIDTH, max(len("statement"), *(len(row.names[2]) for row in rows)))
    names_width = max(len(row.names[0]) for row in rows) + len("layer") + label_width
    bar_width = min(WIDEST_WATERFALL_BAR, width - INDENT - names_width - 3 * len("-100.0 %") - 6 * GAP)
    levels = [level for row in rows if row.ends for level in row.ends]
    low, high = min(levels), max(levels)
    for row in rows:
        is_statement = row.ends is None
        table.add_row(
            *row.names,
            format_time(row.old_s) if row.old_s > 0 else UNKNOWN,
            format_time(row.new_s) if row.new_s > 0 else UNKNOWN,
            format_percent(round(row.share, 3) + 0.0),
            Text() if row.ends is None else _bar(row, low, high, bar_width),
            style="dim" if is_statement else "bold" if row.names[0] == "step" else "",
        )
    return table


def _bar(row: _Row, low: float, high: float, width: int) -> Text:
    """From where the phase before ended; hatched where the phase went against the whole."""
    assert row.ends is not None
    begin, end = (round((level - low) / (high - low) * width) for level in sorted(row.ends))
    text = "█" if row.share >= 0 else "▒"
    style = "cyan" if row.names[0] == "step" else "green" if row.new_s <= row.old_s else "red"
    if begin == end:
        return Text(" " * min(begin, width - 1) + ("▏" if abs(row.share) >= 0.001 else ""), style)
    return Text(" " * begin + text * (end - begin), style)


# Stored runs side by side: a hint at what changed, never a verdict, because they were measured at different times.


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
        yield indented(_stored_table(names, found))


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


def _stored_table(names: Sequence[str], results: Sequence[BatchResult | None]) -> Table:
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


# The message of an assertion about a speedup: claimed, measured, verdict, the phase that lost the time.


def speedup_table(speedup: Speedup) -> str:
    """Plain text, a fact a line, for a test's output; the first says what was measured and what was required."""
    verdict = speedup.verdict
    rows = [
        ("on", speedup.subject),
        ("measured", ratio_text(verdict)),
        ("verdict", claim_text(verdict)),
        *_phase(speedup.waterfall),
        ("more", speedup.command),
        *(("note", note) for note in speedup.notes),
    ]
    return "\n".join([_sentence(speedup), *(f"  {name:<9} {text}" for name, text in rows if text)])


def _sentence(speedup: Speedup) -> str:
    """'new.step is 6.70x as fast as old.step (95 %: 5.60-8.00), but the test requires 500x'."""
    verdict = speedup.verdict
    text = (
        f"{plain(speedup.new)} is {digits(verdict.ratio)}x as fast as {plain(speedup.old)} "
        f"(95 %: {digits(verdict.low)}-{digits(verdict.high)})"
    )
    if verdict.at_least is None:
        return text
    required = f"the test requires {verdict.at_least:.4g}x"
    if verdict.outcome == "fail":
        return f"{text}, but {required}"
    return f"{text}; {required}" + ("" if verdict.outcome == "pass" else ", which this measurement cannot decide")


def _phase(waterfall: Sequence[Change]) -> list[tuple[str, str]]:
    """The phase that lost the most time against the older one and its most expensive statement, or gained the least."""
    phases = [change for change in waterfall if not change.label]
    if not phases:
        return []
    worst = max(phases, key=_lost_s)
    text = _times(worst)
    if _lost_s(worst) <= 0:
        return [("phases", f"phase with the smallest gain: {worst.phase}, {text}")]
    labels = [change for change in waterfall if change.label and change.phase == worst.phase and _lost_s(change) > 0]
    if labels:
        label = max(labels, key=_lost_s)
        layer = "" if label.layer is None else f" of layer {label.layer}"
        text += f"; most in {plain(label.label)}{layer}: {_times(label)}"
    return [("slower", f"{worst.phase}: {text}")]


def _lost_s(change: Change) -> float:
    return change.new_s - change.old_s


def _times(change: Change) -> str:
    return f"{format_time(change.old_s)} → {format_time(change.new_s)}"
