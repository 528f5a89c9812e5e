"""Records the operations of a step: the observer of `Operations`, and the other hooks of the observed form.

Only the first turns of a long loop are recorded; the others run as they were written.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, TypeVar

import numpy as np

from mlpprof.instrument.numpy_costs import NOTHING, Effect, arrays_in
from mlpprof.instrument.operations import Operations
from mlpprof.instrument.rewriting import IN_PLACE_OPERATORS, Site
from mlpprof.programs.record import reads
from mlpprof.programs.record.arrays import Roots, Value, value_of
from mlpprof.programs.record.hooks import GIVEN, LEAVE, LOCALS, LOOP, OVER, RECORDING, TURN, TURNS, USED
from mlpprof.programs.record.reads import Uses, is_lost
from mlpprof.programs.record.trace import Event, LoopRun, Turn

Item = TypeVar("Item")

FIRST_TURNS, FEW_TURNS = 4, 12
"""The first turns of a loop are recorded: `FEW_TURNS` at most, and `FIRST_TURNS` if the loop is known to be longer."""

DEEPEST, HALF = 40, 20
"""An event lists up to `DEEPEST` loops or calls around it; if there are more, the outer and the inner `HALF`."""


SINGLE = (float, np.floating)
"""Single numbers that a program computes with one by one; np.float64 is a float, and np.float32 is none."""


class RunningLoops:
    """The loops that run while a step is recorded. begun: makes the record of a new one, if it is recorded."""

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
        """Whether a loop is past the turns that are recorded."""
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
            self.running[-1].length = length_of(iterable)

    def turn(self, site: int, is_recording: bool) -> bool:
        """A turn begins. Whether it is recorded."""
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
        """A loop has ended, and with it the inner loops that an exception has ended."""
        if not self.running or (self.running[-1].site != site and all(run.site != site for run in self.running)):
            return  # its beginning was not recorded, as in a generator that goes on elsewhere
        while self.running:
            run = self.running.pop()
            run.end = self.finished_at()
            if run.is_cut and self._muted:
                self._muted -= 1
            if run.site == site:
                break

    def each(self, site: int, iterable: Iterable[Any]) -> Iterator[Any]:
        """The turns of a comprehension. Its iterator is made at once, and is not closed with it."""
        return self._counted(site, length_of(iterable), iter(iterable))

    def _counted(self, site: int, length: int, turns: Iterator[Any]) -> Iterator[Any]:
        self.begin(site, length)
        try:
            for turn in turns:  # noqa: UP028 - `yield from` would close a generator of the program's own
                yield turn
        finally:
            self.leave(site)

    def joined(self, before: dict[int, int]) -> dict[int, int]:
        """What `singles` has counted since `before` was set aside; the sum of both goes on."""
        since, self.singles = self.singles, before
        for site, times in since.items():
            before[site] = before.get(site, 0) + times
        return since

    def set_aside(self) -> dict[int, int]:
        """What `singles` has counted so far; it begins anew, until `joined` puts both together."""
        before, self.singles = self.singles, {}
        return before

    def count_single(self, site: int, result: Any) -> None:
        """Count an execution without arrays, and if it gave a single number, also for the innermost loop."""
        self.singles[site] = self.singles.get(site, 0) + 1
        if isinstance(result, SINGLE) and self.running:
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
    """All loops or calls around an event, or in a deep recursion the outer and the inner ones."""
    return nested if len(nested) <= DEEPEST else nested[:HALF] + nested[-HALF:]


def length_of(iterable: Any) -> int:
    """The number of turns; -1 if it is unknown, or if finding out would run code of the program."""
    kind = type(iterable)
    if any(isinstance(getattr(kind, name, None), FunctionType) for name in ("__len__", "__length_hint__")):
        return -1
    return operator.length_hint(iterable, -1)


MOST_EVENTS = 30_000
"""No more events of a step are recorded."""

FRAMES_PER_CALL = 3
"""A call of the program's own function needs up to so many frames on the stack: its own, and those of the hooks."""


@dataclass(slots=True)
class Begun:
    """An operation that has begun.

    call: the event of a call of the program's own function, with the number of calls and loops around it.
    is_taken, start: as in `Event`, for other calls. singles: what was counted before the call; afterwards, in it.
    """

    inputs: tuple[Value, ...] = ()
    is_call: bool = False
    call: Event | None = None
    call_depth: int = 0
    loop_depth: int = 0
    is_taken: bool = False
    start: int = -1
    singles: dict[int, int] = field(default_factory=dict)


