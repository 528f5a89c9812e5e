"""What is known about the code around the steps: what its expensive statements do, and findings in them.

The detectors that serve here look at the recording of one statement as they look at that of a step.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlpprof.advise.candidate import LIKELY, Candidate, around, by_hand, indices
from mlpprof.advise.cures.evaluation import ANSWERS_AT_ONCE, answers_before_the_loop, forward_before_the_loop
from mlpprof.advise.detect import neuron_loop, slow_primitive, storage
from mlpprof.advise.editing.cure import Cure
from mlpprof.advise.findings import finding_of, merge, of_one_cure
from mlpprof.advise.loops import PythonLoop, Words, candidates, header
from mlpprof.advise.one_hot import one_hot_loops
from mlpprof.advise.syntax import last_name
from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.programs.record.file_reads import FileRead
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import saved_share
from mlpprof.programs.record.surroundings import Watched
from mlpprof.programs.record.trace import Event, LoopRun
from mlpprof.results.advice import Finding
from mlpprof.results.place import Place
from mlpprof.results.program_time import ProgramTime, StatementTime

EXPENSIVE = 0.2
"""The report says what is known about a statement that takes this share of an epoch, or of the time before it."""

LONG_BEGINNING_S = 1.0
"""If the program reaches its training sooner, the report does not say what is known about the statements before it."""

LEAST_SHARE = 0.01
"""A finding around the steps must save this share of an epoch."""

LOOPS = (ast.For, ast.While, ast.ListComp, ast.GeneratorExp)

COUNTERS = frozenset(("range", "count", "trange"))
"""Functions that give the numbers of the turns of a loop."""

LONG_LIST = 256
"""Shuffling a shorter list, or joining its arrays, takes no time worth a finding."""

JOINING = frozenset(("array", "asarray", "stack", "vstack", "hstack", "concatenate", "column_stack", "row_stack"))
"""Functions that copy the arrays of a list into one array."""

LARGEST_OUTPUTS = (
    "If the answer is the largest output, `answers = np.argmax(outputs, axis=...)` gives it for every sample, and "
    "`np.mean(answers == labels)` is the accuracy."
)

ALL_AT_ONCE = (
    "put all samples into one array before the training, in rows or in columns as your network takes them, and call "
    f"the network once for all of them. {LARGEST_OUTPUTS}"
)


def with_knowledge(program: ProgramTime, watched: Sequence[Watched], graph: Graph) -> ProgramTime:
    """The program's time with what is known about the expensive statements."""
    recorded = {graph.place_of(graph.trace.sites[one.site]): one for one in watched}

    def known(statements: tuple[StatementTime, ...], whole_s: float, unit: str = "") -> tuple[StatementTime, ...]:
        return tuple(
            replace(
                one, does=" ".join(_does(one, recorded.get(one.place), graph, program.loop)) or _how_often(one, unit)
            )
            if one.seconds >= EXPENSIVE * whole_s > 0 and not (_is_around(one, program.loop) and _counts(one, graph))
            else one
            for one in statements
        )

    return replace(
        program,
        beginning=known(program.beginning, program.beginning_s)
        if program.beginning_s >= LONG_BEGINNING_S
        else program.beginning,
        statements=known(program.statements, program.unit_s, program.unit),
    )


def _counts(one: StatementTime, graph: Graph) -> bool:
    """Whether a statement is a loop over `range`, whose own time is only what Python takes to count."""
    match _statement_of(one, graph):
        case ast.For(iter=ast.Call(func=function)):
            return last_name(function) in COUNTERS
    return False


def _does(one: StatementTime, watched: Watched | None, graph: Graph, around: StatementTime | None) -> Iterator[str]:
    """Sentences about a statement: its loops as they were recorded, else those that its functions have.

    around: the loop around the steps.
    """
    if watched is not None and (runs := [run for run in watched.recorder.loops if not run.loops]):
        run = max(runs, key=lambda run: run.turns)
        if run.turns > 1:
            yield _of_loop(run, watched, graph)
            return
    if watched is not None and watched.recorder.events:
        calls = [event for event in watched.recorder.events if event.kind]
        if calls:
            yield f"It makes {len(calls)} operations on arrays of up to {_largest(calls)}."
            return
    yield from _of_source(one, graph, _is_around(one, around))


def _is_around(one: StatementTime, around: StatementTime | None) -> bool:
    """Whether a statement contains the steps, if it is a loop. Its own time is then only that of its header."""
    return one.times > 1 or (around is not None and one.place == around.place)


def _how_often(one: StatementTime, unit: str) -> str:
    """In how many executions it takes the time. unit: 'epoch' or 'step', if the time is that of one; else ''."""
    often = "once" if one.times == 1 else f"{one.times:,.0f} times"
    return f"It runs {often}{f' in every {unit}' if unit else ''}."


