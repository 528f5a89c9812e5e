"""What the hooks of the observed form do: perform an operation as Python would, and write down what it was.

Of a long loop only the first turns are recorded; the rest runs as it was written.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any, TypeVar

import numpy as np

from mlpprof.instrument.numpy_costs import NOTHING, Effect, arrays_in
from mlpprof.instrument.rewriting import CALL, IN_PLACE_OPERATORS, OPERATE, SLICE, STORE, Site
from mlpprof.programs.record import reads as called
from mlpprof.programs.record.arrays import Roots, Value, value_of
from mlpprof.programs.record.hooks import GIVEN, LEAVE, LOCALS, LOOP, OVER, RECORDING, TURN, TURNS, USED
from mlpprof.programs.record.reads import Uses, is_lost
from mlpprof.programs.record.trace import Event, LoopRun, Turn

# The loops that run while a step is recorded: which turn each is in, and whether it is still observed.
#
# Of a long loop the first turns are observed; the rest runs as it was written.


Item = TypeVar("Item")

FIRST_TURNS, FEW_TURNS = 4, 12
"""Observed of a loop that is known to have more than `FEW_TURNS`; of one of unknown length the latter."""

DEEPEST, HALF = 40, 20
"""Loops or calls within each other that are told of an event; of deeper ones the outer and the inner half."""


class Turns:
    """Keeps the executions of loops. begun: makes the record of one that begins, or None if nothing is recorded."""

    def __init__(self, begun: Callable[[int, int, tuple[Turn, ...]], LoopRun | None]) -> None:
        self._begun = begun
        self.running: list[LoopRun] = []
        self.finished_at: Callable[[], int] = lambda: 0
        self._executions: dict[int, int] = {}
        self._muted = 0
        self._key: tuple[int, int, int, int] | None = None
        self._held: tuple[Turn, ...] = ()
        self.singles: dict[int, int] = {}

    @property
    def is_muted(self) -> bool:
        """Whether a loop is past the turns that are observed."""
        return self._muted > 0

    def clear(self) -> None:
        """The step has ended."""
        self.running.clear()
        self._muted = 0
        self.singles = {}

    def begin(self, site: int, length: int = -1) -> None:
        """A loop begins; length as in `LoopRun`."""
        execution = self._executions.get(site, 0)
        run = self._begun(site, execution, self.now())
        if run is not None:
            self._executions[site] = execution + 1
            run.length = length
            self.running.append(run)

    def over(self, site: int, iterable: Any) -> None:
        """What the loop that has begun runs over."""
        if self.running and self.running[-1].site == site:
            self.running[-1].length = _length(iterable)

    def turn(self, site: int, is_recording: bool) -> bool:
        """A turn begins; whether it is observed."""
        if not self.running:
            return False
        run = self.running[-1]
        if run.site != site:
            return is_recording
        run.turns += 1
        most = FIRST_TURNS if run.length > FEW_TURNS else FEW_TURNS
        if run.turns == most + 1:
            self._muted += 1
        if self._muted:
            return False
        run.recorded += 1
        run.signatures.append(0)
        return True

    def leave(self, site: int) -> None:
        """A loop has ended, and with it those within that an exception has ended."""
        if not self.running or (self.running[-1].site != site and all(run.site != site for run in self.running)):
            return  # it has begun unseen, as one of a generator that goes on in another place
        while self.running:
            run = self.running.pop()
            run.end = self.finished_at()
            if run.is_cut and self._muted:
                self._muted -= 1
            if run.site == site:
                break

    def each(self, site: int, iterable: Iterable[Any]) -> Iterator[Any]:
        """The turns of a comprehension; what it runs over is asked for them at once, and is not closed with it."""
        return self._told(site, _length(iterable), iter(iterable))

    def _told(self, site: int, length: int, turns: Iterator[Any]) -> Iterator[Any]:
        self.begin(site, length)
        try:
            for turn in turns:  # noqa: UP028 - `yield from` would close a generator of the program's own
                yield turn
        finally:
            self.leave(site)

    def joined(self, before: dict[int, int]) -> dict[int, int]:
        """What `singles` has counted since it was set to an empty one in the place of `before`, which goes on."""
        since, self.singles = self.singles, before
        for site, times in since.items():
            before[site] = before.get(site, 0) + times
        return since

    def count_single(self, site: int, result: Any) -> None:
        """An execution without arrays; of an operation on single numbers also in the innermost loop."""
        self.singles[site] = self.singles.get(site, 0) + 1
        if isinstance(result, float) and self.running:  # np.float64 is one
            run = self.running[-1]
            run.scalars += 1
            if run.signatures:
                run.signatures[-1] = hash((run.signatures[-1], site))

    def now(self) -> tuple[Turn, ...]:
        """The turns that run, the outermost first."""
        if not self.running:
            return ()
        last = self.running[-1]
        key = (len(self.running), last.site, last.execution, last.turns)
        if key != self._key:  # deep recursion makes it long, and most events are in the same turn
            self._key = key
            self._held = outer_and_inner((*last.loops, Turn(last.site, last.execution, last.turns - 1)))
        return self._held


def outer_and_inner(nested: tuple[Item, ...]) -> tuple[Item, ...]:
    """What is told of loops or calls within each other: all, or of a deep recursion both ends."""
    return nested if len(nested) <= DEEPEST else nested[:HALF] + nested[-HALF:]


def _length(iterable: Any) -> int:
    """How many turns it has; -1 if it does not tell, or if the program's own code would have to be asked."""
    kind = type(iterable)
    if any(isinstance(getattr(kind, name, None), FunctionType) for name in ("__len__", "__length_hint__")):
        return -1
    return operator.length_hint(iterable, -1)


