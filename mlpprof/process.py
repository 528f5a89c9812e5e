"""A worker is a process that runs a user's code for mlpprof, in an environment of its own.

BLAS threads, the BLAS kernel and the allocator are fixed when a process starts, and a crash of the user's code must not
end mlpprof. Therefore all code that runs a variant or a program runs in a worker. Both sides send lines of JSON: calls
over the worker's standard input, answers over its original standard output. An answer begins with a token that the call
has brought along, so that nothing else is taken for one that the user's code writes there. What the user's code prints
goes to a file; if the worker dies, its last line is shown. A worker whose code makes no progress is asked where that
code is, and is ended after a time limit. The worker ends when its input closes, so it ends even if mlpprof is killed.
A program that runs in a worker finds the signal handlers, threads and module path that it finds under plain Python.
"""

from __future__ import annotations

import _thread
import ast
import contextlib
import ctypes
import faulthandler
import gc
import json
import linecache
import math
import os
import queue
import re
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

import platformdirs
import psutil

from mlpprof import errors
from mlpprof.allowance import WATCHED_EVERY_S, allowed, session_members
from mlpprof.engines.mpiexec import dead_rank, launched_program, lost_machine
from mlpprof.errors import MlpprofError, OverAllowance, TimeLimit, UsageError, VariantCrash, WorkerDied, WorkerKilled

Handler = Callable[..., Any]
Progress = Callable[[str, float], None]
"""A function that shows progress: what is being done, and the share of the whole that is done, from 0 to 1."""


def part_of(progress: Progress, begin: float, share: float, name: str = "") -> Progress:
    """The progress of a part, which begins at `begin` and is `share` of the whole; its name is shown first."""

    def part(what: str, done: float) -> None:
        progress(f"{name}: {what}" if name else what, min(1.0, begin + share * min(1.0, done)))

    return part


LineName = Callable[[str, int], str]
"""The name of a line of a file, for the user."""

PACKAGE_PARENT = str(Path(__file__).resolve().parent.parent)
SEARCH_PATH = (
    "import sys; sys.path[:1] == [''] and sys.path.pop(0); "
    f"{PACKAGE_PARENT!r} in sys.path or sys.path.append({PACKAGE_PARENT!r})"
)
"""Statements that take the working directory off the path of modules, where a user's file could shadow one of ours, and
add mlpprof itself if it is not installed. The option -P would do the former, but programs see it in `sys.flags`."""

NOTHING = "pass"
"""A statement that does nothing."""

SHARED_BY_COMPILED = Path(__file__).resolve().parent / "engines"
STOP_TIMEOUT_S = 2.0

TIME_LIMIT_VARIABLE = "MLPPROF_TIME_LIMIT"
TIME_LIMIT_S = 120.0
"""A worker is ended if its code makes no progress for so many seconds, unless the variable has another number."""

ASKED_EVERY_S = 10.0
"""A worker that is silent for so many seconds is asked where its code is, again and again."""

ANSWER_S = 2.0
"""A worker says within so many seconds where its code is, unless that is native code that lets no other thread run."""

BEAT_S = 5.0
"""A worker whose code moves on says so at most this often."""

WHERE = "where\n"
"""The question to a worker where its code is."""

LIBRARIES = tuple({str(Path(sysconfig.get_path(name)).resolve()) + os.sep for name in ("stdlib", "purelib", "platlib")})
PACKAGE = str(Path(__file__).resolve().parent) + os.sep
_leave = os._exit

_AGAIN = "another program, or you, sent this signal; run the command again"
KILLED_FROM_OUTSIDE = {
    "SIGKILL": "if memory was short, use a smaller batch or data set; otherwise, run the command again",
    "SIGTERM": _AGAIN,
    "SIGHUP": _AGAIN,
    "SIGINT": _AGAIN,
}
"""What to do if one of these signals ended a worker: it says nothing about the code that the worker ran."""

ORPHAN_S = 5.0
"""If its input has closed and nobody has killed it, a worker kills itself after so many seconds."""


def compiled_code_folder() -> str:
    """The folder where numba keeps machine code between processes; by default it would be beside the variant's file.

    numba checks whether the file of a function has changed, but not whether the functions that it calls have changed.
    Therefore each version of the functions that variants share has a folder of its own.
    """
    version = zlib.crc32(b"".join(file.read_bytes() for file in sorted(SHARED_BY_COMPILED.glob("*.py"))))
    return str(Path(platformdirs.user_cache_dir("mlpprof", appauthor=False)) / "numba" / f"{version:08x}")


