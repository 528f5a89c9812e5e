"""Which of the calls and loops that were seen is the training step: the innermost that changes the parameters.

Parameters are what is changed again and again, from its own value: arrays, lists of numbers, at last single numbers.
Sums that grow (gradients, velocities) start from zero and are read in updates only: they are none. Nor is what is
changed for a short time only, as data that are made ready. A call that changes all parameters and holds hardly any of
the products, as `optimizer.step()`, is a part of the step and not the step.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

LEAST_COVERED, LEAST_PRODUCTS, LEAST_WORK = 0.9, 0.7, 0.2
"""Of the parameters, that the step changes; of what is done around it, that it does: by products where there are any,
else by the time beside that for changing parameters, which a call that does nothing else has not."""

LEAST_TOGETHER = 0.6
OFTEN = 0.4
"""Of the times that the most frequent parameter is changed: what is changed less often is no parameter."""

LEAST_OF_LONGEST = 0.5
"""Of the time that the longest of the loops takes: one that takes less may be there for the data."""

LEAST_WITH_PRODUCTS = 0.1
"""Of that time, for loops without products to be left out beside those that have some."""

LEAST_LIFE = 0.1
"""Of the time in which the parameter that lives longest is changed, for another one to be changed in as well."""

FEW_FRAMES = 2
"""Calls of a function in which a name of its own may be a parameter; one of many calls holds what passes through."""

MANY_TURNS = 5
"""Of a loop in a step that seems to run once, for the loop's turns to be the steps."""

Slot = tuple[Any, ...]


@dataclass
class Run:
    """One call of a function, or one turn of a loop, that changed something.

    parent: the site of the one around it, -1 of none. hooks_s: what the instrument had taken for itself before it;
    spent_s: what it took without the instrument.
    """

    site: int
    depth: int
    start_s: float
    products: int
    hooks_s: float = 0.0
    parent: int = -1
    slots: set[Slot] = field(default_factory=set)
    spent_s: float = 0.0


@dataclass
class Seen:
    """What has run, and what it has changed. life_s: when a slot was changed first and last."""

    runs: dict[int, list[Run]] = field(default_factory=lambda: defaultdict(list))
    times: dict[Slot, int] = field(default_factory=lambda: defaultdict(int))
    name_of: dict[Slot, str] = field(default_factory=dict)
    is_number: dict[Slot, bool] = field(default_factory=dict)
    life_s: dict[Slot, tuple[float, float]] = field(default_factory=dict)

    def change(self, slot: Slot, name: str, is_number: bool, now_s: float) -> None:
        """A slot has been changed."""
        self.times[slot] += 1
        self.name_of[slot] = name
        self.is_number[slot] = is_number
        self.life_s[slot] = (self.life_s[slot][0] if slot in self.life_s else now_s, now_s)

    def has_products(self, site: int) -> bool:
        """Whether products are made in it."""
        return any(run.products for run in self.runs[site])


def choose(seen: Seen, ignored: set[str]) -> int | None:
    """The site of the step, as far as is known. ignored: names of sums and buffers."""
    slots = _parameters(seen, ignored)
    if not slots:
        return None
    covering = {}
    for site, runs in seen.runs.items():
        changing = [len(run.slots & slots) / len(slots) for run in runs if run.slots & slots]
        if changing and median(changing) >= LEAST_COVERED:
            covering[site] = [run for run in runs if run.slots & slots]
    if not covering:
        return None
    most = max(len(runs) for runs in covering.values())
    often = {
        site: runs for site, runs in covering.items() if len(runs) >= 0.9 * most - 1 and (most < 2 or len(runs) > 1)
    }
    outermost = min(often, key=lambda site: median(run.depth for run in often[site]))
    whole = often[outermost]
    products = median(run.products for run in whole)
    parts = {site for site, runs in seen.runs.items() if any(run.slots & slots for run in runs)} - covering.keys()
    outer_parts = (run for site in parts for run in seen.runs[site] if run.parent not in parts)
    changing_s = sum(run.spent_s for run in outer_parts if run.slots & slots)

    def work_s(site: int) -> float:
        return max(0.0, sum(run.spent_s for run in often[site]) - changing_s)

    def is_step(site: int) -> bool:
        runs = often[site]
        if products:
            return median(run.products for run in runs) >= LEAST_PRODUCTS * products
        return work_s(site) >= LEAST_WORK * work_s(outermost)

    found = max((site for site in often if is_step(site)), key=lambda site: median(run.depth for run in often[site]))
    return _loop_within(found, seen) if len(often[found]) == 1 else found


