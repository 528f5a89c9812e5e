"""Replicates of a relay in which every participant runs at its best setting, and all compute the same.

The first replicate holds every participant in each of its settings (BLAS threads, constants of its file). It compares
their losses before anything is timed, then times all of them in a short trial; the best setting of each stays, and
these race. Further replicates are fresh processes of the chosen settings alone.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpprof.errors import CheckFailed, UnsupportedNetwork
from mlpprof.measure.race import TURN_S
from mlpprof.measure.racers import BLOCKS, Turns
from mlpprof.measure.relay import Entered, Entrant, Relay, StartWorker, start_resident
from mlpprof.measure.request import Request
from mlpprof.model import Network
from mlpprof.model.gradcheck import SINGLE_PRECISION_FACTOR, TRAJECTORY_TOLERANCE
from mlpprof.process import Progress
from mlpprof.results import Race

LOSS_STEPS = 20
"""Steps after which the losses of all entrants are compared."""
REFERENCE = "sliced"
"""Whose losses all others are held against: it is checked against finite differences with every change."""
TRIAL_BLOCKS = 1
HOPELESS = 3.0
"""A setting whose second run takes so many times as long as another's is not tried further."""


@dataclass(frozen=True)
class Participant:
    """The same variant in the settings that it may run in, the first of which is taken where all do alike."""

    settings: tuple[Entrant, ...]


@dataclass(frozen=True)
class Chosen:
    """A participant in its best setting.

    compile_s: what its first run took longer than a warm one. deviation: largest relative difference of its losses
    from those of the reference; None where they were not compared.
    """

    entrant: Entrant
    entered: Entered
    compile_s: float
    deviation: float | None


class EntrantWrong(CheckFailed):
    """The losses of an entrant deviate."""

    def __init__(self, message: str, variant: str) -> None:
        super().__init__(message)
        self.variant = variant


class Contest:
    """A race of participants in processes of their own; `run` adds a replicate, as a `Racer` does.

    steps: of the epoch that a run is, None for single steps. check: hold the losses of all against `sliced` first.
    everybody: that one cannot take part is an error; else the others race.
    """

    def __init__(
        self,
        participants: Sequence[Participant],
        batch: int,
        *,
        steps: int | None = None,
        blocks: int = BLOCKS,
        turn_s: float = TURN_S,
        check: bool = True,
        everybody: bool = False,
        start: StartWorker = start_resident,
    ) -> None:
        self._participants = tuple(participants)
        self._batch = batch
        self._steps = steps
        self._blocks = blocks
        self._turn_s = turn_s
        self._check = check
        self._everybody = everybody
        self._start = start
        self._turns: list[Turns] = []
        self.chosen: tuple[Chosen, ...] = ()
        self.absent: dict[str, str] = {}
        self.described: Mapping[str, Any] = {}
        self._shared = tempfile.mkdtemp(prefix="mlpprof-race-")
        weakref.finalize(self, shutil.rmtree, self._shared, ignore_errors=True)

    def run(self, progress: Progress) -> None:
        """One more set of processes.

        Raises EntrantWrong before anything is timed if losses deviate, EntrantDied if a worker ended, and
        UnsupportedNetwork if nobody is left, or not everybody where that was asked for.
        """
        if self._turns:
            with self._relay([chosen.entrant for chosen in self.chosen]) as relay:
                relay.open(progress)
                self._race(relay, range(len(self.chosen)), progress)
            return
        entrants = [entrant for participant in self._participants for entrant in participant.settings]
        with self._relay(entrants) as relay:
            relay.open(progress)
            if not relay.entered or (relay.absent and self._everybody):
                raise UnsupportedNetwork("; ".join(relay.absent.values()) or "nobody takes part")
            self.described = relay.call(next(iter(relay.entered)), "facts")
            self._screen(relay, progress)
            deviations = (
                require_agreement(relay, self._batch, self._shared, progress, self._start) if self._check else {}
            )
            places = self._trial(relay, progress)
            relay.dismiss([place for place in relay.entered if place not in places])
            self._race(relay, places, progress)
            run_s = np.nanmin(self._turns[0], axis=(0, 2))
            self.chosen = tuple(
                Chosen(
                    relay.entrants[place],
                    relay.entered[place],
                    max(0.0, relay.entered[place].first_s - float(run_s[i])),
                    deviations.get(place),
                )
                for i, place in enumerate(places)
            )

    def race(self) -> Race:
        """All replicates so far; seconds are those of a step, or of an epoch where a run is one."""
        return Race(
            variants=tuple(one.entrant.name for one in self.chosen),
            dtypes=tuple(one.entered.dtype for one in self.chosen),
            batch=self._batch,
            turns_s=tuple(self._turns),
            trained=tuple(one.entrant.name for one in self.chosen if one.entered.spans_steps),
        )

    def _relay(self, entrants: Sequence[Entrant]) -> Relay:
        return Relay(entrants, self._batch, self._steps, self._shared, self._start)

    def _race(self, relay: Relay, places: Sequence[int], progress: Progress) -> None:
        self._turns.append(relay.race(places, self._blocks, len(self._turns), progress, self._turn_s))

    def _screen(self, relay: Relay, progress: Progress) -> None:
        """Dismiss settings far slower than another one of the same participant: all threads on a busy machine."""
        for group in self._groups():
            present = [place for place in group if place in relay.entered]
            if len(present) < 2:
                continue
            progress(f"settings of {relay.entrants[group[0]].variant}", 0.0)
            run_s = {place: float(relay.call(place, "turn", runs=1)) for place in present}
            hopeless = [place for place in present if run_s[place] > HOPELESS * min(run_s.values())]
            relay.dismiss(hopeless)
            for place in hopeless:
                del relay.entered[place]

    def _groups(self) -> list[list[int]]:
        """The places of each participant's settings."""
        groups, first = [], 0
        for participant in self._participants:
            groups.append(list(range(first, first + len(participant.settings))))
            first += len(participant.settings)
        return groups

    def _trial(self, relay: Relay, progress: Progress) -> list[int]:
        """The place of every participant's best setting; who cannot take part is noted as absent."""
        groups: list[list[int]] = []
        for group in self._groups():
            present = [place for place in group if place in relay.entered]
            if present:
                groups.append(present)
            else:
                self.absent[relay.entrants[group[0]].variant] = relay.absent[group[0]]
        tried = [place for group in groups if len(group) > 1 for place in group]
        if not tried:
            return [group[0] for group in groups]
        turns = relay.race(tried, TRIAL_BLOCKS, 0, progress, self._turn_s)
        best_s = dict(zip(tried, np.nanmin(turns, axis=(0, 2)), strict=True))
        return [min(group, key=lambda place: best_s.get(place, 0.0)) for group in groups]


