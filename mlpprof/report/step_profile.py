"""The profile of somebody's own step on the terminal: phases, and every array expression by its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mlpprof.machine.blas import machine_line
from mlpprof.report.format import (
    bar,
    digits,
    format_change,
    format_number,
    format_percent,
    format_range,
    format_size,
    format_time,
    plain,
)
from mlpprof.report.grid import GAP
from mlpprof.report.layout import heading, indented, pairs, print_trimmed
from mlpprof.report.step_words import MOST_DISTURBED, PHASES_FROM, disturbance, gflop_per_s, median_s, share_of
from mlpprof.results.step_profile import Expression, StepProfile

SMALL_SHARE = 0.01
"""Expressions below this share of the step are added up in one line unless all are wanted."""
WIDE = 120
"""Columns from which on place and operands have columns of their own; below, they stand under the expression."""
BAR = 20


def print_step_profile(profile: StepProfile, console: Console, *, verbose: bool = False) -> None:
    """Print phases and expressions; verbose: also those that take next to no time."""
    print_trimmed(console, lambda width: _sections(profile, width, verbose))


def _sections(profile: StepProfile, width: int, verbose: bool) -> Iterator[RenderableType]:
    yield Text.assemble(("profile", "bold"), "  ", plain(profile.step))
    yield Text()
    yield indented(pairs(_facts(profile), width))
    if profile.phases:
        yield heading("Phases", PHASES_FROM.get(profile.phases_from, plain(profile.phases_from)))
        yield indented(_phases(profile))
    caption = "own time, all executions of a step together" if profile.expressions else ""
    yield heading("Expressions", caption)
    if profile.expressions:
        yield indented(_expressions(profile, width, verbose))
    else:
        yield indented(Text("The step evaluates no expression on arrays."))
    if profile.notes:
        yield heading("Notes")
        yield indented(pairs([("!", "yellow", note) for note in profile.notes], width))


def _facts(profile: StepProfile) -> list[tuple[str, str, str]]:
    steps = len(profile.step_s)
    spread = f" ({format_range(min(profile.step_s), max(profile.step_s))})" if steps > 1 else ""
    ratio = disturbance(profile)
    clocks = f"{format_change(ratio)} beside it"
    if ratio > MOST_DISTURBED:
        clocks += ": the clocks weigh on this step, so read shares of small expressions as rough"
    median = f"{format_time(median_s(profile.step_s))}{spread}"
    facts = [
        ("step", "", f"{median}, median of {steps:,} {'step' if steps == 1 else 'steps'} without instruments"),
        ("under clocks", "yellow" if ratio > MOST_DISTURBED else "", clocks),
    ]
    if profile.environment:
        facts.append(("machine", "", machine_line(profile.environment)))
    return facts


def _phases(profile: StepProfile) -> Table:
    """A phase a row, the dearest first."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    table.add_column("phase", overflow="fold")
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, style="cyan")
    table.add_column("time", justify="right", no_wrap=True)
    shares = {name: share_of(seconds, profile) for name, seconds in profile.phases.items()}
    largest = max(shares.values())
    for name, seconds in sorted(profile.phases.items(), key=lambda item: -shares[item[0]]):
        strong = "bold" if shares[name] == largest else ""
        time = format_time(median_s(seconds))
        table.add_row(
            Text(plain(name), strong),
            Text(format_percent(shares[name]), strong),
            bar(shares[name], largest, BAR),
            Text(time, strong),
        )
    return table


def _expressions(profile: StepProfile, width: int, verbose: bool) -> Table:
    """An expression a row, the dearest first; the small ones in one line at the end unless verbose."""
    ordered = sorted(profile.expressions, key=lambda one: -median_s(one.seconds))
    small = [one for one in ordered if share_of(one.seconds, profile) < SMALL_SHARE]
    folded = small if len(small) > 1 and not verbose else []
    wide = width >= WIDE
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    if wide:
        table.add_column("place", overflow="fold", max_width=24)
    table.add_column("expression", overflow="fold")
    for title in ("times", "time", "share", "GFLOP/s", "bytes"):
        table.add_column(title, justify="right", no_wrap=True)
    if wide:
        table.add_column("operands", overflow="fold", max_width=26)
    for one in ordered[: len(ordered) - len(folded)]:
        table.add_row(*_row(one, profile, wide))
    if folded:
        table.add_row(*_rest(folded, profile, wide), style="dim")
    return table


def _row(one: Expression, profile: StepProfile, wide: bool) -> list[Text]:
    place, text, operands = f"{plain(one.file)}:{one.line}", plain(one.text), _operands(one)
    figures = [
        *_figures(one.times, median_s(one.seconds), share_of(one.seconds, profile)),
        digits(gflop_per_s(one)),
        format_size(one.bytes_moved),
    ]
    if wide:
        return [Text(place), Text(text), *map(Text, figures), Text(operands, "dim")]
    return [Text.assemble(text, (f"\n{place}  {operands}", "dim")), *map(Text, figures)]


def _rest(folded: Sequence[Expression], profile: StepProfile, wide: bool) -> list[Text]:
    time_s = sum(median_s(one.seconds) for one in folded)
    share = sum(share_of(one.seconds, profile) for one in folded)
    words = f"{len(folded)} below {100 * SMALL_SHARE:g} % each (-v shows them)"
    figures = _figures(sum(one.times for one in folded), time_s, share)
    return [*([Text("other")] if wide else []), Text(words), *map(Text, figures)]


def _figures(times: int, time_s: float, share: float) -> tuple[str, str, str]:
    return format_number(times), format_time(time_s), format_percent(share)


def _operands(one: Expression) -> str:
    """'matmul float64 (30, 784, 500) C·F': what it is, on what."""
    shape = f"({', '.join(map(str, one.shape))})" if one.shape else ""
    return plain(" ".join(filter(None, (one.name, one.dtype, shape, one.orders))))
