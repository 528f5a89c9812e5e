"""The search for a slow commit in the terminal: the commit, the expression that lost the time, and what was tried."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.text import Text

from mlpprof.compare.bisect import Bisected, Judged
from mlpprof.report.claims import lost_text
from mlpprof.report.facts import ratio_text
from mlpprof.report.numbers import plain
from mlpprof.report.terminal.compare import print_comparison
from mlpprof.report.terminal.console import indented, pairs, print_trimmed

WORDS = {"good": "fast", "bad": "slow", "skip": "skipped"}
STYLES = {"good": "pass", "bad": "fail", "skip": "warning"}
"""What git learnt of a commit -> the word for it, and the style of a fact."""


def print_bisected(found: Bisected, console: Console) -> None:
    """The first slow commit, what was tried, and its comparison with the one before."""
    print_trimmed(console, lambda width: _sections(found, width))
    if found.explained is not None:
        console.print()
        print_comparison(found.explained, console)


def _sections(found: Bisected, width: int) -> Iterator[RenderableType]:
    commit = found.first_slow
    if commit is None:
        yield Text(
            "The first slow commit is one of these, because those between them had to be skipped:", "bold yellow"
        )
        for one in found.possible:
            yield indented(Text(f"{one.short} {plain(one.title)}"))
        if any(one.mark == "skip" and one.verdict is not None for one in found.tested):
            yield indented(Text("A race without a decision needs a quieter machine, or more time: --budget SECONDS."))
    else:
        yield Text.assemble(("The first slow commit is ", ""), (f"{commit.short} {plain(commit.title)}", "bold"))
        yield indented(Text(f"{plain(commit.author)}, {commit.date}", "dim"))
    if found.explained is not None:
        yield indented(Text(f"Compared with {plain(found.explained.old)}: {ratio_text(found.explained.verdict)}."))
        if found.explained.lost is not None:
            yield indented(Text(f"The most time is lost in {lost_text(found.explained.lost)}.", "yellow"))
    yield Text()
    yield Text.assemble(
        ("What was tried", "bold"), f"  a commit below {found.at_least:.3g}x of {found.good.short} counts as slow"
    )
    whole = found.whole.verdict
    measured = f"{whole.ratio:.3g}x as fast (95 %: {whole.low:.3g}-{whole.high:.3g})"
    judged = (Judged(found.bad, "bad", measured), *found.tested)
    rows = [
        (one.commit.short, STYLES[one.mark], f"{WORDS[one.mark]}, {one.reason}; {one.commit.title}") for one in judged
    ]
    yield indented(pairs(rows, width))