class Worker:
    """One worker process; a context manager that ends the process and its children when the block ends.

    module: the dotted name of a module with a function `main()` that calls `serve`. environment: the whole environment
    of the process. mpiexec: the command that starts the worker as rank 0 of several, if it is an MPI program. before: a
    statement that runs before the module is imported, while the process has no threads of BLAS yet. limit_s: the worker
    is ended if its code makes no progress for so long; None takes the limit of `--time-limit`. runs: what it runs, for
    messages. An error that the worker raises is raised here again, as the same kind. A worker that is started within
    `allowing` is watched: if its code uses too much, it is ended.
    """

    def __init__(
        self,
        module: str,
        environment: Mapping[str, str],
        mpiexec: Sequence[str] = (),
        before: str = NOTHING,
        limit_s: float | None = None,
        runs: str = "",
    ) -> None:
        self._what = f"the worker process of {runs}" if runs else "the worker process"
        self._log = tempfile.TemporaryFile("w+", prefix="mlpprof-worker-", errors="replace")  # noqa: SIM115 - see close
        self._limit_s = time_limit_s() if limit_s is None else limit_s
        self._allowance = allowed()
        self._is_alone = not mpiexec
        self._token = secrets.token_hex(8)
        main = launched_program(module, mpiexec) if mpiexec else f"from {module} import main; main()"
        self._process = subprocess.Popen(
            [*mpiexec, sys.executable, "-c", f"{SEARCH_PATH}; {before}; {main}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={"NUMBA_CACHE_DIR": compiled_code_folder(), **environment},
            start_new_session=True,  # Ctrl-C in the terminal reaches only the parent, which then ends the worker
        )
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, name: str, progress: Progress | None = None, **arguments: Any) -> Any:
        """Call the worker's handler `name` and return its answer, which is JSON.

        Raises the MlpprofError that the handler raised, WorkerDied if the process ended without an answer, TimeLimit
        if its code made no progress for too long, or OverAllowance if it used more than its allowance.
        """
        watch = self._watch()
        self._say(json.dumps({"call": name, "arguments": arguments, "token": self._token}) + "\n")
        share, moved_s = 0.0, time.monotonic()
        asked_s, has_begun = moved_s, False
        while True:
            silent_s = time.monotonic() - moved_s
            if silent_s >= self._limit_s:
                self._give_up()
            message = self._received(min(watch(), ASKED_EVERY_S, self._limit_s - silent_s))
            if message is None:
                if self._limit_s < math.inf and time.monotonic() - max(asked_s, moved_s) >= ASKED_EVERY_S:
                    asked_s = time.monotonic()
                    self._say(WHERE)
            elif "where" in message:
                if progress is not None:
                    progress(f"waiting for {message['where']}, up to {self._limit_s:.0f} s", share)
            elif "progress" in message:
                if not has_begun:  # imports of mlpprof do not count as use of the code
                    has_begun, watch = True, self._watch()
                what, share = message["progress"]
                if progress is not None:
                    progress(what, share)
                moved_s = time.monotonic()
            elif "beat" in message:
                moved_s = time.monotonic()
            elif "error" in message:
                raise revive(message["error"])
            else:
                return message["answer"]

    def _watch(self) -> Callable[[], float]:
        """Begin to watch a call: a function that ends the worker if it uses too much, or returns when to look again."""
        allowance = self._allowance
        if allowance is None:
            return lambda: math.inf
        begun_s, before, due_s = time.monotonic(), allowance.use_of(self.pid), 0.0

        def watch() -> float:
            nonlocal due_s
            if (now_s := time.monotonic()) >= due_s:
                due_s = now_s + WATCHED_EVERY_S
                use = allowance.use_of(self.pid)
                use = replace(use, processor_s=use.processor_s - before.processor_s)
                did, advice = allowance.exceeded(use, now_s - begun_s, os.fstat(self._log.fileno()).st_size)
                if did:
                    place = self._place_at_end()
                    _end_session(self.pid)
                    at = f" at {place}" if place else ""
                    raise OverAllowance(f"the code {did}, so it was ended{at}. {advice}")
            return max(0.0, due_s - now_s)

        return watch

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode("ascii"))
            self._process.stdin.flush()
        except OSError as error:
            raise self._death() from error

    def _read(self) -> None:
        """In a thread of its own, because only that can wait for a pipe up to a time limit on every system."""
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                self._lines.put(line)
        self._lines.put(None)

    def _received(self, within_s: float) -> dict[str, Any] | None:
        """The next message of the worker, None if there is none in time. Raises WorkerDied if none comes any more."""
        end_s = time.monotonic() + within_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end_s - time.monotonic()))
            except queue.Empty:
                return None
            if line is None:
                self._lines.put(None)  # for the next call
                raise self._death()
            # others write here too: mpiexec if a rank has died, and perhaps the user's code
            _, token, text = line.rpartition(self._token.encode("ascii"))
            if token:
                return dict(json.loads(text))

    def _give_up(self) -> NoReturn:
        """Raise TimeLimit with the place of the code."""
        self._say(WHERE)
        place, end_s = None, time.monotonic() + ANSWER_S
        while place is None and (message := self._received(end_s - time.monotonic())) is not None:
            place = message.get("where")
        if place is None:  # native code lets no other thread answer
            place = self._place_at_end()
        network = "" if self._is_alone else " See whether the machines of all ranks still run."
        raise TimeLimit(
            f"the code made no progress for {self._limit_s:.0f} seconds and was ended; it was at "
            f"{place or 'an unknown line'}.{network} If it waits for something or runs for ever, change that; if it "
            "needs longer, raise --time-limit"
        )

    def _place_at_end(self) -> str | None:
        """Abort the process, which then prints where it is; returns that line of the user's code, None if unknown."""
        if not self._is_alone or os.name != "posix":
            return None
        self._process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ANSWER_S)
            return _place_in_loop(self._printed())
        return None

    def close(self) -> None:
        """End the worker and all processes that it has started; does nothing if they have ended already."""
        if self._process.poll() is None:
            family = _family(self._process.pid)
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):  # the worker may have ended just now
                self._process.stdin.close()  # asks the worker to end
            _, alive = psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
            for process in alive:
                process.kill()
            self._process.wait()
        _end_session(self._process.pid)  # also children whose own parent has died
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):  # unsent input of a process that died
                self._process.stdin.close()
        self._reader.join(STOP_TIMEOUT_S)
        self._log.close()

    def last_lines(self, count: int) -> list[str]:
        """The last lines that the worker has printed, without empty ones.

        Call it only between calls, because it moves the position at which the worker continues to write.
        """
        return [line.rstrip() for line in self._printed().splitlines() if line.strip()][-count:]

    def _printed(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def _death(self) -> WorkerDied:
        code = self._process.wait()
        name = signal.Signals(-code).name if code < 0 else ""
        how = f"was killed by {name}" if name else f"ended with exit code {code}"
        lost = lost_machine(self._printed())
        if lost is not None:
            return WorkerDied(
                f"the connection to {lost or 'a machine of the hostfile'} was lost, so all ranks have ended; run the "
                "command again, which shows the machines that cannot be reached"
            )
        rank = dead_rank(self._printed())
        if rank is not None:
            return WorkerDied(f"{rank}, before rank 0 had answered")
        if name in KILLED_FROM_OUTSIDE:
            return WorkerKilled(f"{self._what} {how} before it answered; {KILLED_FROM_OUTSIDE[name]}")
        place = _place_of_crash(self._printed())
        *others, words = ["", *self.last_lines(2)]
        if (left := _LEFT.match(words)) is not None:
            how, words = f"{how} ({left[1]})", others[-1]
        hint = f"; it was at {place}" if place else f"; its last line of output: {words}" if words else ""
        return WorkerDied(f"{self._what} {how} before it answered{hint}")


def serve(handlers: Mapping[str, Callable[..., Any]], place: LineName | None = None) -> None:
    """Answer calls in the worker until its input closes.

    Every handler takes the keyword arguments of the call, and `report`, a Progress. It returns a value for JSON. place:
    the name of a line of code.
    """
    gc.freeze()  # garbage is collected often while a program runs, and nothing that is imported by now is garbage
    place = place or file_line
    inputs = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # From here on, what the user's code prints or reads is separate from calls and answers.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if hasattr(
        os, "register_at_fork"
    ):  # a forked child would keep the pipe open, and the parent waiting, if this process dies
        os.register_at_fork(after_in_child=answers.close)
        os.register_at_fork(after_in_child=lambda: PULSE.connect(None))
    faulthandler.enable()
    main_thread = threading.main_thread().ident or 0  # calls may be answered in another one, while a program runs in it
    _name_exits()
    sending, token = threading.Lock(), ""

    def send(message: Mapping[str, Any]) -> None:
        with sending:
            answers.write(token + json.dumps(message) + "\n")
            answers.flush()

    def report(what: str, share: float) -> None:
        send({"progress": [what, share]})

    def say_where() -> None:
        with contextlib.suppress(OSError, ValueError):  # the parent has ended meanwhile
            send({"where": code_place(sys._current_frames().get(main_thread), place)})

    calls: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    is_busy = threading.Event()
    # Python's `threading` does not know this thread, so that a program that counts its threads finds only its own.
    _thread.start_new_thread(_listen, (inputs, calls, main_thread, is_busy, say_where))
    PULSE.connect(send)
    while (line := calls.get()) is not None:
        call = json.loads(line)
        token = call["token"]
        is_busy.set()
        try:
            answer = handlers[call["call"]](report=report, **call["arguments"])
        except MlpprofError as error:
            send(_error(error))
        except KeyboardInterrupt as stop:
            if inputs.closed:
                raise
            send(_error(interrupted(_raised_at(stop, place))))
        else:
            send({"answer": answer})
        is_busy.clear()


