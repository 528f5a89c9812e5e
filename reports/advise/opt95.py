"""`python -m reports.advise.opt95`: how fast proven patches make flawed programs, and whether stated savings come true.

The flawed programs have a twin without the flaws: those of the wild corpus, the slow members of the styles, and
mutants with several flaws. `mlpprof advise --prove` looks for a patch, which is applied with `git apply`; the patched
program has to print the same numbers at its end. A program reaches the goal if its patch gives it 95 % of the speed of
the twin. Both speedups, of the patch and of the twin, are those of the processor time of a step, which other programs
on the machine change less than the time on the clock.

The calibration compares, for each finding whose cure was proven, the saving that was stated with the measured one.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import click

from mlpprof.advise import Subject as Target
from mlpprof.advise.editing.cure import Cure, line_edits
from mlpprof.advise.editing.cure import applied as with_edits
from mlpprof.advise.proof.trials import proven
from mlpprof.cli.terminal import progress_bar
from mlpprof.errors import MlpprofError, UsageError
from mlpprof.process import Progress, part_of
from mlpprof.programs.request import request_for
from mlpprof.results.proof import IN_THE_PATCH, Proof
from reports.advise.calibration import Stated, measured
from reports.advise.calibration import table as calibration_table
from reports.advise.mutants import in_turns
from reports.advise.subjects import Subject, subjects, with_twins
from reports.program import Program, json_option, minutes_option, out_option, over_after, seed_option, show
from reports.studies.study import Study

FOLDER = Path("reports") / "advise"

GOAL = 0.95
"""A patch reaches the goal if it gives the program this share of the speed of its twin."""

FLAWED = 1.05
"""A program counts as flawed if its twin is so many times as fast."""

KINDS = ("wild", "styles", "mutants")
"""Where flawed programs come from."""

FLAWS = 3
"""A mutant with several flaws has so many."""


@dataclass(frozen=True)
class Pair:
    """A flawed program and its twin without the flaws."""

    flawed: Subject
    clean: Subject


@dataclass(frozen=True)
class Patched:
    """What became of a program. twin, patch: how many times as fast they are; failure: why there is no answer."""

    program: str
    twin: float | None = None
    patch: float = 1.0
    is_patched: bool = False
    is_safe: bool = True
    applies: bool | None = None
    trains_the_same: bool | None = None
    stated: tuple[Stated, ...] = ()
    left: tuple[str, ...] = ()
    seconds: float = 0.0
    failure: str = ""

    @property
    def is_flawed(self) -> bool:
        """Whether there was something to gain."""
        return self.twin is not None and self.twin >= FLAWED

    @property
    def reached(self) -> float:
        """The share of the twin's speed that the patched program has."""
        return self.patch / (self.twin or 1.0)


@dataclass
class Outcome:
    """All that a run has found."""

    results: list[Patched] = field(default_factory=list)


def with_several_flaws(cleans: Sequence[Subject], seed: int) -> Iterator[Pair]:
    """Mutants with several flaws that still train the same, each of another clean program."""
    random_ = random.Random(seed)
    for clean in random_.sample(cleans, len(cleans)):
        wanted, flawed, number = clean.run(), clean, 0
        if wanted is None:
            continue
        for mutant in in_turns([clean], seed):
            both = merged(clean, flawed, mutant.program)
            if both is not None and both.trains_like(wanted, mutant.form.category != "float64"):
                flawed, number = both, number + 1
            if number == FLAWS:
                yield Pair(replace(flawed, name=f"mutant of {clean.name}"), clean)
                break


def merged(clean: Subject, one: Subject, other: Subject) -> Subject | None:
    """A program with the changes of both; None if they change the same lines."""
    edits = []
    for changed in (one, other):
        made = (line_edits(name, text, changed.files[name]) for name, text in clean.files.items())
        edits.append(Cure("safe", tuple(chain.from_iterable(made))))
    if edits[0].conflicts_with(edits[1]):
        return None
    return replace(clean, files={**clean.files, **with_edits(clean.files, edits)})


def judged(pair: Pair, progress: Progress) -> Patched:
    """Prove a patch for the flawed program, and compare it with the twin."""
    begun_s, name = time.monotonic(), pair.flawed.name
    with tempfile.TemporaryDirectory() as made, contextlib.chdir(made):
        folder = Path(made).resolve()
        request = request_for(pair.flawed.write(folder), step=pair.flawed.truth().step)
        try:
            proof = proven(Target(request, request.step, threads=1), part_of(progress, 0.0, 0.8, name)).proof
            patched = pair.flawed
            if proof is not None and proof.is_proven:
                texts = {Path(file.path).name: file.new for file in proof.files}
                patched = replace(pair.flawed, files={**pair.flawed.files, **texts})
            programs = [pair.flawed, pair.clean, patched]
            flawed_s, clean_s, patched_s = measured(programs, part_of(progress, 0.8, 0.2, name))
            if flawed_s is None or clean_s is None or patched_s is None:
                raise UsageError("the processor time of a step could not be measured")
            found = Patched(name, flawed_s / clean_s, seconds=time.monotonic() - begun_s)
            if proof is None:
                return found
            stated = tuple(_stated(proof))
            left = tuple(
                f"{one.category}: {one.title} ({one.reason})" for one in proof.cures if one.outcome != IN_THE_PATCH
            )
            found = replace(found, stated=stated, left=left)
            if not proof.is_proven or proof.verdict is None:
                return found
            applies, same = applied(pair.flawed, proof.patch, is_precise=not proof.changes_precision)
        except MlpprofError as error:
            return Patched(name, failure=str(error), seconds=time.monotonic() - begun_s)
        return replace(
            found,
            patch=flawed_s / patched_s,
            is_patched=True,
            is_safe=not proof.changes_precision,
            applies=applies,
            trains_the_same=same,
        )


