"""A story: the runs, comparisons and ladders of one report, in order, with one name for every variant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlpprof.results import BatchResult, Comparison, Ladder, Run


@dataclass(frozen=True)
class Measured:
    """One variant at one batch size, from a run; number: the place of its name among the names of the story."""

    name: str
    run: Run
    result: BatchResult
    number: int = 0


@dataclass(frozen=True)
class Story:
    """Runs, comparisons and ladders that one report shows; `profiles` also contains the runs of the ladders."""

    runs: tuple[Run, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    ladders: tuple[Ladder, ...] = ()

    @staticmethod
    def of(runs: Sequence[Run] = (), comparisons: Sequence[Comparison] = (), ladders: Sequence[Ladder] = ()) -> Story:
        """From any sequences; raises ValueError if all of them are empty."""
        if not (runs or comparisons or ladders):
            raise ValueError("a report needs at least one run, comparison or ladder")
        return Story(tuple(runs), tuple(comparisons), tuple(ladders))

    @property
    def profiles(self) -> tuple[tuple[str, Run], ...]:
        """All runs with their names: the variant's, with a number where two runs would have the same name."""
        named: list[tuple[str, Run]] = []
        taken: dict[str, set[int]] = {}
        for run in (*(run for ladder in self.ladders for run in ladder.runs), *self.runs):
            batches = {result.batch for result in run.results}
            n, name = 1, run.variant.name
            while taken.get(name, set()) & batches:
                n += 1
                name = f"{run.variant.name} ({n})"
            taken.setdefault(name, set()).update(batches)
            named.append((name, run))
        return tuple(named)

    @property
    def measured(self) -> tuple[Measured, ...]:
        """Every variant at every batch size that was profiled."""
        numbers = {name: i for i, name in enumerate(self.names)}
        return tuple(
            Measured(name, run, result, numbers[name]) for name, run in self.profiles for result in run.results
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All variants, those of ladders first, then of comparisons and runs; the place is a variant's number."""
        return tuple(dict.fromkeys(self._names()))

    def _names(self) -> Iterator[str]:
        for ladder in self.ladders:
            yield from (rung.name for rung in ladder.rungs)
        for comparison in self.comparisons:
            yield from (comparison.old, comparison.new)
        yield from (name for name, _ in self.profiles)

    @property
    def batches(self) -> tuple[int, ...]:
        """All batch sizes that were profiled or raced, in order."""
        profiled = {one.result.batch for one in self.measured}
        return tuple(sorted(profiled | {x.batch for x in self.ladders} | {x.batch for x in self.comparisons}))

    def at(self, batch: int) -> tuple[Measured, ...]:
        return tuple(one for one in self.measured if one.result.batch == batch)

    def raced_step_s(self, name: str, batch: int) -> float | None:
        """Median seconds per step in the race of a ladder; None where the variant was in no race."""
        for ladder in self.ladders:
            for rung in ladder.rungs:
                if ladder.batch == batch and rung.name == name:
                    return rung.step_s
        return None

    def step_s(self, one: Measured) -> float:
        """Median seconds per step: from the race of the ladder where there is one, else from the run."""
        return self.raced_step_s(one.name, one.result.batch) or one.result.step_s.median

    def find(self, name: str, batch: int) -> Measured | None:
        return next((one for one in self.at(batch) if one.name == name), None)
