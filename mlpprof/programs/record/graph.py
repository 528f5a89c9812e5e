"""A recorded step for the detectors: what made a value, what reads it, how long it takes, and its source text.

Times are those of the steps under clocks, scaled to the undisturbed step. An expression's time is divided among its
executions by what they compute and move.
"""

from __future__ import annotations

import ast
import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path

from mlpprof.instrument.rewriting import Site
from mlpprof.programs.load import PACKAGE
from mlpprof.programs.notebook import place_of
from mlpprof.programs.record.clocks import calm_step_s, undisturbed
from mlpprof.programs.record.trace import Event, LoopRun, Trace
from mlpprof.results.place import Place

Span = tuple[str, int, int, int, int]

COST_OF_CALL = 3000
"""The call of a NumPy function takes as long as so many floating-point operations or bytes."""


class Graph:
    """The trace with its cross references."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.events = trace.events
        first, last = trace.steps[0], trace.steps[-1]
        self.first = [event for event in self.events[slice(*first)] if not event.is_outside]
        """The events of the first recorded step; what becomes of its results is known."""
        self.turn = self.events[slice(*last)]
        """The events of the last recorded step and of the loop around it."""
        self.last = [event for event in self.turn if not event.is_outside]
        """The events of the last recorded step, whose operands are kept."""
        self.last_step = len(trace.steps) - 1
        self.step_s = calm_step_s(trace.times)
        inside, around = undisturbed(trace.times, self.step_s, self.span)
        self._seconds = {span: inside.get(span, 0.0) + around.get(span, 0.0) for span in inside | around}
        self.own_s = inside
        """Place -> seconds per step of an expression of the step, without those inside it and without the clocks."""
        self._clocked_s = sum(inside.values())
        self._costs: dict[Span, float] = defaultdict(float)
        for event in self.turn:
            self._costs[self.span(event.site)] += _cost(event)
        for number, times in trace.singles.items():
            self._costs[self.span(number)] += times * COST_OF_CALL

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The parsed files."""
        return {path: ast.parse(source, path) for path, source in self.trace.sources.items()}

    def site(self, event: Event) -> Site:
        """The place of an event in the program's own files, also if it is in a function of `mlpprof.model`."""
        site = self.trace.sites[event.site]
        for call in reversed(event.calls):
            if not self.is_ours(site.file):
                break
            site = self.trace.sites[self.events[call].site]
        return site

    def is_ours(self, path: str) -> bool:
        """Whether a file belongs to `mlpprof.model`, which variants use and users do not change."""
        return _is_in_package(path)

    def span(self, number: int) -> Span:
        """The place of a site, which is the same in all forms."""
        site = self.trace.sites[number]
        return site.file, site.line, site.column, site.end_line, site.end_column

    def text(self, event: Event, most: int = 70) -> str:
        """The source of an expression, in one line."""
        site = self.site(event)
        return self.span_text((site.file, site.line, site.column, site.end_line, site.end_column), most) or event.name

    def span_text(self, span: Span, most: int = 70) -> str:
        """The source between two places, in one line."""
        file, line, column, end_line, end_column = span
        lines = self.trace.sources.get(file, "").splitlines()[line - 1 : end_line]
        if not lines:
            return ""
        lines[-1] = lines[-1].encode()[:end_column].decode(errors="ignore")
        lines[0] = lines[0].encode()[column:].decode(errors="ignore")
        return shortened(" ".join(" ".join(lines).split()), most)

    def line_text(self, file: str, line: int) -> str:
        """A line of a file without its indentation."""
        lines = self.trace.sources.get(file, "").splitlines()
        return lines[line - 1].strip() if 0 < line <= len(lines) else ""

    def shown(self, file: str) -> str:
        """A file relative to the script's folder."""
        return shown(file, self.trace.folder)

    def place_of(self, site: Site) -> Place:
        """Where a site is, as reports show it."""
        return self.place_of_line(site.file, site.line)

    def place_of_line(self, file: str, line: int) -> Place:
        """Where a line is, as reports show it."""
        return place_of(file, line, self.shown(file))

    def place(self, site: Site) -> str:
        """A site as 'file.py:LINE', or 'work.ipynb:cell 3:LINE'."""
        return self.place_of(site).text

    @cached_property
    def usual(self) -> frozenset[Span]:
        """The places where the first recorded step has been."""
        start, stop = self.trace.steps[0]
        return frozenset(self.span(event.site) for event in self.events[start:stop])

    @property
    def step_name(self) -> str:
        """The step as 'file.py:Class.method', 'file.py:LINE' or 'work.ipynb:cell 3:LINE'."""
        return f"{self.shown(self.trace.step_file)}:{self.trace.step_text}"

    def seconds(self, events: Iterable[Event]) -> float:
        """Seconds per step of some events of the last recorded step, including what is inside calls."""
        total, seen = 0.0, set()
        for event in sorted(events, key=lambda one: one.index):
            if event.is_own and event.index not in seen:
                total += self._of_singles(event)
            inner = self.events[event.index : event.end] if event.is_own else [event]
            for one in inner:
                if one.index not in seen:
                    seen.add(one.index)
                    total += self._of(one)
        return total if any(self.events[index].is_outside for index in seen) else min(total, self.step_s)

    def seconds_with_callbacks(self, event: Event) -> float:
        """Seconds per step of a call of a library function, including the program's functions that it calls."""
        inside = self.events[event.start : event.index] if event.start >= 0 else []
        return min(self.step_s, sum(map(self._of, [*inside, event])) + self._of_singles(event))

    def _of_singles(self, event: Event) -> float:
        """The time of what an event has executed without arrays."""
        spans = ((self.span(number), times * COST_OF_CALL) for number, times in event.singles.items())
        return sum(self._seconds.get(span, 0.0) * cost / self._costs[span] for span, cost in spans)

    def _of(self, event: Event) -> float:
        span = self.span(event.site)
        cost = self._costs.get(span, 0.0)
        return self._seconds.get(span, 0.0) * (_cost(event) / cost if cost else 1.0)

    def lines_seconds(self, file: str, line: int, end_line: int) -> float:
        """Seconds per step of the expressions in some lines, and in the functions that they call."""
        inside = [s for span, s in self._seconds.items() if span[0] == file and line <= span[1] <= end_line]
        called = 0.0
        for event in self.last:
            site = self.site(event)
            if event.is_own and not event.calls and site.file == file and line <= site.line <= end_line:
                called += self.seconds([event])
        return min(self.step_s, sum(inside) + called)

    def seconds_within(self, span: Span) -> float:
        """Seconds per step of the expressions in a place, without those of the functions that they call."""
        file, *place = span
        start, end = tuple(place[:2]), tuple(place[2:])
        return sum(s for one, s in self._seconds.items() if one[0] == file and start <= one[1:3] and one[3:] <= end)

    @cached_property
    def unclocked(self) -> float:
        """The step's time divided by that of its expressions, at least 1: loops and names take time as well."""
        return max(1.0, self.step_s / self._clocked_s) if self._clocked_s else 1.0

    def read_later(self, event: Event) -> list[int]:
        """Indices at which the buffer of an event's output was read after it."""
        if event.output is None:
            return []
        return [index for index in self.trace.reads.get(event.output.root, ()) if index > event.index]

    def is_read_between(self, root: int, event: Event, end: int) -> bool:
        """Whether something that is no event has read a buffer after an event, and before that of an index."""
        return any(event.index < index <= end for index in self.trace.looks.get(root, ()))

    def is_taken(self, root: int, event: Event) -> bool:
        """Whether code that was not observed has got hold of a buffer after an event: anything may come of it."""
        return any(index > event.index for index in self.trace.taken.get(root, ()))

    @cached_property
    def parameters(self) -> frozenset[int]:
        """Buffers that the step before has changed or made and that the last step reads.

        Around the steps, where nothing is known of a step before: all buffers that are read and not made there.
        """
        start, stop = self.trace.steps[-1]
        if self.trace.is_around:
            made = {e.output.root for e in self.turn if e.output is not None and not e.is_view}
            return frozenset({value.root for e in self.turn for value in e.inputs if value.is_array} - made)
        before = self.events[:start]
        changed = {root for event in before for root in event.writes}
        changed |= {event.output.root for event in before if event.output is not None and not event.is_view}
        read = {value.root for event in self.events[start:stop] for value in event.inputs if value.is_array}
        return frozenset(changed & read) | self._changed_in_place

    @cached_property
    def _changed_in_place(self) -> frozenset[int]:
        start, stop = self.trace.steps[-1]
        made = {
            e.output.root for e in self.events[start:stop] if e.output is not None and not e.is_view and not e.writes
        }
        return frozenset({root for e in self.events[start:stop] for root in e.writes} - made - {-1})

    def is_changed(self, root: int, first: Event, later: Event) -> bool:
        """Whether something was written into a buffer between two events."""
        between = self.events[first.index + 1 : later.index]
        return any(root in event.writes for event in between)

    def makers(self, root: int, before: int) -> list[Event]:
        """The events of the last step that made or changed a buffer before an event."""
        return [
            event
            for event in self.turn
            if event.index < before
            and not event.is_view
            and not event.is_own
            and (root in event.writes or (event.output is not None and event.output.root == root))
        ]

    def is_cut_short(self, event: Event) -> bool:
        """Whether an event is in a loop of which not all turns were recorded."""
        return any((turn.site, turn.execution) in self._cut for turn in event.loops)

    @cached_property
    def _cut(self) -> frozenset[tuple[int, int]]:
        return frozenset((run.site, run.execution) for run in self.trace.loops if run.is_cut)

    def is_unseen_between(self, start: int, end: int) -> bool:
        """Whether turns of a loop between two events were not recorded; they may have read any array."""
        return any(run.is_cut and start < run.end <= end for run in self.trace.loops)

    @cached_property
    def of_unknown_origin(self) -> list[int]:
        """Indices of calls whose arrays come from unknown places, as in ``sum(g for g in gradients)``."""
        return [
            event.index
            for event in self.events
            if event.effect is None
            and not event.is_own
            and event.output is not None
            and event.output.is_array
            and not any(value.is_array for value in event.inputs)
        ]

    def is_origin_unknown_between(self, start: int, end: int) -> bool:
        """Whether such a call was made between two events; it may have read any array."""
        place = bisect_right(self.of_unknown_origin, start)
        return place < len(self.of_unknown_origin) and self.of_unknown_origin[place] < end

    def turns(self, run: LoopRun) -> list[list[Event]]:
        """The recorded events of each turn of a loop; what its header computes is before the first one (turn -1)."""
        depth = len(run.loops)
        found: list[list[Event]] = [[] for _ in range(run.recorded)]
        for event in self.events[run.first_event : run.end]:
            if len(event.loops) > depth:
                turn = event.loops[depth]
                if turn.site == run.site and turn.execution == run.execution and 0 <= turn.turn < run.recorded:
                    found[turn.turn].append(event)
        return found


MOST_LEVELS_UP = 2
"""A file above the folder of the program is shown with so many `..` at most, else with its whole path."""


def shown(file: str, folder: str) -> str:
    """A file of a program relative to the folder of the program, or to a folder a little above it."""
    if _is_in_package(file):
        return Path(file).relative_to(PACKAGE.parent).as_posix()
    relative = Path(os.path.relpath(Path(file).resolve(), Path(folder).resolve()))
    return file if relative.parts.count(os.pardir) > MOST_LEVELS_UP else relative.as_posix()


def shortened(text: str, most: int) -> str:
    """The text in at most so many characters."""
    return text if len(text) <= most else text[: most - 3] + "..."


@cache
def _is_in_package(path: str) -> bool:
    return Path(path).is_relative_to(PACKAGE / "model")


def _cost(event: Event) -> float:
    """The weight of an event when the time of an expression is divided: floating-point operations and bytes."""
    effect = event.effect
    return COST_OF_CALL + (effect.flop + effect.bytes_moved if effect is not None else 0)
