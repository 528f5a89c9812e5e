"""Limits from outside: those kept for an environment, and those that are missing measured in a process of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypedDict

import platformdirs

from mlpprof.errors import UsageError
from mlpprof.files import write_atomically
from mlpprof.instrument.needed_work import needed_products
from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.machine.keys import Json
from mlpprof.machine.linux import load_average
from mlpprof.model import Network
from mlpprof.process import Progress, Worker
from mlpprof.results import Operation

# What limits there are: a limit's name says what is measured, so that a worker can measure it from the name alone.
#
# | name                       | unit    | what |
# | -------------------------- | ------- | ----------------------------------------------------- |
# | gemm_DTYPE                 | GFLOP/s | product of large square matrices: the peak |
# | product_DTYPE_PxKxQ        | GFLOP/s | product (p, k) by (k, q), p <= q, in the best of eight memory orders |
# | bandwidth_SIZE             | GB/s    | np.copyto or np.add, SIZE bytes read and written in all: 64KiB ... 256MiB |
# | FUNCTION_DTYPE             | Gelem/s | exp, tanh, log and expit on numbers that fit into the cache |
# | ufunc_call, product_call   | us      | one ufunc on one number, one product of 16 by 16 |
# | page_fault                 | us      | the first touch of a small page of memory |
#
# GFLOP/s, GB/s and Gelem/s are 1e9 a second; a call and a fault are better the shorter they are. Products hold for the
# threads of their process; NumPy does everything else on one thread.


DTYPES = ("float32", "float64")
FUNCTIONS = ("exp", "tanh", "log", "expit")
SIZES = {"64KiB": 64 << 10, "1MiB": 1 << 20, "8MiB": 8 << 20, "64MiB": 64 << 20, "256MiB": 256 << 20}
"""Bytes read and written in all, from the inner caches to memory."""

CALLS = ("ufunc_call", "product_call", "page_fault")
COMMON = (*(f"bandwidth_{size}" for size in SIZES), *CALLS)
"""What does not depend on precision."""


class Limit(TypedDict):
    """A measured limit."""

    value: float
    unit: str


Limits = dict[str, Limit]


def unit_of(name: str) -> str:
    """The unit of a limit by its name."""
    if name in CALLS:
        return "us"
    return {"gemm": "GFLOP/s", "product": "GFLOP/s", "bandwidth": "GB/s"}.get(name.split("_")[0], "Gelem/s")


def is_better(name: str, value: float, than: float) -> bool:
    """Whether one measurement of a limit comes closer to the limit than another."""
    return value < than if name in CALLS else value > than


def depends_on_threads(name: str) -> bool:
    """Whether a limit changes with the threads of BLAS: products alone do."""
    return name not in CALLS and name.startswith(("gemm_", "product_"))


def product_name(dtype: str, p: int, k: int, q: int) -> str:
    """The name of a product's limit; (p, k) by (k, q) and its transpose are the same work."""
    return f"product_{dtype}_{min(p, q)}x{k}x{max(p, q)}"


def names_for(network: Network, dtype: str, batches: Iterable[int], operations: Iterable[Operation] = ()) -> list[str]:
    """The limits that steps of a network are held against.

    Products in the shapes that the network needs at these batch sizes, and in those that `operations` have run.
    """
    shapes = {(dtype, *shape): None for m in batches for shape in needed_products(network, m)}
    for operation in operations:
        if operation.kind == PRODUCT and operation.dtype in DTYPES and len(operation.shape) == 3 and operation.flop > 0:
            shapes[(operation.dtype, *operation.shape)] = None
    functions = [f"{function}_{dtype}" for function in FUNCTIONS]
    products = dict.fromkeys(product_name(*shape) for shape in shapes)
    return [f"gemm_{dtype}", *COMMON, *functions, *products]


# Limits that have been measured, kept in the user's cache folder: one file a machine, BLAS, NumPy and environment.
#
# A limit holds for the processor, the BLAS with its kernel and threads, NumPy, and the variables that steer them; these
# are the key. What is measured again replaces what is kept only where it comes closer to the limit.


SCHEMA = 1

KEY_FACTS = (
    *("cpu_model_name", "cpu_simd", "cpu_affinity_count", "cpu_quota", "cpu_caches", "numpy_version", "scipy_version"),
    *("blas_environment", "allocator_environment", "preloaded_libraries", "transparent_hugepages", "libc_version"),
)


def key_of(machine: Mapping[str, Json]) -> dict[str, Json]:
    """What limits depend on, from the description of a process; of the BLAS the one that NumPy uses."""
    found = machine.get("blas")
    libraries = [library for library in found if isinstance(library, dict)] if isinstance(found, list) else []
    numpy_blas = [library for library in libraries if library.get("loaded_by") != "scipy"]
    return {fact: machine.get(fact) for fact in KEY_FACTS} | {"blas": list(numpy_blas)}


