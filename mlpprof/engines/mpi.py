"""Ranks that share a step: processes without common memory, on one machine or several, that talk through MPI.

All ranks have to make the same calls of MPI in the same order, and there are two ways to that. A script of your own
runs in every rank (`mpiexec -n 4 python train.py`): each makes the same instance and calls train_step with the same
arguments. Under mlpprof, rank 0 alone is asked to do something, by the tool: it leads. The others follow: they make
every instance that rank 0 makes and every step that it makes; between two of them they sleep, so that they disturb
nobody.

Data are sent when a step comes with others than the last had, weights when rank 0 has changed them by itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import re
import signal
import socket
import sys
import time
import traceback
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import mpi4py
import numpy as np

from mlpprof.engines.mpiexec import DIED, EXTRA, say
from mlpprof.engines.team import AWAKE_S, SPINS
from mlpprof.errors import MissingExtra, WorkerDied
from mlpprof.model.interface import Array
from mlpprof.model.network import Network

MAPPED_NAME = re.compile(r"\s(/dev/shm/\S+)$")


def _named_memory() -> set[Path]:
    """The files of shared memory that this process has mapped and that still have a name."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text(encoding="utf-8").splitlines() if maps.exists() else []
    return {Path(match[1]) for match in map(MAPPED_NAME.search, lines) if match}


_memory_before = _named_memory()
# Only the main thread talks: a lock for others made every call slower, a small all-reduce 4 times (MPICH 5.0).
mpi4py.rc.thread_level = "funneled"
try:
    from mpi4py import MPI
except RuntimeError as error:  # there is no MPI for it to load
    raise MissingExtra(f"mpi4py finds no MPI; install one with: pip install 'mlpprof[{EXTRA}]'") from error

SLEEP_S = 0.0002
"""Between two looks of a follower that has nothing to do: some 5 % of a core, and a first step that waits as long."""

END, MAKE, DROP, STEP = range(4)
"""What rank 0 tells the others to do."""
NEW_DATA, NEW_STATE = 1, 2
"""What comes with a step."""


class Ranks:
    """The ranks that share the steps of one instance.

    file: of the variant, which the followers load; they need `instance.ranks` to be this. state: the arrays that are
    equal in all ranks. Make it last in the constructor: then a network that is refused is refused before.

    rank: of this process, of 0 to size - 1. stepping: whether a step of all ranks is under way. apart: to be set where
    the state is changed outside of such a step.
    """

    def __init__(self, instance: Any, file: str, network: Network, state: Sequence[Array]) -> None:
        self.comm = MPI.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        self.state = tuple(state)
        self.stepping = False
        self.apart = True
        self._leader = _leader
        if _leader is not None:
            self._number = _leader.make(instance, file, network, self.state[0].dtype.name)

    def begin(self, X: Array, Y: Array, index: Array) -> None:
        """Have all ranks make this step. Raises WorkerDied if an earlier one was left before its end."""
        if self._leader is not None:
            self._leader.step(self._number, X, Y, index, self.state if self.apart else ())
            self.apart = False
        self.stepping = True

    def all_reduce(self, block: Array) -> None:
        """Replace the block by the sum of those of all ranks.

        Looks again and again, as MPI does, but offers the core to others meanwhile: MPI's own waiting, beside one other
        busy program on the same cores, took 6 times as long on average.
        """
        _wait_for(self.comm.Iallreduce(MPI.IN_PLACE, block))

    def end(self) -> None:
        """The step is done."""
        self.stepping = False
        if self._leader is not None:
            self._leader.stepping = False


class _Leader:
    """Rank 0's side: what it tells the others."""

    def __init__(self) -> None:
        self._comm = MPI.COMM_WORLD
        self._data: tuple[Array, Array] | None = None
        self._made = 0
        self._dropped: list[int] = []
        self.stepping = False

    def make(self, instance: Any, file: str, network: Network, dtype: str) -> int:
        """Have the others make the same instance; its number."""
        self._made += 1
        what = {"file": file, "class": type(instance).__name__, "network": asdict(network), "dtype": dtype}
        text = np.frombuffer(json.dumps(what).encode(), np.uint8).copy()
        self._tell(MAKE, self._made, len(text))
        _wait_for(self._comm.Ibcast(text))
        # collected at any time, also within a step; so the others are told before the next
        weakref.finalize(instance, self._dropped.append, self._made).atexit = False
        return self._made

    def step(self, number: int, X: Array, Y: Array, index: Array, state: Sequence[Array]) -> None:
        """Have the others make a step of an instance."""
        while self._dropped:
            self._tell(DROP, self._dropped.pop())
        known = self._data is not None and X is self._data[0] and Y is self._data[1]
        self._tell(STEP, number, len(index), (0 if known else NEW_DATA) | (NEW_STATE if state else 0))
        self.stepping = True
        if not known:
            self._data = X, Y
            _wait_for(self._comm.Ibcast(np.array([*X.shape, ord(X.dtype.char), *Y.shape, ord(Y.dtype.char)], np.int64)))
            for values in (X, Y):
                _wait_for(self._comm.Ibcast(_sendable(values)))
        for array in state:
            _wait_for(self._comm.Ibcast(array))
        _wait_for(self._comm.Ibcast(np.array(index, np.int64)))

    def end(self) -> None:
        """Let the others end; all at once where they wait within a step."""
        if self.stepping:
            self._comm.Abort(1)
        self._tell(END)

    def _tell(self, task: int, number: int = 0, size: int = 0, flags: int = 0) -> None:
        if self.stepping:
            raise WorkerDied("rank 0 has left a step before its end, so the ranks are out of step; start them again")
        _wait_for(self._comm.Ibcast(np.array([task, number, size, flags], np.int64)))


