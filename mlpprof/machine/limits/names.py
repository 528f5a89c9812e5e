"""What limits there are: a limit's name says what is measured, so that a worker can measure it from the name alone.

| name                       | unit    | what                                                                          |
| -------------------------- | ------- | ----------------------------------------------------------------------------- |
| gemm_DTYPE                 | GFLOP/s | product of large square matrices: the peak                                    |
| product_DTYPE_PxKxQ        | GFLOP/s | product (p, k) by (k, q), p <= q, in the best of eight memory orders          |
| bandwidth_SIZE             | GB/s    | np.copyto or np.add, SIZE bytes read and written in all: 64KiB ... 256MiB     |
| FUNCTION_DTYPE             | Gelem/s | exp, tanh, log and expit on numbers that fit into the cache                   |
| ufunc_call, product_call   | us      | one ufunc on one number, one product of 16 by 16                              |
| page_fault                 | us      | the first touch of a small page of memory                                     |

GFLOP/s, GB/s and Gelem/s are 1e9 a second; a call and a fault are better the shorter they are. Products hold for the
threads of their process; NumPy does everything else on one thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from mlpprof.instrument.semantics_table import PRODUCT
from mlpprof.instrument.useful import needed_products
from mlpprof.model import Network
from mlpprof.results import Operation

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
