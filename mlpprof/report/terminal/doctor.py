"""The doctor's report on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mlpprof.machine.blas import blas_line, machine_line
from mlpprof.machine.doctor import LEAST_GAIN, Examination, Gain, Tried
from mlpprof.machine.keys import Json
from mlpprof.machine.limits import CALLS, Limits
from mlpprof.report.numbers import UNKNOWN, digits, plain
from mlpprof.report.terminal.console import FIGURE, NAME, WORDS, heading, indented, listing, pairs, print_trimmed


def print_examination(found: Examination, console: Console) -> None:
    """Print an examination: the machine, its limits, advice, unconfirmed settings and what is not known."""
    print_trimmed(console, lambda width: _sections(found, width))


def _sections(found: Examination, width: int) -> Iterator[RenderableType]:
    yield heading("Machine")
    yield indented(pairs([(name, "", text) for name, text in _facts(found.machine, found.steal_share)], width))
    yield heading("Limits", "the best values measured; only products use several BLAS threads")
    yield indented(_limits_table(found.limits))
    yield heading("Advice", "times as fast with the setting as without it, in fresh processes, 95 % interval")
    nothing = Text(f"none: no setting that was tried makes steps at least {100 * (LEAST_GAIN - 1):.0f} % faster")
    yield from map(indented, [_advice(tried) for tried in found.advice] or [nothing])
    for title, lines in (
        ("Notes", [Text(plain(note), "yellow") for note in found.notes]),
        ("Tried, not confirmed", [_tried(tried) for tried in found.tried if not tried.gain.is_advice]),
        ("Not known", [Text(plain(text)) for text in found.not_known]),
    ):
        if lines:
            yield heading(title)
            yield from map(indented, lines)


def _facts(machine: Mapping[str, Json], steal_share: float | None) -> Iterator[tuple[str, str]]:
    yield "machine", machine_line(machine)
    yield "BLAS", blas_line(machine)
    simd, numpy_simd = machine.get("cpu_simd"), machine.get("numpy_simd")
    yield "CPU vectors", ", ".join(str(flag) for flag in simd) if isinstance(simd, list) else UNKNOWN
    if isinstance(numpy_simd, dict):
        parts = [f"{key} {', '.join(map(str, names))}" for key, names in numpy_simd.items() if isinstance(names, list)]
        yield "NumPy's loops", "; ".join(parts)
    for name, key in (
        ("clock", "cpu_freq"),
        ("governor", "cpu_config"),
        ("C library", "libc_version"),
        ("huge pages", "transparent_hugepages"),
    ):
        yield name, str(machine.get(key) or UNKNOWN)
    for name, key in (("BLAS variables", "blas_environment"), ("allocator variables", "allocator_environment")):
        set_here = machine.get(key)
        settings = [f"{k}={v}" for k, v in set_here.items()] if isinstance(set_here, dict) else []
        yield name, ", ".join(settings) or "none set"
    yield "stolen CPU time", UNKNOWN if steal_share is None else f"{100 * steal_share:.1f} % during the examination"


def _limits_table(limits: Limits) -> Table:
    """One row for each limit; products have one column for each number of threads."""
    rows: dict[str, dict[str, str]] = {}
    for name, limit in limits.items():
        base, threads = name, ""
        if name not in CALLS and name.endswith(("_thread", "_threads")):
            base, count, _ = name.rsplit("_", 2)
            threads = f"{count} thread" if count == "1" else f"{count} threads"
        rows.setdefault(base, {"unit": limit["unit"].replace("us", "µs")})[threads] = digits(limit["value"])
    columns = list(dict.fromkeys(key for row in rows.values() for key in row if key not in ("", "unit")))
    table = listing([("limit", WORDS), *((column, FIGURE) for column in columns or [""]), ("unit", NAME)])
    for base, row in rows.items():
        cells = [row.get(column, "") for column in columns]
        if "" in row and cells:
            cells[0] = row[""]
        table.add_row(_words(base), *(cells or [row.get("", "")]), row["unit"])
    return table


def _words(name: str) -> str:
    kind, _, rest = name.partition("_")
    if kind == "product" and "x" in rest:
        dtype, _, shape = rest.partition("_")
        p, k, q = shape.split("x")
        return f"product {p} x {k} by {k} x {q}, {dtype}"
    if kind == "gemm":
        return f"largest products, {rest}"
    if kind == "bandwidth":
        return f"copy or sum, {rest.replace('KiB', ' KiB').replace('MiB', ' MiB')}"
    return name.replace("_float", ", float").replace("_", " ")


def _advice(tried: Tried) -> Text:
    return Text.assemble(
        (f"{digits(tried.gain.ratio)} x", "bold green"),
        f"  ({_interval(tried.gain)}, {tried.gain.pairs} pairs)  {plain(tried.setting.what)}\n",
        (f"    {plain(tried.setting.line)}\n", "bold"),
    )


def _tried(tried: Tried) -> Text:
    gain = tried.gain
    if gain.pairs < 2:
        figure = f"{digits(gain.ratio)} x in one pair; there was no time for more pairs"
    elif gain.ratio >= LEAST_GAIN:
        figure = f"{digits(gain.ratio)} x ({_interval(gain)}): not certain"
    else:
        figure = f"{digits(gain.ratio)} x ({_interval(gain)})"
    return Text.assemble(f"{figure}  {plain(tried.setting.line)}  ", (plain(tried.setting.what), "dim"))


def _interval(gain: Gain) -> str:
    high = digits(gain.high) if gain.high < 1e6 else "unlimited"
    return f"{digits(gain.low)} to {high}"
