"""Work in a process of its own that has everything imported already: a fork of this one."""

from __future__ import annotations

import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

Value = TypeVar("Value")


@dataclass(frozen=True)
class Failure(Exception):
    """Work that gave no value. kind: 'late', or the name of the class of the exception; text: what it says."""

    kind: str
    text: str


def forked(work: Callable[[], Value], longest_s: float) -> Value:
    """What a function returns, in a fork with one BLAS thread. Raises Failure if it raises, ends, or takes longer."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        _answer(work, writer)
    os.close(writer)
    data, end_s = b"", time.monotonic() + longest_s
    try:
        while select([reader], [], [], max(0.0, end_s - time.monotonic()))[0]:
            part = os.read(reader, 1 << 20)
            data += part
            if not part:
                break
        else:
            raise Failure("late", f"it took longer than {longest_s:g} s")
    finally:
        os.close(reader)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    if not data:
        raise Failure("ended", "the process ended without an answer")
    is_value, value = pickle.loads(data)
    if not is_value:
        raise Failure(*value)
    made: Value = value
    return made


def _answer(work: Callable[[], Any], writer: int) -> None:
    """Write the value of the work, or what went wrong, into a pipe, and end this process at once."""
    try:
        with Path(os.devnull).open("w") as null, redirect_stdout(null), redirect_stderr(null), threadpool_limits(1):
            answer = (True, work())
    except BaseException as error:  # noqa: BLE001 a program may end with whatever it likes
        answer = (False, (type(error).__name__, str(error) or traceback.format_exc()))
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(pickle.dumps(answer))
    os._exit(0)
