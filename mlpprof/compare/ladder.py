"""`ladder`: all rungs in one interleaved race, each against its parent and against the root."""

from __future__ import annotations

from collections.abc import Sequence

from mlpprof.catalog import Entry
from mlpprof.compare import decide
from mlpprof.compare.verdict import log_ratios, verdict_of
from mlpprof.results import Race, Rung


def main_line(known: dict[str, Entry], root: str) -> list[Entry]:
    """The rungs from the root on: at every fork the child with the longest way on; branches are left out."""

    def way(entry: Entry) -> list[Entry]:
        return [
            entry,
            *max(
                (way(child) for child in known.values() if child.parent == entry.name and child.branch is None),
                key=len,
                default=[],
            ),
        ]

    return way(known[root])


def rungs_of(race: Race, entries: Sequence[Entry]) -> tuple[Rung, ...]:
    """Every rung with its paired ratios; entries: of the race's variants, in their order, the root first."""
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
