"""The roofline: the limit time of every phase and statement on this machine, and the minimum of a step.

It is made from a run alone: its times, its counted operations and the limits of its machine (`machine.limits`).

The limit time of an operation is the shortest time that the operation can take on this machine:
- a product runs at the best rate that was measured for its shape;
- an evaluation (exp, tanh, sigmoid) runs at the best rate of its function, or moves its bytes at the best bandwidth,
  whichever takes longer;
- every other operation moves its bytes at the best bandwidth for that many bytes. A gather reads from the memory or
  the cache that the data set fits in.
A call costs nothing in this model, so many small operations reach only a small share of their limit.

The lower bound of a step, which reports call its minimum, is the time that its mathematics needs at these limits: the
products in the shapes of the network, one gather, one evaluation of the activation for every neuron, the logarithms of
the loss. Other arithmetic and calls count nothing. So the bound is loose for small batches, and it is the same for
every variant of a network at one precision. Two more bounds stand beside it, which differ only in the rate of the
products (`Bounds`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from mlpprof.instrument.needed_work import needed_products
from mlpprof.instrument.numpy_costs import EVALUATION, PRODUCT
from mlpprof.machine.limits import FUNCTIONS, SIZES, TILES, Limits, product_name
from mlpprof.model import Network
from mlpprof.results import BatchResult, Operation, Run


@dataclass(frozen=True)
class Point:
    """One phase (label None) or labelled statement: its time and operations in one step, and their limit time.

    limit_s: None where the limits were not measured or nothing was counted.
    """

    phase: str
    layer: int | None
    label: str | None
    time_s: float
    operations: tuple[Operation, ...]
    limit_s: float | None

    @property
    def flop(self) -> int:
        return sum(o.flop for o in self.operations)

    @property
    def useful_flop(self) -> int | None:
        """Floating-point operations that the mathematics needs; None where the network is not known."""
        return _sum_or_none(o.useful_flop for o in self.operations)

    @property
    def bytes_moved(self) -> int:
        """Bytes read and written; each operation counts each operand once."""
        return sum(o.bytes_moved for o in self.operations)

    @property
    def useful_bytes(self) -> int | None:
        """Bytes moved by needed operations; None where the network is not known."""
        return _sum_or_none(o.useful_bytes for o in self.operations)

    @property
    def calls(self) -> int:
        """The number of operations; each is a call of NumPy."""
        return sum(o.times for o in self.operations)

    @property
    def gflops(self) -> float | None:
        """1e9 floating-point operations per second."""
        return 1e-9 * self.flop / self.time_s if self.time_s > 0 and self.operations else None

    @property
    def intensity(self) -> float:
        """Floating-point operations per byte."""
        return self.flop / self.bytes_moved if self.bytes_moved else math.nan

    @property
    def share_of_limit(self) -> float | None:
        """Limit time divided by time; at 1, the machine cannot be faster."""
        return None if self.limit_s is None or self.time_s <= 0 else self.limit_s / self.time_s


def _sum_or_none(parts: Iterable[int | None]) -> int | None:
    known = list(parts)
    return None if None in known else sum(part or 0 for part in known)


class Ceiling:
    """The limits of one run, from which the limit times of operations follow."""

    def __init__(self, limits: Limits, data_bytes: float) -> None:
        self._limits = limits
        self._data_bytes = data_bytes
        self._bandwidths = [
            (size, limits[f"bandwidth_{name}"]["value"])
            for name, size in SIZES.items()
            if f"bandwidth_{name}" in limits
        ]

    @classmethod
    def of(cls, run: Run) -> Ceiling | None:
        """The limits in a run; None where they were not measured."""
        if f"gemm_{run.dtype}" not in run.limits:
            return None
        if run.data is None or run.network is None:
            return cls(run.limits, 0.0)  # then a gather is compared with the cache or memory that its result fits in
        return cls(run.limits, run.data.samples * run.network.layers[0] * np.dtype(run.dtype).itemsize)

    def value(self, name: str) -> float | None:
        """A limit in its unit, or None."""
        limit = self._limits.get(name)
        return None if limit is None else limit["value"]

    def operation_s(self, operation: Operation) -> float:
        """Limit time of an operation with all its repetitions, seconds."""
        if operation.kind == PRODUCT and len(operation.shape) == 3:
            p, k, q = operation.shape
            rate = self.product_gflops(operation.dtype, p, k, q)
            if rate is not None:
                return 1e-9 * operation.flop / rate
        if operation.name == "gather":
            moved_s = self.gather_s(operation.bytes_moved)
        else:
            moved_s = self.bytes_s(operation.bytes_moved, operation.bytes_moved / max(1, operation.times))
        if operation.kind == EVALUATION:
            return max(moved_s, self.evaluation_s((operation.name,), operation.dtype, operation.flop))
        return moved_s

    def product_gflops(self, dtype: str, p: int, k: int, q: int) -> float | None:
        """The best rate for the shape of a product, else the best rate of large products."""
        return self.value(product_name(dtype, p, k, q)) or self.value(f"gemm_{dtype}")

    def best_gflops(self, dtype: str, p: int, k: int, q: int) -> float | None:
        """The better rate of NumPy's BLAS and of the tiles of `blocked` for the shape of a product."""
        tiles = self.value(product_name(dtype, p, k, q, kernel=TILES))
        blas = self.product_gflops(dtype, p, k, q)
        return max(blas or 0.0, tiles or 0.0) or None

    def evaluation_s(self, functions: Iterable[str], dtype: str, elements: float) -> float:
        """Seconds for evaluations by the fastest of some functions, or of all if none of them was measured."""
        rates = [self.value(f"{f}_{dtype}") for f in functions]
        known = [rate for rate in rates if rate] or [r for f in FUNCTIONS if (r := self.value(f"{f}_{dtype}"))]
        return 1e-9 * elements / max(known) if known else 0.0

    def bytes_s(self, total: float, at_a_time: float) -> float:
        """Seconds to move `total` bytes in pieces of `at_a_time`, at the best bandwidth near that size."""
        if not self._bandwidths:
            return 0.0
        below = [i for i, (size, _) in enumerate(self._bandwidths) if size <= at_a_time]
        first = below[-1] if below else 0
        # between two measured sizes either may be the faster one; below the smallest size, calls take most of the time
        best = max(rate for _, rate in self._bandwidths[first : first + (2 if below else 1)])
        return 1e-9 * total / best

    def gather_s(self, moved: float) -> float:
        """Seconds for a gather: it reads from where the data set fits and writes to where the batch fits."""
        return self.bytes_s(moved / 2, max(self._data_bytes, moved)) + self.bytes_s(moved / 2, moved)


