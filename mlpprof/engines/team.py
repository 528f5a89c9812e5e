"""Workers that share a step: processes over shared memory, or threads, behind the same few methods.

A team has `workers` members. The one that called for it is member 0 and does its own part itself; the others wait
until `go(task)` and then run `work(member, task)`. `wait()` returns when all have finished.

Processes are forked, so that they have the data and the code without a copy, and share arrays made by `shared_zeros`:
memory without a name, which is gone with its last process, however that one ended. They look at a counter in shared
memory for a millisecond, which is faster than any wake-up by the operating system, and go to sleep after that, so that
an idle team disturbs nobody. BLAS is held to one thread a member as long as the team lives.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import queue
import select
import signal
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from threadpoolctl import threadpool_limits

from mlpprof.errors import UnsupportedNetwork, UsageError, WorkerDied
from mlpprof.model.interface import Array

# What the processes of a team tell each other, and how they wait: counters in shared memory, a pipe for sleepers.


LINE = 8
"""Numbers of 8 bytes in a line of cache: every member writes into one of its own."""
END = -1
"""The task that ends a member."""
SPINS = 100
"""Looks before the first offer of the core to somebody else."""
AWAKE_S = 0.001
"""How long a member looks for its next task before it goes to sleep."""
PATIENCE_S = 0.1
"""Between two looks whether the others still live."""


class Board:
    """The counters of a team.

    Line 0 holds the number of the call and its task, line k the last call that member k has finished and whether it
    sleeps. A number of 8 bytes is written and read as a whole. Going through a lock keeps the order between what is
    written before and after (memory fence), on processors that would change it.
    """

    def __init__(self, workers: int) -> None:
        self._numbers = memoryview(mmap.mmap(-1, 8 * LINE * workers)).cast("q")
        self._fence = threading.Lock()
        self._pipes = [os.pipe() for _ in range(1, workers)]
        for pipe in self._pipes:
            for end in pipe:
                os.set_blocking(end, False)

    def call(self, number: int, task: int) -> None:
        """Tell all members what the call of this number wants, and wake those that sleep."""
        self._numbers[1] = task
        self._order()
        self._numbers[0] = number
        self._order()
        for k, (_, bell) in enumerate(self._pipes, start=1):
            if self._numbers[LINE * k + 1]:
                with contextlib.suppress(BlockingIOError, BrokenPipeError):  # rung already; ended: wait() tells
                    os.write(bell, b"!")

    def finished(self, member: int) -> int:
        """The last call that the member has finished."""
        return self._numbers[LINE * member]

    def finish(self, member: int, number: int) -> None:
        """Of a member: the call is done."""
        self._order()
        self._numbers[LINE * member] = number

    def task(self, member: int, number: int, parent: int) -> int:
        """Wait for call `number`, and return its task; END if the parent is gone."""
        looks, since = 0, time.perf_counter()
        while self._numbers[0] < number:
            looks += 1
            if looks < SPINS:
                continue
            os.sched_yield()
            if time.perf_counter() - since > AWAKE_S:
                self._sleep(member, number)
                if os.getppid() != parent:
                    return END
        self._order()
        return self._numbers[1]

    def _sleep(self, member: int, number: int) -> None:
        pipe = self._pipes[member - 1][0]
        self._numbers[LINE * member + 1] = 1
        self._order()
        if self._numbers[0] < number:
            select.select([pipe], [], [], PATIENCE_S)
        self._numbers[LINE * member + 1] = 0
        with contextlib.suppress(BlockingIOError):
            os.read(pipe, 64)

    def close(self) -> None:
        """Give the pipes back."""
        for pipe in self._pipes:
            for end in pipe:
                with contextlib.suppress(OSError):
                    os.close(end)
        self._pipes = []

    def _order(self) -> None:
        with self._fence:
            pass


class Meeting:
    """Where the members of a team of processes wait for each other in the midst of a task.

    Made before they are forked; line k holds how often member k has come here.
    """

    def __init__(self, workers: int) -> None:
        self._numbers = memoryview(mmap.mmap(-1, 8 * LINE * workers)).cast("q")
        self._workers = workers
        self._fence = threading.Lock()
        self._made_by = os.getpid()
        self._count = 0

    def meet(self, member: int, look: Callable[[], None]) -> None:
        """Return when all have come; look: what member 0 does now and then while it waits, and may raise.

        The other members end where their parent is gone.
        """
        self._count += 1
        with self._fence:  # what was written before is seen by those who see the number
            pass
        self._numbers[LINE * member] = self._count
        looks, looked = 0, time.perf_counter()
        for other in range(self._workers):
            while self._numbers[LINE * other] < self._count:
                looks += 1
                if looks < SPINS:
                    continue
                os.sched_yield()
                if time.perf_counter() - looked > PATIENCE_S:
                    looked = time.perf_counter()
                    if member == 0:
                        look()
                    elif os.getppid() != self._made_by:
                        os._exit(1)
        with self._fence:
            pass


Work = Callable[[int, int], None]

WORKERS_VARIABLE = "MLPPROF_WORKERS"
STOP_TIMEOUT_S = 1.0


def workers_wanted() -> int:
    """Members of a team: what --workers or MLPPROF_WORKERS says, else the CPUs that this process may use.

    Raises UsageError if the variable holds no whole number from 1.
    """
    text = os.environ.get(WORKERS_VARIABLE, "")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise UsageError(f"{WORKERS_VARIABLE}={text}: expected a whole number of workers, 1 or more")
    return int(text)


def shared_zeros(shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
    """Zeros that processes forked later share with this one."""
    sizes = (shape,) if isinstance(shape, int) else shape
    count = int(np.prod(sizes))
    memory = mmap.mmap(-1, max(1, count * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype, count).reshape(sizes)


class ThreadTeam:
    """Members that are threads of this process: arrays are shared anyway, and so is the interpreter's lock."""

    def __init__(self, workers: int, work: Work) -> None:
        self.workers = workers
        self._limits = threadpool_limits(1, "blas")
        self._tasks: list[queue.SimpleQueue[int]] = [queue.SimpleQueue() for _ in range(1, workers)]
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._open = 0
        for member, tasks in enumerate(self._tasks, start=1):
            threading.Thread(target=_serve_thread, args=(member, work, tasks, self._done), daemon=True).start()
        self._finalizer = weakref.finalize(self, _end_threads, self._tasks, self._limits)

    def go(self, task: int) -> None:
        """Have every other member do the task."""
        for tasks in self._tasks:
            tasks.put(task)
        self._open = len(self._tasks)

    def wait(self) -> None:
        """Return when all have finished; raises what a member has raised."""
        failure = None
        for _ in range(self._open):
            failure = self._done.get() or failure
        self._open = 0
        if failure is not None:
            raise failure

    def close(self) -> None:
        """End the threads and give BLAS its own back; harmless if that is done already."""
        self._finalizer()


