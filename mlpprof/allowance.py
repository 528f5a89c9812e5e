"""What the code of a worker may use if nobody has read that code: time, memory, output and processes.

The process that started the worker watches it from outside. The limits of the operating system would not do: some of
them do not bind root, and a limit on processes counts those of the whole account.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import psutil

WATCHED_EVERY_S = 0.5
"""A worker with an allowance is looked at this often, which takes less than a millisecond."""


@dataclass(frozen=True)
class Use:
    """What the processes of a session use: processor time since they began, resident memory, and their number."""

    processor_s: float
    memory_bytes: int
    processes: int


def session_members(session: int) -> list[int]:
    """The processes of a session, the orphans among them included; only the first one where there are no sessions."""
    if not hasattr(os, "getsid"):
        return [session]
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError):  # it has ended meanwhile, or belongs to somebody else
            if os.getsid(pid) == session:
                found.append(pid)
    return found


def use_of(session: int) -> Use:
    """What the processes of a session use at this moment."""
    processor_s, memory, members = 0.0, 0, session_members(session)
    for pid in members:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            times = process.cpu_times()
            processor_s += times.user + times.system
            memory += process.memory_info().rss
    return Use(processor_s, memory, len(members))


@dataclass(frozen=True)
class Allowance:
    """What one call of a worker may use.

    processor_s: a loop without end uses it up, however busy the machine is. wall_s: code that waits uses up this.
    use_of: measures the session of a worker; a test hands in a fake one.
    """

    processor_s: float = 20.0
    wall_s: float = 50.0
    memory_bytes: int = 2 << 30
    output_bytes: int = 10 << 20
    processes: int = 32
    use_of: Callable[[int], Use] = use_of

    def exceeded(self, use: Use, wall_s: float, output_bytes: int) -> tuple[str, str]:
        """Return what the code did beyond its allowance, and what to do about it; two empty texts if it did nothing.

        use: processor time since the call began. wall_s: time since then. output_bytes: what the worker has printed.
        """
        if use.processes > self.processes:
            return (
                f"started {use.processes} processes, and {self.processes} are allowed",
                "Remove the statement that starts processes",
            )
        if use.memory_bytes > self.memory_bytes:
            return (
                f"used {use.memory_bytes / 1e9:.1f} GB of memory, and {self.memory_bytes / 1e9:.1f} GB are allowed",
                "Does an array have the wrong shape, or does a list grow in a loop?",
            )
        if output_bytes > self.output_bytes:
            return (
                f"printed {output_bytes / 1e6:.0f} MB, and {self.output_bytes / 1e6:.0f} MB are allowed",
                "Remove the print, and look for a loop that never ends",
            )
        if use.processor_s > self.processor_s or wall_s > self.wall_s:
            spent = self.processor_s if use.processor_s > self.processor_s else self.wall_s
            return f"ran for more than {spent:g} seconds", "Is there a loop that never ends, or something that waits?"
        return "", ""


_ALLOWED: ContextVar[Allowance | None] = ContextVar("allowed", default=None)


def allowed() -> Allowance | None:
    """The allowance of the workers that are started now; None if they have none."""
    return _ALLOWED.get()


@contextlib.contextmanager
def allowing(allowance: Allowance) -> Iterator[None]:
    """A context in which each worker that is started, by whatever is called here, gets this allowance."""
    token = _ALLOWED.set(allowance)
    try:
        yield
    finally:
        _ALLOWED.reset(token)
