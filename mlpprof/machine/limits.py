"""The limits of this machine: what they are, and where their values come from.

A limit's name says what is measured, so that a worker can measure it from the name alone.

| name                       | unit    | what                                                                        |
| -------------------------- | ------- | --------------------------------------------------------------------------- |
| gemm_DTYPE                 | GFLOP/s | product of large square matrices: the peak                                  |
| product_DTYPE_PxKxQ        | GFLOP/s | product (p, k) by (k, q), p <= q, in the best of eight memory orders        |
| tiles_DTYPE_PxKxQ          | GFLOP/s | the same product in the tiles of `blocked`, on one thread; only with numba  |
| bandwidth_SIZE             | GB/s    | np.copyto or np.add, which reads and writes SIZE bytes in all               |
| FUNCTION_DTYPE             | Gelem/s | exp, tanh, log and expit on numbers that fit into the cache                 |
| ufunc_call, product_call   | us      | one ufunc on one number, one product of 16 by 16                            |
| page_fault                 | us      | the first touch of a small page of memory                                   |

GFLOP/s, GB/s and Gelem/s are 1e9 per second. Calls and faults are better if they are shorter. Products use the BLAS
threads of their process; NumPy does everything else on one thread.

Limits that were measured are kept in the user's cache folder, and measured again only where they are missing or
doubtful. A new value replaces the kept one if it comes closer to the limit.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, TypedDict

from msgspec import Meta

from mlpprof.errors import UsageError, WorkerDied
from mlpprof.instrument.needed_work import needed_products
from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.machine.blas import libraries_in
from mlpprof.machine.keys import Json
from mlpprof.machine.linux import load_average
from mlpprof.model import Network
from mlpprof.process import Progress, Worker
from mlpprof.results import Operation
from mlpprof.results.cache import Cache

DTYPES = ("float32", "float64")
FUNCTIONS = ("exp", "tanh", "log", "expit")
SIZES = {"64KiB": 64 << 10, "1MiB": 1 << 20, "8MiB": 8 << 20, "64MiB": 64 << 20, "256MiB": 256 << 20}
"""The number of bytes read and written in all: from the inner caches to main memory."""

CALLS = ("ufunc_call", "product_call", "page_fault")
BLAS, TILES = KERNELS = ("product", "tiles")
"""The first words of the limits of a product: NumPy's BLAS, and the tiles of `blocked`."""
COMMON = (*(f"bandwidth_{size}" for size in SIZES), *CALLS)
"""Limits that do not depend on the precision."""


class Limit(TypedDict):
    """A measured limit."""

    value: Annotated[float, Meta(gt=0, le=1e12)]
    unit: str


Limits = dict[str, Limit]


def unit_of(name: str) -> str:
    """The unit of a limit by its name."""
    if name in CALLS:
        return "us"
    kind = name.split("_")[0]
    return "GFLOP/s" if kind in ("gemm", *KERNELS) else "GB/s" if kind == "bandwidth" else "Gelem/s"


def is_better(name: str, value: float, than: float) -> bool:
    """Whether one measurement of a limit comes closer to the limit than another."""
    return value < than if name in CALLS else value > than


def depends_on_threads(name: str) -> bool:
    """Whether a limit changes with the threads of BLAS; only products do."""
    return name not in CALLS and name.startswith(("gemm_", "product_"))


def product_name(dtype: str, p: int, k: int, q: int, kernel: str = BLAS) -> str:
    """The name of a product's limit; (p, k) by (k, q) and its transpose are the same work."""
    return f"{kernel}_{dtype}_{min(p, q)}x{k}x{max(p, q)}"


def tile_names(network: Network, dtype: str, batches: Iterable[int]) -> list[str]:
    """The limits of the products that a network needs, in the tiles of `blocked`; none if numba is not installed."""
    if importlib.util.find_spec("numba") is None:
        return []
    shapes = (shape for m in batches for shape in needed_products(network, m))
    return list(dict.fromkeys(product_name(dtype, *shape, kernel=TILES) for shape in shapes))


def names_for(
    network: Network | None, dtype: str, batches: Iterable[int], operations: Iterable[Operation] = ()
) -> list[str]:
    """The limits that the steps of a network are compared with; None for a program, whose network is not known.

    They include products in the shapes that the network needs at these batch sizes and in those that `operations` ran.
    """
    needed = [shape for m in batches for shape in needed_products(network, m)] if network is not None else []
    shapes = {(dtype, *shape): None for shape in needed}
    for operation in operations:
        if operation.kind == PRODUCT and operation.dtype in DTYPES and len(operation.shape) == 3 and operation.flop > 0:
            shapes[(operation.dtype, *operation.shape)] = None
    functions = [f"{function}_{dtype}" for function in FUNCTIONS]
    products = dict.fromkeys(product_name(*shape) for shape in shapes)
    return [f"gemm_{dtype}", *COMMON, *functions, *products]


