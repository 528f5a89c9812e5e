"""The pool of a sweep on dask.distributed: worker processes here, or those of a scheduler that runs already.

Every cell needs one unit of the resource `mlpprof`, of which a worker has one, so that it never runs two at a time.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mlpprof.errors import MissingExtra, UsageError, WorkerDied, WorkerKilled, one_line
from mlpprof.sweep.grid import Cell
from mlpprof.sweep.measure import Answer

EXTRA = "cluster"
RESOURCE = "mlpprof"
CONNECT_S = 15.0
"""A scheduler that does not answer within so many seconds counts as unreachable."""

REPLACED_S = 30.0
"""A local worker that has died, and is not back after so many seconds, is given up and replaced by a new one."""

START_WORKERS = f"dask worker SCHEDULER --nworkers 1 --nthreads 1 --resources {RESOURCE}=1"
CHECKED_PACKAGES = ("mlpprof", "numpy", "scipy")
"""Their versions have to be the same on both sides, beside the packages that dask itself compares."""

LOST = "the connection to the scheduler is lost; start it, and run the same command for the rest"

Measure = Callable[[Cell], Answer]
Value = TypeVar("Value")


def require_dask() -> None:
    """Raise MissingExtra if dask.distributed is not installed; nothing is imported."""
    if importlib.util.find_spec("distributed") is None:
        raise MissingExtra(f"a sweep needs dask.distributed; install it with: pip install 'mlpprof[{EXTRA}]'")


@contextmanager
def local_client(workers: int = 1) -> Iterator[Any]:
    """A client of worker processes on this machine, which end with the block."""
    require_dask()
    import dask
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": 0,  # the sweep itself repeats the cell of a worker that has died
        "distributed.deploy.lost-worker-timeout": f"{REPLACED_S:.0f}s",
        "distributed.nanny.pre-spawn-environ": {},  # dask would fix the threads of BLAS and the allocator
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",  # the usual port may be taken
            memory_limit=0,  # a worker that is short of memory would be paused in the middle of a measurement
            resources={RESOURCE: 1},
            preload=["mlpprof.sweep.local_worker"],
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def remote_client(address: str | None, file: Path | None, within_s: float = CONNECT_S) -> Iterator[Any]:
    """A client of a scheduler that runs already, by its address or by the file that it has written.

    Raises UsageError if it cannot be reached within so many seconds, or if packages have other versions there.
    """
    require_dask()
    from distributed import Client

    where = f"the scheduler {address}" if address is not None else f"the scheduler of {file}"
    if file is not None:
        address = _address_in(file)
    for name in ("distributed", "distributed.client"):  # each has a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)  # its messages while it tries to connect
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other versions are an error below
            client = Client(address, timeout=within_s)
    except (OSError, ValueError, TypeError) as error:
        late = isinstance(error, OSError)
        how = f"cannot be reached within {within_s:.0f} seconds" if late else "has an address that cannot be used"
        raise UsageError(
            f"{where} {how} ({one_line(error)}); expected the address that dask scheduler prints, such as "
            "tcp://HOST:8786"
        ) from error
    with client:
        require_same_versions(client)
        yield client


def _address_in(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"cannot read the scheduler's address from {file}: {one_line(error)}; expected the file that "
            "dask scheduler --scheduler-file FILE writes"
        ) from error


def require_same_versions(client: Any) -> None:
    """Raise UsageError with dask's own table if a package has another version at the scheduler or at a worker."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            client.get_versions(check=True, packages=list(CHECKED_PACKAGES))
        except ValueError as error:
            caught_words = [str(error)]
        else:
            caught_words = [str(one.message) for one in caught if "ismatch" in str(one.message)]
    if caught_words:
        table = "\n".join(f"  {line}" for line in caught_words[0].splitlines() if line.strip())
        raise UsageError(
            "the cluster and this machine have different versions of packages; install the same ones. "
            f"dask found:\n{table}"
        )


def on_worker(function: Callable[..., Value], *arguments: Any) -> Value:
    """Call a function in a worker of dask, without the variables that its nanny has set for BLAS and the allocator."""
    import dask

    for name, value in dask.config.get("distributed.nanny.pre-spawn-environ", {}).items():
        if os.environ.get(name) == str(value):
            del os.environ[name]
    return function(*arguments)


