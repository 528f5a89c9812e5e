"""Double precision where single precision would do: everywhere, or from one accidental conversion."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np

from mlpprof.advise.bindings import called
from mlpprof.advise.candidate import CERTAIN, LIKELY, SMALL, Candidate, by_hand, facts, indices, total
from mlpprof.advise.cures.float64 import InSingle, in_float32
from mlpprof.advise.syntax import numpy_name
from mlpprof.instrument.numpy_costs import FILL
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.arrays import Value
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import again, of_time, saved_share, seconds_of
from mlpprof.programs.record.trace import Event
from mlpprof.programs.step_place import functions

RANDOM = frozenset(("randn", "rand", "standard_normal", "normal", "uniform"))
"""Functions that programs make weights with."""

MAKERS_OF_FLOAT64 = RANDOM | frozenset(
    (
        *("random", "random_sample", "zeros", "ones"),
        *("array", "asarray", "astype", "linspace", "genfromtxt", "loadtxt", "normalvariate"),
    )
)
"""Functions that make weights or data of float64 unless you ask for another dtype."""

SCALARS = frozenset(("sqrt", "log", "exp", "power", "float64"))
"""Functions that turn a number into a np.float64. An array of float32 multiplied by that becomes float64."""

WITH_DTYPE = frozenset(("zeros", "ones", "array", "asarray", "full", "empty", "linspace"))
"""Functions that take `dtype=`."""

KEEPING = frozenset(("append", "extend", "insert"))
"""Methods of lists that keep their argument, as an assignment does."""

FROM_DATA = frozenset(("array", "asarray", "asanyarray", "ascontiguousarray", "loadtxt", "genfromtxt", "load"))
"""Functions whose result has the dtype of their argument."""

DOUBLES = frozenset(("float", "np.float64", "numpy.float64", "'float64'", "np.double"))
"""Ways to write the dtype float64."""

MOST_PLACES, LONGEST_TEXT = 6, 160
"""A cure names no more places, and shows no longer statements (in characters)."""

Statement = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return | ast.Expr


def sources(graph: Graph) -> Iterator[Site]:
    """Statements in the program's own files that make weights or data of float64, weights first."""
    step = {graph.site(e).line for e in graph.last if graph.site(e).file == graph.trace.step_file}
    ranked: list[tuple[bool, bool, Site]] = []
    own = graph.trace.step_file
    loaded = {name for path, tree in graph.trees.items() if not graph.is_ours(path) for name in _loaded(tree)}
    for path, tree in graph.trees.items():
        if graph.is_ours(path):
            continue
        unused = _unused_lines(tree, loaded)
        for node in ast.walk(tree):
            value = _kept(node)
            if value is None or not isinstance(node, Statement):
                continue
            end = node.end_lineno or node.lineno
            site = Site(path, node.lineno, node.col_offset, None, end, node.end_col_offset or 0)
            if ast.unparse(value) in DOUBLES and path == own:  # other code may read it, as the DTYPE of a variant
                ranked.append((False, False, site))
                continue
            if node.lineno in unused:
                continue
            if (path == own and node.lineno in step) or isinstance(value, ast.Compare) or _is_unread(node, loaded):
                continue
            calls = [one for one in ast.walk(value) if isinstance(one, ast.Call)]
            names = {called(one) for one in calls if not _is_empty(one) and not _is_of_program(one, graph)}
            has_dtype = any(isinstance(one, ast.keyword) and one.arg == "dtype" for one in ast.walk(value)) or any(
                called(one) in ("zeros", "ones", "empty") and len(one.args) > 1 for one in calls
            )
            is_single = has_dtype or "astype" in names or "float32" in ast.unparse(value)
            # np.sqrt(2 / n) is a float64, and an array of float32 times it as well
            if names & MAKERS_OF_FLOAT64 and (not is_single or names & SCALARS):
                ranked.append((not names & RANDOM, _is_forward(tree, node.lineno), site))
    yield from (one[2] for one in sorted(ranked, key=lambda one: (one[0], one[1], one[2].file != own, one[2].line)))


def cure(places: Sequence[Site], others: Sequence[str], graph: Graph) -> str:
    """The cure in words, for all places together, because changing one alone saves nothing.

    others: sentences on what else is float64.
    """
    sentences = []
    for site in places[:MOST_PLACES]:
        written = in_single(site, graph)
        what = f"write `{written}`" if written is not None else "create float32 in place of float64"
        sentences.append(f"In {graph.place(site)}, {what}.")
    if len(places) > MOST_PLACES:
        sentences.append(f"There are {len(places) - MOST_PLACES} more such places.")
    return by_hand(
        "make every array of the step float32 where you create it. If one operand stays float64, the results are "
        "float64 again and nothing is saved.",
        *sentences,
        *others,
        "Check the dtype of the parameters and of the data after a step, and the accuracy after the training.",
    )