def _serve_thread(
    member: int, work: Work, tasks: queue.SimpleQueue[int], done: queue.SimpleQueue[BaseException | None]
) -> None:
    while (task := tasks.get()) != END:
        try:
            work(member, task)
        except BaseException as error:  # noqa: BLE001 - raised again by wait(), in the thread that asked
            done.put(error)
        else:
            done.put(None)


def _end_threads(tasks: list[queue.SimpleQueue[int]], limits: Any) -> None:
    for queue_of_member in tasks:
        queue_of_member.put(END)
    limits.restore_original_limits()


class ProcessTeam:
    """Members that are forked processes.

    pids: of the members 1.., in order. Raises UnsupportedNetwork where the system cannot fork.
    """

    def __init__(self, workers: int, work: Work) -> None:
        if not hasattr(os, "fork"):
            raise UnsupportedNetwork("this system cannot fork, so there is no team of processes; use threaded")
        self.workers = workers
        self._limits = threadpool_limits(1, "blas")
        self._board = Board(workers)
        self._called = 0
        self.pids: list[int] = []
        parent = os.getpid()
        for member in range(1, workers):
            pid = _fork()
            if pid == 0:
                _serve_process(member, work, self._board, parent)  # never returns
            self.pids.append(pid)
        self._finalizer = weakref.finalize(self, _end_processes, self.pids, self._board, self._limits, parent)

    def go(self, task: int) -> None:
        """Have every other member do the task."""
        self._called += 1
        self._board.call(self._called, task)

    def wait(self) -> None:
        """Return when all have finished; raises WorkerDied, naming the member, if one has ended instead."""
        for member in range(1, self.workers):
            self._wait_for(member)

    def _wait_for(self, member: int) -> None:
        looks, board, called = 0, self._board, self._called
        since = looked = time.perf_counter()
        while board.finished(member) != called:
            looks += 1
            if looks < SPINS:
                continue
            os.sched_yield()  # on a machine with fewer cores than members, to the one that is waited for
            now = time.perf_counter()
            if now - since > AWAKE_S:
                time.sleep(AWAKE_S / 20)
            if now - looked > PATIENCE_S:
                looked = now
                self.require_all_alive()

    def require_all_alive(self) -> None:
        """Raise WorkerDied, naming the member, if one has ended."""
        for member, pid in enumerate(self.pids, start=1):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended, status = pid, 0
            if ended:
                code = os.waitstatus_to_exitcode(status)
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                self.close()
                raise WorkerDied(f"worker {member} of 0 to {self.workers - 1} (process {pid}) {how} within a step")

    def close(self) -> None:
        """End the processes and give BLAS its own back; harmless if that is done already."""
        self._finalizer()


def _fork() -> int:
    with warnings.catch_warnings():
        # Python warns of threads whose locks a child may find taken; the child runs NumPy only, and no other thread
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _serve_process(member: int, work: Work, board: Board, parent: int) -> None:
    """A member's whole life; nothing of the parent's clean-up may run in it."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its members
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        gc.disable()
        number = 1
        while (task := board.task(member, number, parent)) != END:
            work(member, task)
            board.finish(member, number)
            number += 1
    except BaseException:  # noqa: BLE001 - the exit code tells the parent, and the trace its standard error
        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _end_processes(pids: list[int], board: Board, limits: Any, parent: int) -> None:
    if os.getpid() != parent:  # in a fork of somebody else's
        return
    board.call(1 << 62, END)
    until = time.monotonic() + STOP_TIMEOUT_S
    left = list(pids)
    while left and time.monotonic() < until:
        left = [pid for pid in left if not _reaped(pid, os.WNOHANG)]
        if left:
            time.sleep(0.0005)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _reaped(pid, 0)
    board.close()
    limits.restore_original_limits()


def _reaped(pid: int, options: int) -> bool:
    try:
        return os.waitpid(pid, options)[0] != 0
    except ChildProcessError:
        return True
