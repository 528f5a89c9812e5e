"""Which of the observed calls and loops is the training step: the innermost one that changes the parameters.

Parameters are variables that are changed again and again, from their own values: arrays, lists of numbers, or single
numbers if there is nothing else. Sums that grow (gradients, velocities) start from zero and are read only in updates,
so they are no parameters, and neither are variables that are changed only for a short time, as while data are prepared.
A call that changes all parameters but computes few of the products, as `optimizer.step()`, is only a part of the step.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

LEAST_COVERED = 0.9
"""The step changes at least this share of the parameters."""

LEAST_PRODUCTS, LEAST_WORK = 0.75, 0.2
"""The step does at least the first share of the products in the code around it. If there are no products, it takes at
least the second share of the time, without the time for changing parameters."""

LEAST_TOGETHER = 0.6
"""Calls and turns that change this share of the parameters show which of them are changed often."""

OFTEN = 0.4
"""What is changed less often than this share of the changes of the most frequent parameter is no parameter."""

LEAST_OF_LONGEST = 0.5
"""A loop that takes less than this share of the longest loop's time may only prepare the data."""

LEAST_WITH_PRODUCTS = 0.1
"""If loops with products take this share of the longest loop's time, loops without products are left out."""

LEAST_LIFE = 0.1
"""A parameter is changed during at least this share of the time in which the longest-lived parameter is changed."""

FEW_FRAMES = 2
"""A local name can only be a parameter if its function is called no more often; else values only pass through it."""

LEAST_BOTH_WAYS = 2
"""A step makes at least so many products, forward and backward; a layer makes one on the way forward."""

MOST_RUNS = 20_000
"""So many runs of a site are kept, unless they make products. What runs more often is a loop over single elements."""

MANY_STEPS = 100
"""No network has so many layers, so a loop with so many turns does not go through the layers."""

MANY_TURNS = 5
"""If something that runs once contains a loop with at least so many turns, the loop's turns are the steps."""

NAME = "name"
"""The kind of a variable that is a local name, given new values in one call of its function."""

ELEMENTS = "elements"
"""The kind of the elements of an array or list: the one that was changed first, and the others."""

Variable = tuple[Any, ...]
"""Its kind, and what distinguishes it from others; of a local name, the call that it belongs to comes last."""


@dataclass
class Execution:
    """One call of a function, or one turn of a loop, that changed something.

    parent: the site of the execution around it, -1 if there is none. hooks_s: seconds that the hooks had taken before
    it. spent_s: its seconds without the hooks; end_s: when it ended. updates: their number, where only the first ones
    are noted.
    """

    site: int
    depth: int
    start_s: float
    products: int
    hooks_s: float = 0.0
    parent: int = -1
    variables: set[Variable] = field(default_factory=set)
    spent_s: float = 0.0
    end_s: float = 0.0
    updates: int = 0


@dataclass
class Observations:
    """What has run, and what it has changed. life_s: when a variable was changed first and last.

    runs: of those without products, at most MOST_RUNS of each site. spent_s: the seconds of all runs of a site.
    shape_of: the shape that a local name was given first. varying: local names that were given other shapes later, as
    `x` in ``for layer in layers: x = layer.forward(x)``; they hold what passes through the layers.
    """

    runs: dict[int, list[Execution]] = field(default_factory=lambda: defaultdict(list))
    times: dict[Variable, int] = field(default_factory=lambda: defaultdict(int))
    name_of: dict[Variable, str] = field(default_factory=dict)
    is_number: dict[Variable, bool] = field(default_factory=dict)
    life_s: dict[Variable, tuple[float, float]] = field(default_factory=dict)
    spent_s: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    shape_of: dict[Variable, Any] = field(default_factory=dict)
    varying: set[Variable] = field(default_factory=set)

    def has_run(self, run: Execution) -> None:
        """An execution that changed something has ended."""
        self.spent_s[run.site] += run.spent_s
        if run.products or len(self.runs[run.site]) < MOST_RUNS:
            self.runs[run.site].append(run)

    def change(self, variable: Variable, name: str, value: Any, is_number: bool, now_s: float) -> None:
        """A variable has been changed."""
        if variable[0] == NAME:
            shape = getattr(value, "shape", None)
            if self.shape_of.setdefault(variable, shape) != shape:
                self.varying.add(variable)
        self.times[variable] += 1
        self.name_of[variable] = name
        self.is_number[variable] = is_number
        self.life_s[variable] = (self.life_s[variable][0] if variable in self.life_s else now_s, now_s)

    def has_products(self, site: int) -> bool:
        """Whether products are made in it."""
        return any(run.products for run in self.runs[site])


