"""`python -m reports.studies.advice`: whether the payoffs that `mlpprof advise` predicts come true on the ladder.

Every rung of the ladder up to `buffered` cures one flaw of its parent. The study runs `advise` on the parent, and
compares the payoff of that flaw with the ratio of the two rungs. The ratio is measured as `mlpprof ladder` measures it:
in interleaved blocks, in fresh processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mlpprof.advise import Subject, find
from mlpprof.catalog import ladder
from mlpprof.cli.terminal import progress_bar
from mlpprof.compare.decide import decide, log_ratios
from mlpprof.compare.entrants import Environment
from mlpprof.compare.live_race import variant_race
from mlpprof.compare.verdict import add_replicates, verdict_of
from mlpprof.data import DataSource
from mlpprof.process import Progress, part_of
from mlpprof.profile.request import Request
from mlpprof.report.numbers import UNKNOWN, digits, format_shares
from mlpprof.results import Race, Verdict
from mlpprof.results.advice import Advice, Finding
from mlpprof.results.json import plain_object
from mlpprof.workloads import DEFAULT_WORKLOAD, WORKLOADS, Workload, resolve
from reports.program import Program, out_option
from reports.studies.study import FOLDER, Study

WITHIN = 0.30
"""A payoff reaches the goal if it deviates from the measurement by at most this share."""
_GOAL = f"{100 * WITHIN:.0f} %"


@dataclass(frozen=True)
class Pair:
    """A rung, its parent, and the category of the flaw that the rung cures.

    batch: samples per step of this pair. reduced: the batch is smaller than in the rest of the table.
    """

    parent: str
    child: str
    category: str
    batch: int
    reduced: bool = False


@dataclass(frozen=True)
class Row:
    """A pair, the advice on the parent, and the measured ratio of the parent's step time to the child's."""

    pair: Pair
    advice: Advice
    measured: Verdict

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of the rung's category; a flaw in several places counts as several findings."""
        return tuple(one for one in self.advice.findings if one.category == self.pair.category)

    @property
    def places(self) -> tuple[str, ...]:
        """The place of each finding, such as 'naive.py:71'."""
        return tuple(f"{one.file}:{one.line}" for one in self.findings)

    @property
    def payoff_share(self) -> tuple[float, float] | None:
        """(low, high) share of the parent's step, for all findings of the category together; None without findings."""
        if not self.findings:
            return None
        low, high = (min(1.0, sum(one.payoff_share[end] for one in self.findings)) for end in (0, 1))
        return low, high

    @property
    def predicted(self) -> tuple[float, float] | None:
        """The ratio that follows from the payoff, 1 / (1 - share); infinite if the payoff is the whole step."""
        if self.payoff_share is None:
            return None
        low, high = (math.inf if share >= 1 else 1 / (1 - share) for share in self.payoff_share)
        return low, high

    @property
    def saved_share(self) -> float:
        return 1 - 1 / self.measured.ratio

    @property
    def payoff_deviation(self) -> float | None:
        """The middle of the payoff divided by the measured saving, minus 1; None without a finding or a saving."""
        if self.payoff_share is None or self.saved_share <= 0:
            return None
        return sum(self.payoff_share) / 2 / self.saved_share - 1

    @property
    def ratio_deviation(self) -> float | None:
        """The ratio that follows from the middle of the payoff, divided by the measured one, minus 1."""
        if self.payoff_share is None:
            return None
        middle = sum(self.payoff_share) / 2
        return math.inf if middle >= 1 else 1 / (1 - middle) / self.measured.ratio - 1


def advice_text(rows: Sequence[Row], silent: Mapping[str, Advice], workload: str, network: str, processes: int) -> str:
    """The table, and the advice on the last rungs. silent: rung -> advice, for rungs with nothing left to cure."""
    found = sum(bool(row.findings) for row in rows)
    payoffs = sum(is_within(row.payoff_deviation) for row in rows)
    ratios = sum(is_within(row.ratio_deviation) for row in rows)
    lines = [
        "",
        f"`{workload}`, {network}, one BLAS thread, {processes} processes per race. Each rung of the ladder cures one "
        "flaw of its parent. `mlpprof advise` looks at the parent and predicts the payoff, which is the share of the "
        "step that the cure saves. The table compares it with the ratio of the two rungs in an interleaved race, which "
        "is followed by its 95 % interval in brackets.",
        "",
        *_table(rows),
        "",
        "predicted: 1 / (1 - payoff), for the low and the high end of all findings of the category together. off by: "
        "the deviation of the middle of the payoff from the measured saving, 1 - 1 / ratio, and of the ratio that it "
        "predicts from the measured ratio.",
        "",
        f"Of {len(rows)} cures {found} are found, the payoffs of {payoffs} are within {_GOAL} of the measured "
        f"saving, and {ratios} predict a ratio within {_GOAL} of the measured one.",
        *_notes(rows),
        "",
        "## Rungs with nothing left to cure",
        "",
        *_silent(silent),
    ]
    return "\n".join(lines).rstrip() + "\n"


