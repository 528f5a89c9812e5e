"""The JSON of every kind of result, as `--json` prints it and `-o FILE.json` writes it.

The contract of each document is `schemas/NAME.schema.json`, except that of `mlpprof doctor`, which stands at
`doctor_json`. Times are seconds. What was not measured, or is not finite, is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlpprof import __version__
from mlpprof.compare.bisect import Bisected
from mlpprof.compare.variant_difference import REST
from mlpprof.compare.verify import Statement
from mlpprof.machine.doctor import Examination, Tried
from mlpprof.machine.roofline import Ceiling, Point, label_points, phase_points, run_bounds
from mlpprof.report.advice_words import median_s
from mlpprof.report.claims import counted_text, moved_text
from mlpprof.results import (
    BatchResult,
    CheckResult,
    Comparison,
    DifferentTraining,
    Ladder,
    PhaseChange,
    Run,
    Speedup,
    Verdict,
)
from mlpprof.results.advice import Advice
from mlpprof.results.json import plain_object
from mlpprof.results.peers import PeersRow, PeersTable
from mlpprof.results.reproduction import Claim, Reproduction
from mlpprof.results.step_profile import Expression, ProgramRecord, StepProfile
from mlpprof.results.sweep import Sweep
from mlpprof.results.tuning import Tuning

SCHEMA = 1
"""The schema number that every document carries. Keys may be added under the same number; a document whose key goes or
changes its meaning gets the next one."""

ADVICE_SCHEMA = 2
"""The schema number of findings: since the second one, cures are edits."""


def profile_json(run: Run) -> dict[str, Any]:
    """A run: its figures, and the raw samples of the pass without instruments.

    That of a program also has the keys of `step_profile_json`, which describe its step.
    """
    of_program: dict[str, Any] = {}
    if run.program is not None:
        of_program = {
            **step_profile_json(run.step_profile),
            "disturbance": run.results[0].phases_disturbance,
            **_program(run.program),
        }
    return plain_object(
        {
            **of_program,
            "schema": SCHEMA,
            "mlpprof": run.mlpprof_version,
            "created": run.created,
            "command": run.command,
            "variant": run.variant.name,
            "parent": run.variant.parent,
            "source_sha256": run.variant.source_sha256,
            "workload": run.workload,
            "network": run.network,
            "dtype": run.dtype,
            "seed": run.seed,
            "threads": run.threads,
            "native_blas": run.native_blas,
            "data": run.data,
            "check": run.check,
            "results": [_result(result, run) for result in run.results],
            "limits": run.limits,
            "machine": run.machine,
            "warnings": run.warnings,
        }
    )


def _program(program: ProgramRecord) -> dict[str, Any]:
    return {
        "program": {
            "arguments": program.arguments,
            "is_found": program.is_found,
            "loading_s": program.loading_s,
            "runs": program.runs,
            "measuring_s": program.measuring_s,
            "page_faults": program.page_faults,
            "files": list(program.sources),
            "time": program.time,
        }
    }


def _result(result: BatchResult, run: Run) -> dict[str, Any]:
    ceiling, bounds = Ceiling.of(run), run_bounds(run, result)
    phase_figures = [_figures(point) for point in phase_points(result, ceiling)]
    label_figures = [_figures(point) for point in label_points(result, ceiling)]
    return {
        "batch": result.batch or None,
        "steps_per_epoch": result.steps_per_epoch or None,
        "warmup_steps": result.warmup_steps,
        "step_s": {**vars(result.step_s), "samples": result.total_s.ravel()},
        "epoch_s": result.epoch_s,
        **({"stream": {**vars(result.stream), "hidden_share": result.stream.hidden_share}} if result.stream else {}),
        "bound_s": bounds and bounds.blas_s,
        "bound_large_squares_s": bounds and bounds.large_squares_s,
        "bound_best_kernel_s": bounds and bounds.best_kernel_s,
        "losses": result.losses,
        "separable": result.separable,
        "steps_a_sample": result.steps_a_sample,
        "phases": {
            name: {
                "median_s": result.phase_s(name),
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
                "median_s": result.label_s(label),
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
    """The work of a phase or label in one step and its share of the limit; null if it was not counted."""
    counted = bool(point.operations)
    return {
        "flop": point.flop if counted else None,
        "useful_flop": point.useful_flop if counted else None,
        "bytes": point.bytes_moved if counted else None,
        "useful_bytes": point.useful_bytes if counted else None,
        "gflops": point.gflops,
        "share_of_limit": point.share_of_limit,
    }


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """One comparison with its raw timings, which are null where a slow variant sat out.

    The phases, with "rest" as one of them, share 100 % of the difference; there are none if --no-waterfall was given.
    """
    race, verdict = comparison.race, comparison.verdict
    return plain_object(
        {
            "schema": SCHEMA,
            "mlpprof": __version__,
            "command": comparison.command,
            "old": comparison.old,
            "new": comparison.new,
            "workload": comparison.workload,
            "network": comparison.network,
            "batch": comparison.batch,
            "dtypes": race.dtypes,
            "old_s": race.step_s(0),
            "new_s": race.step_s(1),
            **_verdict(verdict),
            "equivalent": comparison.equivalent,
            "same": comparison.equivalent,
            "phases": _phases(comparison.waterfall),
            "labels": [
                {"phase": change.phase, "layer": change.layer, "label": change.label, **_seconds(change)}
                for change in comparison.waterfall
                if change.label
            ],
            "turns_s": race.turns_s,
            "machine": comparison.machine,
            "engines": comparison.engines,
            "programs": None if comparison.programs is None else _programs(comparison),
            "counted": comparison.counted,
        }
    )


def different_training_json(different: DifferentTraining) -> dict[str, Any]:
    """Two programs that do not train the same: where and by how much. There are no times."""
    return plain_object(
        {
            "schema": SCHEMA,
            "mlpprof": __version__,
            "command": different.command,
            "old": different.old,
            "new": different.new,
            "equivalent": False,
            "same": False,
            "steps": different.steps,
            "training": different.training,
        }
    )


def _programs(comparison: Comparison) -> dict[str, Any]:
    """What is known only of programs. lost: the expression that lost the most time."""
    pair = comparison.programs
    assert pair is not None
    return {
        "steps": pair.steps,
        "between_s": pair.between_s,
        "training": pair.training,
        "expressions": pair.expressions,
        "lost": comparison.lost,
        "notes": pair.notes,
    }


def _phases(waterfall: Iterable[PhaseChange]) -> dict[str, Any]:
    return {"rest" if one.phase == REST else one.phase: _seconds(one) for one in waterfall if not one.label}


def _seconds(change: PhaseChange) -> dict[str, Any]:
    interval = None if change.low_s is None else [change.low_s, change.high_s]
    return {
        "old_s": change.old_s,
        "new_s": change.new_s,
        "share_of_difference": change.share,
        "lost_interval_s": interval,
    }


def ladder_json(ladder: Ladder) -> dict[str, Any]:
    """One race of a ladder with its raw timings, which are null where a slow rung sat out."""
    race = ladder.race
    return plain_object(
        {
            "schema": SCHEMA,
            "mlpprof": __version__,
            "created": ladder.created,
            "command": ladder.command,
            "workload": ladder.workload,
            "network": ladder.network,
            "data": ladder.data,
            "batch": ladder.batch,
            "threads": ladder.threads,
            "processes": len(race.turns_s),
            "root": ladder.root.name,
            "rungs": [
                {
                    "variant": rung.name,
                    "summary": rung.summary,
                    "parent": rung.parent,
                    "dtype": race.dtypes[race.variants.index(rung.name)],
                    "step_s": rung.step_s,
                    "over_parent": _ratio_or_none(rung.over_parent),
                    "over_root": _ratio_or_none(rung.over_root),
                    "slow": rung.name in race.slow,
                }
                for rung in ladder.rungs
            ],
            "skipped": ladder.skipped,
            "variants": race.variants,
            "turns_s": race.turns_s,
            "machine": ladder.machine,
        }
    )


def _ratio(verdict: Verdict) -> dict[str, Any]:
    return {"ratio": verdict.ratio, "interval": [verdict.low, verdict.high]}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        **_ratio(verdict),
        "verdict": verdict.outcome,
        "reason": verdict.reason,
        "at_least": verdict.at_least,
        "resolution": verdict.resolution,
        "processes": verdict.processes,
    }


def _ratio_or_none(verdict: Verdict | None) -> dict[str, Any] | None:
    return None if verdict is None else _ratio(verdict)


def speedup_json(speedup: Speedup) -> dict[str, Any]:
    """One assertion about a speedup; `pytest --mlpprof-json` writes a list of them. A failed one has its phases."""
    verdict = speedup.verdict
    return plain_object(
        {
            "new": speedup.new,
            "old": speedup.old,
            "subject": speedup.subject,
            **_verdict(verdict),
            "in_process": verdict.in_process,
            "phases": _phases(speedup.waterfall),
            "lost": speedup.lost,
            "moved": moved_text(speedup.waterfall, speedup.lost),
            "facts": list(map(counted_text, speedup.counted)),
            "command": speedup.command,
            "notes": speedup.notes,
        }
    )


def unmeasured_json(new: str, old: str, at_least: float | None, verdict: str | None, reason: str) -> dict[str, Any]:
    """A claim about which nothing was timed, as `speedup_json`.

    verdict: "fail" if both do not compute the same, "error" if it could not be measured, "unchanged" if both are
    the same code, None if only the check was wanted.
    """
    return {
        "new": new,
        "old": old,
        "subject": "",
        "ratio": None,
        "interval": None,
        "verdict": verdict,
        "reason": reason,
        "at_least": at_least,
        "resolution": None,
        "processes": 0,
        "in_process": False,
        "phases": {},
        "lost": None,
        "moved": "",
        "facts": [],
        "command": "",
        "notes": [],
    }


def claims_json(claims: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All claims of a session of tests, or of pyproject.toml; each is what `speedup_json` returns, with its test."""
    return {"schema": SCHEMA, "mlpprof": __version__, "claims": list(claims)}


