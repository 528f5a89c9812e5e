"""Comparisons and ladders in the terminal: ratio with interval, verdict, and where the difference lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mlpprof.compare.history import Version, history
from mlpprof.compare.variant_difference import PAIRS
from mlpprof.machine.blas import blas_line, machine_line
from mlpprof.report.claims import counted_text, lost_text, phase_row
from mlpprof.report.facts import THROUGH_TRAIN, claim_text, comparison_facts, ratio_text, short_machine_facts
from mlpprof.report.numbers import UNKNOWN, digits, format_range, format_time, plain
from mlpprof.report.rows import comparison_table, expression_change_table, history_table, phase_names, race_table
from mlpprof.report.sentences import batch_text
from mlpprof.report.terminal.console import FIGURE, NAME, heading, indented, listing, pairs, print_trimmed, table_lines
from mlpprof.results import BatchResult, Comparison, Ladder, Run, Speedup


def print_comparison(comparison: Comparison, console: Console) -> None:
    """One comparison: the verdict first, then where the difference lies."""
    print_trimmed(console, lambda width: _comparison_sections(comparison, width))


def print_comparisons(comparisons: Sequence[Comparison], console: Console) -> None:
    """All comparisons; the versions of a program that ran in one race come first, in a table."""
    versions = history(comparisons)
    if versions:
        print_trimmed(console, lambda width: _history_sections(versions, width))
    for i, comparison in enumerate(comparisons):
        if i or versions:
            console.print()
        print_comparison(comparison, console)


def _history_sections(versions: Sequence[Version], width: int) -> Iterator[RenderableType]:
    yield Text(f"{plain(versions[0].name)} → {plain(versions[-1].name)}, {len(versions)} versions", "bold")
    yield Text()
    yield from table_lines(history_table(versions), width)
    yield Text()
    slower = [one for one in versions if one.over_previous is not None and one.over_previous.is_slower]
    if slower:
        worst = min(slower, key=lambda one: one.over_previous.ratio if one.over_previous is not None else 1.0)
        yield indented(Text(f"The most time is lost in {plain(worst.name)}.", "yellow"))
    note = "All versions took turns in one race. Brackets: 95 % interval; the comparisons with the first one follow."
    yield indented(Text(note, "dim"))


def print_stored(runs: Sequence[Run], console: Console) -> None:
    """Stored runs side by side, the first as the baseline: unpaired, so their ratio is a hint and gives no verdict."""
    print_trimmed(console, lambda width: stored_sections(runs, width))


def print_ladder(ladder: Ladder, console: Console) -> None:
    """A line per rung: its step, and how many times as fast it is as its parent and as the root."""
    print_trimmed(console, lambda width: _ladder_sections(ladder, width))


def _comparison_sections(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    yield Text(f"{plain(comparison.old)} → {plain(comparison.new)}", "bold")
    yield Text()
    yield indented(pairs(comparison_facts(comparison), width))
    if comparison.waterfall:
        yield from _waterfall_sections(comparison, width)
    if comparison.programs is not None and comparison.programs.expressions:
        yield from _expression_sections(comparison, width)
    if comparison.counted:
        yield heading("Counted facts that differ", "they are the same in every run")
        for one in comparison.counted:
            yield indented(Text(counted_text(one)))


def _expression_sections(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    """The expressions of two programs whose time changed, and the one that lost the most."""
    assert comparison.programs is not None
    yield heading("Expressions whose time changed", "in seconds of a step, each without the expressions inside it")
    yield from table_lines(expression_change_table(comparison.programs.expressions), width)
    yield Text()
    if not comparison.verdict.has_effect:
        yield indented(Text("The whole difference is within the noise, so these changes say little.", "yellow"))
    elif comparison.lost is not None and comparison.verdict.is_slower:
        yield indented(Text(f"The most time is lost in {lost_text(comparison.lost)}.", "yellow"))
    runs = "one run" if all(one.low_s is None for one in comparison.programs.expressions) else f"{PAIRS} runs"
    note = f"Times come from {runs} of each program with clocks, as shares of the steps of the race without clocks."
    yield indented(Text(note, "dim"))


def _waterfall_sections(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    """The table of changes, and what you have to know to read it."""
    old_s, new_s = comparison.race.step_s(0), comparison.race.step_s(1)
    word = "saved" if new_s <= old_s else "lost"
    caption = f"{format_time(abs(old_s - new_s))} {word} in a step of {format_time(old_s)}"
    yield heading("Where the difference lies", caption)
    yield from table_lines(comparison_table(comparison), width)
    yield Text()
    note = (
        "Shares come from passes with clocks and are applied to the steps without clocks. Those of the phases add up "
        "to 100 %. Negative values (hatched bars) moved against the whole."
    )
    yield indented(Text(note, "dim"))
    if not comparison.verdict.has_effect:
        yield indented(Text("The whole difference is within the noise, so its shares say little.", "yellow"))


def _ladder_sections(ladder: Ladder, width: int) -> Iterator[RenderableType]:
    race = ladder.race
    yield Text.assemble(
        ("ladder", "bold"), f"  {plain(ladder.workload)}, {ladder.network.text}, batch {ladder.batch:,}"
    )
    yield Text()
    yield indented(pairs(short_machine_facts(ladder.machine), width))
    yield Text()
    yield from table_lines(race_table(ladder), width)
    yield Text()
    notes = [
        f"Times as fast, paired within {len(race.turns_s)} processes, with the 95 % interval in brackets: bold where "
        "1 is outside, red where the variant is slower."
    ]
    if race.slow:
        notes.append("† is slow: it was timed on part of the work, in the first blocks of each process only.")
    notes += [f"{plain(name)} was timed {THROUGH_TRAIN}." for name in race.trained]
    for note in notes:
        yield indented(Text(note, "dim"))
    for name, why in ladder.skipped.items():
        yield indented(Text(f"{plain(name)} did not take part: {plain(why)}", "yellow"))


# Stored runs side by side: a hint at what changed, never a verdict, because they were measured at different times.


def stored_sections(runs: Sequence[Run], width: int) -> Iterator[RenderableType]:
    """What the runs are, how they differ, and their steps and phases at every batch size of the first one."""
    names = _names(runs)
    yield Text(" → ".join(names), "bold")
    yield Text()
    warning = (
        "These runs were measured at different times, when the machine may have been faster or slower. Their ratios "
        "are only hints and give no verdict; mlpprof compare OLD NEW, with the names of the variants, races both."
    )
    differences = [("differs", "yellow", text) for text in _differences(runs)]
    measured = [
        (name, "", f"{run.created.replace('T', ' ')}: {run.command}") for name, run in zip(names, runs, strict=True)
    ]
    yield indented(pairs([*measured, *differences, ("hint", "yellow", warning)], width))
    for result in runs[0].results:
        found = [next((other for other in run.results if other.batch == result.batch), None) for run in runs]
        yield heading(batch_text(result), "medians; the ratio is the first run's step divided by this run's step")
        yield indented(_stored_table(names, found))


def _names(runs: Sequence[Run]) -> list[str]:
    names = [plain(run.variant.name) for run in runs]
    return [f"{name} ({i + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _differences(runs: Sequence[Run]) -> Iterator[str]:
    """The facts in which the runs differ, apart from the variant."""
    facts = {
        "workload": [run.workload or UNKNOWN for run in runs],
        "network": [UNKNOWN if run.network is None else run.network.text for run in runs],
        "data": [UNKNOWN if run.data is None else f"{run.data.name} {run.data.sha256[:8]}" for run in runs],
        "dtype": [run.dtype for run in runs],
        "BLAS threads": [UNKNOWN if run.threads is None else str(run.threads) for run in runs],
        "BLAS": [blas_line(run.machine) for run in runs],
        "machine": [machine_line({**run.machine, "load_avg_1min": None}) for run in runs],
        "batch sizes": [", ".join(f"{r.batch:,}" if r.batch else UNKNOWN for r in run.results) for run in runs],
    }
    for name, values in facts.items():
        if len(set(values)) > 1:
            yield f"{name}: {' | '.join(values)}"


def _stored_table(names: Sequence[str], results: Sequence[BatchResult | None]) -> Table:
    table = listing([("", NAME), *((name, FIGURE) for name in names)])
    table.add_row("step", *(_time(None if r is None else r.step_s.median) for r in results), style="bold")
    ranges = (UNKNOWN if r is None else format_range(r.step_s.low, r.step_s.high) for r in results)
    table.add_row("95 % of steps", *ranges, style="dim")
    first = results[0]
    for phase in phase_names(result for result in results if result is not None):
        times = [r.phase_s(phase) if r is not None and phase in r.phases else None for r in results]
        table.add_row(Text(plain(phase)), *map(_time, times))
    assert first is not None  # the batch sizes are the first run's
    table.add_row("ratio (a hint)", *(_ratio(first, result) for result in results), style="yellow")
    return table


def _time(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else format_time(seconds)


def _ratio(first: BatchResult, result: BatchResult | None) -> str:
    if result is None or result is first:
        return "" if result is first else UNKNOWN
    return digits(first.step_s.median / result.step_s.median)


# The message of an assertion about a speedup: claimed, measured, verdict, the phase that lost the time.


MOST_FACTS = 5
"""The message of a failed test shows no more counted facts; `mlpprof compare` shows all."""


def speedup_table(speedup: Speedup) -> str:
    """Plain text, a fact a line, for a test's output; the first says what was measured and what was required."""
    verdict = speedup.verdict
    rows = [
        ("on", speedup.subject),
        ("measured", ratio_text(verdict)),
        ("verdict", claim_text(verdict)),
        *phase_row(speedup.waterfall),
        *([] if speedup.lost is None else [("lost in", lost_text(speedup.lost))]),
        *(("counted", counted_text(one)) for one in speedup.counted[:MOST_FACTS]),
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
