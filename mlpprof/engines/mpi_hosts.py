"""The machines of a hostfile: whether mpiexec reaches all of them, and whether they have the same versions.

They are asked before the ranks start. An MPI program that has started on some machines only waits for the others, and
what mpiexec writes when it gives up names neither the machine nor the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from mlpprof import __version__
from mlpprof.engines.mpiexec import HOSTFILE_VARIABLE, ranks_of
from mlpprof.errors import UsageError

ANSWER_S = 60.0
"""If a machine has not started a process after this many seconds, mpiexec is ended and the hostfile is refused."""
END_S = 2.0
"""An mpiexec that is ended gets this time. Its output is read for no longer, because an ssh may keep it open."""

MARK = "mlpprof machine: "
PACKAGES = ("numpy", "scipy", "mpi4py")
PROGRAM = f"""
import os, socket, sys
sys.path.append({str(Path(__file__).resolve().parents[2])!r})
try:
    from mlpprof.engines.mpi_hosts import say_versions
    say_versions()
except Exception as error:
    os.write(2, f"on {{socket.gethostname()}}: {{type(error).__name__}}: {{error}}\\n".encode())
    sys.exit(1)
"""
OF_MPIEXEC = re.compile(r"\[(?:mpiexec|proxy:[^@]*)@(.+?)\] \S+ \(.+?\): (.*)")
"""A line of mpiexec: the machine, a place in mpiexec's source code, and what has failed there."""

_alike: set[tuple[str, ...]] = set()
"""The commands whose machines have been found to be alike, each with the text of its hostfile."""


def require_same_hosts(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Let every rank of a `mpiexec_command` say where it is and with which versions. Without a hostfile, do nothing.

    Raises UsageError if a line would reach ssh as an option, or if a machine cannot be reached, lacks mlpprof, or has
    other versions than the first one.
    """
    hostfile = environment.get(HOSTFILE_VARIABLE, "")
    if not hostfile:
        return
    text = Path(hostfile).read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("-"):
            raise UsageError(
                f"{hostfile}:{number}: '{line.strip():.100}' begins with '-', so ssh would read it as an option; "
                "expected the name of a machine, such as node1:4"
            )
    asked = (*command, text)
    if asked not in _alike:
        require_same(_answers(command, environment, hostfile), hostfile)
        _alike.add(asked)


def say_versions() -> None:
    """Write a line with the name of this machine and its versions, in a process that mpiexec has started."""
    import mpi4py

    mpi4py.rc.initialize = False
    from mpi4py import MPI

    versions = {"mlpprof": __version__, "Python": ".".join(platform.python_version_tuple()[:2])}
    versions |= {name: _version(name) for name in PACKAGES}
    versions["MPI"] = " ".join(MPI.Get_library_version().partition("\n")[0].replace("Version:", "").split())
    line = json.dumps({"host": socket.gethostname(), "versions": versions})
    os.write(1, f"{MARK}{line}\n".encode())  # in one piece, since other ranks write there too


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # it was installed without a description
        return "unknown"


def _answers(command: Sequence[str], environment: Mapping[str, str], hostfile: str) -> dict[str, dict[str, str]]:
    """Machine -> its versions."""
    with subprocess.Popen(
        [*command, sys.executable, "-c", PROGRAM],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # without a terminal, as a worker is, so that ssh asks for no password
    ) as asking:
        why = ""
        try:
            printed, log = asking.communicate(timeout=ANSWER_S)
        except subprocess.TimeoutExpired:
            why = f"no answer within {ANSWER_S:.0f} seconds"
            _end(asking.pid)
            try:
                printed, log = asking.communicate(timeout=END_S)
            except subprocess.TimeoutExpired as late:  # it has what was read so far
                printed, log = late.stdout or b"", late.stderr or b""
        except BaseException:
            _end(asking.pid)
            raise
    said = answers_in(printed)
    found = {one["host"]: one["versions"] for one in said}
    if asking.returncode or len(said) < ranks_of(command):
        why = why or reason(log.decode(errors="replace")) or f"mpiexec ended with exit code {asking.returncode}"
        answered = f" ({', '.join(sorted(found))} answered)" if found else ""
        try_it = shlex.join([*command, "hostname"])
        raise UsageError(
            f"mpiexec cannot start mlpprof on all machines of {hostfile}{answered}: {why:.500}. The file needs lines "
            "such as node1:4 (for Open MPI: node1 slots=4), and every machine needs ssh without a password, and "
            f"Python, mlpprof and this folder at the same paths; to try it: {try_it}"
        )
    return found


def answers_in(printed: bytes) -> list[Any]:
    """What ranks have written with `say_versions`, without the lines that are torn or mixed with another's."""
    said = []
    for line in printed.decode(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            said.append(json.loads(line.partition(MARK)[2]))
    return said


def _end(pid: int) -> None:
    """End an mpiexec, which ends its processes on all machines, and then what it has left here, such as an ssh."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family.append(psutil.Process(pid))
        family += family[0].children(recursive=True)
        family[0].terminate()
    _, alive = psutil.wait_procs(family, timeout=END_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def reason(log: str) -> str:
    """What ssh or Python has written, and the first error of mpiexec, which has the cause of those that follow.

    The warnings of ssh are left out, because it goes on after them.
    """
    lines = list(dict.fromkeys(line.strip() for line in log.splitlines()))
    words = [line for line in lines if line.strip("=-") and not OF_MPIEXEC.fullmatch(line)]
    words = [line for line in words if not line.startswith("Warning:")]
    first = next(filter(None, map(OF_MPIEXEC.fullmatch, lines)), None)
    return "; ".join(words if first is None else [*words, f"on {first[1]}: {first[2]}"])


def require_same(versions: Mapping[str, Mapping[str, str]], hostfile: str) -> None:
    """Raise UsageError with the first version, of machine -> package -> version, that differs from the first machine's.

    hostfile: its name, for the message.
    """
    first, *others = versions
    for other in others:
        for name, version in versions[first].items():
            if versions[other].get(name) != version:
                raise UsageError(
                    f"the machines of {hostfile} have different versions: {name} is {version} on {first}, and "
                    f"{versions[other].get(name)} on {other}; install the same one on all machines"
                )
