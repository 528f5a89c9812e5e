"""The worker of a race: it keeps its entrants ready, and runs them when it is their turn.

Where all entrants of a race share one worker, the whole race runs in it. Otherwise all workers are there at once; the
one that is called has the token, and the others wait for their input. After its turn a worker waits until its threads
have gone to sleep, since many pools go on spinning for a while, and only then gives the token back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import psutil

from mlpprof import catalog
from mlpprof.compare.entrants import FunctionSubject, VariantSubject
from mlpprof.compare.placement import ballast
from mlpprof.compare.race import INSTANCE_S, TRIES, Stepper, race
from mlpprof.compare.steppers import EpochStepper, FunctionStepper, VariantStepper, no_arguments
from mlpprof.errors import UsageError, did_you_mean
from mlpprof.instrument.clocks import Clock
from mlpprof.machine.blas import blas_line
from mlpprof.machine.facts import describe
from mlpprof.machine.linux import interruptions
from mlpprof.model import Array
from mlpprof.model.gradcheck import close
from mlpprof.process import Progress, part_of, serve
from mlpprof.profile.passes import paused_garbage_collection
from mlpprof.profile.prepare import Prepared, check_agreement
from mlpprof.profile.worker import Key, machine
from mlpprof.profile.worker import Session as ProfileSession
from mlpprof.results.json import Message, encode

LEAD_IN_S = 0.01
"""A run shorter than this is made once, untimed, before a turn: other processes have used the caches in between."""
SETTLING_S = 0.4
"""A pool that still spins after this time is left to itself."""
WINDOW_S = 0.002
"""The processor time of a worker is watched for this long to see whether it sleeps."""
CHILDREN_WINDOW_S = 0.03
"""The same where it has child processes, whose time the system reports in hundredths of a second."""
IDLE = 0.1
"""A worker sleeps if it uses less than this share of a processor."""
LOSSES_S = 5.0
"""The comparison of losses ends after this time, with as many steps as there are by then."""


@dataclass
class Ready:
    """An entrant that is ready to run, and the seconds of its fastest run once it is warm."""

    stepper: Stepper
    spans_steps: bool = False
    settle: Callable[[], None] | None = None
    run_s: float = 0.0

    def warm_up(self, clock: Clock) -> float:
        """Run until the time settles, unless that has been done."""
        if self.run_s == 0:
            self.run_s = self.stepper.warm_up(clock)
        return self.run_s

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a run."""
        return self.stepper.turn(runs, clock)

    def close(self) -> None:
        """Release the entrant."""
        self.stepper.close()

    def sleep(self) -> None:
        """Return once the threads and child processes sleep, which the first run may have started."""
        self.settle = self.settle or settling()
        self.settle()


@dataclass
class LedIn:
    """An entrant that makes one untimed run before each turn, if its run is short.

    tries: a turn during which the system gave the processor to another program is made again, up to so many times in
    all. interruptions: how often that has happened so far.
    """

    ready: Ready
    tries: int = 1
    interruptions: Callable[[], int] = interruptions

    def warm_up(self, clock: Clock) -> float:
        """Run until the time settles."""
        return self.ready.warm_up(clock)

    def turn(self, runs: int, clock: Clock) -> float:
        """Seconds a run."""
        for _ in range(self.tries):
            if self.ready.run_s < LEAD_IN_S and not self.ready.spans_steps:
                self.ready.turn(1, clock)
            before = self.interruptions()
            seconds = self.ready.turn(runs, clock)
            if self.interruptions() == before:
                break
        return seconds

    def close(self) -> None:
        """The entrant is released by its worker."""


