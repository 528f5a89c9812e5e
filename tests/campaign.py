"""The campaign against mlpprof: damaged files, kills at random moments, full disks, odd environments.

    python tests/campaign.py --minutes 10

It is no test of the suite, because it needs as many minutes as it is given. Everything random comes from the seed that
it prints, and every failure is printed with the number of its input: the same seed and number make the same input again
(`--seed 7 --only 1234`). It exits with 1 if anything failed. What it looks for:

    damaged files   every loader gets files that were changed at random. It has to take them or refuse them with one
                    sentence: no traceback, no crash, no more than 10 seconds, no more than 1 GB
    kills           commands get signals at random moments, also while they write; half of the signals go to one of
                    their workers alone, and then the command has to go on, or to end with a sentence that names the
                    signal, and with the right exit code. Afterwards no file is damaged, and no process and no shared
                    memory is left; after the next command, no temporary file either
    disks           commands on a full and on a read-only file system end with one sentence and exit code 2 (as root)
    environments    commands run with one processor, few open files, without HOME, in a deleted folder ...
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads of BLAS do not survive a fork

import h5py
import numpy as np
import psutil
import pytest
from runs import make_run
from workshop_results import result

from mlpprof.advise.selection import Baseline
from mlpprof.cli import main
from mlpprof.cli.configuration import by_parameter, configuration
from mlpprof.cli.report import command as report_command
from mlpprof.data import DataSource
from mlpprof.data.show import describe
from mlpprof.errors import MlpprofError
from mlpprof.machine.limits import CACHE
from mlpprof.programs.name import ProgramName
from mlpprof.programs.notebook import notebook_text, read_notebook
from mlpprof.report.files.formats import RUNS
from mlpprof.results.on_disk import SCHEMA, load_run, run_bytes, seal
from mlpprof.testing.baseline import Claim, read_claims, write_claim
from mlpprof.workshop.board import board_html, read_folders
from mlpprof.workshop.exercises import COURSE_FILE, built_in, read_course
from mlpprof.workshop.result import result_json

MOST_S, MOST_BYTES = 10, 1_000_000_000
"""A loader may take so many seconds, and so much memory beyond what the process has already."""

BATCH = 40
"""So many damaged files are read by one forked worker."""

MOST_INPUTS = 10_000
"""The campaign reads no more damaged files than this."""

MLPPROF = (sys.executable, "-m", "mlpprof")

SCRIPT = """
import numpy as np
rng = np.random.default_rng(0)
X, Y = rng.random((300, 20)), (rng.random((300, 3)) > 0.5) * 1.0
W1, W2 = rng.standard_normal((20, 30)), rng.standard_normal((30, 3))
for epoch in range(100):
    H = np.tanh(X @ W1)
    delta = H @ W2 - Y
    W1, W2 = W1 - 1e-4 * X.T @ (delta @ W2.T * (1 - H * H)), W2 - 1e-4 * H.T @ delta
"""


@dataclass
class Figures:
    """What was tried and what failed, by part of the campaign."""

    rows: list[tuple[str, int, int, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, part: str, tried: int, failures: Sequence[str], note: str = "") -> None:
        self.rows.append((part, tried, len(failures), note))
        self.failures += failures
        print(f"{part}: {tried:,} tried, {len(failures)} failed{f' ({note})' if note else ''}", flush=True)

    def table(self) -> str:
        lines = ["| what | tried | failed | note |", "| --- | ---: | ---: | --- |"]
        return "\n".join(
            lines + [f"| {what} | {tried:,} | {failed} | {note} |" for what, tried, failed, note in self.rows]
        )


# Damaged files


@dataclass(frozen=True)
class Loader:
    """A kind of file. whole: the content of good ones. read: what mlpprof does with such a file. change: damages it."""

    name: str
    ending: str
    whole: tuple[bytes, ...]
    read: Callable[[Path], object]
    change: Callable[[random.Random, bytes], bytes]


NASTY = (b"\0", b"\xff", b"=", b"-1", b"1e999", b"NaN", b"Infinity", b"9" * 400, b"[" * 5000, b'{"a":' * 2000, b"null")
NASTY += (b'""', b"\x1b[31m", b"18446744073709551616", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"../../x", b"true")


def changed_bytes(chance: random.Random, content: bytes) -> bytes:
    """Some bytes changed, left out, doubled, or replaced by something nasty."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at, length = chance.randrange(len(changed) + 1), chance.choice((1, 1, 4, 30, 400))
        piece = {
            0: chance.randbytes(length),
            1: b"",
            2: bytes(changed[at : at + length]) * 2,
            3: chance.choice(NASTY),
            4: bytes(byte ^ 1 << chance.randrange(8) for byte in changed[at : at + 1]),
        }[chance.randrange(5)]
        changed[at : at + len(piece) if chance.random() < 0.5 else at + length] = piece
        if chance.random() < 0.1:
            del changed[chance.randrange(len(changed) + 1) :]
    return bytes(changed)


VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**400,
    2**63,
    1e308,
    5e-324,
    "",
    "=1+1",
    "\x1b]0;x\x07",
    [],
    {},
    [[]],
)
VALUES += (float("nan"), float("inf"), -float("inf"), "x" * 100_000, ["a", 1, None], {"a": {"b": []}})


def changed_value(chance: random.Random, value: Any) -> Any:
    """JSON with one place changed: another value, a key that is missing, or one too many."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        inner = {**value, key: changed_value(chance, value[key])}
        if chance.random() < 0.1:
            del inner[key]
        return inner
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        return [*value[:at], changed_value(chance, value[at]), *value[at + 1 :]]
    return chance.choice(VALUES)


def changed_json(chance: random.Random, content: bytes) -> bytes:
    """JSON that is changed as text or as a document."""
    if chance.random() < 0.3:
        return changed_bytes(chance, content)
    return json.dumps(changed_value(chance, json.loads(content))).encode()


def changed_run(chance: random.Random, content: bytes) -> bytes:
    """A stored run that is damaged, or crafted: changed in one place and well sealed."""
    if chance.random() < 0.2:
        return changed_bytes(chance, content)
    crafted = io.BytesIO(content)
    with h5py.File(crafted, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = chance.choice(names)
        thing = file[name]
        if thing.attrs and chance.random() < 0.5:
            key = chance.choice(list(thing.attrs))
            value = chance.choice((None, -1, 0, 2**62, 1e300, float("nan"), "x", [1, 2]))
            del thing.attrs[key]
            if value is not None:
                thing.attrs[key] = value
        elif isinstance(thing, h5py.Dataset) and chance.random() < 0.9:
            replace_dataset(chance, file, name)
        else:
            del file[name]
    return seal(crafted.getvalue(), SCHEMA)


def replace_dataset(chance: random.Random, file: h5py.File, name: str) -> None:
    """Put a changed dataset in the place of one, with its attributes."""
    old = file[name]
    attributes = dict(old.attrs)
    values: Any
    if h5py.check_string_dtype(old.dtype) is not None and old.shape == ():
        text = old.asstr()[()]
        try:
            values = json.dumps(changed_value(chance, json.loads(text)))
        except ValueError:
            values = changed_bytes(chance, text.encode()).decode("ascii", "replace").replace("\0", "")
    else:
        values = np.array(old[()])
        if values.size and values.dtype.kind == "f" and chance.random() < 0.6:
            values.flat[chance.randrange(values.size)] = chance.choice((0.0, -1.0, 1e300, np.nan, np.inf, 1e-300))
        else:
            values = chance.choice((values[:0] if values.ndim else 0, np.zeros((2, 3, 4)), np.zeros(3), "text", 7))
    del file[name]
    file[name] = values
    file[name].attrs.update(attributes)


def read_run(path: Path) -> None:
    """Load a run, and make one report of it."""
    run = load_run(path)
    ending = random.Random(path.name).choice(
        (".json", ".csv", ".txt", ".trace.json", ".speedscope.json", ".html", ".lprof.txt")
    )
    RUNS.write([run], path.with_name(f"report{ending}"))


def read_configuration(path: Path) -> None:
    """Read a pyproject.toml, and the options of one command in it."""
    path = path.replace(path.with_name("pyproject.toml"))
    found = configuration(path.parent)
    if found is not None and "report" in found[1]:
        by_parameter(report_command, ("report",), found[1]["report"], found[0])


def read_board(path: Path) -> None:
    """Make a page of one result."""
    board_html(*read_folders([path], built_in()), "now", built_in())


def read_exercises(path: Path) -> None:
    """Read the exercises of a folder, whose other files are in order."""
    for name in built_in().texts():
        (path.parent / name).touch()
    path.replace(path.parent / COURSE_FILE)
    read_course(path.parent)


def read_cache(path: Path) -> None:
    """Read a kept measurement, which is at the place of its key."""
    key = {"cpu": "x"}
    path.replace(CACHE.path(key, path.parent))
    CACHE.read(key, lambda note: None, path.parent)


def loaders(folder: Path) -> list[Loader]:
    """Every loader with good files."""
    rng = np.random.default_rng(0)
    X, Y = rng.integers(0, 255, (30, 16), np.uint8), rng.integers(0, 3, 30).astype(np.uint8)
    npz, hdf5 = io.BytesIO(), io.BytesIO()
    np.savez(npz, X=X, Y=Y)
    with h5py.File(hdf5, "w") as file:
        file.create_dataset("X", data=X, chunks=(10, 16), compression="gzip")
        file["Y"] = Y
    idx = bytes((0, 0, 8, 3, 0, 0, 0, 30, 0, 0, 0, 4, 0, 0, 0, 4)) + X.tobytes()
    claims = folder / "claims.toml"
    write_claim(claims, Claim("a over b", "x86", 2.0, 1.9, 2.1, "2026-01-01"))
    toml = b'[tool.mlpprof.report]\nout = "reports/a.html"\nverbose = true\nfigure = "layers"\n'
    toml += b"[tool.other]\na = [1, 2.5]\n"
    limits = {"limits": {"ufunc_call": {"value": 1.0, "unit": "us"}}, "doubtful": []}
    run = make_run(rounds=2, steps=3, lines=True, stacks=True)

    def data(path: Path) -> None:
        describe(DataSource.parse(str(path)))

    def as_json(document: Any) -> bytes:
        return json.dumps(document).encode()

    return [
        Loader("stored run", ".h5", (run_bytes(run),), read_run, changed_run),
        Loader("data: npz", ".npz", (npz.getvalue(),), data, changed_npz),
        Loader("data: HDF5", ".h5", (hdf5.getvalue(),), data, changed_bytes),
        Loader("data: IDX", "-idx3-ubyte", (idx,), data, changed_bytes),
        Loader("workshop result", ".json", (as_json(result_json(result())),), read_board, changed_json),
        Loader("exercises", ".toml", (built_in().content(COURSE_FILE),), read_exercises, changed_bytes),
        Loader("cache", ".json", (as_json({"schema": 1, "key": {"cpu": "x"}, **limits}),), read_cache, changed_json),
        Loader("stored claims", ".toml", (claims.read_bytes(),), read_claims, changed_bytes),
        Loader("configuration", ".toml", (toml,), read_configuration, changed_bytes),
        Loader("baseline", ".json", (as_json({"findings": {"ab": 1, "cd": 2}}),), Baseline.read, changed_json),
        Loader(
            "notebook",
            ".ipynb",
            (notebook_text(["import numpy as np", "%time x = 1"]).encode(),),
            read_notebook_of,
            changed_json,
        ),
    ]


def read_notebook_of(path: Path) -> None:
    """Read a notebook as a program."""
    ProgramName.parse(str(path))
    read_notebook(str(path))


def changed_npz(chance: random.Random, content: bytes) -> bytes:
    """An archive that is damaged, or whose members are."""
    if chance.random() < 0.5:
        return changed_bytes(chance, content)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            member = old.read(name)
            new.writestr(name, changed_bytes(chance, member[:128]) + member[128:] if chance.random() < 0.7 else member)
    return made.getvalue()


def input_of(seed: int, number: int, kinds: Sequence[Loader]) -> tuple[Loader, bytes]:
    """The damaged file with this number."""
    chance = random.Random(f"{seed} {number}")
    loader = kinds[number % len(kinds)]
    return loader, loader.change(chance, chance.choice(loader.whole))


def try_input(seed: int, number: int, kinds: Sequence[Loader], folder: Path) -> str:
    """Read one damaged file; how it ended: 'taken', 'refused', or what went wrong."""
    loader, content = input_of(seed, number, kinds)
    place = folder / str(number)
    place.mkdir()
    path = place / f"input{loader.ending}"
    path.write_bytes(content)
    begun_s = time.monotonic()
    try:
        loader.read(path)
        outcome = "taken"
    except MlpprofError as error:
        outcome = "refused" if str(error) and len(str(error)) < 2000 else f"has no sentence: {str(error)[:80]!r}"
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the campaign looks for
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = "" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        outcome = f"{type(error).__name__} at {where}: {str(error)[:100]!r}"
    if time.monotonic() - begun_s > MOST_S:
        outcome = f"took {time.monotonic() - begun_s:.0f} s"
    shutil.rmtree(place, ignore_errors=True)
    return f"{loader.name}: {outcome}"


def forked(work: Callable[[Callable[[str], None]], None], silent_s: float) -> tuple[list[str], str]:
    """The lines that `work` says in a forked process, and how that ended: '' if well."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        status = 1
        try:
            limit = psutil.Process().memory_info().vms + MOST_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            work(lambda line: os.write(writing, (line.replace("\n", " ") + "\n").encode(errors="replace")) and None)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    text, end = b"", ""
    while True:
        if not select.select([reading], [], [], silent_s)[0]:
            os.kill(pid, signal.SIGKILL)
            end = f"hung for {silent_s:.0f} s"
            break
        piece = os.read(reading, 65536)
        if not piece:
            break
        text += piece
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    if not end and status:
        end = f"ended with {signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else status}"
    return text.decode(errors="replace").splitlines(), end