def in_single(site: Site, graph: Graph) -> str | None:
    """The statement at a place in float32; None where it is not certain how that is written."""
    found = [
        node
        for node in ast.walk(graph.trees[site.file])
        if isinstance(node, Statement) and node.lineno <= site.line <= (node.end_lineno or node.lineno)
    ]
    if not found:
        return None
    changed = copy.deepcopy(min(found, key=lambda node: (node.end_lineno or node.lineno) - node.lineno))
    single = _single_name(site.file, graph)
    match changed:
        case ast.Assign(value=ast.Tuple(elts=parts)) if not all(map(_is_of_floats, parts)):
            return None  # others may be labels or indices
        case ast.Expr(value=ast.Call(args=[*_, last]) as call) if _is_keeping(call):
            value = _single_statement(last, single, graph)
            if value is None:
                return None
            call.args[-1] = value
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Return():
            value = _single_statement(changed.value, single, graph) if changed.value is not None else None
            if value is None:
                return None
            changed.value = value
        case _:
            return None
    text = ast.unparse(ast.fix_missing_locations(changed))
    return text if len(text) <= LONGEST_TEXT else None


def _single_name(file: str, graph: Graph) -> ast.expr:
    """float32 as the file can say it: by its name for NumPy, or by the name of the dtype."""
    name = numpy_name(file, graph)
    return ast.Constant("float32") if name is None else ast.Attribute(ast.Name(name, ast.Load()), "float32", ast.Load())


def _single_statement(value: ast.expr, single: ast.expr, graph: Graph) -> ast.expr | None:
    """The expression with its arrays as float32: by the dtype that it asks for, or by a cast.

    None if the expression may not be an array, for instance a dictionary that a function returns.
    """

    def each(parts: list[ast.expr]) -> list[ast.expr] | None:
        made = [_single_statement(one, single, graph) if _makes(one) else one for one in parts]
        return None if None in made else [one for one in made if one is not None]

    if ast.unparse(value) in DOUBLES:
        return single
    match value:
        case ast.List() | ast.Tuple():
            elements = each(value.elts)
            return None if elements is None else type(value)(elements, ast.Load())
        case ast.Dict(keys=keys):
            values = each(value.values)
            return None if values is None else ast.Dict(keys, values)
        case ast.IfExp(test=test):
            sides = each([value.body, value.orelse])
            return None if sides is None else ast.IfExp(test, *sides)
        case ast.ListComp() | ast.GeneratorExp():
            element = _single_statement(value.elt, single, graph)
            return None if element is None else type(value)(element, value.generators)
        case ast.DictComp():
            element = _single_statement(value.value, single, graph)
            return None if element is None else ast.DictComp(value.key, element, value.generators)
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[ast.GeneratorExp() as inner]):
            element = _single_statement(inner, single, graph)
            return None if element is None else ast.Call(value.func, [element], [])
        case ast.Call() if _is_of_program(value, graph):
            arguments = each(value.args) if any(map(_makes, value.args)) else None
            return None if arguments is None else ast.Call(value.func, arguments, value.keywords)
        case ast.Call(keywords=keywords) if any(one.arg == "dtype" for one in keywords):
            return ast.Call(
                value.func,
                value.args,
                [ast.keyword("dtype", single) if one.arg == "dtype" else one for one in keywords],
            )
        case ast.Call(func=ast.Attribute(attr="astype"), args=[_, *rest]):
            return ast.Call(value.func, [single, *rest], value.keywords)
        case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name), args=[_]) if (
            name in WITH_DTYPE and isinstance(single, ast.Attribute) and ast.unparse(single.value) == module
        ):
            return ast.Call(value.func, value.args, [*value.keywords, ast.keyword("dtype", single)])
        case ast.Call(func=ast.Name(id="dict" | "list" | "tuple" | "zip" | "map" | "OrderedDict" | "defaultdict")):
            return None
        case ast.Call(func=ast.Attribute(attr="load")):
            return None  # a file of several arrays, or integers
        case ast.BinOp() | ast.Call() | ast.Subscript() | ast.Attribute() | ast.UnaryOp():
            return ast.Call(ast.Attribute(value, "astype", ast.Load()), [single], [])
    return None