class DaskPool:
    """A `run.Pool` of a client's workers. measure: measures a cell there; class_of: the class of the machine there.

    say: gets a sentence for the user.
    """

    def __init__(self, client: Any, measure: Measure, class_of: Callable[[], str], say: Callable[[str], None]) -> None:
        self._client, self._measure, self._class_of, self._say = client, measure, class_of, say
        self._futures: dict[Any, int] = {}
        self._tries = 0

    def classes(self) -> list[str]:
        return self.ask(self._class_of)

    def ask(self, question: Callable[[], Value]) -> list[Value]:
        """What a function returns on every worker that is there; if there is none yet, wait for the first."""
        if not self.slots():
            self._say(f"no worker with the resource {RESOURCE} is there yet; waiting for one: {START_WORKERS}")
        while not self.slots():
            time.sleep(0.2)
        alive = self._workers()
        found = self._client.run(on_worker, question, workers=list(alive), on_error="ignore")
        hosts = [worker["host"] for worker in alive.values()]
        if len(hosts) != len(set(hosts)) and self._client.cluster is None:
            twice = next(host for host in hosts if hosts.count(host) > 1)
            raise UsageError(
                f"{hosts.count(twice)} workers run on {twice}, and their cells would disturb each other; start one on "
                f"each node: {START_WORKERS}"
            )
        return list(found.values())

    def slots(self) -> int:
        """The workers with our resource; on this machine, those that dask has given up are replaced."""
        count, cluster = len(self._workers()), self._client.cluster
        if cluster is not None and count < len(cluster.worker_spec):
            cluster.scale(len(cluster.worker_spec))  # starts those that are missing; dask alone would not
        return count

    def submit(self, number: int, cell: Cell) -> None:
        """Under a new key, because dask would answer a key that it knows from its memory."""
        self._tries += 1
        key = f"cell-{number}-{self._tries}"
        future = self._client.submit(on_worker, self._measure, cell, key=key, resources={RESOURCE: 1})
        self._futures[future] = number

    def ended(self, wait_s: float) -> Iterator[tuple[int, Answer]]:
        """Raises WorkerDied if the scheduler has gone."""
        from distributed import CancelledError, wait

        if self.has_lost_scheduler():
            raise WorkerDied(LOST)
        if not self._futures:
            time.sleep(min(wait_s, 0.1))  # a worker that has died is being replaced
            return
        try:
            wait(list(self._futures), timeout=wait_s, return_when="FIRST_COMPLETED")
        except TimeoutError:
            return
        except CancelledError as error:
            raise WorkerDied(LOST) from error
        for future in [one for one in self._futures if one.done()]:
            number = self._futures.pop(future)
            yield number, answer_of(future)

    def has_lost_scheduler(self) -> bool:
        """Whether the scheduler is gone, because dask cancels all futures then.

        A future that is "lost" comes back: its worker has died with an answer that nobody had fetched, and dask
        computes it again.
        """
        return self._client.status == "closed" or any(one.status == "cancelled" for one in self._futures)

    def running(self) -> Mapping[str, Sequence[int]]:
        """By the address of the worker."""
        numbers = {future.key: number for future, number in self._futures.items()}
        with contextlib.suppress(OSError, TimeoutError):
            return {
                re.sub(r"^\w+://", "", worker): [numbers[key] for key in keys if key in numbers]
                for worker, keys in self._client.processing().items()
            }
        return {}

    def _workers(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, TimeoutError):
            workers = self._client.scheduler_info(n_workers=-1)["workers"]
            return {name: one for name, one in workers.items() if one.get("resources", {}).get(RESOURCE, 0) >= 1}
        return {}


def answer_of(future: Any) -> Answer:
    """The answer of a future that is done.

    Fetching it may fail although the cell was measured: the worker may die with the answer before that.
    """
    from distributed.scheduler import KilledWorker

    try:
        answer: Answer = future.result()
    except KilledWorker as error:
        kind = WorkerKilled if error.allowed_failures == 0 else WorkerDied  # the latter was repeated by dask
        words = f"the worker {error.last_worker.address} died while it ran this cell, and so did one before it"
        return Answer(error=words, kind=kind.__name__)
    except Exception as error:  # noqa: BLE001 - what a node raises may be anything
        return Answer(error=f"{type(error).__name__}: {one_line(error)}", kind=type(error).__name__)
    return answer
