"""`mlpprof profile --json`: the contract is `schemas/profile.schema.json`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mlpprof import __version__
from mlpprof.compare.waterfall import REST
from mlpprof.errors import UsageError
from mlpprof.machine.doctor import Examination, Tried
from mlpprof.report.advice_words import disturbance, median_s, share_of
from mlpprof.report.roofline import Ceiling, Point, label_points, phase_points, run_bound_s
from mlpprof.results import BatchResult, Change, CheckResult, Comparison, Ladder, Quantiles, Run, Speedup, Verdict
from mlpprof.results.advice import SCHEMA, Advice, Finding, Place
from mlpprof.results.json import without_nan
from mlpprof.results.reproduction import Claim, Reproduction
from mlpprof.results.step_profile import Expression, StepProfile

PROFILE_SCHEMA = 1
"""Raised when a key goes or changes its meaning; keys may be added without."""


def profile_json(run: Run) -> dict[str, Any]:
    """A run as plain JSON: figures and the raw samples of the total pass; times in seconds; NaN is null."""
    document = {
        "schema": PROFILE_SCHEMA,
        "mlpprof": run.mlpprof_version,
        "created": run.created,
        "command": run.command,
        "variant": run.variant.name,
        "parent": run.variant.parent,
        "source_sha256": run.variant.source_sha256,
        "workload": run.workload,
        "network": asdict(run.network),
        "dtype": run.dtype,
        "seed": run.seed,
        "threads": run.threads,
        "native_blas": run.native_blas,
        "data": asdict(run.data),
        "check": None if run.check is None else asdict(run.check),
        "results": [_result(result, run) for result in run.results],
        "limits": run.limits,
        "machine": run.machine,
        "warnings": run.warnings,
    }
    plain: dict[str, Any] = without_nan(document)
    return plain


def _result(result: BatchResult, run: Run) -> dict[str, Any]:
    ceiling = Ceiling.of(run)
    phase_figures = [_figures(point) for point in phase_points(result, ceiling)]
    label_figures = [_figures(point) for point in label_points(result, ceiling)]
    return {
        "batch": result.batch,
        "steps_per_epoch": result.steps_per_epoch,
        "warmup_steps": result.warmup_steps,
        "step_s": {**_quantiles(result.step_s), "samples": result.total_s.ravel().tolist()},
        "epoch_s": _quantiles(result.epoch_s),
        "bound_s": run_bound_s(run, result),
        "losses": result.losses.tolist(),
        "separable": result.separable,
        "steps_a_sample": result.steps_a_sample,
        "phases": {
            name: {
                "median_s": result.phase_median_s(name),
                "share": result.phase_share(name),
                "bytes_allocated": phase.bytes_allocated,
                "peak_bytes": phase.peak_bytes,
                "page_faults": phase.page_faults,
                **figures,
            }
            for (name, phase), figures in zip(result.phases.items(), phase_figures, strict=True)
        },
        "labels": [
            {
                "phase": label.phase,
                "layer": label.layer,
                "label": label.label,
                "median_s": float(np.median(label.step_s)),
                "share": result.label_share(label),
                "calls": label.calls,
                **figures,
            }
            for label, figures in zip(result.labels, label_figures, strict=True)
        ],
        "uncounted": result.uncounted,
        "agreement": {
            "phases_over_total": result.phases_over_total,
            "phases_disturbance": result.phases_disturbance,
            "labels_disturbance": result.labels_disturbance,
        },
    }


def _figures(point: Point) -> dict[str, float | None]:
    """What a phase or label did in one step and how near that is to the limit; null where it was not counted."""
    counted = bool(point.operations)
    return {
        "flop": point.flop if counted else None,
        "useful_flop": point.useful_flop if counted else None,
        "bytes": point.bytes_moved if counted else None,
        "useful_bytes": point.useful_bytes if counted else None,
        "gflops": point.gflops,
        "share_of_limit": point.share_of_limit,
    }


def _quantiles(figures: Quantiles) -> dict[str, float]:
    return {"median": figures.median, "low": figures.low, "high": figures.high}


# `mlpprof compare --json`: the contract is `schemas/compare.schema.json`, a list with an object a comparison.


COMPARISON_SCHEMA = 1
"""Raised when a key goes or changes its meaning; keys may be added without."""


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """One comparison as plain JSON with the raw timings; times in seconds; null where a slow variant sat out.

    The phases, "rest" among them, share 100 % of the difference; {} where the waterfall was not measured.
    """
    race, verdict = comparison.race, comparison.verdict
    document = {
        "schema": COMPARISON_SCHEMA,
        "mlpprof": __version__,
        "command": comparison.command,
        "old": comparison.old,
        "new": comparison.new,
        "workload": comparison.workload,
        "network": asdict(comparison.network),
        "batch": comparison.batch,
        "dtypes": race.dtypes,
        "old_s": race.step_s(0),
        "new_s": race.step_s(1),
        "ratio": verdict.ratio,
        "interval": [verdict.low, verdict.high],
        "verdict": verdict.outcome,
        "reason": verdict.reason,
        "at_least": verdict.at_least,
        "processes": verdict.processes,
        "equivalent": comparison.equivalent,
        "phases": {_phase_name(change): _seconds(change) for change in comparison.waterfall if not change.label},
        "labels": [
            {"phase": change.phase, "layer": change.layer, "label": change.label, **_seconds(change)}
            for change in comparison.waterfall
            if change.label
        ],
        "turns_s": [turns.tolist() for turns in race.turns_s],
        "machine": comparison.machine,
        "engines": list(comparison.engines),
    }
    plain: dict[str, Any] = without_nan(document)
    return plain


def _phase_name(change: Change) -> str:
    return "rest" if change.phase == REST else change.phase


def _seconds(change: Change) -> dict[str, float]:
    return {"old_s": change.old_s, "new_s": change.new_s, "share_of_difference": change.share}


# `mlpprof ladder --json`: the contract is `schemas/ladder.schema.json`, a list with an object a batch size.


LADDER_SCHEMA = 1
"""Raised when a key goes or changes its meaning; keys may be added without."""


def ladder_json(ladder: Ladder) -> dict[str, Any]:
    """One race of a ladder as plain JSON with the raw timings; times in seconds; null where a slow rung sat out."""
    race = ladder.race
    document = {
        "schema": LADDER_SCHEMA,
        "mlpprof": __version__,
        "created": ladder.created,
        "command": ladder.command,
        "workload": ladder.workload,
        "network": asdict(ladder.network),
        "data": asdict(ladder.data),
        "batch": ladder.batch,
        "threads": ladder.threads,
        "processes": len(race.turns_s),
        "root": ladder.rungs[0].name,
        "rungs": [
            {
                "variant": rung.name,
                "summary": rung.summary,
                "parent": rung.parent,
                "dtype": race.dtypes[race.variants.index(rung.name)],
                "step_s": rung.step_s,
                "over_parent": _ratio(rung.over_parent),
                "over_root": _ratio(rung.over_root),
                "slow": rung.name in race.slow,
            }
            for rung in ladder.rungs
        ],
        "skipped": dict(ladder.skipped),
        "variants": race.variants,
        "turns_s": [turns.tolist() for turns in race.turns_s],
        "machine": ladder.machine,
    }
    plain: dict[str, Any] = without_nan(document)
    return plain


def _ratio(verdict: Verdict | None) -> dict[str, Any] | None:
    return None if verdict is None else {"ratio": verdict.ratio, "interval": [verdict.low, verdict.high]}


# Assertions about speedups as JSON: the contract of `pytest --mlpprof-json` is `schemas/speedups.schema.json`.


def speedup_json(speedup: Speedup) -> dict[str, Any]:
    """One assertion as plain JSON; phases: of a failed one, seconds a step before and after."""
    verdict = speedup.verdict
    document = {
        "new": speedup.new,
        "old": speedup.old,
        "subject": speedup.subject,
        "at_least": verdict.at_least,
        "ratio": verdict.ratio,
        "interval": [verdict.low, verdict.high],
        "verdict": verdict.outcome,
        "reason": verdict.reason,
        "processes": verdict.processes,
        "in_process": verdict.in_process,
        "phases": {
            "rest" if change.phase == REST else change.phase: {
                "old_s": change.old_s,
                "new_s": change.new_s,
                "share_of_difference": change.share,
            }
            for change in speedup.waterfall
            if not change.label
        },
        "command": speedup.command,
        "notes": list(speedup.notes),
    }
    plain: dict[str, Any] = without_nan(document)
    return plain


# `mlpprof check --json`: the contract is `schemas/check.schema.json`.


CHECK_SCHEMA = 1
"""Raised when a key goes or changes its meaning; keys may be added without."""


def check_json(results: Sequence[CheckResult]) -> dict[str, Any]:
    """What `mlpprof check` found as plain JSON, a key a variant; a deviation that is not finite is null."""
    variants = {
        result.variant: {
            "ok": result.ok,
            "worst_deviation": result.deviation,
            "tolerance": result.tolerance,
            "layer": result.layer,
            "what": result.what,
            "message": result.message,
            "skipped": result.skipped,
        }
        for result in results
    }
    document: dict[str, Any] = without_nan({"schema": CHECK_SCHEMA, "variants": variants})
    return document


# `mlpprof advise --json`: the contract is `schemas/advice.schema.json`, and `advice_from_json` reads it back.


def advice_json(advice: Advice) -> dict[str, Any]:
    """Findings as plain JSON, the largest payoff first; times in seconds; what is not finite is null."""
    document: dict[str, Any] = without_nan(
        {
            "schema": SCHEMA,
            "step": advice.step,
            "step_s": advice.step_s,
            "steps": advice.steps,
            "findings": [_finding(finding) for finding in advice.findings],
            "notes": advice.notes,
            "environment": advice.environment,
        }
    )
    return document


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "category": finding.category,
        "file": finding.file,
        "line": finding.line,
        "end_line": finding.end_line,
        "column": finding.column,
        "title": finding.title,
        "why": finding.why,
        "cure": finding.cure,
        "payoff_s": finding.payoff_s,
        "payoff_share": finding.payoff_share,
        "confidence": finding.confidence,
        "related": [{"file": place.file, "line": place.line} for place in finding.related],
        "evidence": finding.evidence,
    }


def advice_from_json(document: Mapping[str, Any]) -> Advice:
    """The findings of a JSON document, without the text of the files; keys that may be added are passed over.

    Raises UsageError for another schema number, and for a document that lacks a key of the contract.
    """
    if document.get("schema") != SCHEMA:
        raise UsageError(f"advice has schema {document.get('schema')!r}, but this mlpprof reads {SCHEMA}; advise again")
    try:
        return Advice(
            step=document["step"],
            step_s=document["step_s"],
            steps=document.get("steps", 0),
            findings=tuple(_read_finding(finding) for finding in document["findings"]),
            notes=tuple(document.get("notes", ())),
            environment=dict(document.get("environment", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"this is no advice as `mlpprof advise --json` writes it: {error!r}; advise again") from error


def _read_finding(finding: Mapping[str, Any]) -> Finding:
    low_s, high_s = finding["payoff_s"]
    low, high = finding["payoff_share"]
    return Finding(
        category=finding["category"],
        file=finding["file"],
        line=finding["line"],
        end_line=finding["end_line"],
        column=finding["column"],
        title=finding["title"],
        why=finding["why"],
        cure=finding["cure"],
        payoff_s=(low_s, high_s),
        payoff_share=(low, high),
        confidence=finding["confidence"],
        related=tuple(Place(place["file"], place["line"]) for place in finding["related"]),
        evidence=dict(finding["evidence"]),
    )


# `mlpprof profile FILE.py --step NAME --json`: the contract is `schemas/step.schema.json`; and the samples as CSV.


STEP_PROFILE_SCHEMA = 1
"""Raised when a key goes or changes its meaning; keys may be added without."""


def step_profile_json(profile: StepProfile) -> dict[str, Any]:
    """Phases and expressions of a step as plain JSON, with every raw sample; times in seconds."""
    document: dict[str, Any] = without_nan(
        {
            "schema": STEP_PROFILE_SCHEMA,
            "step": profile.step,
            "step_s": {"median": median_s(profile.step_s), "samples": profile.step_s},
            "clocked_s": {"median": median_s(profile.clocked_s), "samples": profile.clocked_s},
            "disturbance": disturbance(profile),
            "phases_from": profile.phases_from,
            "phases": {
                name: {"median_s": median_s(seconds), "share": share_of(seconds, profile), "samples": seconds}
                for name, seconds in profile.phases.items()
            },
            "expressions": [_expression(one, profile) for one in profile.expressions],
            "notes": profile.notes,
            "environment": profile.environment,
        }
    )
    return document


def _expression(one: Expression, profile: StepProfile) -> dict[str, Any]:
    return {
        "file": one.file,
        "line": one.line,
        "column": one.column,
        "text": one.text,
        "phase": one.phase,
        "times": one.times,
        "median_s": median_s(one.seconds),
        "share": share_of(one.seconds, profile),
        "samples": one.seconds,
        "kind": one.kind,
        "name": one.name,
        "dtype": one.dtype,
        "shape": one.shape,
        "orders": one.orders,
        "flop": one.flop,
        "bytes_moved": one.bytes_moved,
        "bytes_allocated": one.bytes_allocated,
    }


def step_profile_csv(profile: StepProfile) -> str:
    """Every raw sample, one a row: of the plain step, the clocked step, phases and expressions."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("what", "phase", "file", "line", "column", "text", "sample", "seconds"))
    series: list[tuple[tuple[object, ...], tuple[float, ...]]] = [
        (("step", "", "", "", "", ""), profile.step_s),
        (("clocked step", "", "", "", "", ""), profile.clocked_s),
        *((("phase", name, "", "", "", ""), seconds) for name, seconds in profile.phases.items()),
        *((("expression", x.phase, x.file, x.line, x.column, x.text), x.seconds) for x in profile.expressions),
    ]
    for cells, seconds in series:
        writer.writerows((*cells, i, repr(value)) for i, value in enumerate(seconds))
    return buffer.getvalue()


