"""A worker is a process that runs a user's code for mlpprof, in an environment of its own.

BLAS threads, the BLAS kernel and the allocator are fixed when a process starts, and a crash of the user's code must not
end mlpprof. Therefore all code that runs a variant or a program runs in a worker. Both sides send lines of JSON: calls
over the worker's standard input, answers over its original standard output. What the user's code prints goes to a file;
if the worker dies, its last line is shown. The worker ends when its input closes, so it ends even if mlpprof is killed.
A program that runs in a worker finds the signal handlers, threads and module path that it finds under plain Python.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import gc
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import platformdirs
import psutil

from mlpprof import errors
from mlpprof.engines.mpiexec import dead_rank, launched_program
from mlpprof.errors import MlpprofError, WorkerDied

Handler = Callable[..., Any]
Progress = Callable[[str, float], None]
"""A function that shows progress: what is being done, and the share of the whole that is done, from 0 to 1."""

PACKAGE_PARENT = str(Path(__file__).resolve().parent.parent)
SEARCH_PATH = (
    "import sys; sys.path[:1] == [''] and sys.path.pop(0); "
    f"{PACKAGE_PARENT!r} in sys.path or sys.path.append({PACKAGE_PARENT!r})"
)
"""Statements that take the working directory off the path of modules, where a user's file could shadow one of ours, and
add mlpprof itself if it is not installed. The option -P would do the former, but programs see it in `sys.flags`."""

NOTHING = "pass"
"""A statement that does nothing."""

SHARED_BY_COMPILED = Path(__file__).resolve().parent / "engines" / "numba_passes.py"
STOP_TIMEOUT_S = 2.0
ORPHAN_S = 5.0
"""If its input has closed and nobody has killed it, a worker kills itself after so many seconds."""


def compiled_code_folder() -> str:
    """The folder where numba keeps machine code between processes; by default it would be beside the variant's file.

    numba checks whether the file of a function has changed, but not whether the functions that it calls have changed.
    Therefore each version of the functions that variants share has a folder of its own.
    """
    version = zlib.crc32(SHARED_BY_COMPILED.read_bytes())
    return str(Path(platformdirs.user_cache_dir("mlpprof", appauthor=False)) / "numba" / f"{version:08x}")


class Worker:
    """One worker process; a context manager that ends the process and its children when the block ends.

    module: the dotted name of a module with a function `main()` that calls `serve`. environment: the whole environment
    of the process. mpiexec: the command that starts the worker as rank 0 of several, if it is an MPI program. before: a
    statement that runs before the module is imported, while the process has no threads of BLAS yet. An error that the
    worker raises is raised here again, as the same kind.
    """

    def __init__(
        self, module: str, environment: Mapping[str, str], mpiexec: Sequence[str] = (), before: str = NOTHING
    ) -> None:
        self._log = tempfile.TemporaryFile("w+", prefix="mlpprof-worker-", errors="replace")  # noqa: SIM115 - see close
        main = launched_program(module, mpiexec) if mpiexec else f"from {module} import main; main()"
        self._process = subprocess.Popen(
            [*mpiexec, sys.executable, "-c", f"{SEARCH_PATH}; {before}; {main}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={"NUMBA_CACHE_DIR": compiled_code_folder(), **environment},
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal reaches only the parent, which then ends the worker
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, name: str, progress: Progress | None = None, **arguments: Any) -> Any:
        """Call the worker's handler `name` and return its answer, which is JSON.

        Raises the MlpprofError that the handler raised, or WorkerDied if the process ended without an answer.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"call": name, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, OSError) as error:
            raise self._death() from error
        for line in self._process.stdout:
            if not line.startswith("{"):
                continue  # mpiexec prints here that a rank has died
            message = json.loads(line)
            if "progress" in message:
                if progress is not None:
                    progress(*message["progress"])
            elif "error" in message:
                raise _revive(message["error"])
            else:
                return message["answer"]
        raise self._death()

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
        _end_group(self._process.pid)  # also children whose own parent has died
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                with contextlib.suppress(OSError):  # unsent input of a process that died
                    stream.close()
        self._log.close()

    def last_words(self) -> str:
        """The last line that the worker has printed, to standard output or standard error; empty if there is none."""
        return "".join(self.last_lines(1)).strip()

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
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        rank = dead_rank(self._printed())
        if rank is not None:
            return WorkerDied(f"{rank}, before rank 0 had answered")
        words = self.last_words()
        hint = f"; its last line of output: {words}" if words else ""
        if code == -signal.SIGKILL:
            hint += "; if memory was short, use a smaller batch or data set"
        return WorkerDied(f"the worker process {how} before it answered{hint}")


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer calls in the worker until its input closes.

    Every handler takes the keyword arguments of the call, and `report`, a Progress. It returns a value for JSON.
    """
    gc.freeze()  # garbage is collected often while a program runs, and nothing that is imported by now is garbage
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
    calls: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    is_busy = threading.Event()
    main_thread = threading.main_thread().ident or 0  # calls may be answered in another one, while a program runs in it
    # Python's `threading` does not know this thread, so that a program that counts its threads finds only its own.
    _thread.start_new_thread(_listen, (inputs, calls, main_thread, is_busy))

    def send(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def report(what: str, share: float) -> None:
        send({"progress": [what, share]})

    while (line := calls.get()) is not None:
        call = json.loads(line)
        is_busy.set()
        try:
            answer = handlers[call["call"]](report=report, **call["arguments"])
        except MlpprofError as error:
            send({"error": {"kind": type(error).__name__, "message": str(error)}})
        else:
            send({"answer": answer})
        is_busy.clear()


def _listen(inputs: TextIO, calls: queue.SimpleQueue[str | None], main: int, is_busy: threading.Event) -> None:
    """Put calls into a queue; if the parent ends, end this process even in the middle of a call.

    main: the main thread. Its `finally` blocks, and those of the user's code, run as after Ctrl-C.
    """
    for line in inputs:
        calls.put(line)
    calls.put(None)
    if is_busy.is_set():
        interrupt(main)
    time.sleep(ORPHAN_S)
    _end_group(os.getpid())
    os._exit(1)


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


def _revive(error: Mapping[str, str]) -> Exception:
    kind = getattr(errors, error["kind"], MlpprofError)
    revived: Exception = kind(error["message"])
    return revived


def _end_group(pid: int) -> None:
    """Kill the rest of the process group of a worker, on systems with process groups."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # no process is left, or only zombies
            os.killpg(pid, signal.SIGKILL)


def _family(pid: int) -> list[psutil.Process]:
    """The process and all its living descendants."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