KEY_FACTS = (
    *("cpu_model_name", "cpu_simd", "cpu_affinity_count", "cpu_quota", "cpu_caches", "numpy_version", "scipy_version"),
    *("blas_environment", "allocator_environment", "preloaded_libraries", "transparent_hugepages", "libc_version"),
)
"""A limit holds for the processor, for NumPy, and for the variables that steer it and its BLAS."""


def key_of(machine: Mapping[str, Json]) -> dict[str, Json]:
    """The facts on which limits depend, from the description of a process; only NumPy's BLAS is among them."""
    blas: list[Json] = [library for library in libraries_in(machine) if library.get("loaded_by") != "scipy"]
    return {fact: machine.get(fact) for fact in KEY_FACTS} | {"blas": blas}


@dataclass(frozen=True)
class Kept:
    """The limits kept for a key. doubtful: those that were measured while other programs ran, worth another try."""

    limits: Limits = field(default_factory=dict)
    doubtful: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name, limit in self.limits.items():
            if limit["unit"] != unit_of(name):
                raise ValueError(f"{name} is in {limit['unit']}; expected {unit_of(name)}")


CACHE = Cache("limits", 1, Kept)


def merged(kept: Mapping[str, Limit], measured: Mapping[str, Limit]) -> Limits:
    """The better of two measurements of each limit."""
    best = dict(kept)
    for name, limit in measured.items():
        if name not in best or is_better(name, limit["value"], best[name]["value"]):
            best[name] = limit
    return best


WORKER = "mlpprof.machine.limits_worker"
LOOKS, LOOK_EVERY_S = 5, 0.01
"""The number of times that the running threads are counted, and the pause between two counts."""

Note = Callable[[str], None]
"""A function that takes a sentence for the user."""


def limits_for(
    names: Sequence[str],
    machine: Mapping[str, Json],
    environment: Mapping[str, str],
    progress: Progress,
    note: Note,
    folder: Path | None = None,
) -> Limits:
    """The named limits of a process: those that are kept, and the others measured in a fresh process and kept.

    A limit that was measured while other programs kept the machine busy is doubtful: it is used, and the first run that
    has the machine to itself measures it again. If the fresh process is killed, there is a note, and no limit. The
    answer lacks the tiles of `blocked` if numba does not run there.
    machine: the description of a process in that environment. folder: of the cache, the user's own by default.
    """
    key = key_of(machine)
    kept = CACHE.read(key, note, folder) or Kept()
    missing = [name for name in names if name not in kept.limits]
    doubtful = [name for name in names if name in kept.doubtful]
    busy = bool(missing or doubtful) and neighbours_run()
    if doubtful and not busy:
        missing += doubtful
    if missing:
        try:
            with Worker(WORKER, environment, limit_s=math.inf, runs="the machine's limits") as worker:
                measured: Limits = worker.call("measure", progress, names=missing)
        except WorkerDied as death:
            note(f"the machine's limits were not measured, so the report does not compare with them: {death}")
            return {}
        kept = updated(kept, measured, busy)
        keep(key, kept, folder)
    return {name: kept.limits[name] for name in names if name in kept.limits}


def measure_again(
    names: Sequence[str],
    environment: Mapping[str, str],
    progress: Progress,
    note: Note,
    *,
    share_of_budget: float = 1.0,
    forget: bool = False,
    folder: Path | None = None,
) -> tuple[dict[str, Json], Limits]:
    """Measure the named limits in a fresh process; returns its description, and the best known value of each limit.

    share_of_budget: below 1 for a quick look. forget: do not use what was kept before.
    """
    busy = neighbours_run()
    with Worker(WORKER, environment, limit_s=math.inf) as worker:
        machine: dict[str, Json] = worker.call("machine", progress)
        measured: Limits = worker.call("measure", progress, names=list(names), share_of_budget=share_of_budget)
    key = key_of(machine)
    kept = updated((None if forget else CACHE.read(key, note, folder)) or Kept(), measured, busy)
    keep(key, kept, folder)
    return machine, {name: kept.limits[name] for name in names}


def updated(kept: Kept, measured: Limits, busy: bool) -> Kept:
    """The better of the kept and the measured limits; new ones are doubtful if others ran beside them."""
    new = measured.keys() - kept.limits.keys()
    doubtful = kept.doubtful | new if busy else kept.doubtful - measured.keys()
    return Kept(merged(kept.limits, measured), frozenset(doubtful))


def neighbours_run() -> bool:
    """Whether other threads than this one run on this machine; False if the system does not show that."""
    runnable = []
    for _ in range(LOOKS):
        runnable.append(load_average()[1] or 1)
        time.sleep(LOOK_EVERY_S)
    return median(runnable) > 1


def keep(key: Mapping[str, Json], kept: Kept, folder: Path | None) -> None:
    """Keep the limits if the cache can be written; otherwise the next run measures them again."""
    with contextlib.suppress(UsageError):
        CACHE.write(key, kept, folder)
