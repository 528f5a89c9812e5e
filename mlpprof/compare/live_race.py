"""A race that goes on: it adds one replicate after another, each from fresh processes where that is possible.

What differs between processes (memory layout, the core, the neighbours of the moment) is part of the spread that the
verdict sees. The first replicate checks that all entrants compute the same before anything is timed, and chooses the
best setting of each subject that has several (BLAS threads, for example); further replicates race the chosen ones.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from mlpprof.compare.counted_difference import counted_of_variants
from mlpprof.compare.entrants import (
    FRAMEWORKS,
    Entrant,
    Environment,
    FunctionSubject,
    VariantSubject,
    by_worker,
    worker_for,
)
from mlpprof.compare.functions import FunctionReference
from mlpprof.compare.placement import with_padding
from mlpprof.compare.race import TURN_S, Turns, race
from mlpprof.compare.replicate import FirstRun, Loaded, Replicate, StartWorker
from mlpprof.compare.steppers import FunctionStepper
from mlpprof.compare.variant_difference import averaged, waterfall
from mlpprof.errors import CheckFailed, UnsupportedNetwork, UsageError
from mlpprof.model import Network
from mlpprof.model.gradcheck import SINGLE_PRECISION_FACTOR, TRAJECTORY_TOLERANCE
from mlpprof.owned import new_folder
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.results import BatchResult, CheckResult, CountedChange, PhaseChange, Race
from mlpprof.results.json import decode

BLOCKS = 8
"""Blocks of one replicate: enough for a median that single outliers do not move."""
FINE_BLOCKS, FINE_TURN_S, FINE_INSTANCES = 24, 0.001, 4
"""A fine race has more and shorter turns, between which the machine changes less, and makes the entrants anew."""
TRIAL_BLOCKS = 1
"""Blocks in which the settings of one subject are tried against each other."""
HOPELESS = 3.0
"""A setting is not tried further if its second run takes this many times as long as that of another setting."""
WATERFALL_STEPS = 60
"""Timed steps of each pass that attributes a difference to phases."""
WATERFALL_S = 3.0
"""Where that many steps would take longer than this, the worker chooses how many."""
LOSS_STEPS = 20
"""The losses of all entrants are compared for this many steps."""
REFERENCE = "sliced"
"""The losses of all entrants are compared with this variant's, which is checked against finite differences."""

Check = Literal["gradients", "losses"]
"""How the first replicate checks that all compute the same: by gradients in one process, by losses between several."""


class LiveRace(Protocol):
    """A race that can add one more replicate."""

    def run(self, progress: Progress) -> None:
        """Add one replicate."""

    def race(self) -> Race:
        """All replicates so far."""


@dataclass(frozen=True)
class Chosen:
    """An entrant in its best setting.

    first_run: None where all share one process. compile_s: how much longer its first run took than a warm one.
    deviation: largest relative difference of its losses from those of the reference; None where they were not compared.
    """

    entrant: Entrant
    loaded: Loaded
    first_run: FirstRun | None
    compile_s: float
    deviation: float | None

    @property
    def engine(self) -> str:
        """The library that it runs on."""
        return "" if self.first_run is None else self.first_run.engine


class EntrantWrong(CheckFailed):
    """The losses of an entrant deviate."""

    def __init__(self, message: str, variant: str) -> None:
        super().__init__(message)
        self.variant = variant


