"""The records between measuring and showing: frozen, with every raw sample, and units in the field names.

Whoever measures fills them, whoever shows reads them, and `mlpprof.results.on_disk` keeps them; none of the three
knows another.
"""

from mlpprof.results.comparison import Change, Comparison, Ladder, Race, Rung, Speedup, Verdict
from mlpprof.results.run import (
    BatchResult,
    CheckResult,
    DataRecord,
    Json,
    LabelSamples,
    LineProfile,
    LineTime,
    Operation,
    PhaseSamples,
    Quantiles,
    Run,
    Samples,
    StackProfile,
    VariantRecord,
    paired_ratio,
    quantiles,
)

__all__ = [
    "BatchResult",
    "Change",
    "CheckResult",
    "Comparison",
    "DataRecord",
    "Json",
    "LabelSamples",
    "Ladder",
    "LineProfile",
    "LineTime",
    "Operation",
    "PhaseSamples",
    "Quantiles",
    "Race",
    "Run",
    "Rung",
    "Samples",
    "Speedup",
    "StackProfile",
    "VariantRecord",
    "Verdict",
    "paired_ratio",
    "quantiles",
]
