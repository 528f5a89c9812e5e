"""Stories without a clock: a ladder of real files with made-up times, comparisons, and names that attack a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from runs import make_run

from mlpprof.catalog import ladder
from mlpprof.compare.variant_difference import waterfall
from mlpprof.results import (
    BatchResult,
    Comparison,
    ExpressionChange,
    Ladder,
    LineProfile,
    LineTime,
    PhaseChange,
    ProgramPair,
    Race,
    Run,
    Rung,
    Training,
    Verdict,
)

HOSTILE = "<script>alert(1)</script> $x^2$ \"'&</title>\x1b[31m\u202e"

CHANGES = {
    "per_sample": {},
    "naive": dict.fromkeys(("fetch_batch", "forward", "loss", "backward", "update"), 0.09),
    "float32": {"fetch_batch": 0.7, "forward": 0.5, "loss": 0.55, "backward": 0.48, "update": 0.6},
    "no_input_delta": {"backward": 0.6},
    "contiguous": {"forward": 0.97, "backward": 0.99},
    "cached": {"backward": 0.62},
    "sliced": {"forward": 0.72, "backward": 0.86},
    "tanh_sigmoid": {"forward": 0.7},
    "buffered": {"forward": 0.93, "backward": 0.95, "update": 0.8},
    "chunked": {"forward": 0.9, "backward": 0.92},
}
"""Rung -> what it multiplies the phases of its parent with."""


def scaled(result: BatchResult, factors: dict[str, float]) -> BatchResult:
    """A result as if every phase had taken so many times as long."""
    phases = {name: replace(p, step_s=p.step_s * factors[name]) for name, p in result.phases.items()}
    labels = tuple(replace(label, step_s=label.step_s * factors[label.phase]) for label in result.labels)
    whole = float(np.median(sum(p.step_s for p in phases.values()) / sum(p.step_s for p in result.phases.values())))
    return replace(
        result,
        total_s=result.total_s * whole,
        phases_pass_s=result.phases_pass_s * whole,
        labels_pass_s=result.labels_pass_s * whole,
        phases=phases,
        labels=labels,
    )


def timed_lines(source: str, result: BatchResult) -> LineProfile:
    """Made-up times for the lines of a file that are labelled."""
    labelled = [n for n, line in enumerate(source.splitlines(), start=1) if "# phase:" in line]
    wall_s = 50 * result.step_s.median
    weights = 1.0 / (1 + np.arange(len(labelled)) * 5 % 11)
    weights /= 1.1 * weights.sum()
    lines = tuple(LineTime(n, 150, wall_s * float(w)) for n, w in zip(labelled, weights, strict=True))
    return LineProfile(result.batch, 50, wall_s, lines)


def make_ladder(
    batch: int = 500,
    *,
    names: Sequence[str] = ("per_sample", "naive", "float32", "no_input_delta", "contiguous", "cached", "sliced"),
    root: str = "naive",
    processes: int = 5,
    profiled: bool = True,
    lines: bool = True,
    seed: int = 0,
    **options: int,
) -> Ladder:
    """A ladder as `mlpprof ladder` would have measured it."""
    rng = np.random.default_rng(seed)
    entries = ladder()
    factors = dict.fromkeys(("fetch_batch", "forward", "loss", "backward", "update"), 90.0)
    runs, steps = [], []
    for name in names:
        factors = {phase: factor * CHANGES.get(name, {}).get(phase, 1.0) for phase, factor in factors.items()}
        run = make_run((batch,), seed=seed, **options)
        result = scaled(run.results[0], factors)
        source = entries[name].source() if name in entries else run.variant.source
        variant = replace(
            run.variant,
            name=name,
            source=source,
            summary=entries[name].summary if name in entries else f"{name}, a rung.",
            parent=names[names.index(name) - 1] if names.index(name) else None,
        )
        profile = timed_lines(source, result) if lines else None
        runs.append(replace(run, variant=variant, results=(result,), lines=profile, dtype="float32"))
        steps.append(result.step_s.median)
    shape = (8, len(names), 2)
    turns = tuple(np.array(steps)[None, :, None] * np.exp(0.02 * rng.standard_normal(shape)) for _ in range(processes))
    if "per_sample" in names:
        for block in turns:
            block[2:, names.index("per_sample")] = np.nan
    race = Race(tuple(names), ("float32",) * len(names), batch, turns)
    k = names.index(root)
    rungs = tuple(
        Rung(
            name,
            runs[i].variant.summary,
            runs[i].variant.parent,
            race.step_s(i),
            None if i == 0 else verdict(race.step_s(i - 1) / race.step_s(i)),
            None if i == k else verdict(race.step_s(k) / race.step_s(i)),
        )
        for i, name in enumerate(names)
    )
    first = runs[0]
    return Ladder(
        created=first.created,
        command=f"mlpprof ladder --batch {batch}",
        workload=first.workload,
        network=first.network,
        data=first.data,
        batch=batch,
        threads=1,
        race=race,
        rungs=rungs,
        machine=first.machine,
        skipped={"compiled": "needs numba: pip install 'mlpprof[compiled]'"},
        runs=tuple(runs) if profiled else (),
    )


def verdict(ratio: float, at_least: float | None = None, outcome: str | None = None) -> Verdict:
    """A verdict with an interval of 3 % about a ratio."""
    return Verdict(outcome, ratio, ratio * 0.985, ratio * 1.015, at_least, 5, "the interval lies above the claim")


def make_comparison(old: str = "cached", new: str = "sliced", at_least: float | None = 1.15) -> Comparison:
    """A comparison of two rungs."""
    both = make_ladder(names=(old, new), root=old, profiled=True)
    first, second = both.runs
    ratio = both.rungs[0].step_s / both.rungs[1].step_s
    changes = waterfall(first.results[0], second.results[0], both.rungs[0].step_s, both.rungs[1].step_s)
    outcome = None if at_least is None else "pass" if ratio > at_least else "fail"
    return Comparison(
        old=old,
        new=new,
        workload=both.workload,
        network=both.network,
        batch=both.batch,
        race=both.race,
        verdict=verdict(ratio, at_least, outcome),
        equivalent=True,
        waterfall=changes,
        machine=both.machine,
        command=f"mlpprof compare {old} {new}",
    )


def make_program_comparison(at_least: float | None = 1.15, text: str = "tanh(z + 0 * z)") -> Comparison:
    """A comparison of two programs, of which the newer one lost time in a changed expression."""
    plain = make_comparison(at_least=at_least)
    race = replace(
        plain.race, variants=("old.py", "new.py"), dtypes=("", ""), turns_s=(plain.race.turns_s[0][:, ::-1],)
    )
    pair = ProgramPair(
        steps=("old.py:Net.step", "new.py:Net.step"),
        between_s=(2e-4, 3e-4),
        training=Training(True, 20, "after 20 steps from the same seeds, all 6 parameters are the same", ("a note",)),
        expressions=(
            ExpressionChange("new.py", 17, text, "tanh(z)", 1e-3, 2e-3),
            ExpressionChange("new.py", 17, "0 * z", "", None, 1e-4),
            ExpressionChange("old.py", 21, "z ** 2", "", 1e-4, None),
        ),
    )
    slower = replace(verdict(0.8, at_least, None if at_least is None else "fail"), low=0.78, high=0.82)
    return replace(
        plain,
        old="old.py",
        new="new.py",
        workload="",
        network=None,
        batch=0,
        race=race,
        verdict=slower,
        waterfall=(PhaseChange("forward", None, "", 1e-3, 2e-3, 1.0),),
        command="mlpprof compare old.py new.py",
        programs=pair,
    )


def hostile_run(**options: bool) -> Run:
    """A run whose every text from users is an attack."""
    run = make_run((32, 500), variant=HOSTILE, workload=HOSTILE, warnings=(HOSTILE,), lines=True, **options)
    source = f'"""{HOSTILE}"""\nclass MLP:  # {HOSTILE}\n    # <img src=x onerror=alert(2)>\n    pass\n' * 8
    results = tuple(
        replace(result, labels=tuple(replace(label, label=f"{HOSTILE} {label.label}") for label in result.labels))
        for result in run.results
    )
    return replace(
        run,
        command=f"mlpprof profile {HOSTILE}",
        variant=replace(run.variant, summary=HOSTILE, source=source, parent=HOSTILE),
        data=replace(run.data, name=f"/data/{HOSTILE}"),
        machine={**run.machine, "cpu_model_name": HOSTILE},
        results=results,
    )