def _loop_within(site: int, seen: Seen) -> int:
    """The innermost loop or call in something that has run once that does most of its products, many times; else it."""
    (whole,) = seen.runs[site][:1]
    repeated = [
        inner
        for inner, runs in seen.runs.items()
        if len(runs) >= MANY_TURNS and whole.products and _within(runs, whole) >= LEAST_PRODUCTS * whole.products
    ]
    return max(repeated, key=lambda inner: median(run.depth for run in seen.runs[inner]), default=site)


def _within(runs: list[Run], whole: Run) -> int:
    """The products of those that ran in another."""
    end_s = whole.start_s + whole.spent_s
    return sum(run.products for run in runs if whole.depth < run.depth and whole.start_s <= run.start_s <= end_s)


def _parameters(seen: Seen, ignored: set[str]) -> set[Slot]:
    """What is changed more than once, without sums, and without what is changed more seldom than the rest."""
    again = _lasting(seen, ignored)
    if not again:  # a single step
        again = {slot for slot in seen.times if not seen.is_number[slot]}
    kept = {slot for slot in again if not seen.is_number[slot]} or again
    return _frequent(_lived(kept, seen), seen)


def _lived(slots: set[Slot], seen: Seen) -> set[Slot]:
    """Without what was changed at other times than the one that is changed longest: of data, or of a model before."""
    longest = max(slots, key=lambda slot: seen.life_s[slot][1] - seen.life_s[slot][0], default=None)
    if longest is None:
        return slots
    first_s, last_s = seen.life_s[longest]

    def shared_s(slot: Slot) -> float:
        return min(last_s, seen.life_s[slot][1]) - max(first_s, seen.life_s[slot][0])

    return {slot for slot in slots if shared_s(slot) >= LEAST_LIFE * (last_s - first_s)}


def _frequent(slots: set[Slot], seen: Seen) -> set[Slot]:
    """Without what is changed more seldom than the rest: counted where half of all is changed together."""
    halves = [
        runs
        for runs in seen.runs.values()
        if slots and median(len(run.slots & slots) for run in runs) >= LEAST_TOGETHER * len(slots)
    ]
    if not halves:
        return slots
    runs = max(halves, key=len)
    times = {slot: sum(slot in run.slots for run in runs) for slot in slots}
    return {slot for slot in slots if times[slot] >= OFTEN * max(times.values())}


def _lasting(seen: Seen, ignored: set[str]) -> set[Slot]:
    """What is changed in more than one turn of the outermost loop, or call, that runs more than once and takes long.

    ignored: names of what is no parameter, if there is anything else.
    """
    again = {site: _changed_again(runs) for site, runs in seen.runs.items() if len(runs) > 1}
    frames: dict[Slot, int] = defaultdict(int)
    for slot in seen.times:
        frames[slot[:2]] += 1
    named = {slot for slot in seen.times if seen.name_of[slot] in ignored}
    passing = {slot for slot in seen.times if slot[0] == "name" and frames[slot[:2]] > FEW_FRAMES}
    for without in (named | passing, named, set[Slot]()):
        groups = {site: found for site, slots in again.items() if (found := slots - without)}
        if groups:
            return groups[_outermost(groups, seen)]
    return set()