def _of_loop(run: LoopRun, watched: Watched, graph: Graph) -> str:
    site = graph.trace.sites[run.site]
    of_all = f" of {run.length:,}" if run.length > run.turns else ""
    text = f"It runs the loop in {graph.place(site)} (`{graph.line_text(site.file, site.line)[:60]}`), "
    text += f"{run.turns:,}{of_all} turns"
    depth = len(run.loops)
    turns = [
        [e for e in watched.recorder.events if e.kind and len(e.loops) > depth and e.loops[depth].turn == number]
        for number in range(1, run.recorded)
    ]
    work = next((turn for turn in turns if turn), [])
    if work:
        text += f". A turn makes {len(work)} operations on arrays of up to {_largest(work)}."
    else:
        text += " of Python without operations on arrays."
    if of_all:  # the program was ended in the middle
        text += f" All its turns take about {format_seconds(watched.seconds * run.length / run.turns)}."
    return text


def format_seconds(seconds: float) -> str:
    """With two digits: '3.3 s'."""
    return f"{seconds:.2g} s" if seconds < 100 else f"{seconds:,.0f} s"


def _largest(events: list[Event]) -> str:
    shapes = [value.shape for event in events for value in (*event.inputs, event.output) if value and value.is_array]
    return str(max(shapes, key=lambda shape: int(np.prod(shape)), default=()))


def _statement_of(one: StatementTime, graph: Graph) -> ast.stmt | None:
    """The statement in the source; of several on a line the one with the fewest lines."""
    trees = {graph.place_of_line(path, 1).file: (path, tree) for path, tree in graph.trees.items()}
    if one.file not in trees:
        return None
    path, tree = trees[one.file]
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.stmt))
    found = [node for node in statements if graph.place_of_line(path, node.lineno) == one.place]
    return min(found, key=lambda node: (node.end_lineno or node.lineno) - node.lineno, default=None)


def _of_source(one: StatementTime, graph: Graph, is_around: bool) -> Iterator[str]:
    """The loops of a statement, and of the functions of the program that it calls.

    is_around: if it is a loop, the steps run in it.
    """
    statement = _statement_of(one, graph)
    if statement is None:
        return
    if isinstance(statement, LOOPS):
        yield "This is what it takes to get the items of the loop." if is_around else "It is a loop in Python."
        return
    called = {last_name(node.func) for node in ast.walk(statement) if isinstance(node, ast.Call)} - {""}
    if graph.trace.step_text.rpartition(".")[2] in called:
        yield "This is what it does besides the step, for example to make the arguments of its call."
        return
    for path, tree in graph.trees.items():
        for function in ast.walk(tree) if not graph.is_ours(path) else ():
            if isinstance(function, ast.FunctionDef) and function.name in called:
                loops = [node for node in ast.walk(function) if isinstance(node, LOOPS)]
                has = f", which has a loop in line {graph.place_of_line(path, loops[0].lineno).line}" if loops else ""
                yield f"It calls `{function.name}` ({graph.place_of_line(path, function.lineno).text}){has}."


FoundAround = tuple[Finding, tuple[Cure, ...]]


def findings_around(program: ProgramTime, watched: Sequence[Watched], graph: Graph) -> list[FoundAround]:
    """What the detectors find in the recorded statements, the largest saving first, with the cures of each."""
    spent = {one.place: one for one in program.statements}
    found: dict[tuple[str, Place, int], FoundAround] = {}  # two statements may call the same function
    for one in watched:
        statement = spent.get(graph.place_of(graph.trace.sites[one.site]))
        has_events = one.recorder.steps and one.recorder.events
        if statement is None or not has_events or statement.seconds < LEAST_SHARE * program.unit_s:
            continue
        inner = Graph(one.trace(graph.trace, statement.seconds / statement.times))
        for candidate in merge(_candidates(inner)):
            finding = _finding(candidate, inner, statement.times, program)
            if sum(finding.payoff_share) / 2 >= LEAST_SHARE:
                found.setdefault((finding.category, finding.place, finding.column), (finding, candidate.cures))
    steps = program.planned or program.steps
    for candidate in of_one_cure(storage.around_the_step(graph, lambda read: _statement_s(read, spent, graph) / steps)):
        finding = _finding(candidate, graph, steps, program)
        if sum(finding.payoff_share) / 2 >= LEAST_SHARE:
            found[finding.category, finding.place, finding.column] = finding, candidate.cures
    return sorted(found.values(), key=lambda one: -sum(one[0].payoff_s))


def _statement_s(read: FileRead, spent: Mapping[Place, StatementTime], graph: Graph) -> float:
    """Seconds of the innermost statement around the steps that makes a read; of all where that is not known."""
    file, line, *_ = read.place
    tree = graph.trees.get(file)
    around = [
        one
        for one in (ast.walk(tree) if tree is not None else ())
        if isinstance(one, ast.stmt) and one.lineno <= line <= (one.end_lineno or one.lineno)
    ]
    places = [graph.place_of_line(file, one.lineno) for one in sorted(around, key=lambda one: -one.lineno)]
    known = (spent[place].seconds for place in places if place in spent)
    return next(known, sum(one.seconds for one in spent.values()))


