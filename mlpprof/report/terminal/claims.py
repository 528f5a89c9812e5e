"""Claimed speedups in the terminal: a line each, and below it why it does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from mlpprof.report.claims import claim_view, count_text
from mlpprof.report.numbers import plain

STYLES = {"pass": "green", "fail": "bold red", "error": "bold red"}
"""The outcome of a claim -> the style of its word."""


def print_claim(claim: Mapping[str, Any], console: Console) -> None:
    """One claim, from its JSON."""
    view = claim_view(claim)
    words = f"{plain(view.new)} over {plain(view.old)}: {view.summary}"
    console.print(
        Text.assemble((view.outcome.upper(), STYLES.get(view.outcome, "yellow")), f"  {words}"), soft_wrap=True
    )
    if not view.is_sound:
        facts = [("", fact) for fact in view.facts]
        notes = [("to see more, type: ", view.command), *(("note: ", note) for note in view.notes)]
        for title, text in (("", view.reason), ("what moved: ", view.moved), *facts, *notes):
            if text:
                console.print(Text(f"  {title}{plain(text)}"), soft_wrap=True)


def print_count(claims: Sequence[Mapping[str, Any]], console: Console) -> None:
    """How many claims hold."""
    console.print(Text(count_text([claim_view(claim) for claim in claims]), "bold"))
