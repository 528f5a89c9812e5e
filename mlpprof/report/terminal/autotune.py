"""The report of `mlpprof autotune`: the winner, how much faster it is, why, and all candidates."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.text import Text

from mlpprof.compare.variant_difference import REST
from mlpprof.report.numbers import format_percent, format_time, plain
from mlpprof.report.terminal.console import FIGURE, NAME, indented, listing, print_trimmed
from mlpprof.results.tuning import Tuning


def three_lines(tuning: Tuning) -> tuple[str, str, str]:
    """The winner, how much faster it is than the runner-up, and in which phases."""
    tried = f"the fastest of {len(tuning.trials)} candidates"
    won = f"{tuning.winner}: {format_time(tuning.step_s)} per step, {tried}"
    verdict = tuning.over_runner_up
    if verdict is None or tuning.runner_up is None:
        return won, "there is no runner-up: no other candidate can train this network", ""
    ratio = f"{verdict.ratio:.3f} x as fast (95 %: {verdict.low:.3f}–{verdict.high:.3f}) as {tuning.runner_up}"
    if not verdict.is_faster:
        ratio += "; this machine cannot measure a difference"
    return won, ratio, f"why: {_why(tuning)}"


def _why(tuning: Tuning) -> str:
    """The phases with most of the difference, also those that got slower."""
    if not tuning.phases:
        return "the time for the search was spent before the phases could be compared"
    if not any(change.old_s > 0 or change.new_s > 0 for change in tuning.phases if change.phase != REST):
        return "their steps are fused, so their phases cannot be separated"
    if (reason := _only_one_has_phases(tuning)) is not None:
        return reason
    moved = sorted(tuning.phases, key=lambda change: -abs(change.old_s - change.new_s))[:3]
    words = [
        f"{'the rest' if change.phase == REST else change.phase} {format_time(change.old_s)} → "
        f"{format_time(change.new_s)}"
        for change in moved
    ]
    saved_s = sum(change.old_s - change.new_s for change in tuning.phases)
    whole_s = sum(change.old_s for change in tuning.phases)
    share = f"; {format_percent(saved_s / whole_s)} of the step saved" if saved_s > 0 and whole_s > 0 else ""
    return ", ".join(words) + share


def _only_one_has_phases(tuning: Tuning) -> str | None:
    """Where one of the two fuses its steps: the slowest phases of the other. None where both have phases, or none."""
    phases = [change for change in tuning.phases if change.phase != REST]
    spent = {
        tuning.runner_up: {change.phase: change.old_s for change in phases if change.old_s > 0},
        tuning.winner: {change.phase: change.new_s for change in phases if change.new_s > 0},
    }
    if all(spent.values()):
        return None
    (name, times), (fused, _) = sorted(spent.items(), key=lambda item: not item[1])
    slowest = sorted(times, key=lambda phase: -times[phase])[:3]
    words = ", ".join(f"{phase} {format_time(times[phase])}" for phase in slowest)
    return f"{fused} fuses its steps, so its phases cannot be separated; {name} spends {words}"


def print_tuning(tuning: Tuning, console: Console) -> None:
    """Print the three lines, and then the candidates in the order in which they were dropped."""
    print_trimmed(console, lambda width: _sections(tuning))


def _sections(tuning: Tuning) -> Iterator[RenderableType]:
    yield Text.assemble(
        ("autotune", "bold"),
        f"  {plain(tuning.workload)}, {tuning.network.text}, batch {tuning.batch:,}, {tuning.dtype}, "
        f"{tuning.created[:16].replace('T', ' ')}",
    )
    yield Text()
    for line, style in zip(three_lines(tuning), ("bold green", "", ""), strict=True):
        if line:
            yield indented(Text(plain(line), style))
    yield Text()
    table = listing([("candidate", NAME), ("rounds", FIGURE), ("step", FIGURE)])
    for trial in tuning.trials:
        table.add_row(Text(plain(trial.name)), str(trial.rounds), format_time(trial.step_s))
    yield indented(table)
    for name, why in tuning.absent.items():
        yield indented(Text(f"{plain(name)} did not take part: {plain(why)}", "dim"))
