"""Ranks that share a step: processes without common memory, on one machine or several, that communicate through MPI.

All ranks must make the same calls of MPI in the same order. There are two ways to do that. A script of your own runs in
every rank (`mpiexec -n 4 python train.py`): each rank makes the same instance and calls train_step with the same
arguments. Under mlpprof only rank 0 gets requests, so it leads, and the others follow: they make every instance and
every step that rank 0 makes. Between two steps they sleep, so that they disturb nobody.

Rank 0 sends the data of a step if they are not those of the last step, and the weights if it has changed them alone. If
the rows come from a file while training, every rank reads its own rows of each batch from the file.
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
from mlpprof.engines.windows import OpenWindow, open_window, window_of
from mlpprof.errors import MissingExtra, WorkerDied
from mlpprof.model.interface import Array
from mlpprof.model.network import Network

MAPPED_NAME = re.compile(r"\s(/dev/shm/\S+)$")


def _named_memory() -> set[Path]:
    """The files of shared memory that this process has mapped and that are not unlinked."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text(encoding="utf-8").splitlines() if maps.exists() else []
    return {Path(match[1]) for match in map(MAPPED_NAME.search, lines) if match}


_memory_before = _named_memory()
# Only the main thread calls MPI: a lock for other threads made a small all-reduce 4 times slower (MPICH 5.0).
mpi4py.rc.thread_level = "funneled"
try:
    from mpi4py import MPI
except RuntimeError as error:  # mpi4py finds no MPI to load
    raise MissingExtra(f"mpi4py finds no MPI; install one with: pip install 'mlpprof[{EXTRA}]'") from error

SLEEP_S = 0.0002
"""An idle follower looks for messages at this interval: it takes about 5 % of a core, and delays the first step."""

FINISH, MAKE, DROP, STEP = range(4)
"""The tasks that rank 0 gives to the others."""
NEW_DATA, NEW_STATE, NEW_WINDOW = 1, 2, 4
"""The flags of a step: data or weights come with it, or how to open a window of a file."""


class Ranks:
    """The ranks that share the steps of one instance.

    file: the variant's file, which the followers load. state: the arrays that are equal in all ranks. Followers expect
    this object in `instance.ranks`. Make it last in the constructor, so that a network that the variant refuses does
    not reach the followers.

    Rank k trains on the rows index[k::size] of a batch. If a file is streamed, it has NaN in place of all others.

    rank: the number of this process, 0 to size - 1. stepping: whether a step of all ranks is under way. apart: set it
    where the state is changed outside of such a step.
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
        """Make all ranks do this step. Raises WorkerDied if an earlier step was left before its end."""
        if self._leader is not None:
            self._leader.step(self._number, X, Y, index, self.state if self.apart else ())
            self.apart = False
        self.stepping = True

    def all_reduce(self, block: Array) -> None:
        """Replace the block by the sum of the blocks of all ranks.

        It polls, as MPI does, but offers the core to others meanwhile: beside one other busy program on the same cores,
        MPI's own waiting took 6 times as long on average.
        """
        _wait_for(self.comm.Iallreduce(MPI.IN_PLACE, block))

    def end(self) -> None:
        self.stepping = False
        if self._leader is not None:
            self._leader.stepping = False


class _Leader:
    """The side of rank 0, which gives the others their tasks."""

    def __init__(self) -> None:
        self._comm = MPI.COMM_WORLD
        self._data: tuple[Array, Array] | None = None
        self._made = 0
        self._dropped: list[int] = []
        self.stepping = False

    def make(self, instance: Any, file: str, network: Network, dtype: str) -> int:
        """Make the others make the same instance; returns its number."""
        self._made += 1
        what = {"file": file, "class": type(instance).__name__, "network": asdict(network), "dtype": dtype}
        self._send(MAKE, self._made)
        _send_json(self._comm, what)
        # The instance may be collected within a step, so the others learn of it before the next one.
        weakref.finalize(instance, self._dropped.append, self._made).atexit = False
        return self._made

    def step(self, number: int, X: Array, Y: Array, index: Array, state: Sequence[Array]) -> None:
        """Make the others do a step of an instance."""
        while self._dropped:
            self._send(DROP, self._dropped.pop())
        known = self._data is not None and X is self._data[0] and Y is self._data[1]
        window = window_of(X)
        new = 0 if known else NEW_DATA if window is None else NEW_WINDOW
        part = 0 if window is None else window.part()
        self._send(STEP, number, len(index), new | (NEW_STATE if state else 0), part)
        self.stepping = True
        self._data = X, Y
        if new == NEW_WINDOW and window is not None:
            _send_json(self._comm, [window.opener, window.text])
        if new == NEW_DATA:
            _wait_for(self._comm.Ibcast(np.array([*X.shape, ord(X.dtype.char), *Y.shape, ord(Y.dtype.char)], np.int64)))
            for values in (X, Y):
                _wait_for(self._comm.Ibcast(_sendable(values)))
        for array in state:
            _wait_for(self._comm.Ibcast(array))
        _wait_for(self._comm.Ibcast(np.array(index, np.int64)))

    def end(self) -> None:
        """End the others; all at once if they wait within a step."""
        if self.stepping:
            self._comm.Abort(1)
        self._send(FINISH)

    def _send(self, task: int, number: int = 0, size: int = 0, flags: int = 0, part: int = 0) -> None:
        if self.stepping:
            raise WorkerDied("rank 0 has left a step before its end, so the ranks no longer agree; start them again")
        _wait_for(self._comm.Ibcast(np.array([task, number, size, flags, part], np.int64)))


_watcher = os.getppid()
_leader: _Leader | None = None
"""The leader, in rank 0 under mlpprof."""


def lead_or_follow(module: str, ranks: int) -> None:
    """The whole program of a rank: rank 0 runs `main()` of the module, and the others follow it.

    Raises WorkerDied if mpiexec and mpi4py belong to different MPIs.
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
    os.dup2(2, 1)  # only rank 0 may write to standard output, which mlpprof reads
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches mlpprof, which ends its ranks
    try:
        _follow()
    except BaseException as error:  # noqa: BLE001 - whatever it is, the others wait for this rank
        traceback.print_exc()
        how = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
        say(DIED.format(rank=comm.rank, last=comm.size - 1, pid=os.getpid(), host=socket.gethostname(), how=how))
        comm.Abort(1)


