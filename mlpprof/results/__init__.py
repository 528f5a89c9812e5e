"""The records between measuring and reporting: frozen, with every raw sample, and with units in the field names.

Measuring code creates them, reports read them, and `mlpprof.results.on_disk` stores them. Medians and shares of samples
are computed here and nowhere else; intervals and verdicts in `compare.decide`, what a finding saves in
`advise.findings`, and a step's minimum in `machine.roofline`.
"""

from mlpprof.results.comparison import (
    Comparison,
    CountedChange,
    DifferentTraining,
    ExpressionChange,
    Ladder,
    PhaseChange,
    ProgramPair,
    Race,
    Rung,
    Speedup,
    Training,
    Verdict,
)
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
    StreamRecord,
    VariantRecord,
    paired_ratio,
    quantiles,
)
from mlpprof.results.step_profile import Expression, ProgramRecord, StepProfile

__all__ = [
    "BatchResult",
    "CheckResult",
    "Comparison",
    "CountedChange",
    "DataRecord",
    "DifferentTraining",
    "Expression",
    "ExpressionChange",
    "Json",
    "LabelSamples",
    "Ladder",
    "LineProfile",
    "LineTime",
    "Operation",
    "PhaseChange",
    "PhaseSamples",
    "ProgramPair",
    "ProgramRecord",
    "Quantiles",
    "Race",
    "Run",
    "Rung",
    "Samples",
    "Speedup",
    "StackProfile",
    "StepProfile",
    "StreamRecord",
    "Training",
    "VariantRecord",
    "Verdict",
    "paired_ratio",
    "quantiles",
]
