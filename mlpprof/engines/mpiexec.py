"""mpiexec: where it is, how it is called, and how a rank reports that it died.

The worker process of a variant that is an MPI program (its file has EXTRA = "mpi") is started by mpiexec, as rank 0 of
several. `mlpprof.engines.mpi` is the side of the ranks.
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
HOSTFILE_VARIABLE = "MLPPROF_HOSTFILE"

STARTED_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")
"""One of these is set in a process that an mpiexec has started."""
PASSED_ON = ("MLPPROF_", "OMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "AOCL_", "VECLIB_", "NUMBA_", "NPY_", "PYTHON")
"""Variables with these beginnings go to other machines too; Open MPI needs their names."""

LOOK_S = 0.5
"""A rank checks at this interval whether mlpprof still runs."""
SIGN_OF_LIFE_S = 10.0
"""A rank on another machine writes an empty line at this interval."""
DIED = "mlpprof: rank {rank} of 0 to {last} (process {pid} on {host}) {how}"
"""The line on standard error for a rank that has died or failed; the first such line has the reason."""


def has_mpi4py() -> bool:
    """Whether mpi4py is installed; it is not imported, which would start MPI."""
    return importlib.util.find_spec("mpi4py") is not None


def find_mpiexec() -> str | None:
    """The mpiexec beside this Python, as the packages of PyPI bring it, else the one on the PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")


def mpiexec_command(ranks: int, environment: Mapping[str, str]) -> list[str]:
    """The words before a command that make this many ranks run it, on the machines of --hostfile if it is given.

    Raises MissingExtra without mpiexec, UsageError inside an mpiexec or for a hostfile that does not exist.
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
            raise UsageError(f"there is no hostfile '{hostfile}'; expected a file with lines such as node1:4")
        command += ["--hostfile", str(Path(hostfile).resolve())]
    if _is_open_mpi(program):
        # Without these, Open MPI refuses more ranks than cores, binds each to a core, and does not run as root.
        command += ["--oversubscribe", "--bind-to", "none"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-run-as-root")
        if hostfile:
            command += [word for name in environment if name.startswith(PASSED_ON) for word in ("-x", name)]
    return command


def ranks_of(command: Sequence[str]) -> int:
    """The number of ranks that an `mpiexec_command` starts."""
    return int(command[command.index("-n") + 1])


def launched_program(module: str, command: Sequence[str]) -> str:
    """The program of every rank that the command starts: rank 0 runs `main()` of the module, the others follow."""
    ranks = ranks_of(command)
    return (
        f"from mlpprof.engines.mpiexec import watch; watch({ranks}, {os.getpid()}, {socket.gethostname()!r}); "
        f"from mlpprof.engines.mpi import lead_or_follow; lead_or_follow({module!r}, {ranks})"
    )


@cache
def _is_open_mpi(program: str) -> bool:
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return "Open MPI" in version or "OpenRTE" in version


def watch(ranks: int, tool: int, tool_host: str) -> None:
    """Fork, in a process that mpiexec has started: the child goes on, and the parent reports how the child ended.

    An mpiexec ends all ranks when one dies, and may then not know which one was the first. But it does not notice the
    death before this process ends, so the line that is written here comes before all others. The parent also ends the
    child when mlpprof is gone from this machine, since not every mpiexec notices that its input has ended, and when
    mpiexec's process on this machine is gone. On a machine that is cut off from mlpprof, that process notices it only
    because what the ranks write does not arrive.

    ranks: their number. tool: mlpprof's process, on the machine tool_host.
    """
    if not hasattr(os, "fork"):
        return
    pid = os.fork()
    if pid == 0:
        return
    os.close(0)  # only the child talks to mlpprof
    os.close(1)

    is_at_tool, starter = socket.gethostname() == tool_host, os.getppid()

    def end_without_tool(*_: object) -> None:
        try:
            if is_at_tool:
                os.kill(tool, 0)
            else:
                say("")
            is_alone = os.getppid() != starter
        except (ProcessLookupError, BrokenPipeError):
            is_alone = True
        if is_alone:
            os.kill(pid, signal.SIGKILL)

    every_s = LOOK_S if is_at_tool else SIGN_OF_LIFE_S
    signal.signal(signal.SIGALRM, end_without_tool)
    signal.setitimer(signal.ITIMER_REAL, every_s, every_s)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        rank = next((os.environ[name] for name in STARTED_VARIABLES if name in os.environ), "?")
        say(DIED.format(rank=rank, last=ranks - 1, pid=pid, host=socket.gethostname(), how=how))
    os._exit(abs(code))


def say(line: str) -> None:
    """Write one line to standard error in one piece, since other ranks write there too."""
    os.write(2, f"{line}\n".encode())


LOST = re.compile(
    r"Connection (?:to|reset by) (?P<ssh>\S+)(?: closed by remote host| port \d+: )"
    r"|Timeout, server (?P<silent>\S+) not responding"
    r"|Remote daemon:.* on node (?P<open_mpi>\S+)"
    r"|control_cb .* assert \(!closed\) failed"
)
"""What ssh, Open MPI and MPICH write if a machine has ended or its network has; MPICH does not name the machine."""


def lost_machine(log: str) -> str | None:
    """'node2', if the standard error of all ranks says that the connection to it is lost; '' if it does not say which.

    None if no connection is lost.
    """
    found = [next(filter(None, match.groups()), "") for match in LOST.finditer(log)]
    return max(found, default=None)


def dead_rank(log: str) -> str | None:
    """'rank 1 of 0 to 2 (process 217 on here) was killed by SIGKILL', from the standard error of all ranks, or None."""
    found = re.search(r"mlpprof: (rank \d+ of 0 to \d+ \(process .*)", log)
    return found.group(1) if found else None
