"""`ladder`: all rungs in one race, each compared with its parent and with the root."""

from __future__ import annotations

from collections.abc import Sequence

from mlpprof.catalog import Entry
from mlpprof.compare.decide import decide, log_ratios
from mlpprof.compare.error_bounds import REPLICATED, Procedure
from mlpprof.compare.live_race import LiveRace
from mlpprof.compare.verdict import race_until_narrow, verdict_of
from mlpprof.process import Progress
from mlpprof.results import Race, Rung, Verdict


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


def rungs_of(race: Race, entries: Sequence[Entry], procedure: Procedure = REPLICATED) -> tuple[Rung, ...]:
    """Every rung with its paired ratios; entries: those of the race's variants, in the same order, the root first."""
    place = {entry.name: i for i, entry in enumerate(entries)}

    def over(old: int, new: int) -> Verdict:
        return verdict_of(decide(log_ratios(race, old, new), procedure=procedure), procedure)

    return tuple(
        Rung(
            name=entry.name,
            summary=entry.summary,
            parent=entry.parent,
            step_s=race.step_s(i),
            over_parent=None if entry.parent not in place else over(place[entry.parent], i),
            over_root=None if i == 0 else over(0, i),
        )
        for i, entry in enumerate(entries)
    )


def race_ladder(live: LiveRace, entries: Sequence[Entry], least: int, procedure: Procedure, progress: Progress) -> Race:
    """Race all rungs in `least` processes; with a fine resolution, until no interval over a parent is wider than it."""
    places = {entry.name: i for i, entry in enumerate(entries)}
    pairs = [(places.get(entry.parent or "", 0), i) for i, entry in enumerate(entries)][1:]
    race_until_narrow(live, progress, lambda race: [log_ratios(race, *pair) for pair in pairs], least, procedure)
    return live.race()