def choose(seen: Observations, ignored: set[str]) -> int | None:
    """The site of the step, as far as is known. ignored: names of sums and buffers."""
    variables = parameters(seen, ignored)
    if not variables:
        return None
    covering = {}
    for site, runs in seen.runs.items():
        changing = [len(run.variables & variables) / len(variables) for run in runs if run.variables & variables]
        if changing and median(changing) >= LEAST_COVERED:
            covering[site] = [run for run in runs if run.variables & variables]
    if not covering:
        return None
    most = max(len(runs) for runs in covering.values())
    often = {
        site: runs for site, runs in covering.items() if len(runs) >= 0.9 * most - 1 and (most < 2 or len(runs) > 1)
    }
    outermost = min(often, key=lambda site: median(run.depth for run in often[site]))
    whole = often[outermost]
    products = median(run.products for run in whole)
    parts = {
        site for site, runs in seen.runs.items() if any(run.variables & variables for run in runs)
    } - covering.keys()
    outer_parts = (run for site in parts for run in seen.runs[site] if run.parent not in parts)
    changing_s = sum(run.spent_s for run in outer_parts if run.variables & variables)

    def work_s(site: int) -> float:
        return max(0.0, sum(run.spent_s for run in often[site]) - changing_s)

    def is_step(site: int) -> bool:
        runs = often[site]
        if products:
            return median(run.products for run in runs) >= LEAST_PRODUCTS * products
        return work_s(site) >= LEAST_WORK * work_s(outermost)

    found = max((site for site in often if is_step(site)), key=lambda site: median(run.depth for run in often[site]))
    return _loop_within(found, seen) if len(often[found]) == 1 else found


def is_certain(seen: Observations, ignored: set[str], step: int, open_calls: set[float]) -> bool:
    """Whether the step will not be another one when more of the program is seen.

    Before a second step has been seen, all that is changed again and again may be sums of gradients, or what passes
    through the layers. open_calls: the calls that still run, by their start; those that train do, those of layers end.
    """
    if not _lasting(seen, ignored, has_doubts=False):
        # Where nothing is changed from its own value at all, as new parameters made of old ones, turns that are many
        # show the step.
        return not _lasting(seen, ignored) and len(seen.runs[step]) >= MANY_STEPS and not _is_forward(seen, step)
    variables = parameters(seen, ignored)
    if any(variable[0] != NAME for variable in variables):
        return True
    return not _is_forward(seen, step) and all(variable[-1] in open_calls for variable in variables)


def _is_forward(seen: Observations, site: int) -> bool:
    """Whether its runs make products, but too few for both ways through a network."""
    return seen.has_products(site) and median(run.products for run in seen.runs[site]) < LEAST_BOTH_WAYS


def _loop_within(site: int, seen: Observations) -> int:
    """The innermost loop or call that does most products of something that ran once, in many turns; else the latter."""
    (whole,) = seen.runs[site][:1]
    repeated = [
        inner
        for inner, runs in seen.runs.items()
        if len(runs) >= MANY_TURNS and whole.products and _within(runs, whole) >= LEAST_PRODUCTS * whole.products
    ]
    return max(repeated, key=lambda inner: median(run.depth for run in seen.runs[inner]), default=site)


def _within(runs: list[Execution], whole: Execution) -> int:
    """The products of the executions that were within another one."""
    inner = (run for run in runs if whole.depth < run.depth and whole.start_s <= run.start_s <= whole.end_s)
    return sum(run.products for run in inner)