def damage(figures: Figures, seed: int, end_s: float, folder: Path, most: int = MOST_INPUTS) -> None:
    """Read damaged files until the time is over."""
    kinds = loaders(folder)
    number, ends, failures = 0, Counter[str](), []
    while number < most and time.monotonic() < end_s:
        last = min(number + BATCH, most)

        def work(say: Callable[[str], None], first: int = number, last: int = last) -> None:
            for one in range(first, last):
                say(try_input(seed, one, kinds, folder))

        lines, end = forked(work, MOST_S + 20)
        for one, line in enumerate(lines, number):
            outcome = line.removeprefix(f"{kinds[one % len(kinds)].name}: ")
            ends[outcome if outcome in ("taken", "refused") else "failed"] += 1
            if outcome not in ("taken", "refused"):
                failures.append(f"input {one} ({kinds[one % len(kinds)].name}): {outcome}")
        number += len(lines)
        if end:
            failures.append(f"input {number} ({kinds[number % len(kinds)].name}): the worker {end}")
            number += 1
    figures.add("damaged files", number, failures, f"{ends['taken']:,} taken, {ends['refused']:,} refused")


# Kills


@dataclass(frozen=True)
class Killed:
    """A command that is killed, or pytest. lasts_s: roughly how long it takes, rather too long than too short."""

    arguments: tuple[str, ...]
    lasts_s: float
    has_workers: bool = False

    def __str__(self) -> str:
        return " ".join(self.arguments)


ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL, signal.SIGKILL)
STOP = signal.SIGSTOP
"""A stopped worker goes on after a moment, and its command is to notice nothing."""

