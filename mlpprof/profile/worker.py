"""The worker process: loads variants and data, checks them, and runs the passes it is asked for."""

from __future__ import annotations

import faulthandler
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from mlpprof import catalog
from mlpprof.compare.race import CallableContestant, FunctionReference, VariantContestant, no_arguments, race
from mlpprof.instrument.other_profilers import profile_lines, profile_stacks
from mlpprof.machine.facts import describe
from mlpprof.model.gradcheck import close
from mlpprof.process import Progress, serve
from mlpprof.profile.check import QUICK_CASES, check_variant, load_pair
from mlpprof.profile.passes import profile_batch
from mlpprof.profile.prepare import Loader, Prepared, SharedArrays, check_agreement, label_warnings
from mlpprof.profile.request import Request
from mlpprof.results import LineProfile
from mlpprof.results.json import Message, encode

VIEW_S = 1.5
"""The line view and the call view run for about this long, and at least 3 steps."""
VIEW_STEPS = 3


class Session:
    """The handlers of one worker, and what they share: the variants that `prepare` has loaded, by reference."""

    def __init__(self) -> None:
        self._loader = Loader()
        self._prepared: dict[str, Prepared] = {}

    def prepare(self, report: Progress, request: Message, shared: str | None = None) -> Message:
        """Load variant and data; answers with what the variant is. shared: folder of arrays that workers share."""
        if shared is not None:
            self._loader.shared = SharedArrays(Path(shared))
        it = self._loader.prepare(Request.from_json(request), report)
        self._prepared[it.request.variant] = it
        return {
            "dtype": it.dtype,
            "spans_steps": hasattr(it.cls, "train"),
            "variant": {
                "name": it.entry.name,
                "summary": it.entry.summary,
                "parent": it.entry.parent,
                "source": it.source,
            },
            "warnings": it.warnings,
        }

    def describe(self, report: Progress, variant: str) -> Message:
        """The data, with its fingerprint, and the machine with the BLAS that is loaded by now."""
        report("describing the machine", 0.0)
        data = self._prepared[variant].data
        return {
            "data": {"name": data.name, "samples": data.samples, "sha256": data.fingerprint()},
            "machine": describe(),
        }

    def quick_check(self, report: Progress, variant: str) -> Message:
        """The quick form of `mlpprof check`: a few random networks, and this network on the first rows of its data."""
        it = self._prepared[variant]
        return encode(check_variant(it.entry, it.cls, it.parent, QUICK_CASES, it.request.seed, report, it.own_case()))

    def agreement(self, report: Progress, variant: str, other: str) -> Message:
        """Whether two variants have the same gradients on this network and the first rows of its data."""
        report("comparing gradients", 0.0)
        return encode(check_agreement(self._prepared[variant], self._prepared[other]))

    def profile(self, report: Progress, variant: str, batch: int, steps: int | None) -> Message:
        """All timed passes of one variant at one batch size, then the counts."""
        # loading this takes a tenth of a race's replicate, and a race counts nothing
        from mlpprof.profile.counting import count_step

        it = self._prepared[variant]
        it.require_batch(batch)
        with catalog.variant_code(it.entry):
            result = profile_batch(it.subject, batch, steps, report)
        report("counting", 0.99)
        operations, uncounted = count_step(it, batch)
        return encode(replace(result, operations=operations, uncounted=uncounted))

    def race(self, report: Progress, variants: list[str], batch: int, blocks: int, seed: int) -> Message:
        """Interleaved blocks of all the variants: seconds a step, as nested lists (blocks, variants, 2)."""
        contestants = []
        try:
            for name in variants:
                it = self._prepared[name]
                it.require_batch(batch)
                contestants.append(VariantContestant(it.entry, it.subject, batch))
            return {"step_s": race(contestants, blocks, seed, report).tolist()}
        finally:
            for contestant in contestants:
                contestant.close()

    def lines(self, report: Progress, variant: str, batch: int) -> Message:
        """The line view at one batch size."""
        runner = _View(self._prepared[variant], batch)
        report("line view", 0.0)
        lines = profile_lines(self._prepared[variant].module, runner.run)
        return encode(LineProfile(batch, runner.steps, runner.wall_s, lines))

    def stacks(self, report: Progress, variant: str, batch: int) -> Message:
        """The call view at one batch size."""
        runner = _View(self._prepared[variant], batch)
        report("call view", 0.0)
        session = profile_stacks(runner.run)
        return {"batch": batch, "steps": runner.steps, "session_json": session}


class _View:
    """Steps of a fresh instance for a profiler that watches from outside."""

    def __init__(self, it: Prepared, batch: int) -> None:
        it.require_batch(batch)
        self._it = it
        self._batch = batch
        self.steps = 0
        self.wall_s = 0.0

    def run(self) -> None:
        """Train until the time is up."""
        subject = self._it.subject
        instance = subject.make()
        try:
            with catalog.variant_code(self._it.entry):
                start = perf_counter()
                for index in subject.walk(self._batch):
                    instance.train_step(subject.X, subject.Y, index)
                    self.steps += 1
                    self.wall_s = perf_counter() - start
                    if self.steps >= VIEW_STEPS and self.wall_s > VIEW_S:
                        break
        finally:
            with catalog.own_modules(self._it.entry):
                close(instance)


def race_functions(
    report: Progress, functions: list[Message], make_arguments: Message | None, blocks: int, seed: int
) -> Message:
    """Interleaved blocks of importable functions: seconds a call, as nested lists (blocks, functions, 2)."""
    making = None if make_arguments is None else FunctionReference.from_json(make_arguments)
    arguments, around = (no_arguments, nullcontext) if making is None else (making.resolve(), making.running)
    references = [FunctionReference.from_json(function) for function in functions]
    contestants = [CallableContestant(one.resolve(), arguments, one.running, around) for one in references]
    return {"step_s": race(contestants, blocks, seed, report).tolist()}


def machine(report: Progress) -> Message:
    """What this machine is, without loading a variant."""
    report("describing the machine", 0.0)
    return dict(describe())


def check(report: Progress, variant: str, cases: int, seed: int, called: str | None = None) -> Message:
    """`mlpprof check` for one variant; called: its name in the answer, where that is not the catalog's name."""
    entry = catalog.find(variant)
    entry = replace(entry, name=called or entry.name)
    cls, parent = load_pair(entry, catalog.ladder())
    label_warnings(entry, entry.source())
    return encode(check_variant(entry, cls, parent, cases, seed, report))


def main() -> None:
    """Serve until the parent is done; a crash in native code leaves its Python traceback in the worker's log."""
    faulthandler.enable()
    session = Session()
    handlers = (
        *(session.prepare, session.describe, session.quick_check, session.agreement),
        *(session.profile, session.race, session.lines, session.stacks),
    )
    serve({handler.__name__: handler for handler in (*handlers, race_functions, machine, check)})
