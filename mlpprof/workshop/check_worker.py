"""The worker process of a check. It runs the learner's code, and finds out if it is correct and how it is built."""

from __future__ import annotations

import ast
import io
import re
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

import numpy as np

from mlpprof import catalog
from mlpprof.errors import VariantCrash
from mlpprof.instrument.counts import TooManyOperations
from mlpprof.model import Network, Variant
from mlpprof.model.gradcheck import Case, Deviation, deviations, random_case
from mlpprof.process import Progress, serve
from mlpprof.profile.check import ORACLE
from mlpprof.profile.counting import count_network
from mlpprof.results.json import Message, decode
from mlpprof.workshop.fair_play import changed_clock, foreign_import, intact_clocks
from mlpprof.workshop.python_loops import count_instructions, loop_over_samples
from mlpprof.workshop.right_numbers import (
    DIAGNOSED_SAMPLES,
    DIFFERENCE_OF_FLOAT32,
    ONLY_SINGLE,
    agrees,
    diagnose,
    diagnosed_case,
)
from mlpprof.workshop.right_structure import (
    FLOAT64_ARRAYS,
    LARGE,
    SAMPLE_LOOPS,
    SMALL,
    VARIANT,
    Broken,
    Counts,
    broken_by_loop,
    broken_fact,
    fact_text,
    facts_for,
    mixed_orders,
    number_of,
)

MODULE = "mlpprof.workshop.check_worker"
SHAPES = (((6, 4, 3), 1), ((3, 3, 3, 3), 5), ((7, 1, 2), 3), ((4, 2), 6), ((5, 4, 4, 2, 3), 8), ((8, 5, 6, 4), 2))
"""A learner's MLP is checked with these layers and batch sizes, and the activations of the workshop's network."""
OTHER_ON_OWN_NETWORK = (
    "the results are right on small networks, but wrong on the network that the race uses. Does the code do something "
    "else for a certain number of layers, neurons or samples?"
)
SHARED_STATE = (
    "the first object of the class computes correct results, but the next one does not, so the objects share an array "
    "or a list. Make each of them in __init__, and not in the class or as the default of an argument"
)
NARROW = re.compile(r"float32|float16|f4|f2|s(gemm|gemv|ger|syrk|axpy|dot|scal)")
"""The names of precisions below float64, and of routines of BLAS in single precision."""
SHAPE_WORDS = ("matmul", "shapes", "broadcast", "mismatch", "dimension", "aligned")


def examine(
    report: Progress, file: str, network: Message, batch: int, at_most: dict[str, int], is_solved: bool = True
) -> Message:
    """Find out whether the MLP of a file is correct, and which structural fact it does not satisfy.

    batch: the batch size that the race will use. at_most: the limits of the exercise, see `right_structure`. is_solved:
    whether the exercise is to be solved with NumPy. The answer has "wrong" (None or what is wrong), "networks" (how
    many were tried), "broken" (None or a fact), "mixed" (statements that mix memory orders), "prints" (None or a line
    of the step that prints) and "uncounted". Raises VariantError if the file cannot be loaded.
    """
    entry = catalog.find(file)
    own = decode(Network, network)
    answer: Message = {"wrong": None, "networks": len(SHAPES), "broken": None, "mixed": [], "uncounted": []}
    answer["prints"] = None
    answer["wrong"] = foreign_import(entry.source(), entry.path.name, not is_solved)
    if answer["wrong"] is not None:
        return answer
    report("loading my_mlp.py", 0.0)
    with intact_clocks() as clocks:
        cls = catalog.load(entry)
        answer["wrong"] = _what_is_wrong(entry, cls, own, batch, report)
        if answer["wrong"] == ONLY_SINGLE and (line := narrowing_line(entry.source())) is not None:
            answer["wrong"] += f". Look at {entry.path.name}:{line}"
        patched = changed_clock(clocks, entry.source(), entry.path.name)
    answer["wrong"] = patched or answer["wrong"]
    if answer["wrong"] is not None:
        return answer
    report("counting", 0.8)
    prints = Prints(str(entry.path))
    with redirect_stdout(prints), redirect_stderr(prints):
        broken = _loop(entry, cls, own) if SAMPLE_LOOPS in at_most else None
        if broken is None and at_most.get(FLOAT64_ARRAYS) == 0 and np.dtype(cls.DTYPE) != np.float32:
            what = f"DTYPE is {np.dtype(cls.DTYPE).name}"
            advice = "Set DTYPE = np.float32 in the class. The data and the weights then arrive in single precision"
            broken = Broken(fact_text(FLOAT64_ARRAYS, 0), _line_of(entry, "DTYPE"), what, advice)
        if broken is None:
            broken, answer["mixed"], answer["uncounted"] = _counted(entry, own, at_most)
    answer["prints"] = prints.line
    if broken is not None:
        answer["broken"] = asdict(broken)
    return answer