_watcher = os.getppid()
_leader: _Leader | None = None
"""Where rank 0 leads: who tells the others."""


def lead_or_follow(module: str, ranks: int) -> None:
    """The whole program of a rank: rank 0 runs `main()` of the module, and the others what it makes them do.

    Raises WorkerDied if mpiexec and the MPI of mpi4py do not know each other.
    """
    global _leader
    comm = MPI.COMM_WORLD
    if comm.size != ranks:
        version = MPI.Get_library_version().split("\n")[0]
        raise WorkerDied(
            f"mpiexec has started {ranks} ranks, but mpi4py sees {comm.size}: it has loaded another MPI ({version})"
        )
    comm.Barrier()
    _forget_names()
    if comm.rank == 0:
        _leader = _Leader()
        try:
            importlib.import_module(module).main()
        finally:
            _leader.end()
        return
    os.dup2(2, 1)  # standard output is the conversation of rank 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the tool, which ends its ranks
    try:
        _follow()
    except BaseException as error:  # noqa: BLE001 - whatever it is, the others wait for this rank
        traceback.print_exc()
        how = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
        say(DIED.format(rank=comm.rank, last=comm.size - 1, pid=os.getpid(), host=socket.gethostname(), how=how))
        comm.Abort(1)


def _follow() -> None:
    """Make what rank 0 makes, until it ends."""
    comm = MPI.COMM_WORLD
    modules: dict[str, ModuleType] = {}
    instances: dict[int, Any] = {}
    X = Y = np.empty((0, 0))
    while True:
        task, number, size, flags = _next_task()
        if task == END:
            return
        if task == DROP:
            del instances[number]
        elif task == MAKE:
            text = np.empty(size, np.uint8)
            _wait_for(comm.Ibcast(text))
            instances[number] = _make(json.loads(text.tobytes()), modules)
        else:
            instance = instances[number]
            if flags & NEW_DATA:
                forms = np.empty((2, 3), np.int64)
                _wait_for(comm.Ibcast(forms))
                X, Y = (np.empty((rows, columns), chr(dtype)) for rows, columns, dtype in forms.tolist())
                for values in (X, Y):
                    _wait_for(comm.Ibcast(values))
            if flags & NEW_STATE:
                for array in instance.ranks.state:
                    _wait_for(comm.Ibcast(array))
            index = np.empty(size, np.int64)
            _wait_for(comm.Ibcast(index))
            instance.train_step(X, Y, index)


def _next_task() -> list[int]:
    """Wait for what rank 0 tells: awake for a while, as it may be at once, then asleep."""
    message = np.empty(4, np.int64)
    _wait_for(MPI.COMM_WORLD.Ibcast(message), awake_s=AWAKE_S)
    found: list[int] = message.tolist()
    return found


def _wait_for(request: Any, awake_s: float = math.inf) -> None:
    """Look until the message is there; awake_s: sleep between two looks after this time.

    Ends the process if the one that watches it is gone: then mpiexec has ended this rank, or has been killed.
    """
    looks, since = 0, time.perf_counter()
    while not request.Test():
        looks += 1
        if looks > SPINS:
            os.sched_yield()
            if time.perf_counter() - since > awake_s:
                time.sleep(SLEEP_S)
            if os.getppid() != _watcher:
                os._exit(1)


def _make(what: Mapping[str, Any], modules: dict[str, ModuleType]) -> Any:
    """An instance of the class from its file, with weights that the first step will bring."""
    file = what["file"]
    if file not in modules:
        spec = importlib.util.spec_from_file_location(f"mlpprof_follower_{len(modules)}", file)
        assert spec is not None
        assert spec.loader is not None
        modules[file] = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[file])
    network = Network(**{**what["network"], "layers": tuple(what["network"]["layers"])})
    sizes = zip(network.layers[1:], network.layers, strict=False)
    zeros = [(np.zeros((n, k), what["dtype"]), np.zeros(n, what["dtype"])) for n, k in sizes]
    return getattr(modules[file], what["class"])(network, zeros)


def _sendable(values: Array) -> Array:
    """The array as MPI takes it: C-contiguous, and writable in form, though the sender's is only read."""
    return values if values.flags.c_contiguous and values.flags.writeable else values.copy("C")


def _forget_names() -> None:
    """Take the names of the shared memory that all ranks of this machine have opened by now.

    So it is gone with the last of them, also when they are killed (MPICH leaves a file in /dev/shm then).
    """
    for path in _named_memory() - _memory_before:
        path.unlink(missing_ok=True)


if MPI.COMM_WORLD.size == 1:
    _forget_names()
