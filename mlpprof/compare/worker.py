"""The worker of a relay: its entrants stay ready, and run when it is their turn.

A relay is a race whose entrants cannot share a process: each has its own BLAS threads, or is a framework. All workers
are there at once; the one that is called has the token, the others wait for their input. After its turn a worker waits
until its threads have gone to sleep, since many pools go on spinning for a while, and only then gives the token back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil

from mlpprof import catalog
from mlpprof.compare.race import Contestant, VariantContestant
from mlpprof.errors import UsageError, did_you_mean
from mlpprof.instrument.clocks import Clock
from mlpprof.machine.blas import blas_line
from mlpprof.machine.facts import describe
from mlpprof.model import Array
from mlpprof.model.gradcheck import close
from mlpprof.process import Progress, serve
from mlpprof.profile.passes import Subject, paused_garbage_collection, profile_batch
from mlpprof.profile.prepare import Loader, Prepared, SharedArrays
from mlpprof.profile.request import Request
from mlpprof.results.json import Message, encode

LEAD_IN_S = 0.01
"""A run shorter than this is made once, untimed, before a turn: other processes have used the caches in between."""
SETTLING_S = 0.4
"""After this a pool that still spins is left to itself."""
WINDOW_S = 0.002
"""How long the processor time of a worker is watched to see whether it sleeps."""
CHILDREN_WINDOW_S = 0.03
"""The same where it has child processes, whose time is told in hundredths of a second."""
IDLE = 0.1
"""A worker sleeps if it uses less than this share of a processor."""
WARM_UP_S = 0.2
LOSSES_S = 5.0
"""The comparison of losses ends after this time, with as many steps as there are by then."""


class EpochContestant:
    """Whole epochs as a user runs them: shuffle, then batch after batch, each gathered by the variant.

    steps: of one run; fewer than an epoch has where that would take too long: then samples are drawn at random. What is
    left over at the end of an epoch and makes no whole batch is passed over. The full batch is not shuffled.
    """

    def __init__(self, entry: catalog.Entry, subject: Subject, batch: int, steps: int) -> None:
        self._entry = entry
        self._subject = subject
        self._batch = batch
        self._steps = steps
        self._rng = np.random.default_rng(subject.seed)
        self._instance = subject.make()

    def warm_up(self, clock: Clock) -> float:
        """Two epochs at least; seconds of the fastest."""
        begun = clock()
        seconds = [self.turn(1, clock), self.turn(1, clock)]
        while clock() - begun < WARM_UP_S:
            seconds.append(self.turn(1, clock))
        return min(seconds)

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds an epoch, shuffling included."""
        X, Y, instance = self._subject.X, self._subject.Y, self._instance
        train = getattr(instance, "train", None)
        with catalog.variant_code(self._entry):
            start = clock()
            for _ in range(runs):
                indices = self._indices()
                if train is not None:
                    train(X, Y, indices)
                else:
                    for index in indices:
                        instance.train_step(X, Y, index)
            return (clock() - start) / runs

    def close(self) -> None:
        """Release the instance."""
        with catalog.own_modules(self._entry):
            close(self._instance)

    def _indices(self) -> list[Array]:
        samples, m = len(self._subject.X), self._batch
        if m == samples:
            order = np.arange(samples)
        elif self._steps < samples // m:  # shuffling all samples would be dear beside so few steps
            order = self._rng.integers(samples, size=m * self._steps)
        else:
            order = self._rng.permutation(samples)
        return [order[start : start + m] for start in range(0, m * self._steps, m)]


@dataclass
class Slot:
    """An entrant of this worker: what was loaded, what runs, and how long its fastest run took."""

    prepared: Prepared
    contestant: Contestant
    settle: Callable[[], None]
    run_s: float = 0.0


