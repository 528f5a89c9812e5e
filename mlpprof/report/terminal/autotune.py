"""What `mlpprof autotune` found, in three lines: what won, by how much, and why."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mlpprof.report.numbers import format_percent, format_time, plain
from mlpprof.report.terminal.console import GAP, indented, print_trimmed
from mlpprof.results.tuning import Tuning


def three_lines(tuning: Tuning) -> tuple[str, str, str]:
    """What won, by how much over the runner-up, and which phases the difference lies in."""
    tried = f"the fastest of {len(tuning.trials)} candidates"
    won = f"{tuning.winner}: {format_time(tuning.step_s)} a step, {tried}"
    verdict = tuning.over_runner_up
    if verdict is None or tuning.runner_up is None:
        return won, "there is no runner-up: nothing else can do this network", ""
    ratio = f"{verdict.ratio:.3f} x as fast (95 %: {verdict.low:.3f}–{verdict.high:.3f}) as {tuning.runner_up}"
    if verdict.low <= 1:
        ratio += ", which is no difference that this machine can tell"
    return won, ratio, f"why: {_why(tuning)}"


def _why(tuning: Tuning) -> str:
    """The phases that make most of the difference, those that lose among them."""
    if not tuning.phases:
        return "the time for the search was spent before the phases could be compared"
    if not any(change.old_s > 0 or change.new_s > 0 for change in tuning.phases if change.phase != "(rest)"):
        return "their steps are fused, and have no phases that could be told apart"
    if (told := _only_one_has_phases(tuning)) is not None:
        return told
    moved = sorted(tuning.phases, key=lambda change: -abs(change.old_s - change.new_s))[:3]
    words = [
        f"{'the rest' if change.phase == '(rest)' else change.phase} {format_time(change.old_s)} → "
        f"{format_time(change.new_s)}"
        for change in moved
    ]
    saved_s = sum(change.old_s - change.new_s for change in tuning.phases)
    whole_s = sum(change.old_s for change in tuning.phases)
    share = f"; {format_percent(saved_s / whole_s)} of the step saved" if saved_s > 0 and whole_s > 0 else ""
    return ", ".join(words) + share


def _only_one_has_phases(tuning: Tuning) -> str | None:
    """Where one of the two fuses its steps, what the other spends its own on; None where both have phases, or none."""
    phases = [change for change in tuning.phases if change.phase != "(rest)"]
    spent = {
        tuning.runner_up: {change.phase: change.old_s for change in phases if change.old_s > 0},
        tuning.winner: {change.phase: change.new_s for change in phases if change.new_s > 0},
    }
    if all(spent.values()):
        return None
    (name, times), (fused, _) = sorted(spent.items(), key=lambda item: not item[1])
    dearest = sorted(times, key=lambda phase: -times[phase])[:3]
    words = ", ".join(f"{phase} {format_time(times[phase])}" for phase in dearest)
    return f"{fused} fuses its steps, whose phases cannot be told apart; {name} spends {words}"


def print_tuning(tuning: Tuning, console: Console) -> None:
    """The three lines, then the candidates in the order in which they were dropped."""
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
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for title in ("candidate", "rounds", "step"):
        table.add_column(title, justify="left" if title == "candidate" else "right", no_wrap=True)
    for trial in tuning.trials:
        table.add_row(Text(plain(trial.name)), str(trial.rounds), format_time(trial.step_s))
    yield indented(table)
    for name, why in tuning.absent.items():
        yield indented(Text(f"absent: {plain(name)}: {plain(why)}", "dim"))
