"""Teams of workers that share a step: processes with shared memory, or threads, with the same few methods.

A team has `workers` members. The process or thread that makes it is member 0 and does its own part itself. The others
wait until `go(task)` and then run `work(member, task)`. `wait()` returns when all have finished.

Processes are forked, so that they have the data and the code without a copy. They share arrays made by `shared_zeros`:
memory without a name, which disappears with its last process, however that process ended. A waiting process looks at a
counter in shared memory for a millisecond, which is faster than any wake-up by the operating system, and then goes to
sleep, so that an idle team disturbs nobody. While a team exists, BLAS uses one thread in each member.
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

from mlpprof.engines.members import WORKERS_VARIABLE, members_wanted
from mlpprof.errors import UnsupportedNetwork, WorkerDied
from mlpprof.model.interface import Array

Work = Callable[[int, int], None]
"""work(member, task): the part of a task that a member does."""

LINE = 8
"""A line of cache has this many numbers of 8 bytes. Every member writes into a line of its own."""
END = -1
"""A member that gets this task ends."""
SPINS = 100
"""A member looks this often before it first offers its core to others."""
AWAKE_S = 0.001
"""A member looks for its next task for this time before it goes to sleep."""
PATIENCE_S = 0.1
"""A member that waits checks at this interval whether the others still live, and whether there was a Ctrl-C."""
STOP_TIMEOUT_S = 1.0
"""Processes that have not ended by themselves after this time are killed, and threads are no longer waited for."""


class Counters:
    """Counters in shared memory by which the processes of a team wait for each other, and pipes that wake sleepers.

    Line 0 has the number of the call and its task; line k has the last call that member k has finished and whether the
    member sleeps. A number of 8 bytes is written and read as a whole. Taking a lock is a memory fence: it keeps the
    order of writes before and after it on processors that would change it.
    """

    def __init__(self, workers: int) -> None:
        self._numbers = memoryview(mmap.mmap(-1, 8 * LINE * workers)).cast("q")
        self._fence = threading.Lock()
        self._pipes = [os.pipe() for _ in range(1, workers)]
        for pipe in self._pipes:
            for end in pipe:
                os.set_blocking(end, False)

    def call(self, number: int, task: int) -> None:
        """Give all members the task of this call, and wake those that sleep."""
        self._numbers[1] = task
        self._order()
        self._numbers[0] = number
        self._order()
        for k, (_, bell) in enumerate(self._pipes, start=1):
            if self._numbers[LINE * k + 1]:
                with contextlib.suppress(BlockingIOError, BrokenPipeError):  # woken already, or ended
                    os.write(bell, b"!")

    def finished(self, member: int) -> int:
        return self._numbers[LINE * member]

    def finish(self, member: int, number: int) -> None:
        self._order()
        self._numbers[LINE * member] = number

    def task(self, member: int, number: int, parent: int) -> int:
        """Wait for the call of this number and return its task; END if the parent is gone."""
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
        for pipe in self._pipes:
            for end in pipe:
                with contextlib.suppress(OSError):
                    os.close(end)
        self._pipes = []

    def _order(self) -> None:
        with self._fence:
            pass


class Barrier:
    """A place within a task where the members of a team of processes wait for each other.

    It is made before they are forked. Line k has the number of times that member k has come here.
    """

    def __init__(self, workers: int) -> None:
        self._numbers = memoryview(mmap.mmap(-1, 8 * LINE * workers)).cast("q")
        self._workers = workers
        self._fence = threading.Lock()
        self._made_by = os.getpid()
        self._count = 0

    def wait(self, member: int, look: Callable[[], None]) -> None:
        """Return when all members have come.

        look: member 0 calls it at intervals while it waits; it may raise. The other members end if their parent is
        gone.
        """
        self._count += 1
        with self._fence:  # whoever sees the number also sees what was written before
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


def workers_wanted() -> int:
    """The size of a team: the value of --workers or MLPPROF_WORKERS, else the CPUs that this process may use.

    Raises UsageError if the variable holds anything but a whole number from 1.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return members_wanted(os.environ, WORKERS_VARIABLE, cpus)