class ProcessRace:
    """A race whose replicates are fresh processes: one worker if all entrants share it, else several.

    subjects: for each the entrants that are its settings; the oldest subject comes first. all_take_part: it is
    an error that an entrant cannot take part; otherwise the others race. start: starts the workers. is_fine: for a fine
    resolution, turns are short, and where things lie in memory is left to chance (see `placement`). rarely: subjects,
    by their index, that take part in the first blocks of each replicate only, because no verdict is about them.
    """

    def __init__(
        self,
        subjects: Sequence[Sequence[Entrant]],
        *,
        check: Check | None = None,
        all_take_part: bool = True,
        blocks: int = BLOCKS,
        turn_s: float = TURN_S,
        start: StartWorker = worker_for,
        is_fine: bool = False,
        rarely: Collection[int] = (),
    ) -> None:
        self._subjects = tuple(tuple(settings) for settings in subjects)
        self._entrants = [entrant for settings in subjects for entrant in settings]
        self._check = check
        self._all_take_part = all_take_part
        self._blocks, self._turn_s = (FINE_BLOCKS, FINE_TURN_S) if is_fine else (blocks, turn_s)
        self._is_fine = is_fine
        self._rarely = rarely
        self._start = start
        self._turns: list[Turns] = []
        self.chosen: tuple[Chosen, ...] = ()
        self._racing: Sequence[int] = ()
        self.absent: dict[str, str] = {}
        self.described: Mapping[str, Any] = {}
        self._shared = new_folder("race")
        weakref.finalize(self, shutil.rmtree, self._shared, ignore_errors=True)

    def run(self, progress: Progress) -> None:
        """Add one more replicate.

        Raises CheckFailed before anything is timed if an entrant is wrong (EntrantWrong if its losses deviate),
        WorkerDied if a worker ended, and what an entrant raised that cannot take part, if all were to take part.
        """
        if self._turns:
            with self._opened([self.chosen[i].entrant for i in self._racing], progress) as replicate:
                raced = self._raced(replicate, range(len(self._racing)), progress)
            turns = np.full((len(raced), len(self.chosen), 2), np.nan)
            turns[:, self._racing] = raced
            self._turns.append(turns)
            return
        with self._opened(self._entrants, progress) as replicate:
            deviations = self._begin(replicate, progress)
            places = self._best_settings(replicate, progress)
            replicate.dismiss([place for place in replicate.loaded if place not in places])
            self._turns.append(self._raced(replicate, places, progress))
            run_s = np.nanmin(self._turns[0], axis=(0, 2))
            for i, place in enumerate(places):
                first = replicate.first_runs.get(place)
                compile_s = 0.0 if first is None else max(0.0, first.first_s - float(run_s[i]))
                one = Chosen(
                    replicate.entrants[place], replicate.loaded[place], first, compile_s, deviations.get(place)
                )
                self.chosen = (*self.chosen, one)
        self._racing = range(len(self.chosen))

    def keep(self, places: Sequence[int]) -> None:
        """Let only these of the chosen ones race in further replicates."""
        self._racing = places

    def open(self, progress: Progress) -> None:
        """Load everything once, and check it if so asked, without racing; raises what `run` raises."""
        with self._opened(self._entrants, progress) as replicate:
            self._begin(replicate, progress)

    def race(self) -> Race:
        """All replicates so far; seconds are those of a run: a step, an epoch, or a call."""
        alone = len(by_worker(self._entrants)) == 1
        # Entrants that share a process have the same settings, which go without saying.
        names = tuple(one.entrant.subject.name if alone else one.entrant.name for one in self.chosen)
        return Race(
            variants=names,
            dtypes=tuple(one.loaded.dtype for one in self.chosen),
            batch=self._entrants[0].subject.batch,
            turns_s=tuple(self._turns),
            trained=tuple(
                dict.fromkeys(name for name, one in zip(names, self.chosen, strict=True) if one.loaded.spans_steps)
            ),
        )

    def waterfall(
        self, progress: Progress, old: int = 0, new: int = -1, steps: int | None = None
    ) -> tuple[PhaseChange, ...]:
        """Where the difference between two entrants lies, from one pair of profiles; as `difference`."""
        return self.difference(progress, old, new, steps, counted=False)[0]

    def difference(
        self,
        progress: Progress,
        old: int = 0,
        new: int = -1,
        steps: int | None = None,
        *,
        pairs: int = 1,
        counted: bool = True,
    ) -> tuple[tuple[PhaseChange, ...], tuple[CountedChange, ...]]:
        """Where the difference between two entrants lies, and the counted facts that differ.

        The times come from passes with clocks in fresh processes, one for each of the pairs of profiles. steps: timed
        steps a pass; None leaves them to a limit of time.
        """
        race = self.race()
        ends = [range(len(self.chosen))[place] for place in (old, new)]
        if steps is None and 3 * WATERFALL_STEPS * max(race.step_s(i) for i in ends) < WATERFALL_S:
            steps = WATERFALL_STEPS
        found = []
        facts: tuple[CountedChange, ...] = ()
        for number in range(pairs):
            with self._opened([self.chosen[i].entrant for i in ends], progress) as replicate:
                before, after = (
                    decode(
                        BatchResult,
                        replicate.call(
                            place,
                            "profile",
                            progress,
                            batch=race.batch,
                            steps=steps,
                            counted=counted and number == 0,
                        ),
                    )
                    for place in (0, 1)
                )
            found.append(waterfall(before, after, *(race.step_s(i) for i in ends)))
            if number == 0 and not (before.uncounted or after.uncounted):
                facts = counted_of_variants(before.operations, after.operations, found[0])
        changes = averaged(found)
        # The labelled pass runs an instrumented copy of the file, which has the constants of the file.
        subjects = [self.chosen[i].entrant.subject for i in ends]
        replaced = any(isinstance(one, VariantSubject) and one.constants for one in subjects)
        return tuple(change for change in changes if not change.label) if replaced else changes, facts

    @contextmanager
    def _opened(self, entrants: Sequence[Entrant], progress: Progress) -> Iterator[Replicate]:
        if self._is_fine:
            entrants = with_padding(entrants, np.random.default_rng(self._seed))
        with Replicate(entrants, self._shared, self._start) as replicate:
            replicate.open(progress)
            self._require_all(replicate)
            yield replicate

    def _begin(self, replicate: Replicate, progress: Progress) -> dict[int, float]:
        """What the first replicate does before it races; the deviations of the losses."""
        if any(entrant.process is None for entrant in replicate.entrants):
            replicate.run_first(progress)
            self._require_all(replicate)
        first = min(replicate.loaded)
        if not isinstance(replicate.entrants[first].subject, FunctionSubject):
            self.described = replicate.call(first, "describe", progress)
        self._dismiss_hopeless(replicate, progress)
        if self._check == "gradients":
            _require_gradients(replicate, progress)
        if self._check == "losses":
            return require_losses(replicate, self._shared, progress, self._start)
        return {}

    def _require_all(self, replicate: Replicate) -> None:
        if replicate.absent and self._all_take_part:
            raise next(iter(replicate.absent.values()))
        if not replicate.loaded:
            raise UnsupportedNetwork(
                "; ".join(str(why) for why in replicate.absent.values()) or "no entrant takes part"
            )

    def _raced(self, replicate: Replicate, places: Sequence[int], progress: Progress) -> Turns:
        instances = FINE_INSTANCES if self._is_fine else None
        return replicate.race(places, self._blocks, self._seed, progress, self._turn_s, instances, self._rarely)

    @property
    def _seed(self) -> int:
        """The seed of the next replicate."""
        return self._entrants[0].subject.seed + len(self._turns)

    def _dismiss_hopeless(self, replicate: Replicate, progress: Progress) -> None:
        """Dismiss a setting that is far slower than another of the same subject: all threads on a busy machine."""
        for places in self._places():
            present = [place for place in places if place in replicate.loaded]
            if len(present) > 1:
                progress(f"settings of {replicate.entrants[present[0]].subject.variant}", 0.0)
                run_s = {place: float(replicate.call(place, "turn", runs=1)) for place in present}
                replicate.dismiss([place for place in present if run_s[place] > HOPELESS * min(run_s.values())])

    def _best_settings(self, replicate: Replicate, progress: Progress) -> list[int]:
        """The place of every subject's best setting; subjects that cannot take part are noted as absent."""
        groups: list[list[int]] = []
        for places in self._places():
            present = [place for place in places if place in replicate.loaded]
            if present:
                groups.append(present)
            else:
                self.absent[replicate.entrants[places[0]].subject.variant] = str(replicate.absent[places[0]])
        tried = [place for group in groups if len(group) > 1 for place in group]
        if not tried:
            return [group[0] for group in groups]
        turns = replicate.race(tried, TRIAL_BLOCKS, 0, progress, self._turn_s)
        best_s = dict(zip(tried, np.nanmin(turns, axis=(0, 2)), strict=True))
        return [min(group, key=lambda place: best_s.get(place, 0.0)) for group in groups]

    def _places(self) -> list[list[int]]:
        """The places of each subject's settings."""
        groups, first = [], 0
        for settings in self._subjects:
            groups.append(list(range(first, first + len(settings))))
            first += len(settings)
        return groups


