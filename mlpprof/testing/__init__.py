"""Tests about speed whose verdict can be trusted: `assert_speedup`, and a pytest plugin around it.

The names are imported when they are first used, so that pytest starts without numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlpprof.testing.counts_gates import assert_max_allocations, assert_max_flops, assert_no_copies
    from mlpprof.testing.speedup import (
        InconclusiveWarning,
        Measuring,
        assert_not_slower,
        assert_speedup,
        measure_speedup,
    )

__all__ = [
    "InconclusiveWarning",
    "Measuring",
    "assert_max_allocations",
    "assert_max_flops",
    "assert_no_copies",
    "assert_not_slower",
    "assert_speedup",
    "measure_speedup",
]

_IN_COUNTS = ("assert_max_allocations", "assert_max_flops", "assert_no_copies")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "mlpprof.testing.counts_gates" if name in _IN_COUNTS else "mlpprof.testing.speedup"
    return getattr(importlib.import_module(module), name)
