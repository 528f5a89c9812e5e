"""Paired log ratios, sequential verdicts and intervals: pure functions, no clock and no input or output.

Timings become block values, blocks become replicates (`ratios`), replicates become a verdict (`decision`) under bounds
whose error rates are derived in `bounds` and checked by `python -m reports.verdicts`.
A ratio is the old time over the new one: above 1, new is faster.
"""

from mlpprof.compare.decide import (
    PSEUDO_REPLICATE_BLOCKS,
    Decision,
    NullResult,
    Outcome,
    block_log_ratio,
    decide,
    interval,
    not_slower_than,
    null_bias,
    pseudo_replicates,
    replicate_log_ratio,
)
from mlpprof.compare.error_bounds import IN_PROCESS, REPLICATED, Bound, Look, Procedure, bounds

__all__ = [
    "IN_PROCESS",
    "PSEUDO_REPLICATE_BLOCKS",
    "REPLICATED",
    "Bound",
    "Decision",
    "Look",
    "NullResult",
    "Outcome",
    "Procedure",
    "block_log_ratio",
    "bounds",
    "decide",
    "interval",
    "not_slower_than",
    "null_bias",
    "pseudo_replicates",
    "replicate_log_ratio",
]