def interrupted(place: str) -> VariantCrash:
    """The error of code that raised KeyboardInterrupt: Ctrl-C in the terminal does not reach a worker."""
    return VariantCrash(
        f"{place} raised KeyboardInterrupt; change that, or, if another program sent SIGINT, run the command again"
    )


def _error(error: MlpprofError) -> dict[str, Any]:
    return {"error": {"kind": type(error).__name__, "message": str(error)}}


class Pulse:
    """In a worker: shows the parent that the code moves on, so that it is not ended. Elsewhere it does nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._send: Callable[[Mapping[str, Any]], None] | None = None
        self._last_s, self._sign = 0.0, None

    def connect(self, send: Callable[[Mapping[str, Any]], None] | None) -> None:
        """Where beats are sent to; None in a child, which is not the worker."""
        self._send = send

    def beat(self, sign: Any = None) -> None:
        """The code moves on. sign: something that is another when it does; None is always another."""
        if self._send is None or self._clock() - self._last_s < BEAT_S or (sign is not None and sign == self._sign):
            return
        self._last_s, self._sign = self._clock(), sign
        self._send({"beat": True})


PULSE = Pulse()


def time_limit_s() -> float:
    """The time limit of workers in seconds. Raises UsageError if the variable for it has no such number."""
    text = os.environ.get(TIME_LIMIT_VARIABLE)
    try:
        limit_s = TIME_LIMIT_S if text is None else float(text)
    except ValueError:
        limit_s = 0.0
    if not limit_s > 0:
        raise UsageError(f"{TIME_LIMIT_VARIABLE}={text}: expected a number of seconds, such as {TIME_LIMIT_S:.0f}")
    return limit_s


def file_line(file: str, line: int) -> str:
    """'mine.py:12'."""
    return f"{Path(file).name}:{line}"


def is_of_user(file: str) -> bool:
    """Whether a file of source code is of no library and not of mlpprof; the ladder counts as the user's."""
    full = os.path.realpath(file)
    return not file.startswith("<") and not full.startswith(LIBRARIES) and not full.startswith(PACKAGE)


