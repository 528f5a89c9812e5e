"""The recording of a program's step: its operations with their values, its loops and calls, and its times."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlpprof.instrument.numpy_costs import Effect
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.arrays import Value
from mlpprof.programs.record.file_reads import FileRead


class Turn(NamedTuple):
    """One turn of a loop: its site, which execution of the loop, which turn of it, from 0."""

    site: int
    execution: int
    turn: int


@dataclass(slots=True)
class Event:
    """One operation, or one call of a function of the program's own.

    index: in the order of beginning; a call comes before what happens inside it, which ends before `end`.
    site: where it stands. name: as in `numpy_costs`; '' for a call of the program's own function `function`.
    inputs: its operands as they were before, also those in lists and among the options. output: None if no array.
    writes: buffers that it changes. region: the part of an array that is stored into.
    is_view: it returns another view of an operand and computes nothing. is_opaque: what comes of its operands cannot be
    followed, because its result is a container of arrays, or because unknown code may have changed something.
    loops: the turns that it happens in, the outermost first. calls: indices of the calls it happens in.
    is_outside: it is not in the step, but in the loop around it.
    singles: executions without arrays of each site, while it ran the program's own functions. start: the first event
    within a library function that calls the program's functions, as np.vectorize; it comes before its own index.
    step: 0 for the first recorded step, 1 for the second. operands, options, result: kept only for the second.
    """

    index: int
    site: int
    name: str
    function: Callable[..., Any]
    effect: Effect | None
    inputs: tuple[Value, ...]
    output: Value | None
    writes: tuple[int, ...]
    is_view: bool
    loops: tuple[Turn, ...]
    calls: tuple[int, ...]
    step: int
    end: int = 0
    is_own: bool = False
    is_outside: bool = False
    region: Value | None = None
    is_opaque: bool = False
    operands: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    result: Any = None
    singles: Mapping[int, int] = field(default_factory=dict)
    start: int = -1

    @property
    def kind(self) -> str:
        """product, evaluation, arithmetic, copy or fill; '' if it does nothing to arrays."""
        return self.effect.kind if self.effect is not None and self.effect.name else ""


@dataclass(slots=True)
class LoopRun:
    """One execution of a loop. turns: all of them, also those that were not recorded.

    loops, calls: what it runs in, as for an event. length: of what it runs over; -1 if unknown. scalars: operations on
    single numbers in its recorded turns, without inner loops. signatures: for each turn, a hash of these operations.
    """

    site: int
    execution: int
    step: int
    first_event: int
    loops: tuple[Turn, ...]
    calls: tuple[int, ...]
    length: int = -1
    turns: int = 0
    recorded: int = 0
    scalars: int = 0
    end: int = 0
    signatures: list[int] = field(default_factory=list)

    @property
    def is_cut(self) -> bool:
        """Whether some of its turns were not recorded."""
        return self.turns > self.recorded


class OwnTime(NamedTuple):
    """The time of an expression under clocks: seconds without the expressions inside, its executions, and theirs."""

    seconds: float
    executions: int
    inner: int = 0

    def __add__(self, other: OwnTime) -> OwnTime:  # type: ignore[override]  # a sum, not one tuple after the other
        return OwnTime(*map(operator.add, self, other))


@dataclass(frozen=True)
class Part:
    """A part of a step that clocks make too long: the own times in `clocked_s` seconds, then a pause without clocks."""

    own: dict[int, OwnTime]
    clocked_s: float
    plain_s: float = 0.0


@dataclass
class Times:
    """The times of the steps. sites, around: for each step under clocks, own times in it and in the loop around it.

    faults: pages that the system had to provide during each undisturbed step. parts: of the last step under clocks, if
    it was timed in parts. plain_blocks, clocked_blocks: for each of these steps the number of its block; blocks of the
    same number ran next to each other, and a step without a partner, such as one that warms up, has -1. fed_s: what it
    took to get the item of the loop that each undisturbed step worked on, as from a generator of batches; it is a part
    of the step, and feeds are the sites of what such loops run over. between_s: what else passed between two
    undisturbed steps. given_back_from: bytes of free memory from which on the allocator gives them back to the system;
    None if it keeps them.
    """

    plain_s: list[float] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    clocked_s: list[float] = field(default_factory=list)
    sites: list[dict[int, OwnTime]] = field(default_factory=list)
    around: list[dict[int, OwnTime]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    plain_blocks: list[int] = field(default_factory=list)
    clocked_blocks: list[int] = field(default_factory=list)
    fed_s: list[float] = field(default_factory=list)
    feeds: set[int] = field(default_factory=set)
    between_s: list[float] = field(default_factory=list)
    given_back_from: int | None = None


@dataclass
class Trace:
    """The recording of a step.

    sites: all sites of the program. steps: for each recorded step, the index of its first event, and of the event after
    its last. died: buffer -> index of the event before which it was freed. reads, looks, taken, stores: as in `Uses`.
    is_blind: some reads were not recorded. shared: buffers in memory that is not NumPy's, which others may use too.
    sources: text by file. singles: executions without arrays by site, in the last recorded step; they are no events.
    loading_s: seconds from the start of the program to its first step. is_around: the recording is not of a step, but
    of a statement around the steps. file_reads: what is read from files while the program trains.
    """

    sites: list[Site]
    events: list[Event]
    loops: list[LoopRun]
    steps: list[tuple[int, int]]
    died: dict[int, int]
    reads: dict[int, list[int]]
    times: Times
    sources: dict[str, str]
    step_file: str
    step_text: str
    folder: str
    looks: dict[int, list[int]] = field(default_factory=dict)
    taken: dict[int, list[int]] = field(default_factory=dict)
    stores: dict[int, list[int]] = field(default_factory=dict)
    shared: frozenset[int] = frozenset()
    is_blind: bool = False
    notes: list[str] = field(default_factory=list)
    singles: dict[int, int] = field(default_factory=dict)
    loading_s: float = 0.0
    is_around: bool = False
    file_reads: list[FileRead] = field(default_factory=list)
