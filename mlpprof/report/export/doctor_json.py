"""`mlpprof doctor --json`: the contract.

{"schema": 1, "machine": {...}, "limits": {NAME: {"value", "unit"}},
 "advice": [{"what", "setting", "gain" (ratio, above 1 is faster), "interval"}]}

`machine` holds the keys of `mlpprof.machine.keys` and, under "doctor", what needs no gain: notes, what is not known,
every setting that was tried with its gain and the pairs of processes behind it, and the share of CPU time stolen.
Limits are named as in `mlpprof.machine.limits.names`, products with their threads: gemm_float32_4_threads.
"""

from __future__ import annotations

from typing import Any

from mlpprof.machine.doctor.records import Examination, Tried
from mlpprof.report.export.json_text import without_nan

SCHEMA = 1


def doctor_json(found: Examination) -> dict[str, Any]:
    """An examination as plain JSON; an interval without an end is null there."""
    document: dict[str, Any] = without_nan(
        {
            "schema": SCHEMA,
            "machine": {
                **found.machine,
                "doctor": {
                    "quick": found.quick,
                    "notes": found.notes,
                    "not_known": found.not_known,
                    "steal_share": found.steal_share,
                    "tried": [{**_advice(tried), "pairs": tried.gain.pairs} for tried in found.tried],
                },
            },
            "limits": found.limits,
            "advice": [_advice(tried) for tried in found.advice],
        }
    )
    return document


def _advice(tried: Tried) -> dict[str, Any]:
    gain = tried.gain
    return {
        "what": tried.setting.what,
        "setting": tried.setting.line,
        "gain": gain.ratio,
        "interval": [gain.low, gain.high],
    }