def require_agreement(
    relay: Relay,
    batch: int,
    shared: str,
    progress: Progress,
    start: StartWorker = start_resident,
    steps: int = LOSS_STEPS,
) -> dict[int, float]:
    """How far the losses of every entrant are from those of `sliced`, run beside them in the same precision.

    Raises EntrantWrong where rounding does not explain it.
    """
    deviations: dict[int, float] = {}
    for dtype in sorted({entered.dtype for entered in relay.entered.values()}):
        places = [place for place, entered in relay.entered.items() if entered.dtype == dtype]
        one = relay.entrants[places[0]].request
        reference = Entrant(Request(REFERENCE, one.network, one.source, dtype, one.seed))
        with Relay([reference], batch, None, shared, start) as beside:
            beside.open(progress)
            expected = beside.losses(0, steps)
        allowed = loss_tolerance(one.network, batch, dtype)
        for place in places:
            progress(f"comparing the losses of {relay.entrants[place].name}", 0.0)
            ours = relay.losses(place, steps)
            deviations[place] = loss_deviation(ours, expected)
            if deviations[place] > allowed:
                raise EntrantWrong(
                    f"{relay.entrants[place].name}: the losses of the first {min(len(ours), len(expected))} steps "
                    f"deviate from those of {REFERENCE} by {deviations[place]:.1e}, at most {allowed:.0e} is allowed; "
                    "nothing was timed",
                    relay.entrants[place].variant,
                )
    return deviations


def loss_deviation(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest relative difference over the steps that both have made; infinite where one is not a number."""
    count = min(len(ours), len(theirs))
    a, b = np.array(ours[:count]), np.array(theirs[:count])
    worst = float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-3), initial=0.0))
    return worst if np.isfinite(worst) and count > 0 else float("inf")


def loss_tolerance(network: Network, batch: int, dtype: str) -> float:
    """What rounding may do to the losses of the first steps: as for gradients in float32, as for steps in float64."""
    if dtype == "float64":
        return TRAJECTORY_TOLERANCE
    longest_sum = max(*network.layers, batch)
    return SINGLE_PRECISION_FACTOR * float(np.finfo(np.float32).eps) * float(np.sqrt(longest_sum))
