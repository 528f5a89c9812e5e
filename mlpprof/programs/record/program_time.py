"""From the log of a program's statements to where its time goes: before the steps, in them, and around them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.timeline import (
    BEGUN,
    FILE,
    FILE_END,
    FORM,
    FUNCTION,
    FUNCTION_END,
    LOOP_END,
    NOTHING,
    PAUSE,
    RECORDED,
    SPARED,
    STEP,
    STEP_END,
    TURN,
    Entry,
    Timeline,
    Wait,
)
from mlpprof.results.place import Place
from mlpprof.results.program_time import ProgramTime, StatementTime

PLAIN = 0
"""The form of a program's functions without instruments."""

MOST_STEPS = 0.5
"""A loop is around the steps if so large a share of them runs in it."""

MANY_STEPS = 5
"""A turn with so many steps is an epoch; one with fewer only if no loop has turns with more."""

MANY_INTERRUPTIONS_S = 0.1
"""Another program takes the CPU for some milliseconds at a time. Steps that take less than this together have either
not been interrupted, or one interruption has multiplied their time: neither shows what happened to other statements."""

EXPENSIVE, LEAST_S = 0.05, 1e-4
"""A statement is worth waiting for if it takes this share of an epoch, and so many seconds."""

ABOUT_INSTRUMENTS = (PAUSE, FORM, RECORDED, SPARED)

Loops = tuple[tuple[int, int], ...]
"""The loops that run, the outermost first: the site of each, and the number of its turn among the turns of all."""


@dataclass
class Spent:
    """Seconds and executions of a statement: without instruments, and with them."""

    plain_s: float = 0.0
    plain: int = 0
    other_s: float = 0.0
    other: int = 0

    @property
    def times(self) -> int:
        """How often it ran."""
        return self.plain + self.other

    @property
    def seconds(self) -> float:
        """What all executions took."""
        return self.plain_s + self.other_s

    @property
    def once_s(self) -> float:
        """Seconds of one execution, without instruments if one was seen."""
        return self.plain_s / self.plain if self.plain else self.other_s / max(1, self.other)

    def add(self, other: Spent) -> None:
        """Add what was seen elsewhere."""
        self.plain_s += other.plain_s
        self.plain += other.plain
        self.other_s += other.other_s
        self.other += other.other


@dataclass
class Section:
    """A part of the program's run: before the training, one turn of the loop around the steps, or after it.

    warm: the steps without instruments that follow such a step; others often take longer.
    """

    turn: int | None
    statements: dict[int, Spent] = field(default_factory=lambda: defaultdict(Spent))
    steps: Spent = field(default_factory=Spent)
    warm: Spent = field(default_factory=Spent)


def leading(entries: Iterable[Entry]) -> list[Entry]:
    """The entries without those of functions that led to no step: their time is that of the statement around them."""
    held = list(entries)
    skipped: set[int] = set()
    opened: list[list[int]] = []  # the entry at which a function began, and the steps within it
    for number, entry in enumerate(held):
        if entry.kind == FUNCTION:
            opened.append([number, 0])
        elif entry.kind == STEP:
            for one in opened:
                one[1] += 1
        elif entry.kind == FUNCTION_END and opened:
            begun, steps = opened.pop()
            if not steps:
                skipped.update(range(begun, number + 1))
    for begun, steps in opened:
        if not steps:
            skipped.update(range(begun, len(held) - 1))  # the last one ends the log
    return [one for number, one in enumerate(held) if number not in skipped or one.kind in ABOUT_INSTRUMENTS]


def with_loops(entries: Iterable[Entry], sites: Sequence[Site]) -> Iterator[tuple[Entry, Loops]]:
    """Each entry with the loops that run then. A `break` is seen when a statement after the loop begins."""
    running: list[tuple[int, int, int]] = []  # site, turn, depth of calls
    turns = depth = 0
    loops: Loops = ()
    for entry in entries:
        kind, number = entry.kind, entry.number
        if kind in (FUNCTION, FILE):
            depth += 1
        elif kind in (FUNCTION_END, FILE_END):
            depth -= 1
            running = [one for one in running if one[2] <= depth]
        elif kind in (BEGUN, TURN, LOOP_END):
            while running and running[-1][2] == depth and not sites[number].is_within(sites[running[-1][0]]):
                running.pop()
            if kind != BEGUN and running and running[-1][0] == number:
                running.pop()
            if kind == TURN:
                running.append((number, turns, depth))
                turns += 1
        if [turn for _, turn in loops] != [turn for _, turn, _ in running]:
            loops = tuple((site, turn) for site, turn, _ in running)
        yield entry, loops