# `mlpprof reproduce --json`: the contract is `schemas/reproduce.schema.json`. The kept file has more in it.


REPRODUCE_SCHEMA = 1
"""Raised when a key goes or changes its meaning."""


def reproduce_json(reproductions: Sequence[Reproduction]) -> dict[str, Any]:
    """The claims of every source as plain JSON.

    claimed and measured are numbers of one unit, which `what` tells; where there is no number they are the words.
    """
    document: dict[str, Any] = without_nan(
        {
            "schema": REPRODUCE_SCHEMA,
            "sources": {one.name: {"claims": [_claim(claim) for claim in one.claims]} for one in reproductions},
        }
    )
    return document


def kept_json(reproductions: Sequence[Reproduction], command: str, created: str) -> dict[str, Any]:
    """The same with all that the report and the figures are made from, the command and the machine."""
    document = reproduce_json(reproductions)
    for one in reproductions:
        whole = asdict(one)
        del whole["name"]
        for claim, contract in zip(whole["claims"], document["sources"][one.name]["claims"], strict=True):
            claim |= contract
        document["sources"][one.name] = whole
    kept: dict[str, Any] = without_nan(document | {"mlpprof": __version__, "created": created, "command": command})
    return kept


def _claim(claim: Claim) -> dict[str, Any]:
    return {
        "what": claim.what,
        "claimed": claim.claimed_text if claim.claimed is None else claim.claimed,
        "measured": claim.measured,
        "holds": claim.holds,
        "note": claim.note,
    }


# `mlpprof doctor --json`: the contract.
#
# {"schema": 1, "machine": {...}, "limits": {NAME: {"value", "unit"}},
# "advice": [{"what", "setting", "gain" (ratio, above 1 is faster), "interval"}]}
#
# `machine` holds the keys of `mlpprof.machine.keys` and, under "doctor", what needs no gain: notes, what is not known,
# every setting that was tried with its gain and the pairs of processes behind it, and the share of CPU time stolen.
# Limits are named as in `mlpprof.machine.limits`, products with their threads: gemm_float32_4_threads.


DOCTOR_SCHEMA = 1


def doctor_json(found: Examination) -> dict[str, Any]:
    """An examination as plain JSON; an interval without an end is null there."""
    document: dict[str, Any] = without_nan(
        {
            "schema": DOCTOR_SCHEMA,
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
