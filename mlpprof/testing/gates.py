"""Limits on what a step does: copies, allocations and floating-point operations.

These tests count and do not use a clock, so their result is the same in every run. For a variant, one step on random
samples is counted, because the work of a step depends on sizes and not on values. For a Python function, one call is
counted, with the functions that it calls in files outside of installed libraries.

The counts are those of the source code. In fact NumPy may reuse a large temporary array within one line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mlpprof.catalog import find, interface_problems, reference_to
from mlpprof.errors import UsageError, did_you_mean
from mlpprof.instrument.counts import count_call
from mlpprof.model import PHASES
from mlpprof.profile.counting import count_network
from mlpprof.results import Operation
from mlpprof.testing.sameness import Arguments, make_arguments, maker_of
from mlpprof.workloads import DEFAULT_WORKLOAD, resolve

Subject = str | type | Callable[..., Any]
"""A variant by name, path or class, or any Python function."""

COMPUTING_PHASES = tuple(phase for phase in PHASES if phase != "fetch_batch")
"""All phases except fetch_batch, whose task is to copy the batch."""
SHOWN = 5
"""A message lists at most this many statements."""


def count(
    subject: Subject,
    *,
    workload: str = DEFAULT_WORKLOAD,
    batch: int | None = None,
    dtype: str | None = None,
    args: Arguments = None,
) -> tuple[Operation, ...]:
    """The operations of one step of a variant at `batch` of `workload`, or of one call function(*args()).

    args: a function that makes the arguments, or a tuple of them. Raises UsageError if it is neither of them, if it
    uses an operation that cannot be counted, or if there is nothing to count.
    """
    return _counted(subject, workload, batch, dtype, args)[0]


def assert_no_copies(
    subject: Subject, *, phases: Sequence[str] = COMPUTING_PHASES, at_least_bytes: int = 1, **options: Any
) -> None:
    """Assert that a step does not copy arrays: no stacking, astype, gather or slice assignment.

    phases: the phases to check, by default all except fetch_batch; a function is checked as a whole. at_least_bytes:
    smaller copies are allowed. The other options are those of `count`. Raises AssertionError with the statements.
    """
    require_phases(phases)
    operations, file = _counted(subject, **options)
    found = [o for o in _within(operations, phases) if o.bytes_copied and o.bytes_copied >= at_least_bytes * o.times]
    if found:
        total = sum(o.bytes_copied for o in found)
        what = f"{sum(o.times for o in found)} copies of {total:,} bytes in a step"
        raise AssertionError(_message(subject, what, found, file, lambda o: o.bytes_copied, "bytes copied"))


def assert_max_allocations(
    subject: Subject,
    at_most: int,
    *,
    phases: Sequence[str] = PHASES,
    at_least_bytes: int = 1,
    **options: Any,
) -> None:
    """Assert that a step allocates at most `at_most` new arrays.

    phases: the phases to check. at_least_bytes: smaller arrays are not counted. The other options are those of `count`.
    Raises AssertionError with the statements.
    """
    require_phases(phases)
    operations, file = _counted(subject, **options)
    found = [
        o for o in _within(operations, phases) if o.bytes_allocated and o.bytes_allocated >= at_least_bytes * o.times
    ]
    made = sum(o.times for o in found)
    if made > at_most:
        what = f"{made:,} new arrays in a step, at most {at_most:,} are allowed"
        raise AssertionError(_message(subject, what, found, file, lambda o: o.bytes_allocated, "bytes allocated"))


def assert_max_flops(subject: Subject, at_most: float, *, phases: Sequence[str] = PHASES, **options: Any) -> None:
    """Assert that a step needs at most `at_most` floating-point operations.

    phases: the phases to check. The other options are those of `count`. `mlpprof.instrument.numpy_costs` says how many
    operations each NumPy function counts for. Raises AssertionError with the statements.
    """
    require_phases(phases)
    operations, file = _counted(subject, **options)
    found = [o for o in _within(operations, phases) if o.flop]
    flop = sum(o.flop for o in found)
    if flop > at_most:
        what = f"{flop:,} floating-point operations in a step, at most {at_most:,.0f} are allowed"
        raise AssertionError(_message(subject, what, found, file, lambda o: o.flop, "operations"))


def _counted(
    subject: Subject,
    workload: str = DEFAULT_WORKLOAD,
    batch: int | None = None,
    dtype: str | None = None,
    args: Arguments = None,
) -> tuple[tuple[Operation, ...], Path]:
    """The operations, and the file that their line numbers refer to."""
    reference = _variant_reference(subject)
    if reference is not None:
        entry, trained = find(reference), resolve(workload, batch=batch)
        operations, uncounted = count_network(entry, trained.network, trained.batch, dtype)
        file = entry.path
    elif inspect.isroutine(subject) and hasattr(inspect.unwrap(subject), "__code__"):
        operations, uncounted = count_call(subject, *make_arguments(maker_of(args)))
        file = Path(inspect.unwrap(subject).__code__.co_filename)
    else:
        raise UsageError(f"cannot count {subject!r}; expected a variant (name, path or class) or a Python function")
    if uncounted:
        raise UsageError(
            f"{_name(subject)} uses {', '.join(uncounted)}, which mlpprof cannot count, so it cannot check this limit; "
            "leave it out, or replace it by functions of NumPy"
        )
    if not operations:
        raise UsageError(
            f"nothing was counted in {_name(subject)}, so a limit on it checks nothing: no file of yours calls "
            "a function of NumPy in it. Name the function that does the work, and pass arguments with which it does so"
        )
    return operations, file


def require_phases(phases: Sequence[str]) -> None:
    """Raise UsageError for phases that do not exist, because nothing would be checked."""
    if isinstance(phases, str) or not phases:
        raise UsageError(f"phases is {phases!r}; expected names in a tuple, such as ('forward', 'backward')")
    for name in phases:
        if name not in PHASES:
            raise UsageError(f"there is no phase '{name}'{did_you_mean(name, PHASES)} (known: {', '.join(PHASES)})")


def _variant_reference(subject: Subject) -> str | None:
    if isinstance(subject, str):
        return subject
    if inspect.isclass(subject) and not interface_problems(subject):
        return reference_to(subject)
    return None


def _within(operations: Iterable[Operation], phases: Sequence[str]) -> list[Operation]:
    """The operations of these phases; those of a function are in no phase, and always included."""
    return [o for o in operations if o.phase in phases or o.phase not in PHASES]


def _message(
    subject: Subject, what: str, found: list[Operation], file: Path, amount: Callable[[Operation], int], unit: str
) -> str:
    """The limit that was exceeded, then the largest statements, each with its place and source."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    by_line: dict[tuple[int, str], list[Operation]] = {}
    for operation in found:
        by_line.setdefault((operation.line, operation.phase), []).append(operation)
    weights = {key: sum(amount(o) for o in same) for key, same in by_line.items()}
    shown = [f"{_name(subject)}: {what}"]
    for line, phase in sorted(weights, key=lambda key: -weights[key])[:SHOWN]:
        same = by_line[line, phase]
        text = lines[line - 1].strip() if 0 < line <= len(lines) else "?"
        names = ", ".join(dict.fromkeys(f"{o.name} {o.dtype} {o.shape}" for o in same))
        where = f"{file.name}:{line}" + (f" in {phase}" if phase in PHASES else "")
        shown.append(f"  {where}: {weights[line, phase]:,} {unit} by {names}\n      {text}")
    if len(weights) > SHOWN:
        shown.append(f"  and {len(weights) - SHOWN} more statements")
    return "\n".join(shown)


def _name(subject: Subject) -> str:
    return subject if isinstance(subject, str) else str(getattr(subject, "__qualname__", subject))