def loop_around(walked: Sequence[tuple[Entry, Loops]]) -> tuple[int | None, bool]:
    """The loop whose turns are epochs, else the one whose turns are steps, else None; and whether its turns are epochs.

    The innermost loop with many steps in a turn stands for the epochs.
    """
    by_turn: dict[tuple[int, int], int] = defaultdict(int)
    order: dict[int, int] = {}
    total = 0
    for entry, loops in walked:
        if entry.kind == STEP:
            total += 1
            for depth, one in enumerate(loops):
                by_turn[one] += 1
                order[one[0]] = depth
    most, steps = defaultdict[int, int](int), defaultdict[int, int](int)
    for (site, _), count in by_turn.items():
        most[site] = max(most[site], count)
        steps[site] += count
    around = sorted((site for site in most if steps[site] >= MOST_STEPS * total), key=lambda site: order[site])
    epochs = [site for site in around if most[site] >= MANY_STEPS] or [site for site in around if most[site] > 1]
    if epochs:
        return max(epochs, key=lambda site: (-most[site], order[site])), True
    return (around[-1], False) if around else (None, False)


def sections_of(walked: Iterable[tuple[Entry, Loops]], loop: int | None, entry_s: float) -> list[Section]:
    """What was spent before, in each turn of the loop, and after or between them. entry_s: the time of an entry."""
    found = [Section(None)]
    at: int | None = None
    calls: list[int | None] = []
    form, is_plain, was_plain, is_in_step, is_paused = PLAIN, True, False, False, True
    before_s, execution_s, form_before = 0.0, 0.0, -1
    for entry, loops in walked:
        if is_in_step or (at is not None and not is_paused):
            spent = found[-1].steps if is_in_step or at is None else found[-1].statements[at]
            passed_s = max(0.0, entry.at_s - before_s - entry_s)
            if is_plain if not is_in_step else form == PLAIN:
                spent.plain_s += passed_s
                execution_s += passed_s
            else:
                spent.other_s += passed_s
        before_s = entry.at_s
        turn = next((number for site, number in loops if site == loop), None)
        if loop is None and entry.kind == STEP:
            turn = 0  # nothing else is known than the steps
        if turn != found[-1].turn:
            found.append(Section(turn))
        kind = entry.kind
        if kind in (BEGUN, TURN, LOOP_END):
            at, is_paused, is_plain, execution_s = entry.number, False, form == PLAIN, 0.0
            if kind == BEGUN:
                spent, was_plain = found[-1].statements[at], is_plain
                spent.plain += is_plain
                spent.other += not is_plain
        elif kind == RECORDED and at is not None:
            spent, is_plain = found[-1].statements[at], False
            if was_plain:  # its execution was counted as one without instruments
                spent.plain, spent.plain_s = spent.plain - 1, spent.plain_s - execution_s
                spent.other, spent.other_s = spent.other + 1, spent.other_s + execution_s
            was_plain, execution_s = False, 0.0
        elif kind == SPARED and at is not None:
            spent = found[-1].statements[at]
            spent.other_s = max(0.0, spent.other_s - entry.number / 1e6)
        elif kind in (FUNCTION, FILE):
            calls.append(at)
        elif kind in (FUNCTION_END, FILE_END):
            at = calls.pop() if calls else None
            is_plain = form == PLAIN
        elif kind == STEP:
            execution_s = 0.0
            found[-1].steps.plain += form == PLAIN
            found[-1].steps.other += form != PLAIN
            is_in_step = True
        elif kind == STEP_END:
            is_in_step, is_paused = False, True
            if form == form_before == PLAIN:
                found[-1].warm.add(Spent(execution_s, 1))
            form_before = form
        elif kind == PAUSE:
            is_paused = True
        elif kind == FORM:
            form, is_paused = entry.number, False
            is_plain = form == PLAIN
    return found


def unfinished(timeline: Timeline, sites: Sequence[Site], recordable: frozenset[int]) -> Wait:
    """What the program has still to show: an epoch to its end, or an expensive statement that was not recorded.

    recordable: the statements that could be recorded when they run again.
    """
    walked = list(with_loops(leading(timeline.entries()), sites))
    loop, is_epoch = loop_around(walked)
    if loop is None or timeline.is_elsewhere or timeline.is_full:
        return NOTHING
    turns = [one for one in sections_of(walked, loop, timeline.entry_s) if one.turn is not None and one.steps.times]
    all_s, steps = _sum(turns), sum(one.steps.times for one in turns)
    step_s = sum(one.steps.plain_s for one in turns) / max(1, sum(one.steps.plain for one in turns))
    each_s = step_s + sum(one.times * one.once_s for one in all_s.values()) / steps
    if len(turns) == 1 and is_epoch:
        left = (_planned(walked, loop, timeline)[0] or 0) - steps
        return Wait(frozenset((loop,)), frozenset(), max(0, left) * each_s)
    expensive = {
        number
        for number, one in all_s.items()
        if number in recordable and one.once_s >= LEAST_S and one.times * one.once_s >= EXPENSIVE * each_s * steps
    }
    left = max(one.steps.times for one in turns) - turns[-1].steps.times
    return Wait(frozenset(), frozenset(expensive), max(0, left) * each_s) if expensive else NOTHING