def variant_race(
    requests: Sequence[Request],
    batch: int,
    environment: Environment,
    check: bool = False,
    blocks: int = BLOCKS,
    is_fine: bool = False,
    rarely: Collection[int] = (),
) -> ProcessRace:
    """A race of variants that share one process, the oldest first; the same one twice makes an A/A race.

    check: check first that every variant is right and that all agree on this network and data. is_fine, rarely: as for
    `ProcessRace`.
    Raises UsageError for a framework beside others: they share no process.
    """
    frameworks = [one.variant for one in requests if one.variant.startswith(FRAMEWORKS)]
    if frameworks and len({one.variant for one in requests}) > 1:
        raise UsageError(
            f"'{frameworks[0]}' is a framework and shares no process with others; use mlpprof compare, or peers"
        )
    entrants = [Entrant(VariantSubject(request, batch), environment, "shared") for request in requests]
    return ProcessRace(
        [[one] for one in entrants],
        check="gradients" if check else None,
        blocks=blocks,
        is_fine=is_fine,
        rarely=rarely,
    )


def function_race(
    functions: Sequence[FunctionReference],
    make_arguments: FunctionReference | None,
    environment: Environment,
    is_fine: bool = False,
) -> ProcessRace:
    """A race of importable functions; every replicate is a worker process that imports them afresh."""
    names = distinct_names([(function.module, function.qualname) for function in functions])
    subjects = [FunctionSubject(name, one, make_arguments) for name, one in zip(names, functions, strict=True)]
    return ProcessRace([[Entrant(subject, environment, "shared")] for subject in subjects], is_fine=is_fine)