def _finding(one: Candidate, graph: Graph, times: float, program: ProgramTime) -> Finding:
    """The finding in words for code that is not in the step."""
    evidence = {("executions" if key == "times_per_step" else key): value for key, value in one.evidence.items()}
    plain = replace(
        one,
        evidence=evidence,
        measured=one.measured.replace("in the step", "where it stands").replace("of the step", "of the program"),
    )
    found = finding_of(plain, graph)
    low_s, high_s = (times * seconds for seconds in found.payoff_s)
    return replace(
        found,
        payoff_s=(low_s, high_s),
        payoff_share=(min(1.0, low_s / program.unit_s), min(1.0, high_s / program.unit_s)),
        outside=True,
        per=program.unit,
    )


def _candidates(graph: Graph) -> list[Candidate]:
    one_hot = list(one_hot_loops(graph))
    loops = [*candidates(graph, "sample-loop", _words), *neuron_loop.detect(graph)]
    return [
        *one_hot,
        *(loop for loop in loops if all(loop.site != known.site for known in one_hot)),
        *slow_primitive.detect(graph),
        *(candidate for event in graph.turn for candidate in _shuffled_list(event, graph)),
        *(candidate for event in graph.turn for candidate in _joined_arrays(event, graph)),
    ]


def _words(loop: PythonLoop, graph: Graph) -> Words:
    title = f"`{header(loop, graph)}` takes the {loop.longest.turns:,} samples one by one"
    if not any(event.kind == PRODUCT for turn in loop.turns for event in turn):
        answers = answers_before_the_loop(loop, graph)
        return Words(
            title=title,
            why="For every sample, Python calls the NumPy functions again. One call can process all samples.",
            cure=ANSWERS_AT_ONCE
            if answers
            else by_hand(
                f"replace the loop in {graph.place(loop.site)} by operations on the arrays of all samples. "
                f"{LARGEST_OUTPUTS}"
            ),
            cures=answers,
        )
    cures = forward_before_the_loop(loop, graph)
    return Words(
        title=title,
        why="For every sample, Python calls all the NumPy functions again, and NumPy reads all the weights again. One "
        "matrix product can process all samples.",
        cure="Call the network once for all samples before the loop, and let the loop go over its outputs."
        if cures
        else by_hand(f"replace the loop in {graph.place(loop.site)}: {ALL_AT_ONCE}"),
        cures=cures,
    )


def _shuffled_list(event: Event, graph: Graph) -> Iterator[Candidate]:
    """A shuffle that moves the items of a list one by one."""
    held: Any = event.operands[0] if event.operands else None
    if event.name != "shuffle" or not isinstance(held, list) or len(held) < LONG_LIST:
        return
    copy, rng = list(held), np.random.default_rng(0)
    share = saved_share(lambda: random.shuffle(copy), lambda: rng.permutation(len(copy)))
    seconds = graph.seconds([event])
    if share[0] > 0:
        yield Candidate(
            category="gather",
            site=graph.site(event),
            title=f"`{graph.text(event, 50)}` moves {len(held):,} items of a list one by one",
            why="Python exchanges the items of a list one after the other. NumPy draws a permutation of indices in "
            "compiled code.",
            cure=by_hand(
                f"keep the samples in arrays, and replace the shuffle in {graph.place(graph.site(event))}: draw "
                "`order = rng.permutation(n)` once per epoch, and let each batch take the rows of its part of `order`.",
                "The order differs from now for the same seed, but it is as random.",
            ),
            saved_s=(max(0.0, share[0]) * seconds, share[1] * seconds),
            measured="the shuffle and a permutation of as many indices performed alternately",
            confidence=LIKELY,
            covers=indices([event]),
            evidence={"items": len(held)},
        )


def _joined_arrays(event: Event, graph: Graph) -> Iterator[Candidate]:
    """An array that is made of the arrays of a list: the samples could lie in one array from the beginning."""
    held: Any = event.operands[0] if event.operands else None
    if event.is_own or event.name not in JOINING or not isinstance(held, list | tuple) or len(held) < LONG_LIST:
        return
    if not all(isinstance(one, np.ndarray) for one in held):
        return
    place = graph.place(graph.site(event))
    yield Candidate(
        category="slow-primitive",
        site=graph.site(event),
        title=f"`{graph.text(event, 50)}` copies {len(held):,} arrays of a list into one array",
        why="NumPy looks at every array of the list on its own, and copies it.",
        cure=by_hand(
            f"make the array of {place} once, before the training, and keep the samples in it. Rows of an array are "
            "views, so a list of samples is not needed.",
            "If the list is in another order in every epoch, take the rows by an array of indices.",
        ),
        saved_s=around(graph.seconds([event])),
        measured="the time of the call where it stands",
        confidence=LIKELY,
        covers=indices([event]),
        evidence={"arrays": len(held)},
    )
