"""How far a step is from its lower bound (see `machine.roofline`), and why: the statements that waste the most time."""

from __future__ import annotations

from dataclasses import dataclass

from mlpprof.instrument.numpy_costs import COPY, EVALUATION, FILL, PRODUCT
from mlpprof.machine.roofline import Bounds, Ceiling, Point, label_points, phase_points, run_bounds
from mlpprof.report.numbers import digits, format_time, of_layer, plain
from mlpprof.results import BatchResult, Run

NEAR = 0.7
"""A statement that reaches this share of its limit counts as being at the limit."""
MOSTLY = 0.5
"""A cause that explains more than this share of a statement's time is named as the reason."""
SMALL_EXCESS = 0.02
"""If the second statement wastes less than this share of the step, only the first one is named."""


@dataclass(frozen=True)
class Distance:
    """How far a step is from its bound: its bounds and the median step, in seconds, and the reasons in words."""

    bounds: Bounds
    step_s: float
    reasons: tuple[str, ...]

    @property
    def times(self) -> float:
        return self.step_s / self.bounds.blas_s

    @property
    def sentence(self) -> str:
        """'the step takes 3.1 times the theoretical minimum on this machine; main reasons: ...'."""
        reasons = "main reason" if len(self.reasons) == 1 else "main reasons"
        return (
            f"the step takes {digits(self.times)} times the theoretical minimum on this machine; "
            f"{reasons}: {'; '.join(self.reasons)}"
        )

    @property
    def minimum(self) -> str:
        """'The minimum is 96.1 µs with the best products measured at these shapes, and 90.2 µs at the limit ...'."""
        blas, best = format_time(self.bounds.blas_s), format_time(self.bounds.best_kernel_s)
        squares = f"and {format_time(self.bounds.large_squares_s)} at the limit of large squares."
        if best == blas:
            return f"The minimum is {blas} with the best products measured at these shapes, {squares}"
        words = f"{best} with the best products measured at these shapes (NumPy's BLAS or blocked)"
        return f"The minimum is {blas} with the products of NumPy's BLAS, {words}, {squares}"


def distance(run: Run, result: BatchResult) -> Distance | None:
    """The distance of a step from its bound; None where limits were not measured or the network is not known."""
    ceiling, bounds, step = Ceiling.of(run), run_bounds(run, result), result.step_s.median
    if ceiling is None or bounds is None or bounds.blas_s <= 0 or step <= 0:
        return None
    return Distance(bounds, step, _reasons(result, ceiling))


def _reasons(result: BatchResult, ceiling: Ceiling) -> tuple[str, ...]:
    points = [p for p in label_points(result, ceiling) or phase_points(result, ceiling) if p.operations]
    if not points:
        return ("the operations could not be counted",)
    faults_s = 1e-6 * (ceiling.value("page_fault") or 0.0)
    excess = {point: point.time_s - _needed_s(point, ceiling) for point in points}
    worst = sorted(points, key=lambda point: excess[point], reverse=True)[:2]
    parts: list[str] = []
    for point in worst:
        if excess[point] <= SMALL_EXCESS * result.step_s.median and parts:
            break
        share = 100 * point.time_s / result.step_s.median
        name = plain(point.phase) if point.label is None else f"the {of_layer(point.label, point.layer)}"
        parts.append(f"{name} ({share:.0f} % of the step) {_cause(point, result, ceiling, faults_s)}")
    return tuple(parts)


def _needed_s(point: Point, ceiling: Ceiling) -> float:
    """Limit time of the needed products, evaluations and gathers of a point; other arithmetic counts nothing."""
    needed = 0.0
    for operation in point.operations:
        if operation.kind in (PRODUCT, EVALUATION) and operation.flop:
            needed += ceiling.operation_s(operation) * (operation.useful_flop or 0) / operation.flop
        elif operation.kind == COPY and operation.bytes_moved:
            needed += ceiling.operation_s(operation) * (operation.useful_bytes or 0) / operation.bytes_moved
    return needed


def _cause(point: Point, result: BatchResult, ceiling: Ceiling, fault_s: float) -> str:
    limits = {o: ceiling.operation_s(o) for o in point.operations}
    limit_s = sum(limits.values())
    wasted_s = sum(
        s * (1 - ((o.useful_flop or 0) / o.flop if o.flop else (o.useful_bytes or 0) / max(1, o.bytes_moved)))
        for o, s in limits.items()
    )
    slowest = max(point.operations, key=lambda o: limits[o])
    if wasted_s > MOSTLY * limit_s:
        only_moves = all(o.kind in (COPY, FILL) for o in point.operations)
        return "only moves data" if only_moves else "computes values that nothing uses"
    calls_s = point.calls * 1e-6 * (ceiling.value("ufunc_call") or 0.0)
    if calls_s > MOSTLY * point.time_s:
        return f"makes {point.calls:,} calls of NumPy, and each call takes longer than its arithmetic"
    faults = result.phases[point.phase].page_faults if point.phase in result.phases else None
    phase_s = result.phase_s(point.phase) if point.phase in result.phases else 0.0
    if faults and faults * fault_s > MOSTLY * phase_s:
        return f"waits for memory: its phase has {faults:,.0f} page faults per step"
    if limit_s > NEAR * point.time_s and slowest.kind != PRODUCT:
        return "is close to its own limit, but the theoretical minimum does not need it"
    if slowest.kind == PRODUCT:
        p, k, q = slowest.shape
        best = digits(ceiling.product_gflops(slowest.dtype, p, k, q) or 0.0)
        return f"reaches {digits(point.gflops or 0.0)} of {best} GFLOP/s (a product of {p} x {k} by {k} x {q})"
    if slowest.kind == EVALUATION:
        rate = ceiling.value(f"{slowest.name}_{slowest.dtype}")
        per_s = 1e-9 * slowest.flop / point.time_s
        best = "" if rate is None else f" of {digits(rate)}"
        return f"reaches {digits(per_s)}{best} billion evaluations of {slowest.name} per second"
    best = f" of {digits(1e-9 * point.bytes_moved / limit_s)}" if limit_s > 0 else ""
    return f"reaches {digits(1e-9 * point.bytes_moved / point.time_s)}{best} GB/s"
