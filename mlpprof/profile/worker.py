"""The worker of `profile` and `check`: it loads variants and data, checks them, and runs the passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import perf_counter

from mlpprof import catalog
from mlpprof.data.reading_cost import disk_speed
from mlpprof.instrument.other_profilers import profile_lines, profile_stacks
from mlpprof.machine.facts import describe
from mlpprof.model.gradcheck import close
from mlpprof.process import Progress, serve
from mlpprof.profile.check import QUICK_CASES, check_variant, load_pair
from mlpprof.profile.passes import profile_batch
from mlpprof.profile.prepare import Loader, Prepared, SharedArrays, label_warnings
from mlpprof.profile.request import Request
from mlpprof.results import LineProfile
from mlpprof.results.json import Message, encode

VIEW_S = 1.5
VIEW_STEPS = 3
"""The line view and the call view run for about VIEW_S, and for at least VIEW_STEPS steps."""

Key = str | int
"""A worker knows what it has loaded by a key: the variant's reference, or its place in a race."""


class Session:
    """The handlers of one worker, and the variants that it has loaded."""

    def __init__(self) -> None:
        self._loader = Loader()
        self._prepared: dict[Key, Prepared] = {}
        self._disk_bytes_s: dict[Path, float] = {}

    def load_variant(self, request: Request, report: Progress, shared: str | None = None) -> Prepared:
        """Load a variant and its data; shared: a folder of arrays that workers share."""
        if shared is not None:
            self._loader.shared = SharedArrays(Path(shared))
        return self._loader.prepare(request, report)

    def prepare(self, report: Progress, request: Message) -> Message:
        """Load a variant and its data under the variant's reference; answers with what the variant is."""
        it = self.load_variant(Request.from_json(request), report)
        self._prepared[it.request.variant] = it
        return {
            "dtype": it.dtype,
            "variant": {
                "name": it.entry.name,
                "summary": it.entry.summary,
                "parent": it.entry.parent,
                "source": it.source,
            },
            "warnings": it.warnings,
        }

    def describe(self, report: Progress, key: Key) -> Message:
        """The data, with its fingerprint, and the machine with the BLAS that is loaded by now."""
        report("describing the machine", 0.0)
        data = self._prepared[key].data
        return {
            "data": {"name": data.name, "samples": data.samples, "sha256": data.fingerprint()},
            "machine": describe(),
        }

    def quick_check(self, report: Progress, key: Key) -> Message:
        """The quick form of `mlpprof check`: a few random networks, and this network on the first rows of its data."""
        it = self._prepared[key]
        return encode(check_variant(it.entry, it.cls, it.parent, QUICK_CASES, it.request.seed, report, it.own_case()))

    def profile(self, report: Progress, key: Key, batch: int, steps: int | None, counted: bool = True) -> Message:
        """All timed passes of one variant at one batch size; then, if wanted, the counts."""
        it = self._prepared[key]
        it.require_batch(batch)
        stream = it.subject.stream
        # before the first batch is taken: the thread that reads ahead would share the disk with this, and lose what the
        # system keeps of the file
        disk_bytes_s = None if stream is None else self._disk_speed(stream.data.file, report)
        with catalog.variant_code(it.entry):
            result = profile_batch(it.subject, batch, steps, report)
        if result.stream is not None:
            result = replace(result, stream=replace(result.stream, disk_bytes_s=disk_bytes_s))
        if not counted:
            return encode(result)
        # To load this takes a tenth of the time of a race's replicate, and a race counts nothing.
        from mlpprof.profile.counting import count_step

        report("counting", 0.99)
        operations, uncounted = count_step(it, batch)
        return encode(replace(result, operations=operations, uncounted=uncounted))

    def _disk_speed(self, file: Path, report: Progress) -> float:
        """Bytes per second that the disk gives of a file, measured once."""
        if file not in self._disk_bytes_s:
            report("measuring the disk", 0.0)
            self._disk_bytes_s[file] = disk_speed(file)
        return self._disk_bytes_s[file]

    def lines(self, report: Progress, key: Key, batch: int) -> Message:
        view = _View(self._prepared[key], batch)
        report("line view", 0.0)
        lines = profile_lines(self._prepared[key].module, view.run)
        return encode(LineProfile(batch, view.steps, view.wall_s, lines))

    def stacks(self, report: Progress, key: Key, batch: int) -> Message:
        view = _View(self._prepared[key], batch)
        report("call view", 0.0)
        session = profile_stacks(view.run)
        return {"batch": batch, "steps": view.steps, "session_json": session}


class _View:
    """Steps of a fresh instance for a profiler that watches from outside."""

    def __init__(self, it: Prepared, batch: int) -> None:
        it.require_batch(batch)
        self._it = it
        self._batch = batch
        self.steps = 0
        self.wall_s = 0.0

    def run(self) -> None:
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


def machine(report: Progress) -> Message:
    """What this machine is, without loading a variant."""
    report("describing the machine", 0.0)
    return dict(describe())


def check(report: Progress, variant: str, cases: int, seed: int, called: str | None = None) -> Message:
    """`mlpprof check` for one variant; called: its name in the answer, if that is not the catalog's name."""
    entry = catalog.find(variant)
    entry = replace(entry, name=called or entry.name)
    cls, parent = load_pair(entry, catalog.ladder())
    label_warnings(entry, entry.source())
    return encode(check_variant(entry, cls, parent, cases, seed, report))


def main() -> None:
    """Serve until the parent is done."""
    session = Session()
    handlers = (
        *(session.prepare, session.describe, session.quick_check, session.profile, session.lines, session.stacks),
        *(machine, check),
    )
    serve({handler.__name__: handler for handler in handlers})