def _parts(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _is_number_in_element(target: np.ndarray[Any, Any], key: Any, value: Any) -> bool:
    """Whether a single number is stored into a single element."""
    keys = _parts(key)
    is_element = len(keys) == target.ndim and all(isinstance(k, int | np.integer) for k in keys)
    return is_element and isinstance(value, (*SINGLE, int))


class Recorder:
    """Records events while `active`, in the thread that the step runs in. sites: those of all forms."""

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
        self._running_loops = RunningLoops(self._begun)
        self._running_loops.finished_at = lambda: len(self.events)
        self.roots = Roots(lambda: len(self.events))
        self.uses = Uses(self.roots)
        self.hooks: dict[str, Any] = {
            **Operations(sites, self).hooks,
            RECORDING: self.is_observing,
            LOOP: self._running_loops.begin,
            OVER: self._over,
            TURN: lambda site: self.active and self._running_loops.turn(site, self.is_observing()),
            LEAVE: self._running_loops.leave,
            TURNS: self._each,
            USED: self._used,
            GIVEN: self._given,
            LOCALS: reads.without_ours,
        }

    def start(self, keeps: bool) -> None:
        """A step begins. keeps: keep operands and results, so that operations can be performed again."""
        self._keeps, self._step_start = keeps, len(self.events)
        self.uses.follow()
        self.active = True
        self._depth = sys.getrecursionlimit()
        sys.setrecursionlimit(FRAMES_PER_CALL * self._depth)

    def discard(self) -> None:
        """Forget what was recorded since `start`, because it was no step."""
        self._end()
        del self.events[self._step_start :]
        self.loops = [run for run in self.loops if run.step != self._step]
        self._running_loops.clear()
        self._calls.clear()

    def stop(self) -> None:
        """The step has ended."""
        self._end()
        self.steps.append((self._step_start, len(self.events)))
        self._step += 1
        self.singles = self._running_loops.singles
        self._running_loops.clear()
        self._calls.clear()

    def _end(self) -> None:
        self.active = False
        if sys.getrecursionlimit() == FRAMES_PER_CALL * self._depth:
            sys.setrecursionlimit(self._depth)

    def _used(self, site: int, value: Any) -> Any:
        if self.is_observing() and isinstance(value, np.ndarray):
            self.uses.look(value, len(self.events))
        return value

    def _given(self, site: int, value: Any) -> Any:
        """A value, with the arrays in it, goes to code that may not be observed."""
        if self.is_observing():
            for array in arrays_in(tuple(value.values()) if isinstance(value, dict) else (value,)):
                self.uses.look(array, len(self.events))
        return value

    def _begun(self, site: int, execution: int, turns: tuple[Turn, ...]) -> LoopRun | None:
        if not self.is_observing():
            return None
        run = LoopRun(site, execution, self._step, len(self.events), turns, tuple(self._calls))
        self.loops.append(run)
        return run

    def _over(self, site: int, iterable: Any) -> Any:
        if self.is_observing():
            self._used(site, iterable)
            self._running_loops.over(site, iterable)
        return iterable

    def _each(self, site: int, iterable: Iterable[Any]) -> Iterable[Any]:
        if not self.is_observing():
            return iterable
        self._used(site, iterable)
        return self._running_loops.each(site, iterable)

    # The operations, as an observer of `Operations`.

    def is_observing(self) -> bool:
        """Whether operations are recorded now: in the step's own thread, and in the first turns of long loops."""
        return self.active and self.uses.is_own_thread() and not self._running_loops.is_muted

    def before(
        self,
        number: int,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        is_call: bool,
    ) -> Begun:
        """Note the operands as they are before the operation."""
        if is_call:
            code = reads.code_of(function)
            if code is not None and RECORDING in code.co_names:
                return self._begin_own_call(number, function, operands, options)
            return self._begin_call(function, operands, options)
        if function is operator.getitem:
            return Begun()
        if function is operator.setitem:
            target, key, value = operands
            if not isinstance(target, np.ndarray) or _is_number_in_element(target, key, value):
                return Begun()
            return Begun(self._values((value, *_parts(key)), {}, False))
        with_trims = function is operator.matmul or reads.is_matrix_product(function, operands)
        return Begun(self._values(operands, {}, with_trims))

    def observed(self) -> dict[str, Any]:
        """What a `Trace` has from the recorder, by the names of its fields."""
        return {
            "events": self.events,
            "loops": self.loops,
            "steps": self.steps,
            "died": self.roots.died,
            "reads": self.uses.reads,
            "looks": self.uses.looks,
            "taken": self.uses.taken,
            "stores": self.uses.stores,
            "shared": frozenset(self.roots.shared),
            "is_blind": self.uses.is_blind,
            "singles": self.singles,
        }

    def after_call(self, begun: Begun) -> None:
        """A call has ended, with a result or with an exception."""
        begun.singles = self._running_loops.joined(begun.singles)
        if begun.call is not None:
            del self._calls[begun.call_depth :]
            del self._running_loops.running[begun.loop_depth :]
            begun.call.end, begun.call.singles = len(self.events), begun.singles

    def after(
        self,
        begun: Begun,
        number: int,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        result: Any,
    ) -> None:
        """Write down what the operation was."""
        if begun.call is not None:
            self._end_own_call(begun.call, operands, options, result)
        elif begun.is_call:
            self._end_call(begun, number, function, operands, options, result)
        elif function is operator.getitem:
            container, key = operands
            self._end_read(number, container, key, result)
        elif function is operator.setitem:
            self._end_store(begun, number, *operands)
        elif not begun.inputs and not isinstance(result, np.ndarray):
            self._running_loops.count_single(number, result)
        else:
            writes = (operands[0],) if function in IN_PLACE_OPERATORS else ()
            self._write(number, function, operands, {}, begun.inputs, result, writes)

    def _end_read(self, number: int, container: Any, key: Any, result: Any) -> None:
        """``container[key]``: an element, a view, or a gather. What stays in the container has not been read."""
        if isinstance(result, np.ndarray) and isinstance(container, np.ndarray):
            inputs = (value_of(container, self.roots, with_content=False), *self._values(_parts(key), {}, False))
            self._write(number, operator.getitem, (container, key), {}, inputs, result, ())
        elif isinstance(result, np.ndarray) and not isinstance(container, list | tuple | dict):
            inputs = self._values(_parts(key), {}, False)  # for instance np.c_[...]
            self._write(number, operator.getitem, (container, key), {}, inputs, result, ())
        else:
            if isinstance(container, np.ndarray):
                self.uses.look(container, len(self.events))
            self._running_loops.count_single(number, result)

    def _end_store(self, begun: Begun, number: int, target: Any, key: Any, value: Any) -> None:
        if not isinstance(target, np.ndarray):
            return
        if _is_number_in_element(target, key, value):
            self.uses.store(target, len(self.events))
            self._running_loops.count_single(number, float(value))  # what is stored is a number, and no index
            return
        self._write(number, operator.setitem, (target, key, value), {}, begun.inputs, None, (target,))
        if all(isinstance(k, int | slice | np.integer) for k in _parts(key)) and self.events[-1].site == number:
            region = target[key]
            self.events[-1].region = value_of(region, self.roots, with_content=False) if np.ndim(region) else None

    def _begin_call(self, function: Callable[..., Any], operands: tuple[Any, ...], options: Mapping[str, Any]) -> Begun:
        owner = getattr(function, "__self__", None)
        with_owner = (owner, *operands) if isinstance(owner, np.ndarray) else operands
        name = reads.name_of(function)
        inputs = self._values(with_owner, options, name in reads.WITH_BIAS)
        is_taken = self.uses.of_call(function, name, (*with_owner, *options.values()), len(self.events))
        begun = Begun(inputs, is_call=True, is_taken=is_taken, start=len(self.events))
        begun.singles = self._running_loops.set_aside()
        return begun

    def _end_call(
        self,
        begun: Begun,
        number: int,
        function: Callable[..., Any],
        operands: tuple[Any, ...],
        options: Mapping[str, Any],
        result: Any,
    ) -> None:
        name = reads.name_of(function)
        if not begun.inputs and not isinstance(result, np.ndarray) and name not in reads.NOTED_CALLS:
            self._running_loops.count_single(number, result)
            return
        written = reads.written_by(function, name, getattr(function, "__self__", None), operands, options)
        self._write(number, function, operands, options, begun.inputs, result, written)
        event = self.events[-1]
        event.start, event.singles = begun.start, begun.singles
        event.is_opaque |= begun.is_taken and is_lost(function, result)

    def _begin_own_call(
        self, number: int, function: Callable[..., Any], operands: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Begun:
        inputs = self._values(operands, options, False) or self._numbers(operands)
        event = self._event(number, "", function, None, inputs, None, ())
        event.is_own = True
        begun = Begun(inputs, True, event, len(self._calls), len(self._running_loops.running))
        self.events.append(event)
        self._calls.append(event.index)
        begun.singles = self._running_loops.set_aside()
        return begun

    def _end_own_call(self, event: Event, operands: tuple[Any, ...], options: Mapping[str, Any], result: Any) -> None:
        if isinstance(result, np.ndarray | float):
            event.output = value_of(result, self.roots)
        if self._keeps:
            event.operands, event.options, event.result = operands, options, result

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
        effect = reads.known_effect(function, operands, options, result)
        roots = tuple(self.roots.number(x) for x in written if isinstance(x, np.ndarray))
        name = effect.name if effect is not None and effect.name else reads.name_of(function)
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
            function=function if self._keeps else reads.unbound(function),
            effect=effect,
            inputs=inputs,
            output=output,
            writes=writes,
            is_view=False,
            loops=self._running_loops.now(),
            calls=calls,
            step=self._step,
            is_outside=not self.is_inside,
        )
