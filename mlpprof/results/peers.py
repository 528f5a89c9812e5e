"""The project's variants compared with frameworks: the entrants, their times and their ratios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlpprof.model import Network
from mlpprof.results.comparison import Race, Verdict
from mlpprof.results.run import Json

INDIRECT = ("gram", "sparse", "sparse_team")
"""Variants that do not multiply with every number of X: what they gain depends on the data, and a framework could use
their ideas too. The others are direct."""


@dataclass(frozen=True)
class Competitor:
    """One entrant of a row, at its best setting.

    name: with the setting; is_peer: it is a framework; is_single: it uses one process and starts no threads. engine:
    the library, its kernel and threads. epoch_s: median seconds of a run, over that many replicates. A finalist has
    several, which follow the one that all take part in. compile_s: additional seconds of the first run. deviation:
    largest relative difference of its losses from those of the reference. over_best_peer: how many times as fast it is
    as the fastest framework; None without a framework, and for the fastest framework itself.
    """

    name: str
    variant: str
    is_peer: bool
    is_single: bool
    engine: str
    dtype: str
    epoch_s: float
    replicates: int
    compile_s: float
    deviation: float | None
    over_best_peer: Verdict | None

    @property
    def is_direct(self) -> bool:
        return not self.is_peer and self.variant not in INDIRECT


@dataclass(frozen=True)
class PeersRow:
    """One network at one batch size, all entrants in one interleaved race.

    steps: the steps of a run, which is an epoch with shuffling and gathering, or the beginning of a long one. absent:
    entrant -> why it does not take part.
    """

    name: str
    title: str
    network: Network
    samples: int
    batch: int
    steps: int
    competitors: tuple[Competitor, ...]
    absent: Mapping[str, str]
    race: Race

    @property
    def is_whole_epoch(self) -> bool:
        return self.steps == self.samples // self.batch

    @property
    def finalists(self) -> tuple[Competitor, ...]:
        """Those with the most replicates: all of them where there was only one."""
        most = max((one.replicates for one in self.competitors), default=0)
        return tuple(one for one in self.competitors if one.replicates == most)

    @property
    def best_peer(self) -> Competitor | None:
        return _fastest(one for one in self.finalists if one.is_peer)

    @property
    def best_ours(self) -> Competitor | None:
        return _fastest(one for one in self.finalists if not one.is_peer)

    @property
    def best_single(self) -> Competitor | None:
        return _fastest(one for one in self.finalists if not one.is_peer and one.is_single)

    @property
    def best_direct(self) -> Competitor | None:
        return _fastest(one for one in self.finalists if one.is_direct)

    @property
    def best_direct_single(self) -> Competitor | None:
        return _fastest(one for one in self.finalists if one.is_direct and one.is_single)


def _fastest(competitors: Iterable[Competitor]) -> Competitor | None:
    return min(competitors, key=lambda one: one.epoch_s, default=None)


@dataclass(frozen=True)
class PeersTable:
    """All rows of one call of `mlpprof peers`; replicates: of each row. The finalists take part in all of them."""

    created: str
    command: str
    quick: bool
    replicates: int
    rows: tuple[PeersRow, ...]
    machine: Json