def _changed_again(runs: list[Run]) -> set[Slot]:
    times: dict[Slot, int] = defaultdict(int)
    for run in runs:
        for slot in run.slots:
            times[slot] += 1
    return {slot for slot, count in times.items() if count > 1}


def _outermost(sites: Iterable[int], seen: Seen) -> int:
    """Of those that take long, if some have products of those."""
    spent_s = {site: sum(run.spent_s for run in seen.runs[site]) for site in sites}
    with_products = {site: spent for site, spent in spent_s.items() if seen.has_products(site)}
    if max(with_products.values(), default=0.0) >= LEAST_WITH_PRODUCTS * max(spent_s.values()):
        spent_s = with_products
    least_s = LEAST_OF_LONGEST * max(spent_s.values())
    return min((site for site, spent in spent_s.items() if spent >= least_s), key=lambda site: seen.runs[site][0].depth)


# Names of what is changed from its own value and is no parameter: sums that start from zeros, and buffers.


ZEROS = frozenset(("zeros", "zeros_like"))
ITERATORS = frozenset(("zip", "enumerate", "reversed"))


def buffers(trees: dict[str, ast.Module]) -> set[str]:
    """Names of what is written over: ``np.dot(x, W, out=z)``, whatever ``z += b`` does to it afterwards."""
    found = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                mentioned = {ast.unparse(one) for one in node.args}
                outs = [one.value for one in node.keywords if one.arg == "out"]
                found |= {_name(out) for out in outs if ast.unparse(out) not in mentioned}
    return found - {""}


def growing_sums(trees: dict[str, ast.Module]) -> set[str]:
    """Names that start from zeros, and that only updates, returns and calls of zip() read."""
    zeroed: set[str] = set()
    read: set[str] = set()
    for tree in trees.values():
        updates = {id(one) for node in ast.walk(tree) if _is_update(node) for one in ast.walk(node)}
        updates |= {id(part) for one in ast.walk(tree) if _is_filled(one) for part in ast.walk(one)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and _is_zero(node.value):
                zeroed |= {_name(target) for target in node.targets}
            is_read = isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
            if is_read and id(node) not in updates:
                read.add(_name(node))
        aliases = [pair for node in ast.walk(tree) for pair in _aliases(node)]
        zeroed |= {alias for alias, name in aliases if name in zeroed}
    return zeroed - read - {""}


def _aliases(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(w, weights) of ``for w, dw in zip(weights, gradients)``."""
    if isinstance(node, ast.For | ast.comprehension):
        yield from ((_name(target), _name(source)) for target, source in items_of(node.target, node.iter))


def items_of(target: ast.expr, iterable: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The targets of a loop, and what each is an item of: through `zip`, `enumerate` and `reversed`."""
    targets = target.elts if isinstance(target, ast.Tuple) else [target]
    sources = [iterable]
    while len(sources) == 1 and isinstance(sources[0], ast.Call) and _name(sources[0].func) in ITERATORS:
        if _name(sources[0].func) == "enumerate":
            inner = targets[1:]
            targets = inner[0].elts if inner and isinstance(inner[0], ast.Tuple) else inner
        sources = sources[0].args
    yield from zip(targets, sources, strict=False)


def _is_update(node: ast.AST) -> bool:
    if isinstance(node, ast.AugAssign):
        return True
    if isinstance(node, ast.Return):
        parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        return all(isinstance(part, ast.Name | ast.Attribute) for part in parts)
    if isinstance(node, ast.Assign):
        mentioned = {ast.unparse(one) for one in ast.walk(node.value) if isinstance(one, ast.expr)}
        return any(ast.unparse(target) in mentioned for target in node.targets)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr == "fill"  # with zeros, for the next sum
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("zip", "len")


def _is_filled(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)


def _is_zero(node: ast.expr) -> bool:
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
    return any(isinstance(one.func, ast.Attribute | ast.Name) and _name(one.func) in ZEROS for one in calls)


def _name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value):
            return _name(value)
    return ""