def bisect_json(found: Bisected) -> dict[str, Any]:
    """The search for a slow commit: what was tried, the first slow one, and its comparison with the one before."""
    return plain_object(
        {
            "schema": SCHEMA,
            "mlpprof": __version__,
            "command": found.command,
            "good": found.good,
            "bad": found.bad,
            "at_least": found.at_least,
            "whole": _ratio(found.whole.verdict),
            "tested": [
                {
                    "commit": one.commit,
                    "mark": one.mark,
                    "reason": one.reason,
                    **({"ratio": None, "interval": None} if one.verdict is None else _ratio(one.verdict)),
                }
                for one in found.tested
            ],
            "first_slow": found.first_slow,
            "possible": found.possible,
            "comparison": None if found.explained is None else comparison_json(found.explained),
        }
    )


def verify_json(verified: Mapping[Path, Sequence[Statement]]) -> dict[str, Any]:
    """What `mlpprof verify` found: each figure of each file, as it is stored and as its samples give it."""
    files = {
        str(path): [{**vars(one), "is_confirmed": one.is_confirmed} for one in statements]
        for path, statements in verified.items()
    }
    return plain_object({"schema": SCHEMA, "files": files})


def check_json(results: Sequence[CheckResult]) -> dict[str, Any]:
    """What `mlpprof check` found, under the name of each variant."""
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
    return plain_object({"schema": SCHEMA, "variants": variants})