def _is_of_floats(node: ast.expr) -> bool:
    """Whether an expression certainly makes floating-point numbers, or no array."""
    names = {called(one) for one in ast.walk(node) if isinstance(one, ast.Call)}
    return not names & FROM_DATA and not any(
        isinstance(one, ast.keyword) and one.arg == "dtype" for one in ast.walk(node)
    )


def _makes(node: ast.expr) -> bool:
    return any(isinstance(one, ast.Call) and called(one) in MAKERS_OF_FLOAT64 for one in ast.walk(node))


def _kept(node: ast.AST) -> ast.expr | None:
    """What a statement puts somewhere."""
    match node:
        case ast.Assign(value=value) | ast.AnnAssign(value=value) | ast.Return(value=value):
            return value
        case ast.Expr(value=ast.Call(args=[*_, last]) as call) if _is_keeping(call):
            return last
    return None


def _is_keeping(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in KEEPING


def _is_of_program(call: ast.Call, graph: Graph) -> bool:
    """Whether a call calls something that the program defines, even if NumPy has the name as well."""
    match call.func:
        case ast.Attribute(value=ast.Name(id="self" | "cls")):
            return True
        case ast.Name(id=name):
            kinds = ast.FunctionDef | ast.ClassDef
            return any(
                isinstance(node, kinds) and node.name == name
                for tree in graph.trees.values()
                for node in ast.walk(tree)
            )
    return False


def _is_empty(call: ast.Call) -> bool:
    """``np.array([])``, a place holder."""
    return bool(call.args) and isinstance(call.args[0], ast.List | ast.Tuple) and not call.args[0].elts


def _loaded(tree: ast.Module) -> Iterator[str]:
    """The names that a file reads."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name, ctx=ast.Load()):
                yield name
            case ast.ImportFrom(names=names):  # under another name, which is read
                yield from (one.name for one in names if one.asname is not None)


def _is_unread(node: Statement, loaded: set[str]) -> bool:
    """Whether a statement only sets names that nothing reads."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return all(isinstance(one, ast.Name) and one.id not in loaded for one in targets)


def _unused_lines(tree: ast.Module, loaded: set[str]) -> set[int]:
    """The lines of functions and classes that nothing mentions, so that they never run."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and node.name not in loaded
        and not (node.name.startswith("__") or node.decorator_list)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def _is_forward(tree: ast.Module, line: int) -> bool:
    """Whether a line is in a function that uses weights, and does not make them."""
    names = {name.rpartition(".")[2] for name, node in functions(tree) if node.lineno <= line <= (node.end_lineno or 0)}
    return any(name.startswith(("forward", "backward", "predict", "train", "__call__")) for name in names)


MOST_REPLAYS = 24
"""No more operations are performed again in both precisions; the others are assumed to save as much."""

LEAST_FAULTS, LEAST_FAULTING_BYTES = 20, 128 * 1024
"""If a step has so many page faults, the system provides new memory for arrays of at least so many bytes."""

MOST_RELATED = 6
"""A finding names no more other places."""


def detect(graph: Graph) -> list[Candidate]:
    """One candidate, at the place where float64 comes from."""
    doubles = [e for e in graph.last if e.kind and e.kind != FILL and _is_double(e) and not e.is_own]
    if not doubles:
        return []
    timed = sorted(filter(_is_large, doubles), key=lambda e: -graph.seconds([e]))
    if not timed:
        return []
    replayed = timed[:MOST_REPLAYS]
    parts = []
    faulted = bool(graph.trace.times.faults) and median(graph.trace.times.faults) >= LEAST_FAULTS
    for event in replayed:
        slow, fast = again(event), again(event, _single)
        if slow is not None and fast is not None:
            seconds = graph.seconds([event])
            low, high = of_time(saved_share(slow, fast), seconds)
            if faulted and event.output is not None and event.output.nbytes >= LEAST_FAULTING_BYTES:
                # The rest of the time goes into new pages. Arrays of half the size need half of them, or none.
                high = max(high, seconds - seconds_of(fast))
                low = max(low, (low + high) / 2)
            parts.append((low, high))
    saved = total(parts)
    rest = graph.seconds(timed[MOST_REPLAYS:])
    done = graph.seconds(replayed)
    factor = (1 + rest / done if done else 1.0) * graph.unclocked  # what is freed is smaller as well
    first = next((e for e in graph.last if _makes_double(e)), doubles[0])
    is_source = not _has_double_weights(graph) and (_is_upcast(first) or first.kind == FILL)
    upcast = first if is_source else None
    edited = in_float32(graph)
    places = list(edited.places if edited is not None else sources(graph))  # those that make weights come first
    head = upcast or timed[0]
    if upcast is not None and _is_made_here(upcast, graph):
        site = graph.site(upcast)
    else:
        site = next(iter(places), graph.site(head))
    title = f"the step {graph.step_name} computes in float64"
    if upcast is not None:
        flaw = "makes an array of float64" if upcast.kind == FILL else "turns float32 into float64"
        title = f"`{graph.text(upcast, 50)}` {flaw}"
    return [
        Candidate(
            category="float64",
            site=site,
            title=title,
            why="float32 is precise enough for training. It halves the memory traffic and doubles the numbers per CPU "
            "instruction. If one operand is float64, NumPy converts the result to float64, so you must change all of "
            "them." + (f" Here `{graph.text(upcast)}` makes the first float64." if upcast else ""),
            cure=_edited(edited)
            if edited is not None
            else cure([site, *(place for place in places if place != site)], list(_also_double(site, graph)), graph),
            cures=(edited.cure,) if edited is not None else (),
            saved_s=(saved[0] * factor, saved[1] * factor),
            measured=f"{len(replayed)} operations performed again in both precisions on their own operands",
            confidence=CERTAIN if upcast is not None else LIKELY,
            covers=indices([head]),
            related=tuple(place for place in (*places, graph.site(timed[0])) if place is not site)[:MOST_RELATED],
            evidence=facts(head, len(doubles)),
        )
    ]


def _edited(edited: InSingle) -> str:
    number = len(edited.places)
    where = "the one place where the program makes" if number == 1 else f"the {number} places where the program makes"
    return (
        f"Make float32 in {where} the float64 that the step reads or computes. The results differ by the rounding of "
        "float32, so check the accuracy after the training."
    )


def _also_double(reported: Site, graph: Graph) -> Iterator[str]:
    """Sentences on other places where the step makes float64, and on data of float64 that it reads."""
    made: dict[int, Event] = {}
    data: dict[int, tuple[Event, Value]] = {}
    for event in graph.turn:
        doubles = [value for value in event.inputs if value.is_array and value.dtype == "float64"]
        if (
            _makes_double(event)
            and not doubles
            and not _is_asked_for(event)
            and graph.site(event).line != reported.line
        ):
            made.setdefault(event.site, event)
        for value in doubles:
            if value.size >= SMALL and value.root not in graph.parameters:
                data.setdefault(value.root, (event, value))
    for event in made.values():
        yield f"In {graph.place(graph.site(event))}, `{graph.text(event, 50)}` makes float64 in every step."
    for root, (event, value) in data.items():
        if not graph.makers(root, event.index):
            yield (
                f"{graph.place(graph.site(event))} reads float64 data of shape {value.shape}. Make them float32 where "
                "you load them, if none of the changes above does."
            )


def _is_asked_for(event: Event) -> bool:
    """Whether an array is made with a dtype that the program asks for."""
    has_dtype = "dtype" in event.options or (event.name in ("zeros", "ones", "empty") and len(event.operands) > 1)
    return has_dtype or event.name.endswith("_like")


def _is_made_here(upcast: Event, graph: Graph) -> bool:
    """Whether the float64 of an operation is a number or an array of this step, and not a weight or the data."""
    doubles = [value for value in upcast.inputs if value.is_array and value.dtype == "float64"]
    return not doubles or any(graph.makers(value.root, upcast.index) for value in doubles)


def _is_double(event: Event) -> bool:
    values = (*event.inputs, *([event.output] if event.output is not None else []))
    return any(value.is_array and value.dtype == "float64" and value.size > 1 for value in values)


def _is_large(event: Event) -> bool:
    """Whether an array of it has so many elements that their size matters."""
    values = (*event.inputs, *([event.output] if event.output is not None else []))
    return max(value.size for value in values if value.is_array) >= SMALL


def _has_double_weights(graph: Graph) -> bool:
    return any(
        value.dtype == "float64" and value.size > 1 and value.root in graph.parameters
        for event in graph.last
        for value in event.inputs
    )


def _makes_double(event: Event) -> bool:
    """Whether its result is a new float64 array with more than one element."""
    output = event.output
    is_double = output is not None and output.is_array and output.dtype == "float64" and output.size > 1
    return is_double and bool(event.kind) and not event.is_own and not event.is_view


def _is_upcast(event: Event) -> bool:
    """Whether the result is float64 although an operand is float32."""
    large = [value for value in event.inputs if value.is_array and value.dtype.startswith("float")]
    output = event.output
    is_double = output is not None and output.is_array and output.dtype == "float64"
    return is_double and bool(large) and any(value.dtype == "float32" for value in large) and event.name != "astype"


def _single(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype != np.float64:
        return array
    order: Any = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return array.astype(np.float32, order=order)
