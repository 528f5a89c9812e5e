"""The facts that you need to repeat a measurement: what was trained on what, whether it was checked, the machine.

A fact is a name, a style ("", "warning", "bad", or the outcome of a verdict) and a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlpprof.machine.blas import blas_line, machine_line, pinned_kernel_warning
from mlpprof.model import Network
from mlpprof.report.numbers import format_number, format_percent, format_size, format_time, plain
from mlpprof.report.sentences import run_warnings
from mlpprof.report.story import Story
from mlpprof.results import (
    CheckResult,
    Comparison,
    DataRecord,
    Json,
    Ladder,
    ProgramPair,
    ProgramRecord,
    Run,
    StreamRecord,
    Training,
    Verdict,
)

Fact = tuple[str, str, str]

MOSTLY_HIDDEN = 0.9
"""If no more than this share of reading is hidden behind the steps, it is shown as a warning."""

NOT_CHECKED = "not checked (--no-check)"
THROUGH_TRAIN = "through train, which does several steps in one call"


def run_facts(run: Run) -> list[Fact]:
    """What was measured, how, and where."""
    native = " · --native-blas" if run.native_blas else ""
    return [
        *_what(run),
        ("machine", "", machine_line(run.machine)),
        ("BLAS", "", blas_line(run.machine) + native),
        ("measured", "", plain(f"{_when(run.created)} by mlpprof {run.mlpprof_version}: {run.command}")),
        *(("warning", "warning", text) for text in run_warnings(run)),
    ]


def _what(run: Run) -> list[Fact]:
    """What was trained on what; of a program, which step, and how long the program took to get there."""
    if run.program is not None:
        return program_facts(run.program)
    work = [("workload", "", plain(f"{run.workload}: {_data(run.data)}"))] if run.data is not None else []
    network = [("network", "", _network(run.network))] if run.network is not None else []
    reading = [("reading", *stream_text(one.stream, one.batch)) for one in run.results if one.stream is not None]
    return [*work, *reading, *network, ("training", "", _training(run)), ("check", *_check(run.check))]


def stream_text(stream: StreamRecord, batch: int) -> tuple[str, str]:
    """How the data was read while training: a style, and what it took beside the steps and as part of them."""
    how = (
        f"from the file while training, in runs of {stream.run_rows:,} rows; {stream.part_rows:,} rows are shuffled "
        "together"
    )
    hidden, style = stream.hidden_share, ""
    if hidden is not None:
        read_s = stream.read_s / stream.rows * batch
        how += f"; {format_time(read_s)} a step of {batch:,}, {format_percent(hidden)} of it hidden behind the steps"
        style = "" if hidden > MOSTLY_HIDDEN else "warning"
    if stream.disk_rows_s is not None:
        how += f"; the disk gives a batch in {format_time(batch / stream.disk_rows_s)}"
    if stream.rereads > 1:
        how += (
            f"; every chunk is read {stream.rereads:.1f} times in an epoch, because it has more rows than a run "
            "(mlpprof data repack writes a better layout)"
        )
    return style, how


def program_facts(program: ProgramRecord) -> list[Fact]:
    """The step of a program, its arguments, and how much of the time was the program's own."""
    how = "mlpprof found it; --step NAME chooses another one" if program.is_found else "as named with --step"
    loading = (
        f"{format_time(program.loading_s)} until the first step: the program's own work, and mlpprof's to watch it"
    )
    if program.measuring_s > 0:
        times = f"{program.runs} runs" if program.runs > 1 else "one run"
        share = min(1.0, program.runs * program.loading_s / program.measuring_s)
        loading += (
            f"; mlpprof took {format_time(program.measuring_s)} for {times} of the program, and loading was "
            f"{100 * share:.0f} % of that"
        )
    facts = [
        ("step", "", plain(f"{program.step} ({how})")),
        ("arguments", "", plain(" ".join(program.arguments))),
        ("loading", "", loading),
    ]
    if program.page_faults is not None and program.page_faults >= 1:
        facts.append(("page faults", "", f"{format_number(program.page_faults)} in a step"))
    return [fact for fact in facts if fact[2]]