def program_time(
    timeline: Timeline,
    sites: Sequence[Site],
    step_s: float,
    place_and_text: Callable[[Site], tuple[Place, str]],
    has_ended: bool,
) -> ProgramTime | None:
    """Where the program's time goes; None if the steps run in another thread.

    step_s: seconds of a step without instruments. has_ended: the program has run to its end.
    """
    if timeline.is_elsewhere:
        return None
    has_ended = has_ended and not timeline.is_full  # its end was not noted
    walked = list(with_loops(leading(timeline.entries()), sites))
    loop, is_epoch = loop_around(walked)
    sections = sections_of(walked, loop, timeline.entry_s)
    numbered = [number for number, one in enumerate(sections) if one.turn is not None and one.steps.times]
    if not numbered:
        return None
    first, last = numbered[0], numbered[-1]
    is_last_whole = has_ended or last < len(sections) - 1
    whole = [sections[number] for number in numbered if number != last or is_last_whole]
    seen = [sections[number] for number in numbered]
    shown = whole or seen
    steps = sum(one.steps.times for one in shown) / len(shown)
    planned, inner = (None, None) if whole or not is_epoch else _planned(walked, loop, timeline)
    seen_of_planned = steps / planned if planned else 1.0

    def statement(number: int, seconds: float, times: float, is_open: bool) -> StatementTime:
        place, text = place_and_text(sites[number])
        return StatementTime(place.file, place.line, text, seconds, times, is_open, place.cell)

    def once(some: list[Section]) -> list[StatementTime]:
        sums = _sum(some)
        return _sorted(statement(number, one.seconds, one.times, False) for number, one in sums.items() if one.seconds)

    open_at = _open_at(walked) if not whole else None
    everywhere, counted = _sum(seen), _sum(shown)
    calm = _calm(step_s, seen)
    plain_steps = sum(one.steps.plain for one in shown)
    in_turns = steps * len(shown) / plain_steps if plain_steps else 1.0
    statements = []
    for number, one in counted.items():
        times = one.times / len(shown)
        if number in timeline.in_turns:
            times *= in_turns / seen_of_planned
        elif number == inner:
            times /= seen_of_planned
        if times:
            statements.append(statement(number, calm * times * everywhere[number].once_s, times, number == open_at))
    beginning = once(sections[:first])
    end = once(sections[last + 1 :]) if has_ended else []
    return ProgramTime(
        beginning_s=sum(one.seconds for one in beginning),
        beginning=tuple(beginning),
        unit="epoch" if is_epoch else "step",
        loop=None if loop is None else statement(loop, 0.0, 0.0, False),
        steps=steps,
        steps_s=(planned or steps) * step_s,
        statements=tuple(_sorted(statements)),
        units=len(whole),
        planned=planned,
        end_s=sum(one.seconds for one in end) if has_ended else None,
        end=tuple(end),
    )


def _calm(step_s: float, sections: Sequence[Section]) -> float:
    """By what the times of statements are multiplied to be those of a machine without other programs.

    `step_s` is the time of a step without interruptions. The statements were interrupted as the steps were, if the
    steps have taken long enough to show it.
    """
    plain, plain_s = (sum(x) for x in zip(*((one.warm.plain, one.warm.plain_s) for one in sections), strict=True))
    return min(1.0, step_s * plain / plain_s) if plain >= MANY_STEPS and plain_s >= MANY_INTERRUPTIONS_S else 1.0


def _sorted(statements: Iterable[StatementTime]) -> list[StatementTime]:
    """One for each line, the most expensive first."""
    by_place = sorted(statements, key=lambda one: (one.file, one.cell or 0, one.line, one.text))
    joined = []
    for _, group in groupby(by_place, key=lambda one: (one.place, one.text)):
        first, *others = group
        seconds, times = (sum(x) for x in zip(*((one.seconds, one.times) for one in (first, *others)), strict=True))
        is_open = any(one.is_open for one in (first, *others))
        joined.append(StatementTime(first.file, first.line, first.text, seconds, times, is_open, first.cell))
    return sorted(joined, key=lambda one: -one.seconds)


def _sum(sections: Iterable[Section]) -> dict[int, Spent]:
    found: dict[int, Spent] = defaultdict(Spent)
    for section in sections:
        for number, spent in section.statements.items():
            found[number].add(spent)
    return found


def _open_at(walked: Sequence[tuple[Entry, Loops]]) -> int | None:
    """The statement that ran when the program was ended, if it was outside a step."""
    for entry, _ in reversed(walked):
        if entry.kind == BEGUN:
            return entry.number
        if entry.kind in (STEP, STEP_END, TURN):
            return None
    return None


def _planned(
    walked: Sequence[tuple[Entry, Loops]], loop: int | None, timeline: Timeline
) -> tuple[int | None, int | None]:
    """The steps of a turn that was not seen to its end, if a loop in it makes one in each of its turns; that loop."""
    for entry, loops in walked:
        if entry.kind == STEP:
            sites = [site for site, _ in loops]
            inner = sites[sites.index(loop) + 1 :] if loop in sites else []
            length = timeline.lengths.get(inner[0], -1) if len(inner) == 1 else -1
            return (length, inner[0]) if length > 0 else (None, None)
    return None, None
