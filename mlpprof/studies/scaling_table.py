"""The study of scaling as tables in Markdown, each said to be measured or modelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlpprof.report.format import digits, format_time
from mlpprof.studies.scaling_model import Model

BASE = "chunked"
RANKS = (2, 4, 10, 30, 100, 300, 1000)
BATCHES = (500, 20_000, 60_000)
LEAST_EFFICIENCY = 0.5


@dataclass(frozen=True, order=True)
class Cell:
    """A variant with so many workers on one batch, which they share."""

    variant: str
    workers: int
    batch: int


@dataclass(frozen=True)
class Exchanged:
    """Seconds until all workers have the sum of so many numbers of 4 bytes of each."""

    kind: str
    workers: int
    size: int
    seconds: float


@dataclass(frozen=True)
class Measured:
    """Seconds a step; speedup over one process on the same batch; efficiency against one process on a worker's rows."""

    step_s: Mapping[Cell, float]
    strong: Mapping[Cell, float]
    weak: Mapping[Cell, float]


def scaling_text(
    measured: Measured,
    exchanged: Sequence[Exchanged],
    models: Mapping[str, Model],
    projected: str | None,
    projection: Model | None,
    given: bool,
    refused: Mapping[str, str],
    gradient: int,
) -> str:
    """All tables. projected: the kind whose exchange the projection uses; given: the user told of another network."""
    lines = [
        "",
        "Ratios are paired within blocks of one race, in which all take turns; the reference is one process of "
        f"`{BASE}`. One set of processes: good to some 5 %.",
        *(f"`{name}` did not take part: {why}" for name, why in refused.items()),
        "",
        *_strong(measured, models),
        *_weak(measured),
        *_exchange(exchanged, gradient),
    ]
    if projection is not None and projected is not None:
        lines += [*_fit(models), *_projection(projection, projected, given)]
    return "\n".join(lines).rstrip() + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "| " + " | ".join("---:" for _ in header) + " |"
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _variants(cells: Mapping[Cell, float]) -> list[str]:
    return list(dict.fromkeys(cell.variant for cell in cells))


def _strong(measured: Measured, models: Mapping[str, Model]) -> Iterator[str]:
    yield f"## Strong scaling, measured: one batch, times as fast as `{BASE}` (efficiency)"
    yield ""
    names = _variants(measured.strong)
    rows = []
    for batch, workers in sorted({(cell.batch, cell.workers) for cell in measured.strong}):
        row = [f"{batch:,}", str(workers)]
        for name in names:
            speedup = measured.strong[Cell(name, workers, batch)]
            modelled = models[name].speedup(workers, batch) if workers > 1 and name in models else None
            row.append(f"{speedup:.2f} ({_percent(speedup / workers)})")
            row.append("" if modelled is None else f"{modelled:.2f}")
        rows.append(row)
    yield from _table(["batch", "workers", *(word for name in names for word in (name, "modelled"))], rows)


def _weak(measured: Measured) -> Iterator[str]:
    yield f"## Weak scaling, measured: efficiency against `{BASE}` with one worker's rows"
    yield ""
    names = _variants(measured.weak)
    keys = sorted({(cell.batch // cell.workers, cell.workers) for cell in measured.weak})
    rows = [
        [f"{rows:,}", str(workers), *(_percent(measured.weak[Cell(name, workers, workers * rows)]) for name in names)]
        for rows, workers in keys
    ]
    yield from _table(["rows a worker", "workers", *names], rows)


def _exchange(exchanged: Sequence[Exchanged], gradient: int) -> Iterator[str]:
    if not exchanged:
        return
    yield "## The exchange alone, measured: until all have the sum, in the best of several rounds"
    yield ""
    kinds = list(dict.fromkeys(one.kind for one in exchanged))
    seconds = {(one.kind, one.workers, one.size): one.seconds for one in exchanged}
    both = "processes" in kinds and "mpi" in kinds
    rows = []
    for workers, size in dict.fromkeys((one.workers, one.size) for one in exchanged):
        row = [str(workers), f"{size:,}" + (" (the gradient)" if size == gradient else "")]
        row += [format_time(seconds[kind, workers, size]) for kind in kinds]
        if both:
            row.append(f"{seconds['processes', workers, size] / seconds['mpi', workers, size]:.2f}")
        rows.append(row)
    yield from _table(["workers", "numbers", *kinds, *(["mpi times as fast as processes"] if both else [])], rows)
    if both:
        most = max(one.workers for one in exchanged)
        ratio = seconds["processes", most, gradient] / seconds["mpi", most, gradient]
        faster, slower = ("mpi", "processes") if ratio > 1 else ("processes", "mpi")
        yield (
            f"On this machine, with {most} workers and this gradient, `{faster}` exchanges {max(ratio, 1 / ratio):.2f} "
            f"times as fast as `{slower}`."
        )
        yield ""


def _fit(models: Mapping[str, Model]) -> Iterator[str]:
    compute = next(iter(models.values())).compute
    yield "## The model, fitted to what was measured"
    yield ""
    yield (
        f"A step of one process on r rows: {format_time(compute.fixed_s)} + r x {format_time(compute.row_s)} "
        f"(mean error {_percent(compute.error)}). A sum over p ranks of n bytes: "
        "2 ceil(log2 p) x latency + 2 (p - 1) / p x n / bandwidth."
    )
    yield ""
    rows = [
        [
            kind,
            format_time(model.exchange.alpha_s),
            f"{1e-9 / model.exchange.beta_s:.1f} GB/s" if model.exchange.beta_s else "no limit seen",
            _percent(model.exchange.error),
        ]
        for kind, model in models.items()
    ]
    yield from _table(["exchange of", "latency", "bandwidth", "mean error"], rows)


def _projection(model: Model, projected: str, given: bool) -> Iterator[str]:
    exchange = model.exchange
    yield "## Up to 1,000 ranks: modelled, not measured"
    yield ""
    bandwidth = f"{1e-9 / exchange.beta_s:.1f} GB/s" if exchange.beta_s else "unlimited bandwidth"
    yield f"Latency {format_time(exchange.alpha_s)}, {bandwidth}, " + (
        "as given on the command line: the user's network."
        if given
        else f"fitted to `{projected}` in the memory of this machine; a network has others (--latency, --bandwidth)."
    )
    yield (
        "Every rank computes as fast as one process that is alone on its machine: what workers of one machine take "
        "from each other, memory and clock rate, is not in it, and shows above, where measured strong scaling falls "
        f"short of modelled. The sharing stops paying where the efficiency falls below {_percent(LEAST_EFFICIENCY)}."
    )
    yield ""
    rows = []
    for ranks in RANKS:
        row = [f"{ranks:,}", format_time(exchange.sum_s(ranks, model.gradient_bytes))]
        row += [
            f"{digits(model.speedup(ranks, batch))} ({_percent(model.efficiency(ranks, batch))})" for batch in BATCHES
        ]
        row.append(f"{model.least_batch(ranks, LEAST_EFFICIENCY):,.0f}")
        rows.append(row)
    header = ["ranks", "exchange", *(f"speedup, batch {batch:,}" for batch in BATCHES), "stops paying below batch"]
    yield from _table(header, rows)
