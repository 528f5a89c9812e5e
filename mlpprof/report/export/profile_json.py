"""`mlpprof profile --json`: the contract is `schemas/profile.schema.json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from mlpprof.report.export.json_text import without_nan
from mlpprof.report.roofline import Ceiling, Point, label_points, phase_points, run_bound_s
from mlpprof.results import BatchResult, Quantiles, Run

SCHEMA = 1
"""Raised when a key goes or changes its meaning; keys may be added without."""


def profile_json(run: Run) -> dict[str, Any]:
    """A run as plain JSON: figures and the raw samples of the total pass; times in seconds; NaN is null."""
    document = {
        "schema": SCHEMA,
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