TEST = """
def test_it_is_faster(speedup):
    speedup("cached", over="naive", at_least=0.1, workload="tiny")
"""


def start(one: Killed, sandbox: Path) -> int:
    """Run a command in a forked process, as quickly as this one can: its modules are loaded already."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        os.chdir(sandbox / "work")
        nothing = os.open(os.devnull, os.O_RDWR)
        printed = os.open(sandbox / "printed", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        for descriptor, opened in ((0, nothing), (1, printed), (2, printed)):
            os.dup2(opened, descriptor)
        environment_of(sandbox, os.environ)
        tempfile.tempdir = None
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if one.arguments[0] == "pytest":
            status = int(pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir=.", *one.arguments[1:]]))
        else:
            main.main(list(one.arguments))
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:  # noqa: BLE001 - whatever it is, it is what the campaign looks for
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def environment_of(sandbox: Path, environment: Any) -> None:
    """Send everything that is written by default into the sandbox."""
    for name, folder in (("TMPDIR", "tmp"), ("XDG_CACHE_HOME", "cache"), ("XDG_STATE_HOME", "state"), ("HOME", "home")):
        environment[name] = str(sandbox / folder)


def shared_memory() -> set[str]:
    """The names of shared memory, as far as mlpprof or multiprocessing makes it."""
    place = Path("/dev/shm")
    found = [path.name for path in place.iterdir()] if place.is_dir() else []
    return {name for name in found if name.startswith(("mlpprof", "psm_"))}


def end_of(pid: int, within_s: float) -> int | None:
    """The exit code of a child, negative for a signal; None if it does not end in time, and then it is killed."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def living_worker(chance: random.Random, pid: int, within_s: float) -> int | None:
    """Wait until a command has a worker, and choose one; None if the command ends first."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        with contextlib.suppress(psutil.Error):
            command = psutil.Process(pid)
            if command.status() == psutil.STATUS_ZOMBIE:
                return None
            alive = [child.pid for child in command.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
            if alive:
                return chance.choice(alive)
        time.sleep(0.002)
    return None


def left_processes(sandbox: Path) -> list[psutil.Process]:
    """The processes that run in the sandbox."""
    marker = str(sandbox / "tmp")
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get("TMPDIR") == marker:
                found.append(process)
    return found


def damaged(folder: Path) -> list[str]:
    """The files of a folder that are not whole."""
    found = []
    for path in sorted(one for one in folder.rglob("*") if one.is_file() and not one.name.startswith(".mlpprof-")):
        try:
            if path.suffix == ".h5":
                load_run(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
                found.append(path.name)
        except (MlpprofError, ValueError) as error:
            found.append(f"{path.name}: {str(error)[:80]}")
    return found


def wrong_end(one: Killed, number: signal.Signals, code: int, printed: str) -> str:
    """What is wrong with how a command ended one of whose workers got a signal; '' if nothing is.

    It either goes on without the worker, or ends with one sentence that says how the worker ended and what to do next.
    """
    last = (printed.strip().splitlines() or ["nothing said"])[-1][:200]
    if "Traceback" in printed or "INTERNALERROR" in printed:
        return f"a traceback: {last}"
    if code == 0 or (code == 3 and one.arguments[0] == "compare"):  # 3: the race is inconclusive
        return ""
    if number is STOP:
        return f"exit code {code}: {last}"
    if code != (1 if one.arguments[0] == "pytest" else 2):
        return f"exit code {code}: {last}"
    if number.name not in printed:
        return f"{number.name} is not named: {last}"
    return "" if "run the command again" in " ".join(printed.split()) else f"what to do next is missing: {last}"


QUICK = (
    *(Killed(("report", "run.h5", "-o", f"r{ending}"), 2.0) for ending in (".h5", ".json", ".html", ".csv", ".png")),
    Killed(("workshop", "new", "class"), 1.0),
    Killed(("data", "show", "digits"), 1.0),
    Killed(("report", "run.h5"), 1.0),
)
WITH_WORKERS = (
    Killed(("profile", "cached", "--workload", "tiny", "--steps", "5", "--no-limits"), 12.0, True),
    Killed(("profile", "train.py", "--no-limits"), 20.0, True),
    Killed(("compare", "cached", "sliced", "--workload", "tiny", "--budget", "3"), 15.0, True),
    Killed(("compare", "train.py", "newer.py", "--budget", "3"), 25.0, True),
    Killed(("ladder", "naive", "cached", "--workload", "tiny", "--processes", "2"), 30.0, True),
    Killed(("advise", "train.py", "-o", "advice.html"), 15.0, True),
    Killed(("advise", "train.py", "--prove"), 40.0, True),
    Killed(("check", "naive", "--cases", "3"), 5.0, True),
    Killed(("pytest", "test_speed.py", "--mlpprof-budget", "3"), 15.0, True),
)


LEAST_KILLS = 2
"""So many commands are killed even if the time is over: one as a whole, and one by its worker."""


def kills(figures: Figures, seed: int, end_s: float, folder: Path) -> None:
    """Kill commands, and as often a worker of one, at random moments until the time is over."""
    chance = random.Random(f"{seed} kills")
    sandbox = made_sandbox(folder / "kills")
    work = sandbox / "work"
    (work / "newer.py").write_text(f"{SCRIPT}\nprint(W1.sum())\n")
    (work / "test_speed.py").write_text(TEST)
    lasts_s = {one: one.lasts_s for one in (*QUICK, *WITH_WORKERS)}
    shared_before = shared_memory()
    failures: list[str] = []
    count, of_workers, went_on, slow_s, begun_all_s = Counter[str](), 0, 0, 0.0, time.monotonic()
    while (begun_s := time.monotonic()) < end_s or count.total() < LEAST_KILLS:
        is_of_worker = of_workers <= count.total() - of_workers
        # of the kills of a whole command, those with workers take a tenth of the time, because they are slow
        has_workers = is_of_worker or slow_s < 0.1 * (begun_s - begun_all_s)
        one = chance.choice(WITH_WORKERS if has_workers else QUICK)
        number = chance.choice((*ENDS, STOP) if is_of_worker else ENDS)
        shutil.rmtree(work / "class", ignore_errors=True)
        pid = start(one, sandbox)
        time.sleep(chance.uniform(0, lasts_s[one]))
        target = living_worker(chance, pid, 60) if is_of_worker else pid
        try:
            ended = target is None or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            if not ended:
                os.kill(target or pid, number)
        except ProcessLookupError:  # the worker ended just now
            ended = True
        if number is STOP and not ended:
            time.sleep(chance.uniform(0.1, 2.0))
            with contextlib.suppress(ProcessLookupError):
                os.kill(target or pid, signal.SIGCONT)
        code = end_of(pid, 90)
        what = f"kill {count.total()}: {one}, {number.name} to {'a worker' if is_of_worker else 'it'}"
        if ended:
            lasts_s[one] = min(lasts_s[one], time.monotonic() - begun_s)
        else:
            count[number.name] += 1
            of_workers += is_of_worker
            went_on += is_of_worker and code in (0, 3)
        if has_workers and not is_of_worker:
            slow_s += time.monotonic() - begun_s
        if code is None:
            failures.append(f"{what}: it did not end within 90 s")
        elif is_of_worker and (
            wrong := wrong_end(one, number, code, (sandbox / "printed").read_text(errors="replace"))
        ):
            failures.append(f"{what}: {wrong}")
        if has_workers:
            gone_s = time.monotonic() + 10
            while (left := left_processes(sandbox)) and time.monotonic() < gone_s:
                time.sleep(0.1)
            for process in left:
                with contextlib.suppress(psutil.Error):
                    failures.append(f"{what}: {' '.join(process.cmdline())[:80]} is left")
                    process.kill()
        if broken := damaged(work):
            failures.append(f"{what}: it left {broken}")
        if failures[-1:] and failures[-1].startswith(what):
            print(failures[-1], flush=True)
    for following in (
        ("report", "run.h5", "-o", "r.h5"),
        ("workshop", "new", "class"),
        ("check", "naive", "--cases", "1"),
    ):
        end_of(start(Killed(following, 0.0), sandbox), 120)
    for place in (sandbox / "tmp", work, sandbox / "state"):
        if left_files := [path.name for path in place.rglob("*mlpprof-*")]:
            failures.append(f"after the next command, {place.name} holds {left_files[:5]}")
    failures += [f"shared memory is left: {name}" for name in sorted(shared_memory() - shared_before)]
    signals = ", ".join(f"{name} {times}" for name, times in sorted(count.items()))
    figures.add("kills", count.total(), failures, f"{of_workers} of a worker, {went_on} of these went on; {signals}")


# Disks and environments


@dataclass(frozen=True)
class Surroundings:
    """Something around a command. prefix: what stands before it, in a shell; expected: its exit codes, None for any."""

    name: str
    prefix: str
    expected: tuple[int, ...] = (0,)
    removed: tuple[str, ...] = ()
    set_to: tuple[tuple[str, str], ...] = ()


COMMANDS = (
    "list",
    "report run.h5",
    "report run.h5 -o r.html",
    "data show digits",
    "check naive --cases 2",
    "profile cached --workload tiny --steps 5 --no-limits",
    "advise train.py",
)

ENVIRONMENTS = (
    Surroundings("one processor", "taskset -c 0 "),
    Surroundings("32 open files", "ulimit -n 32; "),
    Surroundings("no HOME", "", removed=("HOME",)),
    Surroundings("LANG=C", "", set_to=(("LANG", "C"), ("LC_ALL", "C"), ("PYTHONUTF8", "0"))),
    Surroundings("NO_COLOR, a narrow terminal", "", set_to=(("NO_COLOR", "1"), ("COLUMNS", "20"))),
    Surroundings("standard input closed", "exec <&-; "),
    Surroundings("standard output closed", "exec >&-; ", (2,)),
    Surroundings("standard output full", "exec >/dev/full; ", (2,)),
    Surroundings("a reader that ends", "", (0, 141)),
    Surroundings("a deleted working directory", 'mkdir gone; cd gone; rmdir "$PWD"; ', (2,)),
)


def run_in(sandbox: Path, command: str, around: Surroundings, tail: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of mlpprof within its surroundings."""
    environment = {name: value for name, value in os.environ.items() if name not in around.removed}
    environment_of(sandbox, environment)
    for name in around.removed:
        environment.pop(name, None)
    environment.update(around.set_to)
    line = f'{around.prefix}"$PYTHON" -m mlpprof {command}{tail}'
    environment["PYTHON"] = sys.executable
    return subprocess.run(
        ["bash", "-c", line], cwd=sandbox / "work", env=environment, capture_output=True, text=True, timeout=600
    )