def parameters(seen: Observations, ignored: set[str]) -> set[Variable]:
    """Variables that are changed more than once; no sums, and none that is changed less often than the rest."""
    again = _lasting(seen, ignored)
    if not again:  # a single step
        again = {variable for variable in seen.times if not seen.is_number[variable]}
    kept = {variable for variable in again if not seen.is_number[variable]} or again
    return _frequent(_lived(kept, seen), seen)


def _lived(variables: set[Variable], seen: Observations) -> set[Variable]:
    """Without variables changed at other times than the one that is changed longest: data, or an earlier model."""
    longest = max(variables, key=lambda variable: seen.life_s[variable][1] - seen.life_s[variable][0], default=None)
    if longest is None:
        return variables
    first_s, last_s = seen.life_s[longest]

    def shared_s(variable: Variable) -> float:
        return min(last_s, seen.life_s[variable][1]) - max(first_s, seen.life_s[variable][0])

    return {variable for variable in variables if shared_s(variable) >= LEAST_LIFE * (last_s - first_s)}


def _frequent(variables: set[Variable], seen: Observations) -> set[Variable]:
    """Without variables that are changed less often than the rest, counted where most of them change together."""
    halves = [
        runs
        for runs in seen.runs.values()
        if variables and median(len(run.variables & variables) for run in runs) >= LEAST_TOGETHER * len(variables)
    ]
    if not halves:
        return variables
    runs = max(halves, key=len)
    times = {variable: sum(variable in run.variables for run in runs) for variable in variables}
    return {variable for variable in variables if times[variable] >= OFTEN * max(times.values())}


def _lasting(seen: Observations, ignored: set[str], *, has_doubts: bool = True) -> set[Variable]:
    """Variables changed in more than one turn of the outermost loop, or call, that runs repeatedly and takes long.

    ignored: names that are no parameters, if there are any others. has_doubts: whether variables that are likely to be
    no parameters are taken if there are no others.
    """
    again = {site: _changed_again(runs) for site, runs in seen.runs.items() if len(runs) > 1}
    frames: dict[Variable, int] = defaultdict(int)
    for variable in seen.times:
        frames[variable[:2]] += 1
    named = {variable for variable in seen.times if seen.name_of[variable] in ignored}
    passing = {variable for variable in seen.times if variable[0] == NAME and frames[variable[:2]] > FEW_FRAMES}
    doubts = (named | passing | seen.varying, named | passing, named, set[Variable]())
    for without in doubts if has_doubts else doubts[:1]:
        groups = {site: kept for site, found in again.items() if (kept := _whole(found, seen) - without)}
        if groups:
            return groups[_outermost(groups, seen)]
    return set()


def _whole(variables: set[Variable], seen: Observations) -> set[Variable]:
    """Without the other elements of an array whose first one is not among them: a loop has gone over it only once."""
    firsts = {(*one[:2], True) for one in variables if one[0] == ELEMENTS and not one[2]} & seen.times.keys()
    lonely = {(*one[:2], False) for one in firsts - variables}
    return variables - lonely


def _changed_again(runs: list[Execution]) -> set[Variable]:
    times: dict[Variable, int] = defaultdict(int)
    for run in runs:
        for variable in run.variables:
            times[variable] += 1
    return {variable for variable, count in times.items() if count > 1}


def _outermost(sites: Iterable[int], seen: Observations) -> int:
    """The outermost of those that take long; of those with products, if there are some."""
    spent_s = {site: seen.spent_s[site] for site in sites}
    with_products = {site: spent for site, spent in spent_s.items() if seen.has_products(site)}
    if max(with_products.values(), default=0.0) >= LEAST_WITH_PRODUCTS * max(spent_s.values()):
        spent_s = with_products
    least_s = LEAST_OF_LONGEST * max(spent_s.values())
    return min((site for site, spent in spent_s.items() if spent >= least_s), key=lambda site: seen.runs[site][0].depth)


