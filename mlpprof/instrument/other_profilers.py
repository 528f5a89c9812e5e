"""The views of other profilers: line_profiler's lines, and pyinstrument's samples of the call stack."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType

from line_profiler import LineProfiler
from pyinstrument import Profiler
from pyinstrument.renderers import SessionRenderer

from mlpprof.results import LineTime

SAMPLE_INTERVAL_S = 0.0005

LIBRARY = "lib"
"""In a session, files of libraries begin with this; pyinstrument shows them in another way than the user's."""

LIBRARY_FOLDERS = {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep


class LineObserver:
    """line_profiler on functions, between `start` and `stop`. lines: what it has seen."""

    def __init__(self) -> None:
        self._profiler = LineProfiler()
        self.lines: tuple[tuple[str, LineTime], ...] = ()

    def start(self, functions: Iterable[FunctionType]) -> None:
        """Begin to watch these functions. They are registered and not replaced, so existing references are seen too."""
        for function in functions:
            self._profiler.add_function(function)
        self._profiler.enable_by_count()

    def stop(self) -> None:
        """End, and keep the file and the figures of every line that ran."""
        self._profiler.disable_by_count()
        statistics = self._profiler.get_stats()
        self.lines = tuple(
            (file, LineTime(line, hits, ticks * statistics.unit))
            for (file, _, _), entries in sorted(statistics.timings.items())
            for line, hits, ticks in entries
            if hits > 0
        )


class StackObserver:
    """pyinstrument between `start` and `stop`. session_json: what it has seen, in its own form."""

    def __init__(self) -> None:
        self._profiler = Profiler(interval=SAMPLE_INTERVAL_S)
        self.session_json = ""

    def start(self, functions: Iterable[FunctionType]) -> None:
        """Begin to look at the stack every half millisecond, whatever the functions are."""
        self._profiler.start()

    def stop(self) -> None:
        self._profiler.stop()
        self.session_json = without_own_folders(self._profiler.output(SessionRenderer()))


def without_own_folders(session_json: str) -> str:
    """A session whose files are named from the working directory or from the library's folder on.

    Whoever gets the file of a call view need not learn the name of your home folder.
    """
    session = json.loads(session_json)

    def named(frame: str) -> str:
        function, separator, rest = frame.partition("\0")
        path, separator_of_line, line = rest.partition("\0")
        return "".join((function, separator, _named_file(path), separator_of_line, line))

    session["frame_records"] = [[[named(one) for one in stack], seconds] for stack, seconds in session["frame_records"]]
    session["start_call_stack"] = [named(one) for one in session["start_call_stack"]]
    session.update(sys_path=[LIBRARY], sys_prefixes=[LIBRARY + "/"], target_description="Profile")
    return json.dumps(session)


def _named_file(path: str) -> str:
    if not Path(path).is_absolute():
        return path
    if path.startswith(PACKAGE):
        return f"{LIBRARY}/mlpprof/{Path(path.removeprefix(PACKAGE)).as_posix()}"
    folder = max((one for one in LIBRARY_FOLDERS if path.startswith(one)), key=len, default=None)
    if folder is not None:
        return f"{LIBRARY}/{Path(path.removeprefix(folder)).as_posix()}"
    with contextlib.suppress(ValueError):
        return Path(path).relative_to(Path.cwd()).as_posix()
    return Path(path).name


def profile_lines(module: ModuleType, run: Callable[[], None]) -> tuple[LineTime, ...]:
    """Hits and seconds of every line of `module`'s own functions and methods while `run` runs."""
    observer = LineObserver()
    with _observing(observer, _functions(module)):
        run()
    return tuple(sorted((line for _, line in observer.lines), key=lambda line: line.line))


def _functions(module: ModuleType) -> list[FunctionType]:
    found = []
    for value in vars(module).values():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        members = vars(value).values() if inspect.isclass(value) else (value,)
        found += [inspect.unwrap(m) for m in members if inspect.isfunction(m)]
    return found


def profile_stacks(run: Callable[[], None]) -> str:
    """The call stacks while `run` runs, one sample every half millisecond, as pyinstrument's session JSON."""
    observer = StackObserver()
    with _observing(observer):
        run()
    return observer.session_json


@contextmanager
def _observing(observer: LineObserver | StackObserver, functions: Iterable[FunctionType] = ()) -> Iterator[None]:
    observer.start(functions)
    try:
        yield
    finally:
        observer.stop()