def is_within(deviation: float | None) -> bool:
    """Whether a deviation reaches the goal; None, which stands for no finding, does not."""
    return deviation is not None and abs(deviation) <= WITHIN


def _table(rows: Sequence[Row]) -> Iterator[str]:
    header = ["parent", "cure", "batch", "category", "found at", "payoff", "predicted", "measured"]
    header += ["payoff off by", "ratio off by", f"within {_GOAL}"]
    yield "| " + " | ".join(header) + " |"
    yield "| --- | --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for row in rows:
        verdict, pair = row.measured, row.pair
        cells = [f"`{pair.parent}`", f"`{pair.child}`", f"{pair.batch:,}", pair.category]
        cells.append(", ".join(row.places) or "**not found**")
        cells.append(UNKNOWN if row.payoff_share is None else format_shares(*row.payoff_share))
        cells.append(_range(row.predicted))
        cells.append(f"{digits(verdict.ratio)} ({_range((verdict.low, verdict.high))})")
        cells += [_percent(row.payoff_deviation), _percent(row.ratio_deviation), _word(row)]
        yield "| " + " | ".join(cells) + " |"


def _word(row: Row) -> str:
    payoff, ratio = is_within(row.payoff_deviation), is_within(row.ratio_deviation)
    if payoff != ratio:
        return f"{'payoff' if payoff else 'ratio'} only"
    return "yes" if payoff else "**no**"


