"""Check that a variant computes what it should: on many random networks, or on a few before a measurement."""

from __future__ import annotations

from collections.abc import Iterable

from mlpprof.catalog import Entry, load, variant_code
from mlpprof.errors import UnsupportedNetwork, VariantCrash
from mlpprof.model import Variant
from mlpprof.model.gradcheck import (
    CASES_PER_KIND,
    KINDS,
    Case,
    Deviation,
    NetworkKind,
    deviations,
    own_network_deviations,
    random_cases,
)
from mlpprof.process import Progress
from mlpprof.results import CheckResult

QUICK_CASES = 6
"""Every measurement begins with this many random networks; `mlpprof check` does more."""

CHECK_CASES = len(KINDS) * CASES_PER_KIND
"""`mlpprof check` does this many networks: every value of every option within every kind."""

SHOWN_KINDS = 3
RAISE = (
    "In its __init__, raise UnsupportedNetwork for the networks that your class does not support "
    "(from mlpprof.model import UnsupportedNetwork)"
)

ORACLE = "naive"
"""A variant without a PARENT, such as a user's own, is compared with this one."""


def check_variant(
    entry: Entry,
    cls: type[Variant],
    parent: type[Variant] | None,
    cases: int,
    seed: int,
    report: Progress,
    own_case: Case | None = None,
) -> CheckResult:
    """Run every comparison on the network to be measured if it is given, and on random networks.

    It stops at the first network that fails. A network that the variant refuses is replaced by another, so that a
    variant of a single kind must do as many. A variant that does none is skipped, with its own reason. A user's variant
    that is right on the network to be measured passes, with a message about those that it does wrong.
    Raises VariantCrash where its code raises, on the network to be measured or in every kind.
    """
    worst: Deviation | None = None
    refused: str | None = None
    own_right = False
    if own_case is not None and parent is not None:
        try:
            with variant_code(entry):
                worst = _worst(own_network_deviations(cls, parent, own_case))
        except UnsupportedNetwork as reason:
            refused = str(reason)
        else:
            if worst.severity > 1:
                return _failed(entry, cls, parent, seed, worst, _deviates(worst, own_case))
            own_right = True
    done = tried = 0
    for case in random_cases(len(KINDS) * max(cases, CASES_PER_KIND), seed):
        if done == cases:
            break
        report(f"checking {entry.name}", done / cases)
        tried += 1
        try:
            with variant_code(entry):
                found = _worst(deviations(cls, parent, case))
        except UnsupportedNetwork as reason:
            refused = str(reason)
            continue
        except VariantCrash as crash:
            if own_right and _may_be_partial(entry, cls):
                return _partly_right(entry, cls, parent, seed, worst, str(crash))
            if entry.own or not _survey(entry, cls, parent, seed)[0]:
                raise
            return _failed(entry, cls, parent, seed, None, str(crash))
        if found.severity > 1:
            if own_right and _may_be_partial(entry, cls):
                return _partly_right(entry, cls, parent, seed, worst, _deviates(found, case))
            return _failed(entry, cls, parent, seed, found, _deviates(found, case))
        done += 1
        worst = found if worst is None else _worst([worst, found])
    if worst is None:
        return CheckResult(entry.name, None, skipped=f"it does none of the {tried} networks tried: {refused}")
    what = f"{worst.what}, {done + own_right} networks"
    return CheckResult(entry.name, True, worst.size, worst.tolerance, worst.layer, what)


def parent_of(entry: Entry, known: dict[str, Entry]) -> Entry | None:
    """The variant to compare with: its PARENT, or `naive` for a user's own; None for the root of the ladder."""
    if entry.parent is not None:
        return known.get(entry.parent, known[ORACLE])
    return None if entry.own else known[ORACLE]


def load_pair(entry: Entry, known: dict[str, Entry]) -> tuple[type[Variant], type[Variant] | None]:
    """The classes of a variant and of the one it is compared with."""
    parent = parent_of(entry, known)
    return load(entry), None if parent is None else load(parent)


def _worst(found: Iterable[Deviation]) -> Deviation:
    return max(found, key=lambda deviation: deviation.severity)


def _may_be_partial(entry: Entry, cls: type[Variant]) -> bool:
    """Whether being right on the network to be measured is enough.

    The catalog's own must be right on all that they do not refuse. Partial updates are compared with finite
    differences, which are too slow for any but small networks.
    """
    return not entry.own and not hasattr(cls, "partial_steps")


def _survey(
    entry: Entry, cls: type[Variant], parent: type[Variant] | None, seed: int
) -> tuple[list[NetworkKind], list[NetworkKind]]:
    """The kinds of network that a variant does right, with every value of every option, and those it does wrong."""
    right: dict[NetworkKind, bool] = {}
    for case in random_cases(len(KINDS) * CASES_PER_KIND, seed):
        if right.get(case.kind) is False:
            continue
        try:
            with variant_code(entry):
                right[case.kind] = _worst(deviations(cls, parent, case)).severity <= 1
        except UnsupportedNetwork:
            continue
        except VariantCrash:
            right[case.kind] = False
    return [kind for kind in KINDS if right.get(kind) is True], [kind for kind in KINDS if right.get(kind) is False]


def _advice(entry: Entry, cls: type[Variant], parent: type[Variant] | None, seed: int) -> str:
    """Which kinds a user's variant does right, and what to write for the others; empty where all are alike."""
    if entry.own:
        return ""
    right, wrong = _survey(entry, cls, parent, seed)
    if not (right and wrong):
        return ""
    return (
        f". The class is right for {_kinds_text(right)}; for {_kinds_text(wrong)} it computes the loss or gradients of "
        f"another network, or crashes. {RAISE}"
    )


def _kinds_text(kinds: list[NetworkKind]) -> str:
    shown = [f"{kind.hidden}/{kind.output} with {kind.loss}" for kind in kinds]
    if len(kinds) > SHOWN_KINDS + 1:
        shown[SHOWN_KINDS:] = [f"{len(kinds) - SHOWN_KINDS} other kinds of network"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _deviates(worst: Deviation, case: Case) -> str:
    where = "" if worst.layer is None else f"layer {worst.layer}: "
    return f"{where}{worst.what} deviate by {worst.size:.1e}, at most {worst.tolerance:.0e} is allowed ({case.text})"


def _failed(
    entry: Entry, cls: type[Variant], parent: type[Variant] | None, seed: int, worst: Deviation | None, failure: str
) -> CheckResult:
    message = f"{entry.name}: {failure}{_advice(entry, cls, parent, seed)}"
    if worst is None:
        return CheckResult(entry.name, False, message=message)
    return CheckResult(entry.name, False, worst.size, worst.tolerance, worst.layer, worst.what, message=message)


def _partly_right(
    entry: Entry, cls: type[Variant], parent: type[Variant] | None, seed: int, worst: Deviation | None, failure: str
) -> CheckResult:
    advice = _advice(entry, cls, parent, seed) or f". {RAISE}"
    message = f"{entry.name} is right on the network of this run, but not on every other: {failure}{advice}"
    assert worst is not None
    return CheckResult(
        entry.name, True, worst.size, worst.tolerance, worst.layer, f"{worst.what}, this network", message=message
    )
