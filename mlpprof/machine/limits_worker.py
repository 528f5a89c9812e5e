"""The worker that measures limits, by name, in a process with the environment for which they are valid.

The best of the repetitions counts: whatever else the machine does can only make a result worse.
"""

from __future__ import annotations

import gc
import itertools
import math
import mmap
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpprof.machine.facts import describe
from mlpprof.machine.limits import KERNELS, SIZES, TILES, Limit, unit_of
from mlpprof.process import Progress, serve

BUDGET_S = {"gemm": 0.4, "product": 0.1, "tiles": 0.04, "bandwidth": 0.08}
"""The time for one limit, by the first word of its name; others take OTHER_BUDGET_S."""
OTHER_BUDGET_S = 0.04
CLOCKED_S = 0.0005
"""The clock is read at most this often; a shorter operation is repeated between two readings."""

GEMM_SIZES = {"float32": (1536, 512), "float64": (1280, 384)}
"""These are the sizes of the large square matrices for each precision. The product of the smaller ones usually ends
before another program can interrupt it, so that the limit is right on a busy machine as well."""
VECTOR_ELEMENTS = 1 << 14
"""The functions work on this many elements, so that input and output fit into a first or second cache."""
SMALL_PRODUCT = 16
FAULT_PAGES = 4096

Array = NDArray[Any]
Run = Callable[[], object]


def best_s(runs: Sequence[Run], budget_s: float, clock: Callable[[], float] = perf_counter) -> float:
    """The seconds per run of the fastest of several ways to do the same; they take turns until the budget is spent."""
    best = math.inf
    repeats = []
    for run in runs:
        run()  # touches its memory
        start = clock()
        run()
        seconds = max(clock() - start, 1e-9)
        best = min(best, seconds)
        repeats.append(max(1, math.ceil(CLOCKED_S / seconds)))
    begun = clock()
    for run, n in itertools.cycle(zip(runs, repeats, strict=True)):
        start = clock()
        for _ in itertools.repeat(None, n):
            run()
        now = clock()
        best = min(best, (now - start) / n)
        if now - begun > budget_s:
            return best
    return best


def measure_one(name: str, share_of_budget: float = 1.0) -> float:
    """The value of a limit in its unit; raises KeyError for a wrong name."""
    if name in _CALLS:
        return _CALLS[name](share_of_budget * OTHER_BUDGET_S)
    kind, _, rest = name.partition("_")
    budget_s = share_of_budget * BUDGET_S.get(kind, OTHER_BUDGET_S)
    if kind == "gemm":
        sizes = GEMM_SIZES[rest]
        return max(_product_gflops(n, n, n, rest, budget_s / len(sizes), orders=("C",)) for n in sizes)
    if kind in KERNELS:
        dtype, _, shape = rest.partition("_")
        p, k, q = (int(size) for size in shape.split("x"))
        return (_tiles_gflops if kind == TILES else _product_gflops)(p, k, q, dtype, budget_s)
    if kind == "bandwidth":
        return _bandwidth_gb_per_s(SIZES[rest], budget_s)
    return _elements_per_s(kind, rest, budget_s)


def _product_gflops(p: int, k: int, q: int, dtype: str, budget_s: float, orders: Sequence[str] = ("C", "F")) -> float:
    """The best over both memory orders of both factors, and over both orders of the result."""
    rng = np.random.default_rng(0)
    A, B = rng.random((p, k)).astype(dtype), rng.random((k, q)).astype(dtype)
    C, C_transposed = np.empty((p, q), dtype), np.empty((q, p), dtype)
    runs: list[Run] = []
    for order_a, order_b in itertools.product(orders, orders):
        a, b = np.array(A, order=order_a), np.array(B, order=order_b)  # type: ignore[call-overload]  # C or F
        runs.append(lambda a=a, b=b: np.matmul(a, b, out=C))  # type: ignore[misc]  # defaults bind the loop variables
        if len(orders) > 1:
            runs.append(lambda a=a, b=b: np.matmul(b.T, a.T, out=C_transposed))  # type: ignore[misc]
    return 2e-9 * p * k * q / best_s(runs, budget_s)


def _tiles_gflops(p: int, k: int, q: int, dtype: str, budget_s: float) -> float:
    """The product forward of a layer with k inputs and p neurons on q samples, as `blocked` computes it."""
    # This import loads numba, which only these limits need.
    from mlpprof.engines.tile_products import layer_products

    run = layer_products((k, p), q, dtype)["forward"]
    run(1)  # compiles it
    once_s = best_s([lambda: run(1)], 0.0)
    times = max(1, math.ceil(CLOCKED_S / once_s))
    return 2e-9 * p * k * q * times / best_s([lambda: run(times)], budget_s)


