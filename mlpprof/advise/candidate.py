"""What a detector reports: a place, words, and what the cure saves, before overlapping findings are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from mlpprof.advise.editing.cure import Cure
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.trace import Event
from mlpprof.results.run import Json

Item = TypeVar("Item")

LEAST_SHARE = 0.01
"""A finding must promise this share of the step, in the middle of its range, to be reported."""

LEAST_GAIN = 0.15
"""A faster form must save this share of an operation's own time. Less could be chance."""

SMALL, LARGE = 256, 1_024
"""Numbers of elements. For an array with fewer than `SMALL` elements, an operation takes as long as the call itself;
for one with fewer than `LARGE`, copying it does."""

MOST_LINES_APART = 2
"""Two places belong to one finding if there are no more lines between them."""

MOST_ARRAYS = 6
"""The evidence shows no more arrays of an operation, because a list may hold hundreds."""

CERTAIN, LIKELY = "certain", "likely"
"""A finding is certain if the cure computes the same values in another way. It is only likely if the cure leaves
something out."""


@dataclass(frozen=True)
class Candidate:
    """A possible finding.

    saved_s: (low, high) seconds per step. measured: how they were measured. covers: indices of the events that the
    cure removes or changes. is_outside: it is in the code around the step, which no recorded operation shows.
    least_share: the share of the step that the cure must save for the finding to be reported.
    cures: the same cure as edits; if there are several, they are alternatives, the best one first, and the first that
    is proven is applied.
    """

    category: str
    site: Site
    title: str
    why: str
    cure: str
    saved_s: tuple[float, float]
    measured: str
    confidence: str = LIKELY
    covers: frozenset[int] = frozenset()
    is_outside: bool = False
    related: tuple[Site, ...] = ()
    evidence: Json = field(default_factory=dict)
    least_share: float = LEAST_SHARE
    cures: tuple[Cure, ...] = ()


def by_hand(*sentences: str) -> str:
    """A cure in words, one sentence per line, for what cannot be printed as an edit that is right as printed."""
    first, *rest = sentences
    return "\n".join([f"By hand: {first}", *rest])


def edit_in_words(edit: Cure | None, words: str, place: str = "") -> str:
    """What to do, from words that begin small: about the edit; without an edit, what to do by hand, and where."""
    if edit is not None:
        return f"{words[0].upper()}{words[1:]}"
    return by_hand(f"in {place}, {words}" if place else words)


def neighbours(items: Iterable[Item], site_of: Callable[[Item], Site]) -> list[list[Item]]:
    """Groups of items on neighbouring lines, in the order of the lines."""
    groups: list[list[Item]] = []
    for item in sorted(items, key=lambda one: (site_of(one).file, site_of(one).line)):
        site = site_of(item)
        last = site_of(groups[-1][-1]) if groups else None
        if last is not None and last.file == site.file and site.line <= last.end_line + MOST_LINES_APART:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def indices(events: Iterable[Event]) -> frozenset[int]:
    """The indices of events, with those inside calls."""
    return frozenset(i for event in events for i in range(event.index, max(event.end, event.index + 1)))


def facts(event: Event, times: int) -> Json:
    """Shapes, dtype and orders of an event's operands, and how often it runs."""
    arrays = [value for value in event.inputs if value.is_array][:MOST_ARRAYS]
    return {
        "operation": event.name or getattr(event.function, "__qualname__", "call"),
        "shapes": [list(value.shape) for value in arrays],
        "dtypes": [value.dtype for value in arrays],
        "orders": [value.order for value in arrays],
        "times_per_step": times,
    }


def around(seconds: float, share: float = 0.15) -> tuple[float, float]:
    """A range around a time that was measured under clocks."""
    return seconds * (1 - share), seconds * (1 + share)


def total(parts: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The sum of ranges."""
    held = list(parts)
    return sum(low for low, _ in held), sum(high for _, high in held)
