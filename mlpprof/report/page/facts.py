"""Who, what, where: the facts that a reader needs to repeat a measurement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlpprof.machine.blas import blas_line, machine_line, pinned_kernel_warning
from mlpprof.model import Network
from mlpprof.report.numbers import format_size
from mlpprof.report.story import Story
from mlpprof.results import CheckResult, Comparison, DataRecord, Json, Ladder, Run

Fact = tuple[str, str]


def work_facts(story: Story) -> list[Fact]:
    """What was trained on what, once for each that differs."""
    rows: list[Fact] = []
    measured: tuple[Ladder | Run, ...] = (*story.ladders, *story.runs)
    for one in measured:
        rows += [("workload", f"{one.workload}: {_data(one.data)}"), ("network", _network(one.network))]
    for comparison in story.comparisons:
        rows += [("workload", comparison.workload), ("network", _network(comparison.network))]
    for run in story.runs:
        rows.append((f"check of {run.variant.name}", check_text(run.check)))
    for one in measured:
        rows.append(("measured", f"{_when(one.created)}: {one.command}"))
    rows += [("measured", comparison.command) for comparison in story.comparisons if comparison.command]
    return list(dict.fromkeys(rows))


def machine_facts(story: Story) -> list[Fact]:
    """The machine, once where all measurements share it."""
    machines: list[Json] = []
    everything: tuple[Ladder | Comparison | Run, ...] = (
        *story.ladders,
        *story.comparisons,
        *(run for _, run in story.profiles),
    )
    for one in everything:
        if one.machine and not any(_same_machine(one.machine, known) for known in machines):
            machines.append(one.machine)
    return [fact for machine in machines for fact in facts_of_machine(machine)]


def warnings_of(story: Story) -> list[str]:
    """Everything a reader should know before believing a number."""
    found = [warning for _, run in story.profiles for warning in run.warnings]
    raced: tuple[Ladder | Comparison | Run, ...] = (*story.ladders, *story.comparisons, *story.runs)
    machines = [one.machine for one in raced]
    found += [warning for machine in machines if (warning := pinned_kernel_warning(machine))]
    found += [f"{run.variant.name} was not checked (--no-check)" for run in story.runs if run.check is None]
    found += [f"{one.new} was not checked (--no-check)" for one in story.comparisons if one.equivalent is None]
    found += ["the rungs were not checked (--no-check)" for ladder in story.ladders if not ladder.checked]
    if not (story.ladders or story.comparisons) and len({name for name, _ in story.profiles}) > 1:
        found.append("these runs were measured apart, so their ratios are a hint and no verdict: use mlpprof compare")
    return list(dict.fromkeys(found))


def check_text(check: CheckResult | None) -> str:
    """What was compared before anything was timed, in words."""
    if check is None:
        return "not checked (--no-check)"
    if check.ok is None:
        return f"not checked: {check.skipped or 'no reason given'}"
    if not check.ok:
        return f"FAILED: {check.message or check.what}"
    deviation = ""
    if check.deviation is not None and check.tolerance is not None:
        deviation = f": deviation {check.deviation:.1e}, tolerance {check.tolerance:.1e}"
    return f"{check.what or 'gradients'} agree{deviation}"


def training_text(run: Run) -> str:
    """'float32, rate 0.1, momentum 0.9, seed 0, 1 BLAS thread'."""
    network = run.network
    penalties = {"momentum": network.momentum, "L1": network.l1, "L2": network.l2}
    parts = [run.dtype, f"rate {network.rate:g}", *(f"{name} {value:g}" for name, value in penalties.items() if value)]
    threads = "BLAS threads as the environment has it" if run.threads is None else f"{run.threads} BLAS threads"
    return ", ".join([*parts, f"seed {run.seed}", threads.replace("1 BLAS threads", "1 BLAS thread")])


def facts_of_machine(machine: Json) -> Iterator[Fact]:
    """What is known of one machine, a row each."""
    yield "machine", machine_line(machine)
    yield "BLAS", blas_line(machine)
    caches = [
        f"L{cache['level']} {format_size(cache['size_bytes'])}"
        for cache in machine.get("cpu_caches") or []
        if cache.get("type") != "Instruction" and cache.get("size_bytes")
    ]
    rows: dict[str, Any] = {
        "caches": ", ".join(caches),
        "vector instructions": ", ".join(machine.get("cpu_simd") or []),
        "load before": machine.get("load_avg_1min"),
        "frequency": machine.get("cpu_freq"),
        "system": machine.get("platform"),
        "SciPy": machine.get("scipy_version"),
        "commit": machine.get("commit_id", ""),
    }
    yield from ((name, str(value)) for name, value in rows.items() if value not in (None, ""))


def _same_machine(a: Json, b: Json) -> bool:
    """Whether two descriptions read the same; load and clocks change from run to run."""
    keys = ("cpu_model_name", "cpu_count", "mem_total_bytes", "blas", "numpy_version", "python_version", "commit_id")
    return all(a.get(key) == b.get(key) for key in keys)


def _network(network: Network) -> str:
    loss = network.loss.replace("_", " ")
    return f"{network.text}, {network.hidden}, {network.output} output, {loss} loss"


def _data(data: DataRecord) -> str:
    return f"{data.name}, {data.samples:,} samples"


def _when(created: str) -> str:
    return created.replace("T", " ").replace("+00:00", "Z").replace("Z", " UTC")