def comparison_facts(one: Comparison) -> list[Fact]:
    """What was raced, the ratio and the verdict, and what they rest on."""
    race = one.race
    return [
        ("step", "", f"{format_time(race.step_s(0))} → {format_time(race.step_s(1))}"),
        ("ratio", "strong", ratio_text(one.verdict)),
        ("verdict", *_outcome(one.verdict)),
        *(_what_was_compared(one) if one.programs is None else _program_facts(one.programs)),
        *(("timed", "", f"{plain(name)} {THROUGH_TRAIN}") for name in race.trained),
        *(("engine", "", plain(engine)) for engine in one.engines),
        *short_machine_facts(one.machine),
    ]


def _what_was_compared(one: Comparison) -> list[Fact]:
    dtypes = " and ".join(dict.fromkeys(one.race.dtypes))
    return [("equivalent", *_equivalence(one)), ("on", "", plain(f"{one.subject}, {dtypes}"))]


def _program_facts(programs: ProgramPair) -> list[Fact]:
    old_s, new_s = programs.between_s
    training = programs.training
    facts: list[Fact] = [("training", "warning", NOT_CHECKED)]
    if training is not None:
        facts = [("training", "" if training.is_same else "warning", plain(_training_text(training)))]
        facts += [("", "", plain(note)) for note in training.notes]
        facts += [("seeds", "", "random, numpy.random and generators made without a seed start alike in both")]
    return [
        *facts,
        ("step of", "", plain(" → ".join(dict.fromkeys(programs.steps)))),
        ("between", "", f"the rest of the training loop takes {format_time(old_s)} → {format_time(new_s)} a step"),
        *(("note", "warning", plain(note)) for note in programs.notes),
    ]


def _training_text(training: Training) -> str:
    return f"both train the same: {training.reason}" if training.is_same else training.reason


def short_machine_facts(machine: Json) -> list[Fact]:
    """The machine and its BLAS in a line each, and a warning where the BLAS does not use all that the CPU can do."""
    pinned = pinned_kernel_warning(machine)
    warning = [] if pinned is None else [("warning", "warning", pinned)]
    return [("machine", "", machine_line(machine)), ("BLAS", "", blas_line(machine)), *warning]


def ratio_text(verdict: Verdict) -> str:
    """'1.312 x as fast (95 %: 1.284–1.341), 5 processes'; above 1, the new one is faster."""
    of = "groups of blocks in this process" if verdict.in_process else "processes"
    return f"{verdict.ratio:.3f} x as fast (95 %: {verdict.low:.3f}–{verdict.high:.3f}), {verdict.processes} {of}"


def claim_text(verdict: Verdict) -> str:
    """'PASS: required 1.5x, measured 14.7x (95 %: 13.7-15.7)'; an open one starts with what was required."""
    if verdict.outcome is None or verdict.at_least is None:
        return ""
    required = f"required {verdict.at_least:.4g}x; " if verdict.outcome == "inconclusive" else ""
    return f"{verdict.outcome.upper()}: {required}{verdict.reason}"


def _outcome(verdict: Verdict) -> tuple[str, str]:
    if verdict.outcome is None:
        return "quiet", "none (use --at-least R to get pass or fail)"
    return verdict.outcome, claim_text(verdict)


def _equivalence(comparison: Comparison) -> tuple[str, str]:
    if comparison.equivalent is None:
        return "warning", NOT_CHECKED
    if comparison.engines:
        return "", "same losses over the first steps; each ran in its own process, with kernel pins cleared"
    return "", "same gradients, on random networks and on this one"