def shared_zeros(shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
    """An array of zeros that this process shares with those that are forked later."""
    sizes = (shape,) if isinstance(shape, int) else shape
    count = int(np.prod(sizes))
    memory = mmap.mmap(-1, max(1, count * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype, count).reshape(sizes)


class ThreadTeam:
    """A team of threads of this process. They share all arrays, and also the interpreter's lock."""

    def __init__(self, workers: int, work: Work) -> None:
        self.workers = workers
        self._limits = threadpool_limits(1, "blas")
        self._tasks: list[queue.SimpleQueue[int]] = [queue.SimpleQueue() for _ in range(1, workers)]
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._open = 0
        threads = []
        for member, tasks in enumerate(self._tasks, start=1):
            arguments = member, work, tasks, self._done
            threads.append(threading.Thread(target=_serve_thread, args=arguments, daemon=True))
            threads[-1].start()
        self._finalizer = weakref.finalize(self, _end_threads, self._tasks, threads, self._limits)

    def go(self, task: int) -> None:
        """Make every other member do the task."""
        for tasks in self._tasks:
            tasks.put(task)
        self._open = len(self._tasks)

    def wait(self) -> None:
        """Return when all have finished; raises the exception of a member."""
        failure = None
        while self._open:
            try:
                # Ctrl-C ends the waiting for a lock, but not if it comes in the moment before the waiting begins.
                failure = self._done.get(timeout=PATIENCE_S) or failure
            except queue.Empty:
                continue
            self._open -= 1
        if failure is not None:
            raise failure

    def close(self) -> None:
        """End the threads and restore the threads of BLAS; a second call does nothing."""
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


def _end_threads(tasks: list[queue.SimpleQueue[int]], threads: list[threading.Thread], limits: Any) -> None:
    for tasks_of_member in tasks:
        tasks_of_member.put(END)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(STOP_TIMEOUT_S)
    limits.restore_original_limits()


class ProcessTeam:
    """A team of forked processes.

    pids: the processes of members 1, 2, ... Raises UnsupportedNetwork where the system cannot fork.
    """

    def __init__(self, workers: int, work: Work) -> None:
        if not hasattr(os, "fork"):
            raise UnsupportedNetwork("this system cannot fork processes; use the variant threaded")
        self.workers = workers
        self._limits = threadpool_limits(1, "blas")
        self._counters = Counters(workers)
        self._called = 0
        self.pids: list[int] = []
        parent = os.getpid()
        for member in range(1, workers):
            pid = _fork()
            if pid == 0:
                _serve_process(member, work, self._counters, parent)  # never returns
            self.pids.append(pid)
        self._finalizer = weakref.finalize(self, _end_processes, self.pids, self._counters, self._limits, parent)

    def go(self, task: int) -> None:
        self._called += 1
        self._counters.call(self._called, task)

    def wait(self) -> None:
        """Return when all have finished; raises WorkerDied, with the member's number, if one has ended."""
        for member in range(1, self.workers):
            self._wait_for(member)

    def _wait_for(self, member: int) -> None:
        looks, counters, called = 0, self._counters, self._called
        since = looked = time.perf_counter()
        while counters.finished(member) != called:
            looks += 1
            if looks < SPINS:
                continue
            os.sched_yield()  # with fewer cores than members, the awaited member may need this one
            now = time.perf_counter()
            if now - since > AWAKE_S:
                time.sleep(AWAKE_S / 20)
            if now - looked > PATIENCE_S:
                looked = now
                self.require_all_alive()

    def require_all_alive(self) -> None:
        """Raise WorkerDied, with the member's number, if one has ended."""
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
        """End the processes and restore the threads of BLAS; a second call does nothing."""
        self._finalizer()


def _fork() -> int:
    with warnings.catch_warnings():
        # Python warns that the locks of other threads stay taken in a child. The child needs none: it only runs NumPy.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _serve_process(member: int, work: Work, counters: Counters, parent: int) -> None:
    """Do the tasks of a member until the end, and exit without the parent's clean-up."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the parent, which ends its members
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        gc.disable()
        number = 1
        while (task := counters.task(member, number, parent)) != END:
            work(member, task)
            counters.finish(member, number)
            number += 1
    except BaseException:  # noqa: BLE001 - the parent sees the exit code, and the user the traceback
        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _end_processes(pids: list[int], counters: Counters, limits: Any, parent: int) -> None:
    if os.getpid() != parent:  # another fork of the parent
        return
    counters.call(1 << 62, END)
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
    counters.close()
    limits.restore_original_limits()


def _reaped(pid: int, options: int) -> bool:
    try:
        return os.waitpid(pid, options)[0] != 0
    except ChildProcessError:
        return True