def _stated(proof: Proof) -> Iterator[Stated]:
    for one in proof.cures:
        if one.alone is not None:
            low, high = (1 - 1 / times for times in one.promised)
            yield Stated(one.category, one.title, low, high, 1 - 1 / one.alone)


def applied(flawed: Subject, patch: str, is_precise: bool) -> tuple[bool, bool]:
    """Whether `git apply` takes a patch, and whether the program then prints the same numbers at its end."""
    with tempfile.TemporaryDirectory() as folder:
        flawed.write(Path(folder))
        done = subprocess.run(["git", "apply"], input=patch, cwd=folder, capture_output=True, text=True, check=False)
        files = {name: Path(folder, name).read_text(encoding="utf-8") for name in flawed.files}
    wanted = flawed.run()
    is_same = wanted is not None and replace(flawed, files=files).trains_like(wanted, is_precise)
    return done.returncode == 0, done.returncode == 0 and is_same


def pairs(kinds: Sequence[str], sample: int, seed: int) -> list[Pair]:
    """Flawed programs with their twins, those of the kinds in turns."""
    random_, of_kind = random.Random(seed), []
    twins = [Pair(*one) for one in with_twins()]
    for kind in kinds:
        if kind == "mutants":
            of_kind.append(list(islice(with_several_flaws(list(subjects()), seed), sample)))
        else:
            found = [one for one in twins if one.flawed.name.startswith(kind)]
            of_kind.append(random_.sample(found, len(found)))
    turns = zip_longest(*of_kind)
    return [pair for turn in turns for pair in turn if pair is not None][:sample]


def run(
    wanted: Sequence[Pair], minutes: float | None, progress: Progress, keep: Callable[[Outcome], object]
) -> Outcome:
    """Judge the programs. keep: gets what there is after every program."""
    is_over, outcome = over_after(minutes), Outcome()
    for number, pair in enumerate(wanted):
        if is_over():
            break
        outcome.results.append(judged(pair, part_of(progress, number / len(wanted), 1 / len(wanted))))
        keep(outcome)
    return outcome


def table(outcome: Outcome) -> str:
    """The figures as Markdown."""
    lines = [
        "| program | twin | patch | share of the twin's speed | applies | trains the same | seconds |",
        "| --- | ---: | ---: | ---: | --- | --- | ---: |",
    ]
    for one in outcome.results:
        if one.twin is None:
            lines.append(f"| {one.program} | {one.failure} | | | | | {one.seconds:.0f} |")
            continue
        precision = "" if one.is_safe else ", float32"
        share = f"{one.reached:.0%}" if one.is_flawed else "nothing to gain"
        patch = f"{one.patch:.2f}{precision}" if one.is_patched else "none"
        answers = [{True: "yes", False: "no", None: ""}[answer] for answer in (one.applies, one.trains_the_same)]
        cells = [one.program, f"{one.twin:.2f}", patch, share, *answers, f"{one.seconds:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    stated = [one for result in outcome.results for one in result.stated]
    return "\n".join([*lines, "", *_sentences(outcome.results), "", calibration_table(stated)])


def _sentences(results: Sequence[Patched]) -> Iterator[str]:
    flawed = [one for one in results if one.is_flawed]
    patched = [one for one in results if one.is_patched]
    safe = [one for one in patched if one.is_safe]
    if flawed:
        reached = sum(one.reached >= GOAL for one in flawed)
        share = reached / len(flawed)
        yield f"- {reached} of {len(flawed)} flawed programs reach {GOAL:.0%} of the twin's speed: {share:.0%}."
    differ = sum(one.trains_the_same is False and one.applies is True for one in patched)
    yield f"- {differ} of {len(patched)} patches train differently."
    apply = sum(bool(one.applies and one.trains_the_same) for one in safe)
    yield f"- {apply} of {len(safe)} safe patches apply and run."
    yield f"- {sum(bool(one.failure) for one in results)} programs could not be proven because of an error."


@click.command(cls=Program)
@click.option(
    "--kinds",
    default="wild,styles,mutants",
    show_default=True,
    help="Kinds of programs, separated by commas.",
)
@click.option("--sample", type=click.IntRange(1), default=90, show_default=True, help="Number of programs.")
@seed_option("Seed of the choice of programs.")
@minutes_option("program")
@out_option(FOLDER, "opt95.md and opt95.json")
@json_option("Print JSON instead of the tables.")
def main(kinds: str, sample: int, seed: int, minutes: float | None, out: Path, to_json: bool) -> None:
    """Prove patches for flawed programs, and compare the patched programs with their clean twins."""
    names = kinds.split(",")
    if unknown := set(names) - set(KINDS):
        raise UsageError(f"no kind is called {min(unknown)!r}; the kinds are {', '.join(KINDS)}")
    study = Study.begin("opt95", out.resolve())

    def written(outcome: Outcome) -> tuple[str, dict[str, Any]]:
        results = [asdict(one) for one in outcome.results]
        return study.keep(table(outcome), {"schema": 1, "results": results}, "reports.advise")

    with progress_bar() as progress:
        progress("making the programs", 0.0)
        outcome = run(pairs(names, sample, seed), minutes, progress, written)
    text, document = written(outcome)
    show(text, document, to_json)


if __name__ == "__main__":
    main(prog_name="python -m reports.advise.opt95")
