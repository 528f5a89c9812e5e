"""The worker process: loads one variant and its data, checks it, and runs the passes it is asked for."""

from __future__ import annotations

import faulthandler
from dataclasses import dataclass
from time import perf_counter
from types import ModuleType
from typing import cast

import numpy as np

from mlpprof import catalog
from mlpprof.data.source import load as load_data
from mlpprof.errors import UsageError, VariantError
from mlpprof.instrument.labels import LabelClock, instrumented_module, stray_labels
from mlpprof.instrument.lines import profile_lines
from mlpprof.instrument.stacks import profile_stacks
from mlpprof.machine.description import describe
from mlpprof.measure.check import QUICK_CASES, check_variant, load_pair
from mlpprof.measure.messages import Message, encode
from mlpprof.measure.passes import Subject, profile_batch
from mlpprof.measure.request import Request
from mlpprof.model import Variant
from mlpprof.model.gradcheck import Case, close
from mlpprof.process import Progress, serve
from mlpprof.results import LineProfile

DTYPES = {"float32": np.float32, "float64": np.float64}
OWN_CASE_ROWS = 64
"""Rows of the user's data on which the gradients are compared before anything is timed."""
VIEW_S = 1.5
"""The line view and the call view run for about this long, and at least 3 steps."""
VIEW_STEPS = 3


@dataclass
class Prepared:
    """A variant and its data, loaded."""

    request: Request
    entry: catalog.Entry
    cls: type[Variant]
    parent: type[Variant] | None
    module: ModuleType
    subject: Subject


class Session:
    """The handlers of one worker, and what they share: the variant that `prepare` has loaded."""

    def __init__(self) -> None:
        self._prepared: Prepared | None = None

    def prepare(self, report: Progress, request: Message) -> Message:
        """Load variant and data; answers with what was loaded and what the machine is."""
        asked = Request.from_json(request)
        report("loading the variant", 0.0)
        entry = catalog.find(asked.variant)
        cls, parent = load_pair(entry, catalog.ladder())
        source = entry.source()
        warnings = _label_warnings(entry, source)
        report("loading the data", 0.1)
        data = load_data(asked.source)
        dtype = DTYPES[asked.dtype] if asked.dtype is not None else _own_dtype(entry, cls)
        network = asked.network
        if data.features != network.layers[0]:
            raise UsageError(
                f"the network {network.text} takes {network.layers[0]} inputs, but {data.name} has samples of "
                f"{data.features}; use --layers {data.features}-..."
            )
        X, Y = data.arrays(network.layers[-1], dtype)
        module = catalog.module_of(cls)

        def make() -> Variant:
            with catalog.variant_code(entry):
                return cls(network, network.initial_parameters(asked.seed, dtype))

        def make_labelled(clock: LabelClock) -> Variant:
            with catalog.variant_code(entry):
                copy = instrumented_module(module, source, clock)
                labelled = cast(type[Variant], getattr(copy, cls.__name__))
                return labelled(network, network.initial_parameters(asked.seed, dtype))

        close(make())  # a network that this variant cannot do is refused here
        self._prepared = Prepared(asked, entry, cls, parent, module, Subject(X, Y, asked.seed, make, make_labelled))
        return {
            "dtype": np.dtype(dtype).name,
            "data": {"name": data.name, "samples": data.samples, "sha256": data.fingerprint()},
            "variant": {
                "name": entry.name,
                "summary": entry.summary,
                "parent": entry.parent,
                "source": source,
            },
            "machine": describe(),
            "warnings": warnings,
        }

    def quick_check(self, report: Progress) -> Message:
        """The quick form of `mlpprof check`: a few random networks, and this network on the first rows of its data."""
        it = self._ready
        rows = slice(0, OWN_CASE_ROWS)
        X, Y = it.subject.X[rows].astype(np.float64), it.subject.Y[rows].astype(np.float64)
        network = it.request.network
        own = Case(network, network.initial_parameters(it.request.seed), X, Y, np.arange(len(X)))
        return encode(check_variant(it.entry, it.cls, it.parent, QUICK_CASES, it.request.seed, report, own))

    def profile(self, report: Progress, batch: int, steps: int | None) -> Message:
        """All passes at one batch size."""
        it = self._ready
        _require_batch(batch, len(it.subject.X))
        with catalog.variant_code(it.entry):
            return encode(profile_batch(it.subject, batch, steps, report))

    def lines(self, report: Progress, batch: int) -> Message:
        """The line view at one batch size."""
        runner = _View(self._ready, batch)
        report("line view", 0.0)
        lines = profile_lines(self._ready.module, runner.run)
        return encode(LineProfile(batch, runner.steps, runner.wall_s, lines))

    def stacks(self, report: Progress, batch: int) -> Message:
        """The call view at one batch size."""
        runner = _View(self._ready, batch)
        report("call view", 0.0)
        return {"batch": batch, "session_json": profile_stacks(runner.run), "steps": runner.steps}

    @property
    def _ready(self) -> Prepared:
        assert self._prepared is not None, "prepare comes first"
        return self._prepared


class _View:
    """Steps of a fresh instance for a profiler that watches from outside."""

    def __init__(self, it: Prepared, batch: int) -> None:
        _require_batch(batch, len(it.subject.X))
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
            close(instance)


def check(report: Progress, variant: str, cases: int, seed: int) -> Message:
    """`mlpprof check` for one variant."""
    entry = catalog.find(variant)
    cls, parent = load_pair(entry, catalog.ladder())
    _label_warnings(entry, entry.source())
    return encode(check_variant(entry, cls, parent, cases, seed, report))


def _own_dtype(entry: catalog.Entry, cls: type[Variant]) -> type:
    name = np.dtype(cls.DTYPE).name
    if name not in DTYPES:
        raise VariantError(f"{entry.path.name}: DTYPE {name} is not measured; expected float32 or float64")
    return DTYPES[name]


def _label_warnings(entry: catalog.Entry, source: str) -> list[str]:
    """Labels on no statement: an error in the catalog's own files, a warning in a user's."""
    messages = [
        f"{entry.path.name}:{stray.line}: the label '{stray.label}' ends no statement, so nothing is timed under it"
        for stray in stray_labels(source)
    ]
    if messages and entry.own:
        raise VariantError(messages[0])
    return messages


def _require_batch(batch: int, samples: int) -> None:
    if batch > samples:
        raise UsageError(f"batch {batch} is larger than the {samples} samples; use --batch {samples} or fewer")


def main() -> None:
    """Serve until the parent is done; a crash in native code leaves its Python traceback in the worker's log."""
    faulthandler.enable()
    session = Session()
    serve(
        {
            "prepare": session.prepare,
            "quick_check": session.quick_check,
            "profile": session.profile,
            "lines": session.lines,
            "stacks": session.stacks,
            "check": check,
        }
    )