def _bandwidth_gb_per_s(moved_bytes: int, budget_s: float) -> float:
    """The better of a copy and a sum, and of two distances between the arrays.

    Some processors copy at a tenth of their speed where the target lies a few bytes after the source, modulo a page.
    """
    n = moved_bytes // 2
    memory = np.zeros(2 * n + 2 * mmap.PAGESIZE, np.uint8)
    source = memory[:n]
    first = -(-n // mmap.PAGESIZE) * mmap.PAGESIZE
    targets = [memory[start : start + n] for start in (first, first + mmap.PAGESIZE // 2)]
    runs: list[Run] = [lambda target=target: np.copyto(target, source) for target in targets]  # type: ignore[misc]
    third = moved_bytes // 3 // 4 * 4
    a, b, c = (memory[i * third : (i + 1) * third].view(np.float32) for i in range(3))
    runs.append(lambda: np.add(a, b, out=c))
    return 1e-9 * moved_bytes / best_s(runs, budget_s)


def _elements_per_s(function: str, dtype: str, budget_s: float) -> float:
    ufunc: np.ufunc
    if function == "expit":
        # This loads SciPy's library of functions, which only this limit needs.
        from scipy import special

        ufunc = special.expit
    else:
        ufunc = {"exp": np.exp, "tanh": np.tanh, "log": np.log}[function]
    # The numbers lie around zero, as Z does; log gets positive numbers, as activations are.
    x = np.random.default_rng(0).normal(size=VECTOR_ELEMENTS).astype(dtype)
    if function == "log":
        x = np.abs(x) + x.dtype.type(0.01)
    out = np.empty_like(x)
    return 1e-9 * x.size / best_s([lambda: ufunc(x, out=out)], budget_s)


def _ufunc_call_us(budget_s: float) -> float:
    a, out = np.ones(1, np.float32), np.empty(1, np.float32)
    return 1e6 * best_s([lambda: np.add(a, a, out=out)], budget_s)


def _product_call_us(budget_s: float) -> float:
    a = np.ones((SMALL_PRODUCT, SMALL_PRODUCT), np.float32)
    out = np.empty_like(a)
    return 1e6 * best_s([lambda: np.dot(a, a, out=out)], budget_s)


def _page_fault_us(budget_s: float) -> float:
    """The time of the first touch of a page minus that of the second, in fresh memory with small pages."""
    fastest, begun = math.inf, perf_counter()
    while perf_counter() - begun < budget_s:
        with mmap.mmap(-1, FAULT_PAGES * mmap.PAGESIZE) as memory:
            if hasattr(mmap, "MADV_NOHUGEPAGE"):
                memory.madvise(mmap.MADV_NOHUGEPAGE)
            pages = np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE]
            seconds = []
            for _ in range(2):
                start = perf_counter()
                pages[:] = 1
                seconds.append(perf_counter() - start)
            del pages  # the memory is only given back when no array uses it
        fastest = min(fastest, seconds[0] - seconds[1])
    return 1e6 * fastest / FAULT_PAGES


_CALLS = {"ufunc_call": _ufunc_call_us, "product_call": _product_call_us, "page_fault": _page_fault_us}


def measure(report: Progress, names: list[str], share_of_budget: float = 1.0) -> dict[str, Limit]:
    """The limits with these names, but without those of tiles if numba does not run with this NumPy.

    share_of_budget: below 1 for a quick measurement.
    """
    found: dict[str, Limit] = {}
    for i, name in enumerate(names):
        report(f"limits: {name}", i / len(names))
        try:
            value = measure_one(name, share_of_budget)
        except ImportError:
            if not name.startswith(TILES):
                raise
        else:
            found[name] = {"value": float(f"{value:.4g}"), "unit": unit_of(name)}
    return found


def machine(report: Progress) -> dict[str, Any]:
    """The description of this process and its machine, SciPy's BLAS included."""
    import scipy.linalg.blas  # noqa: F401  # loads the second BLAS, so that it is described

    report("machine", 0.0)
    return describe()


def main() -> None:
    """Serve until the parent is done. Nothing here lives longer than its turn, so no garbage collection is needed."""
    gc.disable()
    serve({"measure": measure, "machine": machine})
