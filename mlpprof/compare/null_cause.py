"""Why the same code, raced against itself, seemed to differ: a verdict that this has stopped says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mlpprof.compare.decide import null_bias
from mlpprof.compare.error_bounds import procedure_for
from mlpprof.machine.disturbance import causes
from mlpprof.results import Verdict

NO_CAUSE = "the system shows no cause; measure again when nothing else runs"


def with_cause(verdict: Verdict, known: Callable[[], list[str]] = causes) -> Verdict:
    """The verdict; if its A/A race was biased, its reason names the causes that the system shows."""
    if verdict.outcome != "inconclusive" or len(verdict.null) < 2:
        return verdict
    if not null_bias(verdict.null, procedure_for(verdict.resolution)).biased:
        return verdict
    found = known()
    words = f"the likely cause: {' and '.join(found)}" if found else NO_CAUSE
    return replace(verdict, reason=f"{verdict.reason}; {words}")
