"""`ladder`: all rungs in one race, each compared with its parent and with the root."""

from __future__ import annotations

from collections.abc import Sequence

from mlpprof.catalog import Entry
from mlpprof.compare.decide import decide, log_ratios
from mlpprof.compare.verdict import verdict_of
from mlpprof.results import Race, Rung


def main_line(known: dict[str, Entry], root: str) -> list[Entry]:
    """The rungs from the root on, without branches; where a rung has several children, the longest line goes on."""

    def line(entry: Entry) -> list[Entry]:
        return [
            entry,
            *max(
                (line(child) for child in known.values() if child.parent == entry.name and child.branch is None),
                key=len,
                default=[],
            ),
        ]

    return line(known[root])


def rungs_of(race: Race, entries: Sequence[Entry]) -> tuple[Rung, ...]:
    """Every rung with its paired ratios; entries: those of the race's variants, in the same order, the root first."""
    place = {entry.name: i for i, entry in enumerate(entries)}
    return tuple(
        Rung(
            name=entry.name,
            summary=entry.summary,
            parent=entry.parent,
            step_s=race.step_s(i),
            over_parent=None
            if entry.parent not in place
            else verdict_of(decide(log_ratios(race, place[entry.parent], i))),
            over_root=None if i == 0 else verdict_of(decide(log_ratios(race, 0, i))),
        )
        for i, entry in enumerate(entries)
    )
