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
from mlpprof.model.board import AWAKE_S, END, PATIENCE_S, SPINS, Board
from mlpprof.model.interface import Array

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