def advice_json(advice: Advice) -> dict[str, Any]:
    """The findings, the one with the largest payoff first; every key of a `Finding` is in the document."""
    return plain_object(
        {
            "schema": ADVICE_SCHEMA,
            "step": advice.step,
            "step_s": advice.step_s,
            "steps": advice.steps,
            "findings": advice.findings,
            "small": advice.small,
            "expensive": advice.expensive,
            "notes": advice.notes,
            "environment": advice.environment,
            "proof": advice.proof,
            "program": advice.program,
        }
    )


def step_profile_json(profile: StepProfile) -> dict[str, Any]:
    """The phases and expressions of a step in a program, with every raw sample.

    A median is the share of the part in the median undisturbed step, so that the parts add up to at most the step.
    """
    return plain_object(
        {
            "schema": SCHEMA,
            "step": profile.step,
            "step_s": {"median": profile.median_s, "samples": profile.step_s},
            "clocked_s": {"median": median_s(profile.clocked_s), "samples": profile.clocked_s},
            "disturbance": median_s(profile.clocked_s) / profile.median_s if profile.median_s > 0 else None,
            "phases_from": profile.phases_from,
            "phases": {
                name: {"median_s": profile.time_s(share), "share": share, "samples": profile.phases[name]}
                for name, share in profile.phase_shares.items()
            },
            "expressions": [
                _expression(one, share, profile) for one, share in zip(profile.expressions, profile.shares, strict=True)
            ],
            "notes": profile.notes,
            "environment": profile.environment,
        }
    )