def default_folder() -> Path:
    """Where limits are kept: below the folder that this system has for caches."""
    return Path(platformdirs.user_cache_dir("mlpprof", appauthor=False)) / "limits"


def cache_path(key: Mapping[str, Json], folder: Path | None = None) -> Path:
    """The file of a key."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return (default_folder() if folder is None else folder) / f"{digest[:16]}.json"


@dataclass(frozen=True)
class Kept:
    """The limits kept for a key, and the names of those that were measured beside others' work: worth another try."""

    limits: Limits = field(default_factory=dict)
    doubtful: frozenset[str] = frozenset()


def read(key: Mapping[str, Json], folder: Path | None = None) -> Kept:
    """What is kept for a key; nothing where there is no file, or one that is damaged or of another schema."""
    try:
        document = json.loads(cache_path(key, folder).read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA or document["key"] != json.loads(json.dumps(key)):
            return Kept()
        limits: Limits = {
            name: {"value": float(limit["value"]), "unit": unit_of(name)}
            for name, limit in document["limits"].items()
            if limit["unit"] == unit_of(name) and float(limit["value"]) > 0
        }
        return Kept(limits, frozenset(str(name) for name in document["doubtful"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return Kept()


def merged(kept: Mapping[str, Limit], measured: Mapping[str, Limit]) -> Limits:
    """The better of two measurements of each limit."""
    best = dict(kept)
    for name, limit in measured.items():
        if name not in best or is_better(name, limit["value"], best[name]["value"]):
            best[name] = limit
    return best


def write(key: Mapping[str, Json], kept: Kept, folder: Path | None = None) -> None:
    """Keep the limits of a key, instead of what was kept before.

    Raises UsageError where the file cannot be written.
    """
    path = cache_path(key, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"schema": SCHEMA, "key": key, "limits": kept.limits, "doubtful": sorted(kept.doubtful)}
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


WORKER = "mlpprof.machine.limits_worker"
LOOKS, LOOK_EVERY_S = 5, 0.01


def limits_for(
    names: Sequence[str],
    machine: Mapping[str, Json],
    environment: Mapping[str, str],
    progress: Progress,
    folder: Path | None = None,
) -> Limits:
    """The named limits of a process: from the cache, the missing ones measured in a fresh process and kept.

    What was measured while others kept the machine busy is doubtful: it is used, and measured again by the first run
    that has the machine to itself.
    machine: the description of a process in that environment. folder: of the cache, the user's own by default.
    Raises whatever `Worker.call` raises.
    """
    key = key_of(machine)
    kept = read(key, folder)
    missing = [name for name in names if name not in kept.limits]
    doubtful = [name for name in names if name in kept.doubtful]
    busy = bool(missing or doubtful) and neighbours_run()
    if doubtful and not busy:
        missing += doubtful
    if missing:
        with Worker(WORKER, environment) as worker:
            measured: Limits = worker.call("measure", progress, names=missing)
        kept = updated(kept, measured, busy)
        keep(key, kept, folder)
    return {name: kept.limits[name] for name in names}


def measure_again(
    names: Sequence[str],
    environment: Mapping[str, str],
    progress: Progress,
    *,
    share_of_budget: float = 1.0,
    forget: bool = False,
    folder: Path | None = None,
) -> tuple[dict[str, Json], Limits]:
    """Measure the named limits now, in a fresh process: its description, and the best that is known of each limit.

    share_of_budget: below 1 for a quick look. forget: leave out what was kept before.
    """
    busy = neighbours_run()
    with Worker(WORKER, environment) as worker:
        machine: dict[str, Json] = worker.call("machine", progress)
        measured: Limits = worker.call("measure", progress, names=list(names), share_of_budget=share_of_budget)
    key = key_of(machine)
    kept = updated(Kept() if forget else read(key, folder), measured, busy)
    keep(key, kept, folder)
    return machine, {name: kept.limits[name] for name in names}


def updated(kept: Kept, measured: Limits, busy: bool) -> Kept:
    """The better of the kept and the measured limits; new ones are doubtful if others ran beside them."""
    new = measured.keys() - kept.limits.keys()
    doubtful = kept.doubtful | new if busy else kept.doubtful - measured.keys()
    return Kept(merged(kept.limits, measured), frozenset(doubtful))


def neighbours_run() -> bool:
    """Whether other threads than this one are running on this machine; False where the system does not tell."""
    runnable = []
    for _ in range(LOOKS):
        runnable.append(load_average()[1] or 1)
        time.sleep(LOOK_EVERY_S)
    return median(runnable) > 1


def keep(key: Mapping[str, Json], kept: Kept, folder: Path | None) -> None:
    """Write the cache where that is possible; where it is not, the next run measures again."""
    with contextlib.suppress(OSError, UsageError):
        write(key, kept, folder)
