"""Whether a variant computes what it should, over random networks or quickly before a measurement."""

from __future__ import annotations

from collections.abc import Iterable

from mlpprof.catalog import Entry, load, variant_code
from mlpprof.errors import UnsupportedNetwork
from mlpprof.model import Variant
from mlpprof.model.cases import Case, random_cases
from mlpprof.model.gradcheck import Deviation, agreement_with, deviations
from mlpprof.process import Progress
from mlpprof.results import CheckResult

QUICK_CASES = 6
"""Random networks before every measurement; `mlpprof check` does more."""

ORACLE = "naive"
"""What a variant without a PARENT, such as a user's own, is held against."""


def check_variant(
    entry: Entry,
    cls: type[Variant],
    parent: type[Variant] | None,
    cases: int,
    seed: int,
    report: Progress,
    own_case: Case | None = None,
) -> CheckResult:
    """Run every comparison on random networks, and on the network to be measured if it is given.

    Stops at the first case that fails. A variant that does none of the networks is skipped, with its own reason.
    Raises VariantCrash where its code raises.
    """
    worst: Deviation | None = None
    refused: str | None = None
    done = 0
    for i, case in enumerate(random_cases(cases, seed)):
        report(f"checking {entry.name}", i / cases)
        try:
            with variant_code(entry):
                found = deviations(cls, parent, case)
        except UnsupportedNetwork as reason:
            refused = str(reason)
            continue
        done += 1
        worst = _worse(worst, found)
        if worst.severity > 1:
            return _failed(entry.name, worst, case)
    if own_case is not None and parent is not None:
        try:
            with variant_code(entry):
                found = agreement_with(cls, parent, own_case)
        except UnsupportedNetwork as reason:
            refused = str(reason)
        else:
            done += 1
            worst = _worse(worst, found)
            if worst.severity > 1:
                return _failed(entry.name, worst, own_case)
    if worst is None:
        return CheckResult(entry.name, None, skipped=f"it does none of the {cases} networks tried: {refused}")
    return CheckResult(entry.name, True, worst.size, worst.tolerance, worst.layer, f"{worst.what}, {done} networks")


def parent_of(entry: Entry, known: dict[str, Entry]) -> Entry | None:
    """The variant to compare with: its PARENT, else `naive` for a user's own; None for the root of the ladder."""
    if entry.parent is not None:
        return known.get(entry.parent, known[ORACLE])
    return None if entry.own else known[ORACLE]


def load_pair(entry: Entry, known: dict[str, Entry]) -> tuple[type[Variant], type[Variant] | None]:
    """The classes of a variant and of the one it is compared with."""
    parent = parent_of(entry, known)
    return load(entry), None if parent is None else load(parent)


def _worse(worst: Deviation | None, found: Iterable[Deviation]) -> Deviation:
    candidates = list(found) if worst is None else [worst, *found]
    return max(candidates, key=lambda deviation: deviation.severity)


def _failed(name: str, worst: Deviation, case: Case) -> CheckResult:
    where = "" if worst.layer is None else f"layer {worst.layer}: "
    return CheckResult(
        variant=name,
        ok=False,
        deviation=worst.size,
        tolerance=worst.tolerance,
        layer=worst.layer,
        what=worst.what,
        message=f"{name}: {where}{worst.what} deviate by {worst.size:.1e}, at most {worst.tolerance:.0e} is allowed "
        f"({case.text})",
    )