def phase_points(result: BatchResult, ceiling: Ceiling | None) -> list[Point]:
    """A point for every phase."""
    return [
        _point(name, None, None, result.phase_s(name), [o for o in result.operations if o.phase == name], ceiling)
        for name in result.phases
    ]


def label_points(result: BatchResult, ceiling: Ceiling | None) -> list[Point]:
    """A point for every label, in the order of `result.labels`."""
    return [
        _point(
            x.phase,
            x.layer,
            x.label,
            result.label_s(x),
            [o for o in result.operations if (o.phase, o.layer, o.label) == (x.phase, x.layer, x.label)],
            ceiling,
        )
        for x in result.labels
    ]


def _point(
    phase: str,
    layer: int | None,
    label: str | None,
    time_s: float,
    operations: list[Operation],
    ceiling: Ceiling | None,
) -> Point:
    limit_s = None if ceiling is None or not operations else sum(ceiling.operation_s(o) for o in operations)
    return Point(phase, layer, label, time_s, tuple(operations), limit_s)


FORMS = {"sigmoid": ("expit", "exp", "tanh"), "tanh": ("tanh",), "softmax": ("exp",)}
"""Activation -> the functions from which it can be computed. Other activations need no evaluation."""


Rate = Callable[[str, int, int, int], float | None]
"""The GFLOP/s of a product: precision, p, k, q."""


def bound_s(network: Network, m: int, dtype: str, ceiling: Ceiling, rate_of: Rate | None = None) -> float:
    """The lower bound of a step on m samples, seconds. rate_of: by default the best of NumPy's BLAS for the shape."""
    n, L = network.layers, network.depth
    products = 0.0
    for p, k, q in needed_products(network, m):
        rate = (rate_of or ceiling.product_gflops)(dtype, p, k, q)
        products += 2e-9 * p * k * q / rate if rate else 0.0
    evaluations = 0.0
    for l in range(1, L + 1):
        function = network.hidden if l < L else network.output
        if function in FORMS:
            evaluations += ceiling.evaluation_s(FORMS[function], dtype, m * n[l])
    if network.loss == "cross_entropy":
        logarithms = 1 if network.output == "softmax" else 2
        evaluations += ceiling.evaluation_s(("log",), dtype, logarithms * m * n[L])
    return products + evaluations + ceiling.gather_s(2 * m * (n[0] + n[L]) * np.dtype(dtype).itemsize)


@dataclass(frozen=True)
class Bounds:
    """The lower bound of a step in seconds, with three rates of its products.

    blas_s: the best of NumPy's BLAS at the shape of each product; this is the bound that reports compare with.
    large_squares_s: NumPy's BLAS with large square matrices. best_kernel_s: the better one of NumPy's BLAS and the
    tiles of `blocked` at the shape; if numba is not installed, it equals blas_s.
    """

    blas_s: float
    large_squares_s: float
    best_kernel_s: float


def run_bounds(run: Run, result: BatchResult) -> Bounds | None:
    """The lower bounds of a run's step; None where the limits were not measured, or the network is not known."""
    ceiling = Ceiling.of(run)
    if ceiling is None or run.network is None:
        return None
    rates: tuple[Rate, ...] = (
        ceiling.product_gflops,
        lambda dtype, *_: ceiling.value(f"gemm_{dtype}"),
        ceiling.best_gflops,
    )
    return Bounds(*(bound_s(run.network, result.batch, run.dtype, ceiling, rate) for rate in rates))
