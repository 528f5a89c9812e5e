"""What the processes of a team tell each other, and how they wait: counters in shared memory, a pipe for sleepers."""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import threading
import time
from collections.abc import Callable

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