def code_place(frame: FrameType | None, place: LineName = file_line) -> str:
    """The innermost line of the user's code among the callers of a frame, with its text."""
    found = own_line(frame, is_of_user)
    return "none of the code's own lines" if found is None else with_text(*found, place)


def own_line(frame: FrameType | None, is_own: Callable[[str], bool]) -> tuple[str, int] | None:
    """File and number of the innermost line, among the callers of a frame, whose file counts as own; None if none."""
    while frame is not None:
        if is_own(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def with_text(file: str, line: int, place: LineName) -> str:
    """'mine.py:12 (`lock.acquire()`)'."""
    text = linecache.getline(file, line).strip()
    return place(file, line) + (f" (`{text}`)" if text else "")


def _raised_at(error: BaseException, place: LineName) -> str:
    """The innermost line of the user's code that an exception has passed."""
    found, trace = "a line outside of your code", error.__traceback__
    while trace is not None:
        if is_of_user(trace.tb_frame.f_code.co_filename):
            found = place(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return found


def _name_exits() -> None:
    """From now on, this process leaves a line that says who has called `os._exit`, which runs no other code."""
    process = os.getpid()

    def leave(status: int) -> NoReturn:
        frame = sys._getframe(1)
        if os.getpid() == process and is_of_user(frame.f_code.co_filename):
            line = file_line(frame.f_code.co_filename, frame.f_lineno)
            os.write(2, f"\nmlpprof: {line} called os._exit({status})\n".encode())
        _leave(status)

    os._exit = leave


_LEFT = re.compile(r"mlpprof: (.+ called os\._exit\(.*\))$")
_CRASH = re.compile(r'^  File "(.+)", line (\d+) in ', re.MULTILINE)


def _lines_of_crash(printed: str) -> list[tuple[str, int]]:
    """The lines of the user's code in what `faulthandler` has printed, the innermost first."""
    _, fatal, stack = printed.rpartition("Fatal Python error: ")
    files = _CRASH.findall(stack) if fatal else []
    return [(file, int(line)) for file, line in files if is_of_user(file)]


def _place_of_crash(printed: str) -> str | None:
    """The innermost line of the user's code in what `faulthandler` has printed."""
    return next((file_line(*line) for line in _lines_of_crash(printed)), None)


def _place_in_loop(printed: str) -> str | None:
    """The same, and the `while` loop that it is in, which may be in a function that has called the one of this line."""
    found = _lines_of_crash(printed)
    around = next((loop for line in found if (loop := while_around(*line)) is not None), None)
    if around is None or around == found[0]:
        return _place_of_crash(printed)
    return f"{file_line(*found[0])}, in the loop of {file_line(*around)}"


def while_around(file: str, line: int) -> tuple[str, int] | None:
    """File and line of the innermost `while` loop around a line of a file; None if there is none."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    loops = [n for n in ast.walk(tree) if isinstance(n, ast.While) and n.lineno <= line <= (n.end_lineno or n.lineno)]
    return (file, max(loop.lineno for loop in loops)) if loops else None


def _listen(
    inputs: TextIO,
    calls: queue.SimpleQueue[str | None],
    main: int,
    is_busy: threading.Event,
    say_where: Callable[[], None],
) -> None:
    """Put calls into a queue; if the parent ends, end this process even in the middle of a call.

    main: the main thread. Its `finally` blocks, and those of the user's code, run as after Ctrl-C.
    """
    for line in inputs:
        if line == WHERE:
            say_where()
        else:
            calls.put(line)
    inputs.close()
    calls.put(None)
    if is_busy.is_set():
        interrupt(main)
    time.sleep(ORPHAN_S)
    _end_group(os.getpid())
    _leave(1)


def interrupt(thread: int) -> None:
    """Raise KeyboardInterrupt in the main thread, which is `thread`, without a signal handler that programs would see.

    A signal ends waiting calls too, such as `time.sleep`; a program that handles or ignores it gets the bare exception.
    """
    if hasattr(signal, "pthread_kill") and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.pthread_kill(thread, signal.SIGINT)
    else:
        raise_in(thread, KeyboardInterrupt)


def raise_in(thread: int, kind: type[BaseException]) -> None:
    """Let a thread raise an exception before its next Python instruction; it replaces one that has not arrived yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


def revive(error: Mapping[str, str]) -> Exception:
    """The exception of another process, from the name of its kind and its message."""
    kind = getattr(errors, error["kind"], MlpprofError)
    revived: Exception = kind(error["message"])
    return revived


def _end_group(pid: int) -> None:
    """Kill the rest of the process group of a worker, on systems with process groups."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # no process is left, or only zombies
            os.killpg(pid, signal.SIGKILL)


def _end_session(pid: int) -> None:
    """Kill the process group of a worker, then what is left of its session: children that made a group of their own."""
    _end_group(pid)
    for member in session_members(pid) if hasattr(os, "getsid") else ():
        with contextlib.suppress(OSError):
            os.kill(member, signal.SIGKILL)


def _family(pid: int) -> list[psutil.Process]:
    """The process and all its living descendants."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
