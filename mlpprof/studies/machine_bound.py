"""The lower bound of a step on one core and on several, from limits that are measured beside the study.

It is the bound that the goals were set against: all products at the rate of large square ones, the gather at the
bandwidth of a copy through memory, the sigmoids at the best rate of any of their forms; nothing for calls, and nothing
for arithmetic in between. It is looser than that of the roofline (`mlpprof.report.roofline`), which takes products in
the shapes that the network has.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from mlpprof.instrument.useful import needed_products
from mlpprof.machine.blas import worker_environment
from mlpprof.machine.limits.names import Limits
from mlpprof.machine.limits.obtain import WORKER
from mlpprof.model import Network
from mlpprof.process import Progress, Worker

COPY = "bandwidth_256MiB"
FORMS = {"sigmoid": ("exp", "tanh", "expit"), "tanh": ("tanh",), "softmax": ("exp",)}
BYTES = {"float32": 4, "float64": 8}

Rates = dict[str, float]
"""Name of a limit -> its value; products and elements in 1e9 a second, bandwidth in GB/s."""


def rate_names(dtype: str) -> list[str]:
    """The limits that the bound needs."""
    return [f"gemm_{dtype}", COPY, *(f"{form}_{dtype}" for form in ("exp", "tanh", "expit"))]


def measure_rates(dtypes: Sequence[str], cores: int, progress: Progress) -> Rates:
    """What so many processes, one a core, reach together, each with one BLAS thread: the sum of their rates."""
    environment = worker_environment(os.environ, 1, native_blas=True)
    names = list(dict.fromkeys(name for dtype in dtypes for name in rate_names(dtype)))

    def quiet(what: str, share: float) -> None:
        pass

    def one(reports: Progress) -> Limits:
        with Worker(WORKER, environment) as worker:
            measured: Limits = worker.call("measure", reports, names=names)
            return measured

    with ThreadPoolExecutor(cores) as pool:
        found = list(pool.map(one, [progress, *[quiet] * (cores - 1)]))
    return {name: sum(limits[name]["value"] for limits in found) for name in names}


def best_of(measured: Sequence[Rates]) -> Rates:
    """The best that was seen of every limit: what else ran on the machine can only take away from it."""
    return {name: max(rates[name] for rates in measured) for name in measured[0]}


def bound_s(network: Network, m: int, dtype: str, rates: Mapping[str, float], full_batch: bool) -> float:
    """Seconds of a step at least. full_batch: all samples are taken, so none has to be gathered."""
    n = network.layers
    products_s = sum(2e-9 * p * k * q for p, k, q in needed_products(network, m)) / rates[f"gemm_{dtype}"]
    gather_s = 0.0 if full_batch else 2e-9 * m * (n[0] + n[-1]) * BYTES[dtype] / rates[COPY]
    functions_s = 0.0
    for l in range(1, len(n)):
        forms = FORMS.get(network.hidden if l < network.depth else network.output, ())
        if forms:
            functions_s += 1e-9 * m * n[l] / max(rates[f"{form}_{dtype}"] for form in forms)
    return products_s + gather_s + functions_s
