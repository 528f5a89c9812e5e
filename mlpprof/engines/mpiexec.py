"""mpiexec: where it is, what it is told, and what it says when a rank has died.

A variant that is an MPI program (its file says EXTRA = "mpi") has its worker process started so, as rank 0 of several;
`mlpprof.engines.mpi` is the other side.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from mlpprof.errors import MissingExtra, UsageError

EXTRA = "mpi"
RANKS_VARIABLE = "MLPPROF_RANKS"
HOSTFILE_VARIABLE = "MLPPROF_HOSTFILE"

STARTED_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
"""One of these is set in a process that an mpiexec has started."""
PASSED_ON = ("MLPPROF_", "OMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "AOCL_", "VECLIB_", "NUMBA_", "NPY_", "PYTHON")
"""Variables that begin so go to other machines too; Open MPI wants them named."""

LOOK_S = 0.5
"""Between two looks whether the tool is still there."""
DIED = "mlpprof: rank {rank} of 0 to {last} (process {pid} on {host}) {how}"
"""What is written to standard error of a rank that has died, or by one that fails; the first such line tells why."""


def ranks_in(environment: Mapping[str, str], otherwise: int) -> int:
    """Ranks that --ranks or MLPPROF_RANKS asks for. Raises UsageError if the variable holds no whole number from 1."""
    text = environment.get(RANKS_VARIABLE, "")
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise UsageError(f"{RANKS_VARIABLE}={text}: expected a whole number of ranks, 1 or more")
    return int(text)


def has_mpi4py() -> bool:
    """Whether mpi4py is installed; it is not imported, which would start MPI."""
    return importlib.util.find_spec("mpi4py") is not None


def find_mpiexec() -> str | None:
    """The mpiexec beside this Python, as the packages of PyPI bring it, else the one on the PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")


def mpiexec_command(ranks: int, environment: Mapping[str, str]) -> list[str]:
    """What to write before a command, so that so many ranks run it, on the machines of --hostfile if it is given.

    Raises MissingExtra if there is no mpiexec, UsageError inside one or for a hostfile that is none.
    """
    started = next((name for name in STARTED_VARIABLES if name in environment), None)
    if started is not None:
        raise UsageError(f"mlpprof starts mpiexec itself, but runs under one ({started} is set); use --ranks {ranks}")
    program = find_mpiexec()
    if program is None:
        raise MissingExtra(
            f"{ranks} ranks need mpiexec, which is neither beside Python nor on the PATH; install it with: "
            f"pip install 'mlpprof[{EXTRA}]', or use --ranks 1"
        )
    command = [program, "-n", str(ranks)]
    hostfile = environment.get(HOSTFILE_VARIABLE, "")
    if hostfile:
        if not Path(hostfile).is_file():
            raise UsageError(f"no hostfile '{hostfile}'; expected a file with a line a machine, such as node1:4")
        command += ["--hostfile", str(Path(hostfile).resolve())]
    if _is_open_mpi(program):
        # it would refuse more ranks than cores, hold each to a core, and not run for root in a container
        command += ["--oversubscribe", "--bind-to", "none"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-run-as-root")
        if hostfile:
            command += [word for name in environment if name.startswith(PASSED_ON) for word in ("-x", name)]
    return command


def launched_program(module: str, command: Sequence[str]) -> str:
    """What every rank runs that the command starts: `main()` of the module in rank 0, and its followers."""
    ranks = command[command.index("-n") + 1]
    return (
        f"from mlpprof.engines.mpiexec import watch; watch({ranks}, {os.getpid()}, {socket.gethostname()!r}); "
        f"from mlpprof.engines.mpi import lead_or_follow; lead_or_follow({module!r}, {ranks})"
    )


@cache
def _is_open_mpi(program: str) -> bool:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return "Open MPI" in told or "OpenRTE" in told


def watch(ranks: int, tool: int, tool_host: str) -> None:
    """In a process that mpiexec has started: go on as its child, so that it can tell how the child has ended.

    An mpiexec ends all ranks when one dies, and may then not know which one was the first. But it does not notice
    before this process ends, and so the line that is written here comes before all others. Ends the child when the
    tool that has started it all is gone from this machine: not every mpiexec passes on that its input has ended.
    """
    if not hasattr(os, "fork"):
        return
    pid = os.fork()
    if pid == 0:
        return
    os.close(0)  # the conversation is the child's
    os.close(1)

    def end_without_tool(*_: object) -> None:
        try:
            os.kill(tool, 0)
        except ProcessLookupError:
            os.kill(pid, signal.SIGKILL)

    if socket.gethostname() == tool_host:
        signal.signal(signal.SIGALRM, end_without_tool)
        signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        rank = next((os.environ[name] for name in STARTED_VARIABLES if name in os.environ), "?")
        say(DIED.format(rank=rank, last=ranks - 1, pid=pid, host=socket.gethostname(), how=how))
    os._exit(abs(code))


def say(line: str) -> None:
    """One line on standard error, as a whole, since other ranks write there too."""
    os.write(2, f"{line}\n".encode())


def dead_rank(log: str) -> str | None:
    """'rank 1 of 0 to 2 (process 217 on here) was killed by SIGKILL', from the standard error of all, or None."""
    found = re.search(r"mlpprof: (rank \d+ of 0 to \d+ \(process .*)", log)
    return found.group(1) if found else None