def verdict_on(done: subprocess.CompletedProcess[str], expected: Sequence[int]) -> str:
    """What is wrong with how a command ended; '' if nothing is."""
    if "Traceback" in done.stderr:
        return f"a traceback: {done.stderr.strip().splitlines()[-1][:120]}"
    if done.returncode not in expected:
        return f"exit code {done.returncode}: {(done.stderr.strip().splitlines() or ['nothing said'])[-1][:120]}"
    return ""


def surroundings(figures: Figures, seed: int, end_s: float, folder: Path) -> None:
    """Run commands in odd environments until the time is over, in an order of chance."""
    sandbox = made_sandbox(folder / "environments")
    pairs = [(around, command) for around in ENVIRONMENTS for command in COMMANDS]
    random.Random(f"{seed} environments").shuffle(pairs)
    failures, count = [], 0
    for around, command in pairs:
        if time.monotonic() > end_s:
            break
        tail = " | head -1 >/dev/null; exit ${PIPESTATUS[0]}" if around.name == "a reader that ends" else ""
        expected = around.expected
        if expected == (2,) and "-o" in command.split() and "directory" not in around.name:
            expected = (0, 2)  # it prints little or nothing
        done = run_in(sandbox, command, around, tail)
        if wrong := verdict_on(done, expected):
            failures.append(f"{around.name}, mlpprof {command}: {wrong}")
        count += 1
    figures.add("odd environments", count, failures, f"of {len(pairs)}")


