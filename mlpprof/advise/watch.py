"""Ends a program, from outside, that would run on although what is waited for cannot come."""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterator

from mlpprof.advise.steps import Enough

EVERY_S = 0.25


@contextlib.contextmanager
def watched(is_hopeless: Callable[[float], bool], every_s: float = EVERY_S) -> Iterator[None]:
    """Run the block until it ends, or `is_hopeless(seconds since its begin)` is true: then `Enough` ends it.

    `Enough` is raised in the thread that runs the block, again and again if the program catches it. What asks is a
    thread that Python's `threading` does not know of, so that a program that counts threads finds its own.
    """
    thread, stopped, lock = threading.get_ident(), threading.Event(), threading.Lock()
    begun_s = time.monotonic()

    has_raised = threading.Event()

    def watch() -> None:
        while not stopped.wait(every_s):
            with lock:
                if not stopped.is_set() and is_hopeless(time.monotonic() - begun_s):
                    has_raised.set()
                    _raise_in(thread, Enough)

    try:
        _thread.start_new_thread(watch, ())
        yield
    except Enough:
        pass
    finally:
        is_settled = False
        while not is_settled:
            try:
                with lock:
                    stopped.set()
                if has_raised.is_set():  # and one may still be on its way
                    _raise_in(thread, Settled)
                    while True:
                        pass
                is_settled = True
            except Enough:
                pass
            except Settled:
                is_settled = True


class Settled(BaseException):
    """Takes the place of an `Enough` that has not come yet.

    To take that back would leave Python's flag for it set: the interpreter would look for it at every turn and call
    from then on, and line_profiler would never return.
    """


def _raise_in(thread: int, kind: type[BaseException]) -> None:
    """Have a thread raise an exception before its next instruction of Python's; the latest replaces one to come."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))