NAMES_OF_PRODUCTS = frozenset(("dot", "matmul", "einsum", "tensordot", "inner", "outer", "vdot", "gemm"))

"""Functions that multiply matrices or vectors."""

ZEROS = frozenset(("zeros", "zeros_like"))
ITERATORS = frozenset(("zip", "enumerate", "reversed"))


def buffers(trees: dict[str, ast.Module]) -> set[str]:
    """Names that are overwritten, as z by ``np.dot(x, W, out=z)``; ``z += b`` does not make them parameters."""
    found = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                mentioned = {ast.unparse(one) for one in node.args}
                outs = [one.value for one in node.keywords if one.arg == "out"]
                found |= {last_name(out) for out in outs if ast.unparse(out) not in mentioned}
    return found - {""}


def growing_sums(trees: dict[str, ast.Module]) -> set[str]:
    """Names that start from zeros and are read only by updates, returns and calls of zip()."""
    zeroed: set[str] = set()
    read: set[str] = set()
    for tree in trees.values():
        updates = {id(one) for node in ast.walk(tree) if _is_update(node) for one in ast.walk(node)}
        updates |= {id(part) for one in ast.walk(tree) if _is_filled(one) for part in ast.walk(one)}
        updates -= {id(part) for node in ast.walk(tree) for one in _weights(node) for part in ast.walk(one)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                zeroed |= {last_name(target) for target in node.targets if _is_zero(node.value, target)}
            is_read = isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
            if is_read and id(node) not in updates:
                read.add(last_name(node))
        aliases = [pair for node in ast.walk(tree) for pair in _aliases(node)]
        zeroed |= {alias for alias, name in aliases if name in zeroed}
    return zeroed - read - {""}


def is_product(node: ast.AST) -> bool:
    """Whether it multiplies matrices or vectors."""
    match node:
        case ast.BinOp(op=ast.MatMult()):
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in NAMES_OF_PRODUCTS
    return False


def _weights(node: ast.AST) -> Iterator[ast.expr]:
    """`W` of ``x = W @ x + b``: what passes through the layers is multiplied by weights, and not by sums."""
    targets = {ast.unparse(target) for target in node.targets} if isinstance(node, ast.Assign) else set()
    for product in ast.walk(node) if targets else ():
        if not is_product(product):
            continue
        factors = [one for one in ast.iter_child_nodes(product) if isinstance(one, ast.expr)]
        others = [one for one in factors if targets.isdisjoint(map(ast.unparse, ast.walk(one)))]
        if len(others) < len(factors):
            yield from others


def _aliases(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(w, weights) of ``for w, dw in zip(weights, gradients)``."""
    if isinstance(node, ast.For | ast.comprehension):
        yield from ((last_name(target), last_name(source)) for target, source in items_of(node.target, node.iter))


def items_of(target: ast.expr, iterable: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The targets of a loop and what each is an item of, through `zip`, `enumerate` and `reversed`."""
    targets = target.elts if isinstance(target, ast.Tuple) else [target]
    sources = [iterable]
    while len(sources) == 1 and isinstance(sources[0], ast.Call) and last_name(sources[0].func) in ITERATORS:
        if last_name(sources[0].func) == "enumerate":
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


def _is_zero(node: ast.expr, target: ast.expr) -> bool:
    """Whether the target is made of zeros: ``np.zeros(3)``, or ``target[:, :] = 0``."""
    if isinstance(node, ast.Constant) and isinstance(target, ast.Subscript):
        parts = target.slice.elts if isinstance(target.slice, ast.Tuple) else [target.slice]
        whole = all(ast.unparse(part) in (":", "...") for part in parts)
        return whole and isinstance(node.value, int | float) and node.value == 0
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
    return any(isinstance(one.func, ast.Attribute | ast.Name) and last_name(one.func) in ZEROS for one in calls)


def last_name(node: ast.AST) -> str:
    """The last name in a chain: `W` for `W`, `self.W` and `self.W[l]`; empty where the end is not a name."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value):
            return last_name(value)
    return ""
