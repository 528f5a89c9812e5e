"""In the worker: what a program does besides computing, which explains why mlpprof sees no training step."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

from mlpprof.process import own_line, with_text
from mlpprof.programs.notebook import place_of

PROCESSES = frozenset(("subprocess.Popen", "os.fork", "os.forkpty", "os.system", "os.posix_spawn"))
"""Python's audit events of new processes. If multiprocessing spawns one there is none, but it imports a module."""

SPAWNS = "multiprocessing.popen_"

WINDOWS = ("tkinter", "PyQt5", "PyQt6", "PySide2", "PySide6", "wx", "pygame", "pyglet")
"""Libraries that open windows."""

WAITS_FOR_KEYS = ("cv2", "waitKey")
"""A library that does much else beside opening windows, and its function that waits for one."""

FRAMEWORKS = ("torch", "tensorflow", "jax", "keras", "sklearn", "mxnet")
"""Libraries that train by themselves."""

HERE = ("localhost", "127.", "::1")
"""Hosts with these beginnings are this machine."""

MUCH_S, MUCH = 0.3, 0.5
"""Other processes do the work if they use so many seconds, and at least this share of the time that this one uses."""


TRAINS = (
    "If it only defines a network, name the script that trains it. If it trains, name its step with --step "
    "Class.method, or with --step LINE, the line number of its training loop"
)
SLOW = (
    "If it needs longer until it trains, let it use less data, or wait longer with --time-limit 600, for instance. If "
    "it trains already, name its step with --step Class.method, or with --step LINE, the line number of its training "
    "loop"
)
"""What helps where there is no sign of the reason."""


FAILED = (
    "the training has failed there. Calculations with such values can be many times slower, so the times and findings "
    "are not those of a training that works. A smaller learning rate may help"
)
"""The end of a sentence about values that are NaN or infinite."""


class Signs:
    """What a program does besides computing. is_own: whether a path is one of its own files.

    stopped: where the program was when mlpprof gave up waiting, as a part of a sentence; None if it did not.
    """

    def __init__(self, is_own: Callable[[str], bool]) -> None:
        self._is_own = is_own
        self._loaded = frozenset(sys.modules)
        self._begun_s = time.process_time()
        self.stopped: str | None = None
        self._before_s, self._other_s = _seconds_of_children(), 0.0
        self._connection: tuple[str, str] | None = None
        self._starts_processes: str | None = None

    def watch(self) -> None:
        """Watch from now on until the process ends, because an audit hook cannot be removed."""
        sys.addaudithook(self._audit)

    def give_up(self, after_s: float) -> bool:
        """Note where the program is; call it from another thread. True, for use as the end of a condition."""
        self._other_s = _seconds_of_children() - self._before_s  # now, since they may end with the program
        self.stopped = self.stopped or f"after {after_s:.0f} seconds the program was still at {self.here()}"
        return True

    def without_step(self) -> str:
        """The end of a sentence that no step was seen: what the program did instead, and what helps."""
        reason = self.reason(self.stopped is None)
        if self.stopped is None:
            return f"the program ran to its end{f': {reason}' if reason else f'. {TRAINS}'}"
        return f"{self.stopped}. {reason[0].upper() + reason[1:] if reason else SLOW}"

    def here(self) -> str:
        """The line of the program's own that the main thread is at, with its text; for another thread to call."""
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        found = own_line(frame, self._is_own)
        if found is None:
            return "none of its own lines"
        return with_text(*found, lambda file, line: place_of(file, line).text)

    def reason(self, has_ended: bool) -> str | None:
        """A sentence about the most likely reason why no step was seen, with what helps; None if there is no sign.

        has_ended: whether the program has run to its end.
        """
        other_s = max(self._other_s, _seconds_of_children() - self._before_s)
        if other_s > max(MUCH_S, MUCH * (time.process_time() - self._begun_s)):
            return (
                f"other processes, which {self._starts_processes or 'the program'} starts, do most of the work "
                f"({other_s:.0f} seconds of CPU time). mlpprof looks into one process: let the program train in its "
                "own process, with a single worker for instance"
            )
        if not has_ended and self._connection is not None:
            place, host = self._connection
            return (
                f"it seems to download: {place} connects to {host}. Run the program once with python, so that its "
                "data are on this machine, and then run mlpprof again"
            )
        if not has_ended and (window := self._new(WINDOWS) or self._waits_for_keys()):
            return (
                f"it uses {window}, and seems to wait until you close a window. Let it train without the window, with "
                "an option of its own after -- for instance"
            )
        if framework := self._new(FRAMEWORKS):
            return (
                f"it uses {framework}, whose operations mlpprof does not look into. mlpprof analyses networks that are "
                "written with NumPy"
            )
        return None

    def _waits_for_keys(self) -> str | None:
        library, function = WAITS_FOR_KEYS
        return library if library in sys.modules and function in (self.stopped or "") else None

    def _new(self, modules: tuple[str, ...]) -> str | None:
        """The first of these modules that the program has loaded."""
        return next((name for name in modules if name in sys.modules and name not in self._loaded), None)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in PROCESSES or (event == "import" and str(arguments[0]).startswith(SPAWNS)):
            self._starts_processes = self._starts_processes or self._place()
        elif self._connection is None and (host := _host(event, arguments)) is not None:
            place = self._place()
            self._connection = None if place is None else (place, host)

    def _place(self) -> str | None:
        """The innermost of the program's own lines that run in this thread."""
        found = own_line(sys._getframe(2), self._is_own)
        return None if found is None else place_of(*found).text


def _host(event: str, arguments: tuple[Any, ...]) -> str | None:
    """The host on the network that the event is about."""
    host: Any = None
    if event == "urllib.Request":
        scheme, _, rest = str(arguments[0]).partition("://")
        host = None if scheme == "file" else rest.partition("/")[0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    text = host.decode(errors="replace") if isinstance(host, bytes) else host
    return text if isinstance(text, str) and text and not text.startswith(HERE) else None


def _seconds_of_children() -> float:
    """CPU time of the processes that this one has started, of those that live and of those that have ended."""
    times = psutil.Process().cpu_times()
    total = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    for child in psutil.Process().children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.Error:
            continue
        total += spent.user + spent.system
    return float(total)


class Stillness:
    """How long all threads have stood at the same instructions, as if they waited for something that never comes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at: dict[int, tuple[int, int]] = {}
        self._since_s = clock()

    def seconds(self) -> float:
        """Call it regularly, from a thread that does not count."""
        me = threading.get_ident()
        at = {thread: (id(one), one.f_lasti) for thread, one in sys._current_frames().items() if thread != me}
        if at != self._at:
            self._at, self._since_s = at, self._clock()
        return self._clock() - self._since_s
