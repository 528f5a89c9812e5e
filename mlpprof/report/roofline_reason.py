"""Why a step is slower than its bound, in one sentence: what takes the most time that nothing needs, and the cause."""

from __future__ import annotations

from dataclasses import dataclass

from mlpprof.instrument.semantics_table import COPY, EVALUATION, FILL, PRODUCT
from mlpprof.report.format import digits, plain
from mlpprof.report.roofline import Ceiling, Point, bound_s, label_points, phase_points
from mlpprof.results import BatchResult, Run

NEAR = 0.7
"""From this share of its limit on, a statement is as fast as the machine lets it be."""
MOSTLY = 0.5


@dataclass(frozen=True)
class Distance:
    """How far a step is from its bound: the bound and the median step, in seconds, and the reason in words."""

    bound_s: float
    step_s: float
    reason: str

    @property
    def times(self) -> float:
        """The step in units of its bound."""
        return self.step_s / self.bound_s

    @property
    def sentence(self) -> str:
        """'The step runs at 3.1 times its bound, because ...'."""
        return f"the step runs at {digits(self.times)} times its bound, because {self.reason}"


def distance(run: Run, result: BatchResult) -> Distance | None:
    """The distance of a step from its bound; None where limits were not measured or nothing can be computed."""
    ceiling = Ceiling.of(run)
    if ceiling is None:
        return None
    bound = bound_s(run.network, result.batch, run.dtype, ceiling)
    step = result.step_s.median
    return Distance(bound, step, _reason(run, result, ceiling)) if bound > 0 and step > 0 else None


def _reason(run: Run, result: BatchResult, ceiling: Ceiling) -> str:
    points = [p for p in label_points(result, ceiling) or phase_points(result, ceiling) if p.operations]
    if not points:
        return "more than the needed operations run, but they could not be counted"
    faults_s = 1e-6 * (ceiling.value("page_fault") or 0.0)
    excess = {point: point.time_s - _needed_s(point, ceiling) for point in points}
    worst = sorted(points, key=lambda point: excess[point], reverse=True)[:2]
    parts: list[str] = []
    for point in worst:
        if excess[point] <= 0.02 * result.step_s.median and parts:
            break
        share = 100 * point.time_s / result.step_s.median
        parts.append(f"{_name(point)} ({share:.0f} % of the step) {_cause(point, result, ceiling, faults_s)}")
    return ", and ".join(parts)


def _needed_s(point: Point, ceiling: Ceiling) -> float:
    """What a point's needed products, evaluations and gathers take at the limits; arithmetic could ride along."""
    needed = 0.0
    for operation in point.operations:
        if operation.kind in (PRODUCT, EVALUATION) and operation.flop:
            needed += ceiling.operation_s(operation) * operation.useful_flop / operation.flop
        elif operation.kind == COPY and operation.bytes_moved:
            needed += ceiling.operation_s(operation) * operation.useful_bytes / operation.bytes_moved
    return needed


def _name(point: Point) -> str:
    text = f"the {plain(point.label)}" if point.label is not None else plain(point.phase)
    return text + ("" if point.layer is None else f" of layer {point.layer}")


def _cause(point: Point, result: BatchResult, ceiling: Ceiling, fault_s: float) -> str:
    limits = {o: ceiling.operation_s(o) for o in point.operations}
    limit_s = sum(limits.values())
    wasted_s = sum(
        s * (1 - (o.useful_flop / o.flop if o.flop else o.useful_bytes / max(1, o.bytes_moved)))
        for o, s in limits.items()
    )
    dearest = max(point.operations, key=lambda o: limits[o])
    if wasted_s > MOSTLY * limit_s:
        only_moves = all(o.kind in (COPY, FILL) for o in point.operations)
        return "only moves data" if only_moves else "computes what nothing needs"
    calls_s = point.calls * 1e-6 * (ceiling.value("ufunc_call") or 0.0)
    if calls_s > MOSTLY * point.time_s:
        return f"makes {point.calls:,} calls of NumPy, each of which costs more than its arithmetic"
    faults = result.phases[point.phase].page_faults if point.phase in result.phases else None
    phase_s = result.phase_median_s(point.phase) if point.phase in result.phases else 0.0
    if faults and faults * fault_s > MOSTLY * phase_s:
        return f"waits for memory: its phase takes {faults:,.0f} page faults a step"
    if limit_s > NEAR * point.time_s and dearest.kind != PRODUCT:
        return "already runs near the limit of its memory or function, but the bound does without it"
    if dearest.kind == PRODUCT:
        p, k, q = dearest.shape
        best = digits(ceiling.product_gflops(dearest.dtype, p, k, q) or 0.0)
        return f"reaches {digits(point.gflops or 0.0)} of the {best} GFLOP/s that {p} x {k} by {k} x {q} can"
    if dearest.kind == EVALUATION:
        rate = ceiling.value(f"{dearest.name}_{dearest.dtype}")
        per_s = 1e-9 * dearest.flop / point.time_s
        best = "" if rate is None else f" of at most {digits(rate)}"
        return f"evaluates {digits(per_s)}{best} billion {dearest.name} a second"
    return f"moves {digits(1e-9 * point.bytes_moved / point.time_s)} GB/s of {_best(point, limit_s)}"


def _best(point: Point, limit_s: float) -> str:
    return f"the {digits(1e-9 * point.bytes_moved / limit_s)} GB/s that it could" if limit_s > 0 else "what it could"