class Prints(io.TextIOBase):
    """A stream that drops what is printed, and remembers the first line of a file that prints in a training step."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.line: int | None = None

    def write(self, text: str) -> int:
        frame: FrameType | None = sys._getframe(1)
        line, in_step = None, False
        while frame is not None:
            if frame.f_code.co_filename == self._file:
                line = line or frame.f_lineno
                in_step |= frame.f_code.co_name == "train_step"
            frame = frame.f_back
        if in_step and self.line is None:
            self.line = line
        return len(text)


def _what_is_wrong(entry: catalog.Entry, cls: type[Variant], own: Network, batch: int, report: Progress) -> str | None:
    reference = catalog.load(catalog.ladder()[ORACLE])
    worst: str | None = None
    try:
        for i, (layers, m) in enumerate(SHAPES):
            report("checking gradients", 0.1 + 0.6 * i / len(SHAPES))
            case = _case(own, layers, m, seed=i)
            with catalog.variant_code(entry):
                found = max(deviations(cls, reference, case), key=lambda deviation: deviation.severity)
            if found.severity > 1:
                worst = _deviates(found, case)
                break
    except VariantCrash as crash:
        worst = _with_shapes(str(crash))
    try:
        if worst is None:
            with catalog.variant_code(entry):
                small = diagnosed_case(own).network
                if not all(agrees(cls, small, DIAGNOSED_SAMPLES) for _ in range(2)):
                    return SHARED_STATE
                return None if agrees(cls, own, batch) else OTHER_ON_OWN_NETWORK
        if _is_right_at(batch, entry, cls, own) and not _is_right_at(DIAGNOSED_SAMPLES, entry, cls, own):
            return (
                f"the results are right for a batch of {batch} samples, but not for one of {DIAGNOSED_SAMPLES}, so the "
                f"code depends on the batch size. Is {batch} written into it, or does it keep an array of that size? "
                "Use the number of samples in the batch, len(index)"
            )
        with catalog.variant_code(entry):
            return diagnose(cls, own) or worst
    except VariantCrash as crash:
        return _with_shapes(str(crash))


def _is_right_at(m: int, entry: catalog.Entry, cls: type[Variant], own: Network) -> bool:
    """Return whether a small network trains right with batches of m samples; code that crashes does not."""
    try:
        with catalog.variant_code(entry):
            return agrees(cls, diagnosed_case(own).network, m)
    except VariantCrash:
        return False


def _deviates(found: Deviation, case: Case) -> str:
    """Return the message for a case in which the diagnosis finds nothing."""
    if found.size < DIFFERENCE_OF_FLOAT32 and not found.what.startswith("float32"):
        return ONLY_SINGLE
    layer = "" if found.layer is None else f"layer {found.layer}: "
    allowed = f"at most {found.tolerance:.0e} is allowed"
    return f"{layer}{found.what} differ from the correct values by {found.size:.1e}; {allowed} ({case.text})"


def _case(own: Network, layers: tuple[int, ...], m: int, seed: int) -> Case:
    """Return a random case for the workshop's network; momentum and penalty are large enough to matter."""
    return random_case(replace(own, layers=layers, rate=0.1, momentum=0.9, l2=0.05), m, seed)