def _check(check: CheckResult | None) -> tuple[str, str]:
    """What was compared before anything was timed."""
    if check is None:
        return "warning", NOT_CHECKED
    if check.ok is None:
        return "warning", plain(f"not checked: {check.skipped or 'no reason given'}")
    if not check.ok:
        return "bad", plain(f"FAILED: {check.message or check.what}")
    parts = ["ok", check.what, "" if check.layer is None else f"layer {check.layer}"]
    if check.deviation is not None and check.tolerance is not None:
        parts.append(f"deviation {check.deviation:.1e}, tolerance {check.tolerance:.1e}")
    return "", plain(", ".join(part for part in parts if part))


def work_facts(story: Story) -> list[Fact]:
    """What was trained on what, once for each that differs."""
    rows: list[Fact] = []
    measured: tuple[Ladder | Run, ...] = (*story.ladders, *story.runs)
    for one in measured:
        if one.data is not None and one.network is not None:
            rows += [("workload", "", f"{one.workload}: {_data(one.data)}"), ("network", "", _network(one.network))]
    for comparison in story.comparisons:
        if comparison.programs is not None:
            rows += _program_facts(comparison.programs)
        if comparison.network is not None:
            rows += [("workload", "", comparison.workload), ("network", "", _network(comparison.network))]
    for run in story.runs:
        if run.program is not None:
            rows += [("program", "", run.variant.name), *program_facts(run.program)]
            continue
        rows += [("training", "", _training(run)), (f"check of {run.variant.name}", *_check(run.check))]
    rows += [("measured", "", f"{_when(one.created)}: {one.command}") for one in measured]
    rows += [("measured", "", comparison.command) for comparison in story.comparisons if comparison.command]
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


def facts_of_machine(machine: Json) -> Iterator[Fact]:
    """What is known of one machine, a row each."""
    yield "machine", "", machine_line(machine)
    yield "BLAS", "", blas_line(machine)
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
    yield from ((name, "", str(value)) for name, value in rows.items() if value not in (None, ""))


def story_warnings(story: Story) -> list[str]:
    """Everything that you should know before you trust a number of a story."""
    found = [warning for _, run in story.profiles for warning in run_warnings(run)]
    raced: tuple[Ladder | Comparison, ...] = (*story.ladders, *story.comparisons)
    found += [warning for one in raced if (warning := pinned_kernel_warning(one.machine))]
    found += [
        f"{run.variant.name} was not checked (--no-check)"
        for run in story.runs
        if run.check is None and not run.program
    ]
    found += [f"{one.new} was not checked (--no-check)" for one in story.comparisons if one.equivalent is None]
    found += ["the rungs were not checked (--no-check)" for ladder in story.ladders if not ladder.checked]
    if not (story.ladders or story.comparisons) and len({name for name, _ in story.profiles}) > 1:
        found.append(
            "these runs were measured at different times, so their ratios are only a hint and give no verdict; "
            "mlpprof compare OLD NEW races both"
        )
    return list(dict.fromkeys(found))


def _same_machine(a: Json, b: Json) -> bool:
    """Whether two descriptions read the same; load and clocks change from run to run."""
    keys = ("cpu_model_name", "cpu_count", "mem_total_bytes", "blas", "numpy_version", "python_version", "commit_id")
    return all(a.get(key) == b.get(key) for key in keys)


def _training(run: Run) -> str:
    """'float32, rate 0.1, momentum 0.9, seed 0'."""
    network = run.network
    if network is None:
        return run.dtype
    penalties = {"momentum": network.momentum, "L1": network.l1, "L2": network.l2}
    shown = [f"{name} {value:g}" for name, value in penalties.items() if value > 0]
    return ", ".join([run.dtype, f"rate {network.rate:g}", *shown, f"seed {run.seed}"])


def _network(network: Network) -> str:
    loss = network.loss.replace("_", " ")
    return f"{network.text}, {network.hidden}, {network.output} output, {loss} loss"


def _data(data: DataRecord) -> str:
    return f"{data.name}, {data.samples:,} samples"


def _when(created: str) -> str:
    return created.replace("T", " ").replace("+00:00", "Z").replace("Z", " UTC")