def _expression(one: Expression, share: float, profile: StepProfile) -> dict[str, Any]:
    described = {key: value for key, value in vars(one).items() if key != "seconds"}
    return {**described, "median_s": profile.time_s(share), "share": share, "samples": one.seconds}


def reproduce_json(reproductions: Sequence[Reproduction]) -> dict[str, Any]:
    """The claims of every published source.

    `claimed` and `measured` are numbers of the unit that `what` names. Where a claim has no number, `claimed` is its
    text.
    """
    return plain_object(
        {
            "schema": SCHEMA,
            "sources": {one.name: {"claims": [_claim(claim) for claim in one.claims]} for one in reproductions},
        }
    )


def kept_json(reproductions: Sequence[Reproduction], command: str, created: str) -> dict[str, Any]:
    """The same with all that the report and the figures are made from, the command, and the machine."""
    document = reproduce_json(reproductions)
    for one in reproductions:
        whole = plain_object(one)
        del whole["name"]
        whole["claims"] = [{**vars(claim), **_claim(claim)} for claim in one.claims]
        document["sources"][one.name] = whole
    return plain_object({**document, "mlpprof": __version__, "created": created, "command": command})


def _claim(claim: Claim) -> dict[str, Any]:
    return {
        "what": claim.what,
        "claimed": claim.claimed_text if claim.claimed is None else claim.claimed,
        "measured": claim.measured,
        "holds": claim.holds,
        "note": claim.note,
    }


def peers_json(table: PeersTable) -> dict[str, Any]:
    """The table of `mlpprof peers` with its raw timings, which are null where a slow entrant sat out."""
    return plain_object(
        {
            "schema": SCHEMA,
            "mlpprof": __version__,
            "created": table.created,
            "command": table.command,
            "quick": table.quick,
            "replicates": table.replicates,
            "machine": table.machine,
            "rows": [_peers_row(row) for row in table.rows],
        }
    )


def _peers_row(row: PeersRow) -> dict[str, Any]:
    best = {
        "best_ours": row.best_ours,
        "best_single": row.best_single,
        "best_direct": row.best_direct,
        "best_direct_single": row.best_direct_single,
        "best_peer": row.best_peer,
    }
    return {
        "name": row.name,
        "title": row.title,
        "network": row.network,
        "samples": row.samples,
        "batch": row.batch,
        "steps": row.steps,
        "whole_epoch": row.is_whole_epoch,
        "entrants": [{**vars(one), "over_best_peer": _ratio_or_none(one.over_best_peer)} for one in row.competitors],
        "absent": row.absent,
        **{key: None if one is None else one.name for key, one in best.items()},
        "variants": row.race.variants,
        "turns_s": row.race.turns_s,
    }


def tuning_json(tuning: Tuning, kept: bool, lines: Sequence[str]) -> dict[str, Any]:
    """What `mlpprof autotune` found. kept: it was found before and kept; lines: the result in words."""
    return plain_object({"schema": SCHEMA, "kept": kept, "lines": lines, **vars(tuning)})


def doctor_json(found: Examination) -> dict[str, Any]:
    """An examination of the machine: {"schema", "machine", "limits", "advice"}.

    machine: the keys of `mlpprof.machine.keys`; under "doctor" the notes, what is not known, every setting that was
    tried with its gain and the number of pairs of processes it rests on, and the share of CPU time stolen.
    limits: name -> {"value", "unit"}, named as in `mlpprof.machine.limits`; those of products end in their threads,
    such as gemm_float32_4_threads.
    advice: a list of {"what", "setting", "gain", "interval"}; a gain above 1 is faster.
    """
    return plain_object(
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


def _advice(tried: Tried) -> dict[str, Any]:
    gain = tried.gain
    return {
        "what": tried.setting.what,
        "setting": tried.setting.line,
        "gain": gain.ratio,
        "interval": [gain.low, gain.high],
    }


def sweep_json(sweep: Sweep) -> dict[str, Any]:
    """A sweep: its cells with their state and file, and the fastest target of each setting on each class of machine."""
    winners = [
        {
            "machine": machine,
            **dict(zip(("layers", "batch", "dtype", "threads"), one.setting, strict=True)),
            **{"target": one.name, "step_s": one.step_s, "ratio": one.ratio},
        }
        for machine in sweep.machines
        for one in sweep.winners(machine)
    ]
    return plain_object({"schema": SCHEMA, "mlpprof": __version__, **vars(sweep), "winners": winners})
