"""Tests for speed: `assert_speedup`, a pytest plugin that uses it, and limits on copies, allocations and operations.

The names are imported when they are first used, so that pytest starts without numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlpprof.testing.gates import assert_max_allocations, assert_max_flops, assert_no_copies
    from mlpprof.testing.no_finding import assert_no_finding
    from mlpprof.testing.programs import assert_same_training
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
    "assert_no_finding",
    "assert_not_slower",
    "assert_same_training",
    "assert_speedup",
    "measure_speedup",
]

_ELSEWHERE = {
    "assert_max_allocations": "gates",
    "assert_max_flops": "gates",
    "assert_no_copies": "gates",
    "assert_no_finding": "no_finding",
    "assert_same_training": "programs",
}
"""The modules of the names that are not in `speedup`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"mlpprof.testing.{_ELSEWHERE.get(name, 'speedup')}"), name)
