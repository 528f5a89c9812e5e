"""A place where the threads of a team wait for each other within compiled code, without the interpreter and its lock.

Every worker has a line of the cache with a number, which only this worker writes: how often it has come. A worker that
comes writes its number, and then looks at the numbers of the others until they have come as often. On one processor
this takes a few tenths of a microsecond, so that workers can meet several times in a step of a hundred.

If a worker has to wait for long, one of the others has no core, because another program runs there. After SPINS looks,
the worker that waits therefore offers its core to other programs between its looks. It does not sleep. If it did, the
others would have to wait for it at their next meeting, and would go to sleep in turn, so that every meeting would take
as long as a sleep. (Beside other programs, a step of 30 microseconds took 200 or more if workers slept for 20.)
"""

from __future__ import annotations

import os
import queue
import weakref
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic

from mlpprof.engines.numba_passes import EXACTLY
from mlpprof.engines.team import ThreadTeam
from mlpprof.model.interface import Array

LINE = 16
"""The distance from the number of one worker to that of the next, in numbers of 8 bytes. It is two lines of the cache,
since processors fetch pairs of lines."""
SPINS = 2000
"""A worker looks this often before it offers its core. The looks take 20 to 100 microseconds on most processors."""
WAITING_LOOKS = 2 * SPINS
"""A worker without work looks this often for the next call before it sleeps."""

Work = Callable[[Array, int], None]
"""work(numbers, worker): what a worker does; the numbers are those of `meet`."""
Calls = queue.SimpleQueue[Work | None]
"""What a thread has to do, call by call; None is the end."""
WITHOUT_LOCK = njit(cache=bool(config.CACHE_DIR), error_model="numpy", nogil=True)
"""The compiler of functions that release the lock of the interpreter, so that all workers run at once."""

offer_core = types.ExternalFunction("SwitchToThread" if os.name == "nt" else "sched_yield", types.int32())


@intrinsic
def read(typing, numbers, at):  # type: ignore[no-untyped-def]
    """Read a number that another worker may write. What that worker wrote before it is visible from here on."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, values), "acquire", 8)

    return types.int64(numbers, types.int64), generate


@intrinsic
def write(typing, numbers, at, number):  # type: ignore[no-untyped-def]
    """Write a number after everything that this worker has written before."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        builder.store_atomic(values[2], _place(context, builder, signature, values), "release", 8)
        return context.get_dummy_value()

    return types.void(numbers, types.int64, types.int64), generate


def _place(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
    return builder.gep(context.make_array(signature.args[0])(context, builder, values[0]).data, [values[1]])


@intrinsic
def relax(typing):  # type: ignore[no-untyped-def]
    """Tell the processor that this is a loop that only waits, so that it saves power and leaves it quickly."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        arm = llvm.get_default_triple().startswith(("aarch64", "arm64"))
        name, arguments = ("llvm.aarch64.hint", [ir.IntType(32)(1)]) if arm else ("llvm.x86.sse2.pause", [])
        if name not in builder.module.globals:
            ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [one.type for one in arguments]), name)
        builder.call(builder.module.globals[name], arguments)
        return context.get_dummy_value()

    return types.void(), generate


@EXACTLY
def stopped(numbers: Array) -> bool:
    """Whether the workers have to end at once."""
    sign: int = read(numbers, numbers.size - LINE)
    return sign != 0


@EXACTLY
def meet(numbers: Array, worker: int) -> bool:
    """Return when all workers have come; False if they have to end at once."""
    count = numbers[LINE * worker] + 1
    write(numbers, LINE * worker, count)
    for other in range(0, numbers.size - LINE, LINE):
        looks = 0
        while read(numbers, other) < count:
            looks += 1
            if looks < SPINS:
                relax()
            elif stopped(numbers):
                return False
            else:
                offer_core()
    return not stopped(numbers)


@WITHOUT_LOCK
def wait_for_all(numbers: Array, calls: int) -> None:
    """Return when all workers but worker 0 have finished so many calls, or one of them has failed."""
    for other in range(LINE, numbers.size - LINE, LINE):
        looks = 0
        while read(numbers, other + 1) < calls and not stopped(numbers):
            looks += 1
            if looks < SPINS:
                relax()
            else:
                offer_core()


@WITHOUT_LOCK
def wait_for_call(numbers: Array, calls: int) -> None:
    """Return when the team has got another call than its first `calls`, or after WAITING_LOOKS looks."""
    for looks in range(WAITING_LOOKS):
        if read(numbers, numbers.size - LINE + 1) != calls or stopped(numbers):
            return
        if looks < SPINS:
            relax()
        else:
            offer_core()


class CompiledTeam:
    """Workers for calls that are one compiled function for each of them, in which they meet.

    Worker 0 is the thread that calls `run`, and the first call starts threads for the others. Between two calls, a
    thread looks for the next one for up to a millisecond or two, and then sleeps. A thread that sleeps needs 50 to 100
    microseconds to wake up. Ctrl-C is noticed between two calls, so a call should not take long.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._team: ThreadTeam | None = None

    def run(self, work: Work) -> None:
        """Do the work with every worker.

        If one of them raises an exception, or Ctrl-C comes, the others end at their next meeting, and it is raised
        here.
        """
        if self._team is None:
            # Threads of an earlier team may still run, such as one that was compiling. They keep their own numbers, in
            # which the sign to stop stays.
            self._numbers = np.zeros(LINE * (self.workers + 1), np.int64)  # a line for each worker, then sign and calls
            self._calls: list[Calls] = [queue.SimpleQueue() for _ in range(1, self.workers)]
            self._team = ThreadTeam(self.workers, _serving(self._numbers, self._calls))
            self._end = weakref.finalize(self, _end_calls, self._numbers, self._calls)
            self._team.go(0)
        try:
            for calls in self._calls:
                calls.put(work)
            self._numbers[-LINE + 1] += 1
            work(self._numbers, 0)
            wait_for_all(self._numbers, self._numbers[-LINE + 1])
        except BaseException:
            self.close()
            raise
        if self._numbers[-LINE]:
            team = self._team
            self.close()
            team.wait()  # raises what a worker has raised

    def close(self) -> None:
        """End the threads; a second call does nothing, and new work starts new ones."""
        if self._team is not None:
            team, self._team = self._team, None
            self._end()
            team.close()


def _end_calls(numbers: Array, calls_of_all: list[Calls]) -> None:
    numbers[-LINE] = 1
    for calls in calls_of_all:
        calls.put(None)


def _serving(numbers: Array, calls_of_all: list[Calls]) -> Callable[[int, int], None]:
    def serve(member: int, task: int) -> None:  # member 0 of a ThreadTeam is the thread that calls
        calls, count = calls_of_all[member - 1], 0
        try:
            while (work := calls.get()) is not None:
                work(numbers, member)
                del work  # it may refer to the model, which would never be freed
                count += 1
                numbers[LINE * member + 1] = count
                wait_for_call(numbers, count)
        except BaseException:
            numbers[-LINE] = 1
            raise

    return serve