def _follow() -> None:
    """Do the tasks of rank 0 until it ends."""
    comm = MPI.COMM_WORLD
    modules: dict[str, ModuleType] = {}
    instances: dict[int, Any] = {}
    X = Y = np.empty((0, 0))
    window: OpenWindow | None = None
    while True:
        task, number, size, flags, part = _next_task()
        if task == FINISH:
            return
        if task == DROP:
            del instances[number]
        elif task == MAKE:
            instances[number] = _make(_received_json(comm), modules)
        else:
            instance = instances[number]
            if flags & (NEW_DATA | NEW_WINDOW) and window is not None:
                window.close()
                window = None
            if flags & NEW_WINDOW:
                opener, described = _received_json(comm)
                window = open_window(opener, described, comm.rank)
                X, Y = window.X, window.Y
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
            if window is not None:
                window.hold(part)
            instance.train_step(X, Y, index)


def _next_task() -> list[int]:
    """Wait for the next task from rank 0: first polling, since it may come at once, then asleep."""
    message = np.empty(5, np.int64)
    _wait_for(MPI.COMM_WORLD.Ibcast(message), awake_s=AWAKE_S)
    found: list[int] = message.tolist()
    return found


def _send_json(comm: Any, value: Any) -> None:
    """Send what JSON can hold from rank 0 to the others, which call `_received_json`."""
    text = np.frombuffer(json.dumps(value).encode(), np.uint8).copy()
    _wait_for(comm.Ibcast(np.array([len(text)], np.int64)))
    _wait_for(comm.Ibcast(text))


def _received_json(comm: Any) -> Any:
    length = np.empty(1, np.int64)
    _wait_for(comm.Ibcast(length))
    text = np.empty(int(length[0]), np.uint8)
    _wait_for(comm.Ibcast(text))
    return json.loads(text.tobytes())


def _wait_for(request: Any, awake_s: float = math.inf) -> None:
    """Poll until the request is complete; awake_s: after this time, sleep between two looks.

    Ends the process if its parent, which watches it, is gone: then mpiexec has ended this rank, or has been killed.
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
    """An instance of the class from its file; the weights come with the first step."""
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
    """The array in the form that MPI needs: C-contiguous and marked as writable, although it is only read."""
    return values if values.flags.c_contiguous and values.flags.writeable else values.copy("C")


def _forget_names() -> None:
    """Unlink the shared memory that all ranks of this machine have opened by now.

    Then it disappears with the last of them, also when they are killed (otherwise MPICH leaves a file in /dev/shm).
    """
    for path in _named_memory() - _memory_before:
        path.unlink(missing_ok=True)


if MPI.COMM_WORLD.size == 1:
    _forget_names()