MOST_EVENTS = 30_000
"""Recorded of a step; what comes after them runs unseen."""

FRAMES_A_CALL = 3
"""On the stack for a call of the program's own: its own, and the two of the hooks that perform it."""


class Recorder:
    """Records events while `active`, of the thread that the step runs in. sites: of all forms."""

    def __init__(self, sites: list[Site]) -> None:
        self._sites = sites
        self.active = False
        self.is_inside = True
        self._step = 0
        self._step_start = 0
        self._keeps = False
        self._depth = 0
        self.events: list[Event] = []
        self.loops: list[LoopRun] = []
        self.steps: list[tuple[int, int]] = []
        self.is_cut = False
        self.singles: dict[int, int] = {}
        self._calls: list[int] = []
        self._turns = Turns(self._begun)
        self._turns.finished_at = lambda: len(self.events)
        self.roots = Roots(lambda: len(self.events))
        self.uses = Uses(self.roots)
        self.hooks: dict[str, Any] = {
            OPERATE: self._operate,
            CALL: self._call,
            STORE: self._store,
            SLICE: slice,
            RECORDING: self._recording,
            LOOP: self._turns.begin,
            OVER: self._over,
            TURN: lambda site: self.active and self._turns.turn(site, self._recording()),
            LEAVE: self._turns.leave,
            TURNS: self._each,
            USED: self._used,
            GIVEN: self._given,
            LOCALS: called.without_ours,
        }

    def start(self, keeps: bool) -> None:
        """A step begins. keeps: hold operands and results alive, so that they can be computed with again."""
        self._keeps, self._step_start = keeps, len(self.events)
        self.uses.follow()
        self.active = True
        self._depth = sys.getrecursionlimit()
        sys.setrecursionlimit(FRAMES_A_CALL * self._depth)

    def discard(self) -> None:
        """Forget what was recorded since `start`: it was no step."""
        self._end()
        del self.events[self._step_start :]
        self.loops = [run for run in self.loops if run.step != self._step]
        self._turns.clear()
        self._calls.clear()

    def stop(self) -> None:
        """The step has ended."""
        self._end()
        self.steps.append((self._step_start, len(self.events)))
        self._step += 1
        self.singles = self._turns.singles
        self._turns.clear()
        self._calls.clear()

    def _end(self) -> None:
        self.active = False
        if sys.getrecursionlimit() == FRAMES_A_CALL * self._depth:
            sys.setrecursionlimit(self._depth)

    def _recording(self) -> bool:
        return self.active and self.uses.is_own_thread() and not self._turns.is_muted

    def _used(self, site: int, value: Any) -> Any:
        if self._recording() and isinstance(value, np.ndarray):
            self.uses.look(value, len(self.events))
        return value

    def _given(self, site: int, value: Any) -> Any:
        """A value that goes to code that may not be seen, with the arrays in it."""
        if self._recording():
            for array in arrays_in(tuple(value.values()) if isinstance(value, dict) else (value,)):
                self.uses.look(array, len(self.events))
        return value

    def _begun(self, site: int, execution: int, turns: tuple[Turn, ...]) -> LoopRun | None:
        if not self._recording():
            return None
        run = LoopRun(site, execution, self._step, len(self.events), turns, tuple(self._calls))
        self.loops.append(run)
        return run

    def _over(self, site: int, iterable: Any) -> Any:
        if self._recording():
            self._used(site, iterable)
            self._turns.over(site, iterable)
        return iterable

    def _each(self, site: int, iterable: Iterable[Any]) -> Iterable[Any]:
        if not self._recording():
            return iterable
        self._used(site, iterable)
        return self._turns.each(site, iterable)

    # Operations

    def _operate(self, number: int, /, *operands: Any) -> Any:
        function = self._sites[number].function
        assert function is not None
        if not self._recording():
            held = [*operands]
            return function(*held)
        if function is operator.getitem:
            return self._read(number, *operands)
        inputs = self._values(operands, {}, function is operator.matmul or called.is_matrix_product(function, operands))
        # A second reference: NumPy would else write the result into an operand that nobody seems to hold.
        held = [*operands]
        result = function(*held)
        if not inputs and not isinstance(result, np.ndarray):
            self._turns.count_single(number, result)
            return result
        writes = (operands[0],) if function in IN_PLACE_OPERATORS else ()
        self._write(number, function, operands, {}, inputs, result, writes)
        return result

    def _read(self, number: int, container: Any, key: Any) -> Any:
        """``container[key]``: an element, a view, or a gather; what is left in the container has not been looked at."""
        result = container[key]
        if isinstance(result, np.ndarray) and isinstance(container, np.ndarray):
            keys = self._values(key if isinstance(key, tuple) else (key,), {}, False)
            inputs = (value_of(container, self.roots, with_content=False), *keys)
            self._write(number, operator.getitem, (container, key), {}, inputs, result, ())
        elif isinstance(container, np.ndarray):
            self.uses.look(container, len(self.events))
            self._turns.count_single(number, result)
        elif isinstance(result, np.ndarray) and not isinstance(container, list | tuple | dict):
            inputs = self._values(key if isinstance(key, tuple) else (key,), {}, False)  # as np.c_[...]
            self._write(number, operator.getitem, (container, key), {}, inputs, result, ())
        else:
            self._turns.count_single(number, result)
        return result

    def _store(self, number: int, value: Any, target: Any, key: Any, /) -> None:
        if not self._recording() or not isinstance(target, np.ndarray):
            target[key] = value
            return
        keys = key if isinstance(key, tuple) else (key,)
        is_element = len(keys) == target.ndim and all(isinstance(k, int | np.integer) for k in keys)
        if isinstance(value, float) and is_element:
            target[key] = value
            self.uses.store(target, len(self.events))
            self._turns.count_single(number, value)
            return
        inputs = self._values((value, *keys), {}, False)
        target[key] = value
        self._write(number, operator.setitem, (target, key, value), {}, inputs, None, (target,))
        if all(isinstance(k, int | slice | np.integer) for k in keys) and self.events[-1].site == number:
            region = target[key]
            self.events[-1].region = value_of(region, self.roots, with_content=False) if np.ndim(region) else None

    def _call(self, number: int, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
        if not self._recording():
            return function(*arguments, **options)
        code = called.code_of(function)
        if code is not None and RECORDING in code.co_names:
            return self._call_own(number, function, arguments, options)
        owner = getattr(function, "__self__", None)
        with_owner = (owner, *arguments) if isinstance(owner, np.ndarray) else arguments
        name = called.name_of(function)
        inputs = self._values(with_owner, options, name in called.WITH_BIAS)
        is_taken = self.uses.of_call(function, name, (*with_owner, *options.values()), len(self.events))
        start, before, self._turns.singles = len(self.events), self._turns.singles, {}
        try:
            result = function(*arguments, **options)
        finally:
            singles = self._turns.joined(before)
        if inputs or isinstance(result, np.ndarray) or name in called.NOTED_CALLS:
            written = called.written_by(function, name, owner, arguments, options)
            self._write(number, function, arguments, options, inputs, result, written)
            self.events[-1].start, self.events[-1].singles = start, singles
            self.events[-1].is_opaque |= is_taken and is_lost(function, result)
        else:
            self._turns.count_single(number, result)
        return result

    def _call_own(
        self, number: int, function: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        inputs = self._values(arguments, options, False) or self._numbers(arguments)
        event = self._event(number, "", function, None, inputs, None, ())
        event.is_own = True
        self.events.append(event)
        self._calls.append(event.index)
        depth, running = len(self._calls), len(self._turns.running)
        before, self._turns.singles = self._turns.singles, {}
        try:
            result = function(*arguments, **options)
        finally:
            del self._calls[depth - 1 :]
            del self._turns.running[running:]
            event.end = len(self.events)
            event.singles = self._turns.joined(before)
        if isinstance(result, np.ndarray | float):
            event.output = value_of(result, self.roots)
        if self._keeps:
            event.operands, event.options, event.result = arguments, options, result
        return result

    # Writing down

    def _numbers(self, arguments: tuple[Any, ...]) -> tuple[Value, ...]:
        """The arguments of a function of single numbers."""
        if not arguments or not all(isinstance(x, float) for x in arguments):
            return ()
        return tuple(value_of(x, self.roots) for x in arguments)

    def _values(self, operands: Iterable[Any], options: Mapping[str, Any], with_trims: bool) -> tuple[Value, ...]:
        held = tuple(operands)
        found = [value_of(x, self.roots, with_trims) for x in arrays_in((*held, *options.values()))]
        if found:
            found += [value_of(x, self.roots) for x in held if isinstance(x, float | int | np.generic)]
        return tuple(found)

    def _write(
        self,
        number: int,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        inputs: tuple[Value, ...],
        result: Any,
        written: tuple[Any, ...],
    ) -> None:
        effect = called.known_effect(function, operands, options, result)
        roots = tuple(self.roots.number(x) for x in written if isinstance(x, np.ndarray))
        name = effect.name if effect is not None and effect.name else called.name_of(function)
        event = self._event(number, name, function, effect, inputs, result, roots)
        buffers = {value.root for value in inputs}
        event.is_view = effect is NOTHING and event.output is not None and event.output.root in buffers and not written
        self.uses.of_event(event, function, operands, options)
        if self._keeps:
            event.operands, event.options, event.result = operands, options, result
        self.events.append(event)
        event.end = len(self.events)
        if len(self.events) - self._step_start >= MOST_EVENTS:
            self.active, self.is_cut = False, True

    def _event(
        self,
        number: int,
        name: str,
        function: Callable[..., Any],
        effect: Effect | None,
        inputs: tuple[Value, ...],
        result: Any,
        writes: tuple[int, ...],
    ) -> Event:
        is_known = isinstance(result, np.ndarray | float) and bool(inputs)
        output = value_of(result, self.roots) if is_known or isinstance(result, np.ndarray) else None
        calls = outer_and_inner(tuple(self._calls))
        return Event(
            index=len(self.events),
            site=number,
            name=name,
            function=function if self._keeps else called.unbound(function),
            effect=effect,
            inputs=inputs,
            output=output,
            writes=writes,
            is_view=False,
            loops=self._turns.now(),
            calls=calls,
            step=self._step,
            is_outside=not self.is_inside,
        )