def made_sandbox(place: Path) -> Path:
    """A folder with everything that a command writes to, and the files that the commands read."""
    for name in ("tmp", "cache", "state", "home", "work"):
        (place / name).mkdir(parents=True)
    (place / "work" / "run.h5").write_bytes(run_bytes(make_run(rounds=2, steps=3, lines=True, stacks=True)))
    (place / "work" / "train.py").write_text(SCRIPT)
    return place


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """A file system of its own at a place."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def disks(figures: Figures, seed: int, end_s: float, folder: Path) -> None:
    """Run commands that write to a full and to a read-only file system."""
    sandbox = made_sandbox(folder / "disks")
    work = sandbox / "work"
    failures, count = [], 0
    nothing = Surroundings("", "")
    commands = (
        *(
            "report run.h5 -o {}/r.html",
            "report run.h5 -o {}/r.png",
            "report run.h5 -o {}/r.h5",
            "workshop new {}/class",
        ),
        *("advise train.py -o {}/a.html", "profile cached --workload tiny --steps 5 --no-limits -o {}/r.json"),
        *("compare cached sliced --workload tiny --budget 3 -o {}/c.json", "workshop board class -o {}/b.html"),
    )
    if os.geteuid() != 0:
        figures.add("disks", 0, [], "skipped: mounting needs root")
        return
    try:
        with mounted(work / "probe", "size=4k"):
            pass
    except (OSError, subprocess.CalledProcessError):
        figures.add("disks", 0, [], "skipped: mounting is not allowed here")
        return
    for options in ("size=4k,nr_inodes=4", "size=32k", "ro"):
        for command in commands:
            if time.monotonic() > end_s:
                break
            with mounted(work / "disk", options):
                done = run_in(sandbox, command.format("disk"), nothing)
                # some files fit on the small disk
                if wrong := verdict_on(done, (2,) if options != "size=32k" else (0, 2)):
                    failures.append(f"disk with {options}, mlpprof {command}: {wrong}")
            count += 1
    with mounted(work / "reports", "size=32k"):
        done = run_in(sandbox, "profile cached --workload tiny --steps 5 --no-limits", nothing)
        kept = list((sandbox / "state").rglob("*.h5"))
        wrong = verdict_on(done, (2,)) or ("" if kept and "is kept in" in done.stderr else "the run is not kept")
        failures += [f"full reports/, mlpprof profile: {wrong}"] if wrong else []
        count += 1
    figures.add("disks", count, failures, "full and read-only")


PARTS: dict[str, tuple[Callable[[Figures, int, float, Path], None], float]] = {
    "files": (damage, 0.4),
    "kills": (kills, 0.35),
    "disks": (disks, 0.1),
    "environments": (surroundings, 0.15),
}
"""The parts, and their shares of the time; each begins no more after it, and ends what it has begun."""


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long it may take (default: 10)")
    parser.add_argument("--seed", type=int, default=None, help="of everything random (default: a new one)")
    parser.add_argument("--part", choices=PARTS, default=None, help="only this part, for the whole time")
    parser.add_argument("--only", type=int, default=None, help="only the damaged file with this number")
    parser.add_argument("-o", "--out", type=Path, default=None, help="write the table to this file")
    return parser.parse_args()


def campaign() -> int:
    """Run it; the exit code."""
    options = parsed()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="campaign-") as name:
        folder = Path(name)
        if options.only is not None:
            print(try_input(seed, options.only, loaders(folder), folder))
            return 0
        total_s = 60 * options.minutes
        for part in PARTS if options.part is None else [options.part]:
            work, share = PARTS[part]
            work(figures, seed, time.monotonic() + (share if options.part is None else 1.0) * total_s, folder)
    print(f"\n{figures.table()}\n")
    for failure in figures.failures:
        print(failure)
    if options.out is not None:
        options.out.write_text(document(options, seed, figures), encoding="utf-8")
    return 1 if figures.failures else 0


def document(options: argparse.Namespace, seed: int, figures: Figures) -> str:
    """The page with the figures."""
    part = "" if options.part is None else f" --part {options.part}"
    failures = "".join(f"- {one}\n" for one in figures.failures)
    return (
        "# The campaign against mlpprof\n\n"
        f"    python tests/campaign.py --minutes {options.minutes:g} --seed {seed}{part}\n\n{figures.table()}\n\n"
        + (f"What failed:\n\n{failures}" if failures else "Nothing failed.\n")
    )


if __name__ == "__main__":
    sys.exit(campaign())