class Residence:
    """The handlers of one worker, and its entrants by their places in the race."""

    def __init__(self) -> None:
        self._loader = Loader()
        self._loaded: dict[int, Prepared] = {}
        self._slots: dict[int, Slot] = {}

    def load(
        self, report: Progress, place: int, request: Message, constants: dict[str, int], shared: str | None
    ) -> Message:
        """Load an entrant and its samples; constants: of the variant's file, to be replaced."""
        if shared is not None:
            self._loader.shared = SharedArrays(Path(shared))
        it = self._loader.prepare(Request.from_json(request), report)
        replace_constants(it, constants)
        self._loaded[place] = it
        return {}

    def enter(self, report: Progress, place: int, batch: int, steps: int | None) -> Message:
        """Run an entrant once, which compiles what it compiles; steps: of an epoch, None for single steps.

        Answers with what it is and how long that first run took.
        """
        it = self._loaded[place]
        it.require_batch(batch)
        begun = perf_counter()
        contestant: VariantContestant | EpochContestant = (
            VariantContestant(it.entry, it.subject, batch)
            if steps is None
            else EpochContestant(it.entry, it.subject, batch, steps)
        )
        contestant.turn(1, perf_counter)
        first_s = perf_counter() - begun
        self._slots[place] = Slot(it, contestant, settling())
        self._slots[place].settle()
        engine = getattr(it.module, "engine", None)
        return {
            "dtype": it.dtype,
            "engine": blas_line(describe()) if engine is None else str(engine()),
            "first_s": first_s,
            "spans_steps": hasattr(it.cls, "train"),
            "compiles": it.entry.extra == "compiled",
        }

    def facts(self, report: Progress, place: int) -> Message:
        """The data, with its fingerprint, and the machine with the BLAS that is loaded by now."""
        report("describing the machine", 0.0)
        data = self._slots[place].prepared.data
        return {
            "data": {"name": data.name, "samples": data.samples, "sha256": data.fingerprint()},
            "machine": describe(),
        }

    def losses(self, report: Progress, place: int, batch: int, steps: int) -> Message:
        """The losses of a fresh instance over the first steps, in the precision of the race."""
        it = self._slots[place].prepared
        report(f"comparing the losses of {it.entry.name}", 0.0)
        instance = it.subject.make()
        X, Y = it.subject.X, it.subject.Y
        try:
            with catalog.variant_code(it.entry):
                if hasattr(instance, "train"):
                    walk = it.subject.walk(batch)
                    found = [float(loss) for loss in instance.train(X, Y, [next(walk) for _ in range(steps)])]
                else:
                    found = [float(instance.train_step(X, Y, index)) for index in _until(it, batch, steps)]
        finally:
            with catalog.own_modules(it.entry):
                close(instance)
        self._slots[place].settle()
        return {"losses": found}

    def warm(self, report: Progress, place: int) -> float:
        """Run until the time settles, if that has not been done; seconds of the fastest run."""
        slot = self._slots[place]
        if slot.run_s > 0:
            return slot.run_s
        report(f"warming up {slot.prepared.entry.name}", 0.0)
        with paused_garbage_collection():
            slot.run_s = slot.contestant.warm_up(perf_counter)
        slot.settle()
        return slot.run_s

    def turn(self, report: Progress, place: int, runs: int) -> float:
        """Seconds a run, over so many."""
        slot = self._slots[place]
        with paused_garbage_collection():
            if slot.run_s < LEAD_IN_S and not hasattr(slot.prepared.cls, "train"):
                slot.contestant.turn(1, perf_counter)
            seconds = slot.contestant.turn(runs, perf_counter)
        slot.settle()
        return seconds

    def profile(self, report: Progress, place: int, batch: int, steps: int | None) -> Message:
        """The passes with clocks."""
        it = self._slots[place].prepared
        with catalog.variant_code(it.entry):
            return encode(profile_batch(it.subject, batch, steps, report))


def replace_constants(it: Prepared, constants: Mapping[str, int]) -> None:
    """Set constants of a loaded variant's file; raises UsageError for one that the file does not have."""
    for name, value in constants.items():
        if not hasattr(it.module, name):
            known = [one for one in vars(it.module) if one.isupper()]
            raise UsageError(f"{it.entry.path.name} has no constant {name}{did_you_mean(name, known)}")
        setattr(it.module, name, value)


def settling(
    busy_s: Callable[[], float] | None = None,
    clock: Clock = perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Callable[[], None]:
    """A function that returns once this process, and the children that it has by now, sleep.

    busy_s: processor seconds used so far.
    """
    children = psutil.Process().children(recursive=True)
    window_s = CHILDREN_WINDOW_S if children else WINDOW_S

    def used_s() -> float:
        return time.process_time() + sum(_processor_s(child) for child in children)

    used = busy_s or used_s

    def settle() -> None:
        begun = clock()
        while clock() - begun < SETTLING_S:
            before, start = used(), clock()
            sleep(window_s)
            if used() - before < IDLE * (clock() - start):
                return

    return settle


def _processor_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _until(it: Prepared, batch: int, steps: int) -> Iterator[Array]:
    """The first batches, as far as the time goes; two at least."""
    begun = perf_counter()
    walk = it.subject.walk(batch)
    for step in range(steps):
        if step >= 2 and perf_counter() - begun > LOSSES_S:
            return
        yield next(walk)


def main() -> None:
    """Serve until the parent is done."""
    home = Residence()
    own = (home.load, home.enter, home.facts, home.losses, home.warm, home.turn, home.profile)
    serve({handler.__name__: handler for handler in own})
