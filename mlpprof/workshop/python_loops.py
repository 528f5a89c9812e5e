"""Finds Python loops over samples: lines for which Python works more the more samples a batch has.

One step runs under a trace that counts the instructions of Python, at two batch sizes. So a loop is found in whatever
form it is written: `for`, a comprehension, a generator, `map`, np.vectorize, or np.apply_along_axis.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType, ModuleType
from typing import Any

import numpy as np

from mlpprof.catalog import Entry, module_of, variant_code
from mlpprof.model import PHASES, Network, Variant
from mlpprof.model.gradcheck import closed_after

Place = tuple[int, str]
"""A line of the file, and the phase of the step that runs it."""
Instruction = tuple[Place, CodeType, int]
"""The place that an instruction counts for, and which one it is. An instruction in a loop over samples runs at least
once for each sample. In a loop over blocks of samples it runs less often, however many instructions a turn has."""

MOST_INSTRUCTIONS = 1_000_000
"""Counting stops after this many, which take a second. A step without a loop over samples has less than a tenth."""
LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Loop:
    """A loop over samples. line: that of the loop, or one within it. is_header: whether it is that of the loop."""

    line: int
    phase: str
    is_header: bool


class InstructionCounter:
    """Counts instructions by line and phase; work in other files counts for the line of this file that called it."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._left = MOST_INSTRUCTIONS
        self.counts: Counter[Instruction] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether counting has stopped early."""
        return self._left <= 0

    def trace(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        """The function for sys.settrace: it gets each frame when it is entered."""
        place = self._place(frame)
        if place is None or self.is_full:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        is_own, phase = frame.f_code.co_filename == self._file, place[1]

        def instruction(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
            if event == "opcode" and self._left > 0:
                at = (frame.f_lineno, phase) if is_own else place
                self.counts[at, frame.f_code, frame.f_lasti] += 1
                self._left -= 1
            return instruction

        return instruction

    def _place(self, frame: FrameType) -> Place | None:
        """The innermost line of the file on the way to a frame, and the phase; None if the file is not on the way."""
        line, phase, at = 0, "", frame
        caller: FrameType | None = at
        while caller is not None:
            if caller.f_code.co_filename == self._file:
                line = line or caller.f_lineno
                if caller.f_code.co_name in PHASES:
                    phase = caller.f_code.co_name
            caller = caller.f_back
        return (line, phase or "train_step") if line else None


def count_instructions(entry: Entry, cls: type[Variant], network: Network, m: int) -> InstructionCounter:
    """Count the instructions of the second of two steps with m samples. Raises VariantCrash if the code raises."""
    counter = InstructionCounter(str(entry.path))
    rng = np.random.default_rng(0)
    dtype = np.dtype(cls.DTYPE)
    X, n_out = rng.random((m, network.layers[0])).astype(dtype), network.layers[-1]
    Y = np.eye(n_out, dtype=dtype)[rng.integers(n_out, size=m)]
    with variant_code(entry), closed_after(cls(network, network.initial_parameters(0, dtype))) as instance:
        instance.train_step(X, Y, rng.permutation(m))
        index, earlier = rng.permutation(m), sys.gettrace()
        with visible_builtins(module_of(cls)):
            sys.settrace(counter.trace)
            try:
                instance.train_step(X, Y, index)
            finally:
                sys.settrace(earlier)
    return counter


@contextmanager
def visible_builtins(module: ModuleType) -> Iterator[None]:
    """Give a module a `map` and a `sum` that are written in Python, because nobody sees the loops of the others."""
    put = {name: value for name, value in (("map", _map), ("sum", _sum)) if name not in vars(module)}
    vars(module).update(put)
    try:
        yield
    finally:
        for name in put:
            vars(module).pop(name, None)


def _map(function: Callable[..., Any], *iterables: Iterable[Any]) -> Iterator[Any]:
    for values in zip(*iterables, strict=False):
        yield function(*values)


def _sum(values: Iterable[Any], start: Any = 0) -> Any:
    for value in values:
        start = start + value
    return start


def loop_over_samples(
    small: InstructionCounter, large: InstructionCounter, more_samples: int, source: str
) -> Loop | None:
    """Return a loop over samples in the first phase that has one; None if there is none."""
    if small.is_full:
        added, least = small.counts, 0
    else:
        added, least = large.counts - small.counts, more_samples
    grown: Counter[Place] = Counter()
    for (place, _, _), more in added.items():
        if more >= least:
            grown[place] += more
    if not grown:
        return None
    order = (*PHASES, "train_step")
    phase = min((phase for _, phase in grown), key=order.index)
    lines = {line: more for (line, of), more in grown.items() if of == phase}
    headers = [n for n in ast.walk(ast.parse(source)) if isinstance(n, LOOPS) and n.lineno in lines]
    if not headers:
        return Loop(max(lines, key=lambda line: lines[line]), phase, is_header=False)
    outermost = max(headers, key=lambda node: (node.end_lineno or node.lineno) - node.lineno)
    return Loop(outermost.lineno, phase, is_header=True)