def narrowing_line(source: str) -> int | None:
    """Return the first line that names a precision below float64, or a routine of BLAS for one; None without any.

    The statement that sets DTYPE does not count, because the check replaces its value.
    """
    lines = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute | ast.Name | ast.Constant):
            words = (getattr(node, "attr", ""), getattr(node, "id", ""), getattr(node, "value", ""))
            if any(isinstance(word, str) and NARROW.fullmatch(word) for word in words):
                lines.add(node.lineno)
    text = source.splitlines()
    return min((line for line in lines if not text[line - 1].strip().startswith("DTYPE")), default=None)


def _with_shapes(message: str) -> str:
    """Return the message of a crash, and add the correct shapes if it seems to be about shapes."""
    if any(word in message for word in SHAPE_WORDS):
        message += (
            ". If every sample is a column, the correct shapes are: W[l] (n_l, n_{l-1}) without its column of biases; "
            "A[l], Z[l] and delta[l] (n_l, m). Forward computes W[l] @ A[l - 1], backward computes "
            "W[l + 1].T @ delta[l + 1], and the gradient is delta[l] @ A[l - 1].T. Is a W transposed that should not "
            "be, or is a .T missing?"
        )
    return message


def _loop(entry: catalog.Entry, cls: type[Variant], own: Network) -> Broken | None:
    """Return what is wrong if a step has a Python loop over samples."""
    small, large = (count_instructions(entry, cls, own, m) for m in (SMALL, LARGE))
    loop = loop_over_samples(small, large, LARGE - SMALL, entry.source())
    return None if loop is None else broken_by_loop(loop, _function_at(entry, loop.line))


def _counted(
    entry: catalog.Entry, own: Network, at_most: dict[str, int]
) -> tuple[Broken | None, list[tuple[int, str]], list[str]]:
    """Count a step; returns the first fact that is not satisfied, mixed memory orders, and what was not counted."""
    try:
        with catalog.variant_code(entry):
            operations, uncounted = count_network(entry, own, LARGE)
    except TooManyOperations as reason:
        if not at_most:  # a loop over samples is allowed
            return None, [], [str(reason)]
        advice = "Use matrix products in place of loops over neurons"
        name = SAMPLE_LOOPS if SAMPLE_LOOPS in at_most else next(iter(at_most))
        return Broken(fact_text(name, at_most[name]), _line_of(entry, "forward"), str(reason), advice), [], []
    counts = Counts(own, operations)
    return (
        broken_fact(counts, at_most),
        mixed_orders(counts),
        list(uncounted),
    )


def _function_at(entry: catalog.Entry, line: int) -> str:
    """Return the name of the function of the file that a line is in; empty if it is in none."""
    functions = [node for node in ast.walk(ast.parse(entry.source())) if isinstance(node, ast.FunctionDef)]
    around = [node for node in functions if node.lineno <= line <= (node.end_lineno or node.lineno)]
    return max(around, key=lambda node: node.lineno).name if around else ""


def _line_of(entry: catalog.Entry, name: str) -> int:
    """Return the first line that defines a name, or 1 if there is none."""
    lines = Path(entry.path).read_text(encoding="utf-8").splitlines()
    starts = (f"{name} =", f"{name}:", f"def {name}(")
    return next((i for i, line in enumerate(lines, start=1) if line.strip().startswith(starts)), 1)


def measure(report: Progress, file: str, network: Message, batch: int) -> Message:
    """Find out whether the MLP of a file is correct, and how much its step contains of what an exercise can limit.

    The answer is that of `examine` without limits, and has "numbers", by the names of the facts. Raises as `examine`.
    """
    answer = examine(report, file, network, batch, {}, is_solved=False)
    answer["numbers"] = {}
    if answer["wrong"] is None:
        entry = catalog.find(file)
        own = decode(Network, network)
        answer["numbers"] = {SAMPLE_LOOPS: int(_loop(entry, catalog.load(entry), own) is not None)}
        with suppress(TooManyOperations), catalog.variant_code(entry):
            counts = Counts(own, count_network(entry, own, LARGE)[0])
            known = [name for name in facts_for(VARIANT) if name != SAMPLE_LOOPS]
            answer["numbers"] |= {name: number_of(name, counts) for name in known}
    return answer


def main() -> None:
    """Answer requests until the parent process ends."""
    serve({examine.__name__: examine, measure.__name__: measure})
