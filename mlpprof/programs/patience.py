"""In the worker: how long a program may run, and how it is ended then."""

from __future__ import annotations

import _thread
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlpprof.process import interrupt, raise_in
from mlpprof.programs.record.schedule import Enough
from mlpprof.programs.request import STILL_S


@dataclass(frozen=True)
class Patience:
    """A program that runs for so many seconds is ended. Some load data for a minute before they begin to train.

    loading_s: if no file that it has, or still imports, contains the step. waiting_s: if its step is not called.
    longest_step_s: if its first step still runs. still_s: if it has begun to make steps, and all its threads have stood
    at the same instructions for so long.
    """

    loading_s: float = 20.0
    waiting_s: float = 120.0
    longest_step_s: float = 20.0
    still_s: float = STILL_S


EVERY_S = 0.25
"""A running program is watched so often."""

WAITS = 8
"""If a program has not ended after so many attempts, it may be waiting for something, and gets a signal."""

GIVE_UP_S = 60.0
GIVEN_UP = f"mlpprof could not end the program within {GIVE_UP_S:.0f} seconds; it catches all exceptions, or waits"
"""After so many seconds of attempts to end a program, the worker ends with these words."""


@contextlib.contextmanager
def watched(is_hopeless: Callable[[float], bool], every_s: float = EVERY_S) -> Iterator[None]:
    """Run the block until it ends, or until `is_hopeless(seconds since its begin)` is true: then `Enough` ends it.

    `Enough` is raised in the thread that runs the block, repeatedly if the program catches it. The watching thread is
    unknown to Python's `threading`, so that a program that counts its threads finds only its own.
    """
    thread, stopped, lock = threading.get_ident(), threading.Event(), threading.Lock()
    begun_s = time.monotonic()
    times_raised = 0

    def watch() -> None:
        nonlocal times_raised
        while not stopped.wait(every_s):
            with lock:
                if not stopped.is_set() and is_hopeless(time.monotonic() - begun_s):
                    times_raised += 1
                    if times_raised * every_s > GIVE_UP_S:
                        os.write(2, GIVEN_UP.encode())
                        os._exit(1)
                    if times_raised % WAITS == 0 and thread == threading.main_thread().ident:
                        interrupt(thread)  # it may wait for something, and would not notice the exception
                    else:
                        raise_in(thread, Enough)

    try:
        _thread.start_new_thread(watch, ())
        yield
    except Enough:
        pass
    except BaseException:
        if not times_raised:  # else it comes from being ended in the middle
            raise
    finally:
        is_settled = False
        while not is_settled:
            try:
                with lock:
                    stopped.set()
                if times_raised:  # another one may still arrive
                    raise_in(thread, Settled)
                    while True:
                        pass
                is_settled = True
            except (Enough, KeyboardInterrupt):
                pass
            except Settled:
                is_settled = True


class Settled(BaseException):
    """Replaces an `Enough` that has not arrived yet.

    Taking that back would leave Python's flag for it set: the interpreter would then check for it at every loop turn
    and call, and line_profiler would never return.
    """