class LocalRace:
    """Closures and other callables that no fresh process can import: groups of blocks in this process."""

    def __init__(self, functions: Sequence[Callable[..., Any]], make_arguments: Callable[[], Sequence[Any]]) -> None:
        self._steppers = [FunctionStepper(function, make_arguments) for function in functions]
        self._names = distinct_names(
            [
                (str(getattr(function, "__module__", "")), str(getattr(function, "__qualname__", repr(function))))
                for function in functions
            ]
        )
        self._turns: list[Turns] = []

    def run(self, progress: Progress) -> None:
        """Add one more group of blocks."""
        self._turns.append(race(self._steppers, BLOCKS, len(self._turns), progress))

    def race(self) -> Race:
        """All groups so far."""
        return Race(tuple(self._names), ("",) * len(self._names), 0, tuple(self._turns))


def distinct_names(functions: Sequence[tuple[str, str]]) -> list[str]:
    """Names for functions given as (module, name): the module stands before it only where two have the same name."""
    names = [name for _, name in functions]
    if len(set(names)) == len(set(functions)):
        return names
    return [f"{module}.{name}" if module else name for (module, _), name in zip(functions, names, strict=True)]


def _require_gradients(replicate: Replicate, progress: Progress) -> None:
    """Check every variant, and that the gradients of all agree; raises CheckFailed."""
    places: dict[Request, int] = {}
    for place, entrant in enumerate(replicate.entrants):
        assert isinstance(entrant.subject, VariantSubject)
        places.setdefault(entrant.subject.request, place)
    first, *others = places.values()
    for place in (first, *others):
        _require(replicate.call(place, "quick_check", progress))
    for place in others:
        _require(replicate.call(place, "agreement", progress, other=first))


def _require(answer: Mapping[str, Any]) -> None:
    checked = CheckResult(**answer)
    if checked.ok is False:
        raise CheckFailed(f"{checked.message}; nothing was timed (mlpprof check shows more)")


def require_losses(
    replicate: Replicate, shared: str, progress: Progress, start: StartWorker = worker_for, steps: int = LOSS_STEPS
) -> dict[int, float]:
    """How far the losses of every entrant are from those of `sliced`, run beside them in the same precision.

    Raises EntrantWrong where rounding does not explain it.
    """
    deviations: dict[int, float] = {}
    for dtype in sorted({loaded.dtype for loaded in replicate.loaded.values()}):
        places = [place for place in sorted(replicate.loaded) if replicate.loaded[place].dtype == dtype]
        subject = replicate.entrants[places[0]].subject
        assert isinstance(subject, VariantSubject)
        one, batch = subject.request, subject.batch
        request = Request(REFERENCE, one.network, one.source, dtype, one.seed)
        with Replicate([Entrant(VariantSubject(request, batch))], shared, start) as beside:
            beside.open(progress)
            expected = beside.losses(0, steps)
        allowed = loss_tolerance(one.network, batch, dtype)
        for place in places:
            entrant = replicate.entrants[place]
            progress(f"comparing the losses of {entrant.name}", 0.0)
            ours = replicate.losses(place, steps)
            deviations[place] = loss_deviation(ours, expected)
            if deviations[place] > allowed:
                raise EntrantWrong(
                    f"{entrant.name}: the losses of the first {min(len(ours), len(expected))} steps deviate from those "
                    f"of {REFERENCE} by {deviations[place]:.1e}, at most {allowed:.0e} is allowed; nothing was timed",
                    entrant.subject.variant,
                )
    return deviations


def loss_deviation(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest relative difference over the steps that both have made; infinite where one is not a number."""
    count = min(len(ours), len(theirs))
    a, b = np.array(ours[:count]), np.array(theirs[:count])
    worst = float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-3), initial=0.0))
    return worst if np.isfinite(worst) and count > 0 else float("inf")


def loss_tolerance(network: Network, batch: int, dtype: str) -> float:
    """How far rounding may move the losses of the first steps: as gradients in float32, as whole steps in float64."""
    if dtype == "float64":
        return TRAJECTORY_TOLERANCE
    longest_sum = max(*network.layers, batch)
    return SINGLE_PRECISION_FACTOR * float(np.finfo(np.float32).eps) * float(np.sqrt(longest_sum))