class Session(ProfileSession):
    """The handlers of one worker; its entrants are known by their places in the race."""

    def __init__(self) -> None:
        super().__init__()
        self._subjects: dict[Key, VariantSubject | FunctionSubject] = {}
        self._ready: dict[Key, Ready] = {}
        self._ballast: list[Array] = []

    def load(self, report: Progress, key: Key, subject: Message, shared: str | None = None) -> Message:
        """Load what the entrant at a place runs, in place of an earlier one; answers with what it is."""
        if key in self._ready:
            self._ready.pop(key).close()
        if "function" in subject:
            self._subjects[key] = FunctionSubject.from_json(subject)
            return {"dtype": "", "spans_steps": False, "compiles": False}
        wanted = VariantSubject.from_json(subject)
        it = self._loaded_already(wanted)
        if it is None:
            it = self.load_variant(wanted.request, report, shared)
            replace_constants(it, wanted.constants)
        it.require_batch(wanted.batch)
        self._subjects[key], self._prepared[key] = wanted, it
        return {
            "dtype": it.dtype,
            "spans_steps": hasattr(it.cls, "train"),
            "compiles": it.entry.extra == "compiled",
        }

    def agreement(self, report: Progress, key: Key, other: Key) -> Message:
        """Whether two variants have the same gradients on this network and the first rows of its data."""
        report("comparing gradients", 0.0)
        return encode(check_agreement(self._prepared[key], self._prepared[other]))

    def losses(self, report: Progress, key: Key, steps: int) -> Message:
        """The losses of a fresh instance in its first steps, in the precision of the race."""
        it, batch = self._prepared[key], self._subjects[key].batch
        report(f"comparing the losses of {it.entry.name}", 0.0)
        instance = it.subject.make()
        X, Y = it.subject.X, it.subject.Y
        try:
            with catalog.variant_code(it.entry):
                if hasattr(instance, "train"):
                    walk = it.subject.walk(batch)
                    found = [
                        float(loss)
                        for indices in it.subject.drawn(walk, steps)
                        for loss in instance.train(X, Y, indices)
                    ]
                else:
                    found = [float(instance.train_step(X, Y, index)) for index in _in_time(it, batch, steps)]
        finally:
            with catalog.own_modules(it.entry):
                close(instance)
        self._entrant(key).sleep()
        return {"losses": found}

    def first_run(self, report: Progress, key: Key) -> Message:
        """Run the entrant once, which compiles what it compiles; answers with how long that took and what it ran on."""
        begun = perf_counter()
        entrant = self._entrant(key)
        entrant.turn(1, perf_counter)
        first_s = perf_counter() - begun
        entrant.sleep()
        engine = getattr(self._prepared[key].module, "engine", None)
        return {"first_s": first_s, "engine": blas_line(describe()) if engine is None else str(engine())}

    def warm_up(self, report: Progress, key: Key) -> float:
        """Run until the time settles; seconds of the fastest run."""
        entrant = self._entrant(key)
        with paused_garbage_collection():
            run_s = entrant.warm_up(perf_counter)
        entrant.sleep()
        return run_s

    def turn(self, report: Progress, key: Key, runs: int, tries: int = 1) -> float:
        """Seconds a run, averaged over `runs` of them. tries: as for `LedIn`."""
        entrant = self._entrant(key)
        with paused_garbage_collection():
            seconds = LedIn(entrant, tries).turn(runs, perf_counter)
        entrant.sleep()
        return seconds

    def race(
        self,
        report: Progress,
        keys: Sequence[Key],
        blocks: int,
        seed: int,
        turn_s: float,
        instances: int | None = None,
        rarely: Sequence[int] = (),
    ) -> Message:
        """The whole race of these entrants, which all live in this worker: the turns as nested lists.

        instances: before each so many equal parts of the race, all entrants are made anew, in another order and at
        other places in memory, and a short run is made once, untimed, before each turn. rarely: those of the entrants,
        by their index, that take part in the first blocks only; not with instances.
        """
        if instances is None:
            entrants = [self._entrant(key) for key in keys]
            return {"turns_s": race(entrants, blocks, seed, report, turn_s=turn_s, rarely=rarely).tolist()}
        rng = np.random.default_rng(seed)
        parts = []
        for done in range(instances):
            self._renew(keys, rng)
            steppers = [LedIn(self._entrant(key), TRIES) for key in keys]
            part = part_of(report, done / instances, 1 / instances)
            parts.append(race(steppers, blocks, int(rng.integers(2**32)), part, turn_s=turn_s, limit_s=INSTANCE_S))
        return {"turns_s": np.concatenate(parts).tolist()}

    def _renew(self, keys: Sequence[Key], rng: np.random.Generator) -> None:
        for key in keys:
            if key in self._ready:
                self._ready.pop(key).close()
        self._ballast = ballast(rng)
        for place in rng.permutation(len(keys)):
            self._entrant(keys[place])

    def stepper(self, it: Prepared, subject: VariantSubject) -> Stepper:
        """What a variant runs when it is its turn; a fresh instance."""
        if subject.steps is not None:
            return EpochStepper(it.entry, it.subject, subject.batch, subject.steps)
        return VariantStepper(it.entry, it.subject, subject.batch)

    def _entrant(self, key: Key) -> Ready:
        if key not in self._ready:
            subject = self._subjects[key]
            if isinstance(subject, FunctionSubject):
                self._ready[key] = Ready(_function_stepper(subject))
            else:
                it = self._prepared[key]
                self._ready[key] = Ready(self.stepper(it, subject), hasattr(it.cls, "train"))
        return self._ready[key]

    def _loaded_already(self, wanted: VariantSubject) -> Prepared | None:
        """The same variant with the same constants, where it takes part at another place too."""
        for key, one in self._subjects.items():
            if isinstance(one, VariantSubject) and (one.request, one.constants) == (wanted.request, wanted.constants):
                return self._prepared[key]
        return None


def _function_stepper(subject: FunctionSubject) -> FunctionStepper:
    making = subject.make_arguments
    arguments, around = (no_arguments, nullcontext) if making is None else (making.resolve(), making.running)
    return FunctionStepper(subject.function.resolve(), arguments, subject.function.running, around)


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
    """A function that returns once this process sleeps, and the children that it has by now.

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


def _in_time(it: Prepared, batch: int, steps: int) -> Iterator[Array]:
    """The first batches, as many as the time allows; two at least."""
    begun = perf_counter()
    walk = it.subject.walk(batch)
    for step in range(steps):
        if step >= 2 and perf_counter() - begun > LOSSES_S:
            return
        yield next(walk)


def handlers_of(session: Session) -> dict[str, Callable[..., object]]:
    """What the worker can be asked to do."""
    handlers = (
        *(session.load, session.describe, session.quick_check, session.agreement, session.losses, session.profile),
        *(session.first_run, session.warm_up, session.turn, session.race, machine),
    )
    return {handler.__name__: handler for handler in handlers}


def main() -> None:
    """Serve until the parent is done."""
    serve(handlers_of(Session()))
