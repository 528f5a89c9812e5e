"""Paired log ratios, sequential verdicts and intervals: pure functions, no clock and no input or output.

Timings become block values, blocks become replicates (`ratios`), replicates become a verdict (`decision`) under bounds
whose error rates are derived in `bounds` and checked by `python -m mlpprof.testing.simulation`.
A ratio is the old time over the new one: above 1, new is faster.
"""

from mlpprof.stats.bounds import IN_PROCESS, REPLICATED, Bound, Look, Procedure, bounds
from mlpprof.stats.decision import Decision, NullResult, Outcome, decide, not_slower_than, null_bias
from mlpprof.stats.ratios import (
    PSEUDO_REPLICATE_BLOCKS,
    block_log_ratio,
    interval,
    pseudo_replicates,
    replicate_log_ratio,
)

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
