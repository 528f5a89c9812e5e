"""The worker of the study of shapes: the three products of a layer, by every library that is installed.

The layer has as many inputs as neurons, n, and the batch has m samples. Its products are those of `PRODUCTS`. A small
product takes less time than a call of JAX's compiled function, so what is timed makes several:

- forward and back go through several layers, each of which takes the result of the layer before it;
- gradients are those of several layers, and each is a result of its own.

The factors of all libraries have the same memory order, that of a (m, n) and W (n_out, n_in). NumPy and PyTorch write
into arrays that are there already. The tiles of `blocked` repeat the product of one layer within compiled code, from
matrices that lie in panels, where `blocked` keeps them.

All libraries take turns in one process. The best turn counts, since other programs can only make a turn slower.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from mlpprof.machine.limits_worker import measure_one
from mlpprof.model import Array
from mlpprof.process import Progress, serve
from mlpprof.profile.passes import paused_garbage_collection

PRODUCTS = {"forward": "a @ W.T", "back": "delta @ W", "gradient": "delta.T @ a"}
CALL_FLOP = 5e6
"""A call makes enough products for this many floating-point operations, but at most MOST_LAYERS products."""
MOST_LAYERS = 32
MOST_BYTES = 1 << 18
"""The factors that differ from product to product take at most this many bytes, so that they stay in the cache."""
TURN_S = 0.004
"""A turn repeats a call until it takes about so many seconds."""
PEAK_BUDGETS = 3.0
"""The peak is measured for this many times as long as for a profile, because every figure is divided by it."""
DTYPE = "float32"

Call = Callable[[], object]


def layers_of(kind: str, n: int, m: int) -> int:
    """The number of products in a call."""
    wanted = CALL_FLOP / (2 * m * n * n)
    fitting = MOST_BYTES / (4 * n * (m if kind == "gradient" else n))
    return max(1, min(MOST_LAYERS, math.ceil(wanted), int(fitting)))


def factors(kind: str, n: int, m: int) -> tuple[Array, list[Array]]:
    """The activations or deltas (m, n), and the other factor of each product: W (n, n), or delta (m, n)."""
    rng = np.random.default_rng(0)
    shape = (m, n) if kind == "gradient" else (n, n)
    # With this factor, the numbers become neither larger nor smaller from layer to layer.
    others = [(rng.normal(size=shape) / math.sqrt(n)).astype(DTYPE) for _ in range(layers_of(kind, n, m))]
    return rng.normal(size=(m, n)).astype(DTYPE), others


class Library:
    """A library that is installed: its version, and its products."""

    version = ""

    def product(self, kind: str, n: int, m: int) -> Call:
        """A call that makes `layers_of(kind, n, m)` products."""
        raise NotImplementedError


class InPlace(Library):
    """A library that can write a product into an array: NumPy, or PyTorch, whose `mm` takes the same arguments."""

    def __init__(self, version: str, multiply: Any, adopt: Callable[[Array], Any] = np.asarray) -> None:
        self.version, self._multiply, self._adopt = version, multiply, adopt

    def product(self, kind: str, n: int, m: int) -> Call:
        first, found = factors(kind, n, m)
        x, *others = map(self._adopt, (first, *found))
        results = [self._adopt(np.empty((n, n) if kind == "gradient" else (m, n), DTYPE)) for _ in range(2)]

        def call() -> None:
            a = x
            for i, other in enumerate(others):
                if kind == "gradient":
                    self._multiply(other.T, a, out=results[0])
                else:
                    a = self._multiply(a, other.T if kind == "forward" else other, out=results[i % 2])

        return call


class Tiles(Library):
    """The tiles of `blocked`."""

    def __init__(self) -> None:
        self._products: Any = importlib.import_module("mlpprof.engines.tile_products").layer_products
        self.version = f"numba {importlib.import_module('numba').__version__}"

    def product(self, kind: str, n: int, m: int) -> Call:
        repeat, times = self._products((n, n, n), m, DTYPE)[kind], layers_of(kind, n, m)
        return lambda: repeat(times)


class Jax(Library):
    """JAX: all products of a call in one compiled function."""

    def __init__(self) -> None:
        self._jax: Any = importlib.import_module("jax")
        self.version = f"JAX {self._jax.__version__}"

    def product(self, kind: str, n: int, m: int) -> Call:
        x, *others = map(self._jax.numpy.asarray, _flat(factors(kind, n, m)))
        compiled = self._jax.jit(lambda a, rest: _chained(kind, a, rest))
        return lambda: self._jax.block_until_ready(compiled(x, others))


class TensorFlow(Library):
    """TensorFlow: one call for each product, because calling a graph with several products takes longer."""

    def __init__(self) -> None:
        self._tf: Any = importlib.import_module("tensorflow")
        for set_threads in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
            getattr(self._tf.config.threading, set_threads)(1)
        self.version = f"TensorFlow {self._tf.__version__}"

    def product(self, kind: str, n: int, m: int) -> Call:
        multiply = self._tf.matmul
        x, *others = map(self._tf.constant, _flat(factors(kind, n, m)))

        def call() -> None:
            a = x
            for other in others:
                if kind == "gradient":
                    multiply(other, a, transpose_a=True)
                else:
                    a = multiply(a, other, transpose_b=kind == "forward")

        return call


def _flat(found: tuple[Array, list[Array]]) -> Iterable[Array]:
    return found[0], *found[1]


def _chained(kind: str, a: Any, others: Sequence[Any]) -> Any:
    if kind == "gradient":
        return [delta.T @ a for delta in others]
    for W in others:
        a = a @ (W.T if kind == "forward" else W)
    return a


def _torch() -> Library:
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    return InPlace(f"PyTorch {torch.__version__}", torch.mm, torch.from_numpy)


LIBRARIES: dict[str, Callable[[], Library]] = {
    "NumPy's BLAS": lambda: InPlace(f"NumPy {np.__version__}", np.matmul),
    "blocked": Tiles,
    "JAX": Jax,
    "PyTorch": _torch,
    "TensorFlow": TensorFlow,
}
_loaded: dict[str, Library] = {}


def load(report: Progress) -> dict[str, Any]:
    """Import the libraries; returns name -> version, and name -> why it does not take part."""
    os.environ.update({"NPROC": "1", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"})
    absent = {}
    for i, (name, make) in enumerate(LIBRARIES.items()):
        report(name, i / len(LIBRARIES))
        try:
            _loaded[name] = make()
        except ImportError as error:
            absent[name] = str(error)
    return {"versions": {name: one.version for name, one in _loaded.items()}, "absent": absent}


def measure(report: Progress, width: int, batches: Sequence[int], rounds: int) -> dict[str, Any]:
    """The rate of large square products, and a row for every product and batch: GFLOP/s of each library."""
    peak = measure_one(f"gemm_{DTYPE}", PEAK_BUDGETS)
    cells = [(kind, m) for kind in PRODUCTS for m in batches]
    rows = []
    for i, (kind, m) in enumerate(cells):
        report(f"width {width:,}, batch {m:,}", i / len(cells))
        best = best_s({name: one.product(kind, width, m) for name, one in _loaded.items()}, rounds)
        flop = 2 * m * width * width * layers_of(kind, width, m)
        gflops = {name: 1e-9 * flop / seconds for name, seconds in best.items()}
        rows.append({"product": kind, "width": width, "batch": m, "gflops": gflops})
    return {"peak": peak, "rows": rows}


def best_s(calls: dict[str, Call], rounds: int, clock: Callable[[], float] = perf_counter) -> dict[str, float]:
    """The seconds per call in the best turn of each; they take turns."""
    best, repeats = {}, {}
    for name, call in calls.items():
        call()  # compiles it, and touches its memory
        call()
        start = clock()
        call()
        best[name] = clock() - start
        repeats[name] = max(1, math.ceil(TURN_S / max(best[name], 1e-9)))
    with paused_garbage_collection():
        for _ in range(rounds):
            for name, call in calls.items():
                start = clock()
                for _ in range(repeats[name]):
                    call()
                best[name] = min(best[name], (clock() - start) / repeats[name])
    return best


def main() -> None:
    """Serve until the parent is done."""
    serve({"load": load, "measure": measure})
