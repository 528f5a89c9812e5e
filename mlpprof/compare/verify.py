"""Verifying a stored race or run: every figure that it states is computed again from its raw samples.

The digest of the file shows that nothing was changed on its way; it proves nothing about who wrote the file. The
figures are therefore computed anew, by the functions that computed them first.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlpprof.compare.decide import decide, log_ratios, null_bias
from mlpprof.compare.error_bounds import procedure_for
from mlpprof.machine.limits import unit_of
from mlpprof.results import Comparison, Ladder, Race, Run, Verdict
from mlpprof.results.races_on_disk import StoredRace

PRECISION = 1e-9
"""Stored and computed figures may differ by this share: sums may be rounded in another order on another machine."""

Figure = float | str | None


@dataclass(frozen=True)
class Statement:
    """A figure that a file states, and the same figure computed from its samples.

    what: in words. stored, computed: seconds, a ratio, or a text; None where there is none.
    """

    what: str
    stored: Figure
    computed: Figure

    @property
    def is_confirmed(self) -> bool:
        """Whether both are the same."""
        if isinstance(self.stored, float) and isinstance(self.computed, float):
            return math.isclose(self.stored, self.computed, rel_tol=PRECISION)
        return self.stored == self.computed


def statements_of_race(stored: StoredRace) -> list[Statement]:
    """Every figure of a comparison or of a ladder."""
    record = stored.record
    made = _of_ladder(record) if isinstance(record, Ladder) else _of_comparison(record)
    return [*made, *_of_samples(record.race, stored)]


def statements_of_run(run: Run) -> list[Statement]:
    """What a run states beside its samples: all else in its reports is computed from these when it is shown."""
    digest = hashlib.sha256(run.variant.source.encode("utf-8", "surrogatepass")).hexdigest()
    return [
        Statement("the digest of the source", run.variant.source_sha256, digest),
        *(Statement(f"the unit of {name}", limit["unit"], unit_of(name)) for name, limit in run.limits.items()),
    ]


def _of_comparison(comparison: Comparison) -> Iterator[Statement]:
    race, verdict = comparison.race, comparison.verdict
    yield Statement("the older one", comparison.old, race.variants[0])
    yield Statement("the newer one", comparison.new, race.variants[1])
    yield from _of_verdict(f"{comparison.new} over {comparison.old}", verdict, race, 0, 1)
    difference_s = race.step_s(0) - race.step_s(1)
    for change in comparison.waterfall:
        of = f"{change.phase} {change.label}".strip()
        share = (change.old_s - change.new_s) / difference_s if difference_s else 0.0
        yield Statement(f"the share of {of} in the difference", change.share, share)


def _of_ladder(ladder: Ladder) -> Iterator[Statement]:
    race = ladder.race
    place = {name: i for i, name in enumerate(race.variants)}
    yield Statement("the rungs", ", ".join(rung.name for rung in ladder.rungs), ", ".join(race.variants))
    for i, rung in enumerate(ladder.rungs):
        yield Statement(f"the step of {rung.name} in seconds", rung.step_s, race.step_s(i))
        for verdict, other in ((rung.over_parent, place.get(rung.parent or "")), (rung.over_root, 0)):
            if verdict is not None and other is not None:
                yield from _of_verdict(f"{rung.name} over {race.variants[other]}", verdict, race, other, i)


def _of_verdict(of: str, verdict: Verdict, race: Race, old: int, new: int) -> Iterator[Statement]:
    procedure = procedure_for(verdict.resolution)
    null = null_bias(verdict.null, procedure) if verdict.null else None
    found = decide(log_ratios(race, old, new), verdict.at_least, procedure, null=null, final=verdict.is_final)
    yield Statement(f"the ratio of {of}", verdict.ratio, found.estimate)
    yield Statement(f"the lower end of its interval, {of}", verdict.low, found.low)
    yield Statement(f"the upper end of its interval, {of}", verdict.high, found.high)
    yield Statement(f"the verdict on {of}", verdict.outcome, None if found.outcome is None else str(found.outcome))
    reason = verdict.reason if not verdict.reason.startswith(found.reason) else found.reason
    yield Statement(f"the reason of the verdict on {of}", reason, found.reason)
    yield Statement(f"the number of processes, {of}", float(verdict.processes), float(found.replicates))


def _of_samples(race: Race, stored: StoredRace) -> Iterable[Statement]:
    """Every sample enters one of these figures."""
    for process, stated in enumerate(stored.scatter):
        computed = race.scatter(process)
        for i, name in enumerate(race.variants):
            what = f"the scatter of {name} in process {process + 1}"
            yield Statement(what, float(stated[i]) if i < len(stated) else None, float(computed[i]))