def _range(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return UNKNOWN
    low, high = ("∞" if math.isinf(end) else digits(end) for end in ends)
    return low if low == high else f"{low}–{high}"


def _percent(deviation: float | None) -> str:
    if deviation is None:
        return UNKNOWN
    return "∞" if math.isinf(deviation) else f"{100 * deviation:+.0f} %"


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        pair = row.pair
        if pair.reduced:
            yield (
                f"`{pair.parent}` takes too long for more than {pair.batch:,} samples per step, and this pair is "
                "measured with that batch."
            )
        elsewhere = [one for one in row.findings if Path(one.file).stem != pair.parent]
        if elsewhere:
            yield f"The finding on `{pair.parent}` names another file, {elsewhere[0].file}."
        if row.measured.low <= 1:
            yield (
                f"Whether `{pair.child}` is faster than `{pair.parent}` is not certain here: the interval of the "
                "measured ratio reaches 1."
            )


def _silent(silent: Mapping[str, Advice]) -> Iterator[str]:
    for name, advice in silent.items():
        if not advice.findings:
            yield f"- `{name}`: no finding"
        for one in advice.findings:
            yield (
                f"- `{name}`: {one.category} at {one.file}:{one.line}, {format_shares(*one.payoff_share)} of the step: "
                f"{one.title}"
            )


def as_json(rows: Sequence[Row], silent: Mapping[str, Advice]) -> dict[str, Any]:
    """All figures, and every finding on every rung; None stands for an infinite ratio and for no finding."""
    found = {
        "rows": [
            {
                "parent": row.pair.parent,
                "child": row.pair.child,
                "batch": row.pair.batch,
                "category": row.pair.category,
                "found": bool(row.findings),
                "places": row.places,
                "payoff_share": row.payoff_share,
                "predicted_ratio": row.predicted,
                "measured_ratio": row.measured.ratio,
                "measured_interval": [row.measured.low, row.measured.high],
                "processes": row.measured.processes,
                "saved_share": row.saved_share,
                "payoff_deviation": row.payoff_deviation,
                "ratio_deviation": row.ratio_deviation,
                "payoff_within": is_within(row.payoff_deviation),
                "ratio_within": is_within(row.ratio_deviation),
                "advice": _advice(row.advice),
            }
            for row in rows
        ],
        "nothing_left": {name: _advice(advice) for name, advice in silent.items()},
    }
    return plain_object(found)


def _advice(advice: Advice) -> dict[str, Any]:
    return {
        "step": advice.step,
        "step_s": advice.step_s,
        "notes": advice.notes,
        "findings": [
            {
                "category": one.category,
                "file": one.file,
                "line": one.line,
                "title": one.title,
                "confidence": one.confidence,
                "payoff_s": one.payoff_s,
                "payoff_share": one.payoff_share,
                "measured": one.evidence.get("measured"),
            }
            for one in advice.findings
        ],
    }


CURES = {
    "per_sample": "neuron-loop",
    "naive": "sample-loop",
    "float32": "float64",
    "no_input_delta": "dead-computation",
    "contiguous": "layout",
    "cached": "recomputation",
    "sliced": "bias-stacking",
    "tanh_sigmoid": "slow-primitive",
    "buffered": "temporaries",
}
"""Rung -> the category of the flaw that it cures in its parent."""

SILENT = ("buffered", "chunked", "fused_update")
"""These rungs have no flaw left that a later rung cures."""

LARGEST_BATCH = {"scalar": 10, "per_sample": 500}
"""Parent -> most samples per step, so that a step takes at most a quarter of a second on the default network."""

PROCESSES, QUICK_PROCESSES = 5, 2


def pairs_of(batch: int) -> tuple[Pair, ...]:
    """All rungs that cure a flaw, with their parents and the batch that the parent can do in time."""
    known = ladder()
    pairs = []
    for child, category in CURES.items():
        parent = known[child].parent
        assert parent is not None
        most = LARGEST_BATCH.get(parent, batch)
        pairs.append(Pair(parent, child, category, min(batch, most), most < batch))
    return tuple(pairs)


def lines_of(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Pairs grouped into races: neighbours race together, but a pair with a slow parent races alone."""
    lines: list[list[Pair]] = []
    for pair in pairs:
        follows = lines and lines[-1][-1].child == pair.parent and lines[-1][-1].batch == pair.batch
        if follows and not {pair.parent, lines[-1][-1].parent} & set(LARGEST_BATCH):
            lines[-1].append(pair)
        else:
            lines.append([pair])
    return lines


def measure_race(workload: Workload, line: Sequence[Pair], processes: int, progress: Progress) -> Race:
    """The race of the rungs of one line."""
    names = [line[0].parent, *(pair.child for pair in line)]
    requests = [Request(name, workload.network, workload.source) for name in names]
    live = variant_race(requests, line[0].batch, Environment(threads=1))
    add_replicates(live, processes, progress)
    return live.race()


def ask(workload: Workload, name: str, batch: int, progress: Progress) -> Advice:
    """The advice of `mlpprof advise` on a rung."""
    request = Request(name, workload.network, workload.source)
    return find(Subject(name, request=request, batch=batch, threads=1), progress=progress)


def measure(
    workload: Workload,
    pairs: Sequence[Pair],
    processes: int,
    progress: Progress,
    asking: Callable[[Workload, str, int, Progress], Advice] = ask,
    racing: Callable[[Workload, Sequence[Pair], int, Progress], Race] = measure_race,
) -> tuple[list[Row], dict[str, Advice]]:
    """One row per pair, and the advice on the last rungs."""
    asked = [*((pair.parent, pair.batch) for pair in pairs), *((name, workload.batch) for name in SILENT)]
    advices: dict[str, Advice] = {}
    for i, (name, batch) in enumerate(asked):
        advices[name] = asking(workload, name, batch, part_of(progress, 0.5 * i / len(asked), 0.5 / len(asked), name))
    rows = []
    lines = lines_of(pairs)
    done = 0
    for line in lines:
        part = part_of(progress, 0.5 + 0.5 * done / len(pairs), 0.5 * len(line) / len(pairs), line[0].parent)
        rows += rows_of(line, racing(workload, line, processes, part), advices)
        done += len(line)
    return rows, {name: advices[name] for name in SILENT}


def rows_of(line: Sequence[Pair], race: Race, advices: Mapping[str, Advice]) -> list[Row]:
    """The rows of one race; the ratios are paired within processes."""
    place = {name: i for i, name in enumerate(race.variants)}
    return [
        Row(
            pair,
            advices[pair.parent],
            verdict_of(decide(log_ratios(race, place[pair.parent], place[pair.child]))),
        )
        for pair in line
    ]


@click.command(cls=Program)
@click.option("--workload", "name", type=click.Choice(list(WORKLOADS)), default=DEFAULT_WORKLOAD, show_default=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="MNIST [default: the workload's own data].")
@click.option("--batch", type=click.IntRange(1), help="Samples per step [default: the workload's].")
@click.option("--processes", type=click.IntRange(2, 50), help=f"Replicates per race [default: {PROCESSES}].")
@click.option(
    "--quick",
    is_flag=True,
    help=f"{QUICK_PROCESSES} processes per race; the intervals are then too wide for conclusions.",
)
@out_option(FOLDER, "advice.md and advice.json")
def main(
    name: str,
    data: Path | None,
    batch: int | None,
    processes: int | None,
    quick: bool,
    out: Path,
) -> None:
    """Compare the payoffs of `mlpprof advise` with the ladder; write advice.md and advice.json."""
    study = Study.begin("advice", out)
    count = processes or (QUICK_PROCESSES if quick else PROCESSES)
    workload = resolve(name, source=None if data is None else DataSource(path=str(data)), batch=batch)
    with progress_bar() as progress:
        rows, silent = measure(workload, pairs_of(workload.batch), count, progress)
    document = {
        "workload": workload.name,
        "network": workload.network.text,
        "batch": workload.batch,
        "data": workload.source.text,
        **as_json(rows, silent),
    }
    text = advice_text(rows, silent, workload.name, workload.network.text, count)
    study.end(text, document, "# Payoffs of `mlpprof advise`, compared with the ladder\n\n")


if __name__ == "__main__":
    main(prog_name="python -m reports.studies.advice")
