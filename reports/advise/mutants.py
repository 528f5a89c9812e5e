"""`python -m reports.advise.mutants`: how many planted flaws `mlpprof advise` finds, and what it reports by mistake.

Flaws are planted into clean programs (`reports.advise.subjects`), one at a time and in many forms
(`reports.advise.forms`). A mutant counts if it runs and prints the same numbers at its end as the clean program, under
plain Python; the others are discarded. Then `advise` runs on it, with the step of the clean program.

A flaw is found if a finding names it and touches a line that planting it has changed. Every other finding has to touch
such a line too, or to be one of those of the clean program, or of those that the clean program's own text allows.
What is left over is wrong.
"""

from __future__ import annotations

import ast
import json
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import Any

import click

from mlpprof import errors
from mlpprof.advise.editing.cure import LineEdit, line_edits
from mlpprof.advise.worker import advise
from mlpprof.cli.terminal import progress_bar
from mlpprof.process import Progress
from mlpprof.programs.request import request_for
from mlpprof.results.advice import Advice, Finding
from mlpprof.results.json import decode
from reports.advise.calibration import measured
from reports.advise.forked import Failure, forked
from reports.advise.forms import FORMS
from reports.advise.planting import Change, Form
from reports.advise.subjects import Subject, subjects
from reports.program import Program, json_option, minutes_option, out_option, over_after, seed_option, show
from reports.studies.study import Study

FOLDER = Path("reports") / "advise"

LONGEST_S = 180.0
"""An `advise` that takes longer counts as a hang."""

REFUSALS = frozenset(
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.MlpprofError)
)
"""Errors that say what is wrong with a program; every other one is a crash."""

RUNS = 3
"""The steps of a mutant and of its clean program are timed in so many runs, in turns, of which the shortest counts."""

WORTH = (0.02, 0.10)
"""Recall is also stated for the flaws that take at least these shares of the step."""


@dataclass(frozen=True)
class Mutant:
    """A program with one flaw more. places: (file, first line, last line) that planting it has changed."""

    clean: Subject
    program: Subject
    form: Form
    places: tuple[tuple[str, int, int], ...]

    def is_touched_by(self, finding: Finding) -> bool:
        """Whether a finding, or a place that it is related to, is on a changed line."""
        named = [(finding.file, finding.line, finding.end_line or finding.line)]
        named += [(place.file, place.line, place.line) for place in finding.related]
        return any(
            file == name and first <= end and line <= last
            for file, first, last in named
            for name, line, end in self.places
        )

    def is_named_by(self, finding: Finding) -> bool:
        """Whether a finding names the flaw."""
        is_named = finding.category in (self.form.category, *self.form.also)
        return is_named and (self.is_touched_by(finding) or self.form.anywhere)


@dataclass(frozen=True)
class Answer:
    """What `advise` says of a program. failure: 'refused', 'crash' or 'hang' and what it says; empty if it answers."""

    advice: Advice | None
    failure: str
    seconds: float


@dataclass(frozen=True)
class Result:
    """One mutant. worth: the share of the mutant's step that the flaw takes, from the processor time of both steps."""

    program: str
    category: str
    form: str
    places: tuple[tuple[str, int, int], ...]
    is_found: bool
    worth: float | None
    failure: str
    seconds: float
    named: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


@dataclass
class Clean:
    """What a clean program prints at its end, and what `advise` says of it."""

    subject: Subject
    numbers: list[float] | None
    answer: Answer | None = None

    def advised(self) -> Answer:
        """What `advise` says of it; asked once."""
        self.answer = self.answer or advised(self.subject)
        return self.answer

    def wrong(self) -> list[Finding]:
        """Findings that its own text does not allow."""
        advice = self.advised().advice
        unplanted = (
            [] if advice is None else [one for one in all_findings(advice) if one.category not in self.subject.flaws]
        )
        allowed = self.subject.truth().flaws
        return [one for one in unplanted if not any(flaw.is_found_by(asdict(one)) for flaw in allowed)]


@dataclass
class Outcome:
    """All that a run has found. discarded: mutants that do not run or train otherwise, by form."""

    results: list[Result] = field(default_factory=list)
    cleans: list[Clean] = field(default_factory=list)
    discarded: Counter[str] = field(default_factory=Counter)


def advised(subject: Subject) -> Answer:
    """What `advise` says of a program whose step it is given."""
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        request = request_for(subject.write(Path(folder).resolve()), step=subject.truth().step)
        message = {"step": request.step, "how_often": "", "program": request.to_json()}
        try:
            answer = forked(lambda: advise(silent, message, 0, []), LONGEST_S)
            if "ended" in answer:  # it made too few steps, and runs once more, as under `mlpprof advise`
                few, plain_s = answer["ended"], answer["plain_s"]
                answer = forked(lambda: advise(silent, message, few, plain_s), LONGEST_S)
        except Failure as failure:
            kind = "hang" if failure.kind == "late" else "refused" if failure.kind in REFUSALS else "crash"
            return Answer(None, f"{kind}: {failure.kind}: {failure.text}", time.monotonic() - begun_s)
    findings = decode(tuple[Finding, ...], json.loads(json.dumps(answer["findings"])))
    small = decode(tuple[Finding, ...], json.loads(json.dumps(answer["small"])))
    advice = Advice(
        answer["step"], answer["step_s"], answer["steps"], findings, tuple(answer["notes"]), {}, {}, small=small
    )
    return Answer(advice, "", time.monotonic() - begun_s)


def all_findings(advice: Advice) -> tuple[Finding, ...]:
    """The findings, with those that are small."""
    return *advice.findings, *advice.small


def silent(what: str, share: float) -> None:
    """Progress that nobody reads."""


def planted(clean: Subject, form: Form) -> Iterator[Mutant]:
    """All mutants of a form."""
    return _mutants(clean, form, _sites(clean, form))


def _mutants(clean: Subject, form: Form, sites: Sequence[tuple[str, list[Change]]]) -> Iterator[Mutant]:
    return filter(None, (_mutant(clean, form, name, changes) for name, changes in sites))


def _sites(clean: Subject, form: Form) -> list[tuple[str, list[Change]]]:
    return [(name, changes) for name, code in clean.code.items() for changes in form.sites(code)]


def _mutant(clean: Subject, form: Form, name: str, changes: list[Change]) -> Mutant | None:
    """The mutant with these changes; None if it is no Python, or nothing changes."""
    before = clean.code[name]
    text = before.changed(changes)
    try:
        compile(text, name, "exec", dont_inherit=True)
    except SyntaxError:
        return None
    edits = _in_the_new(line_edits(name, before.text, text))
    spans = [(edit.start + 1, edit.start + max(1, len(edit.lines))) for edit in edits]
    places = tuple((name, first, _end_of_blocks(text, first, last)) for first, last in spans)
    return Mutant(clean, replace(clean, files={**clean.files, name: text}), form, places) if places else None


def _end_of_blocks(text: str, first: int, last: int) -> int:
    """The last of some lines, or of what the tests on them guard, since that runs at other times."""
    tests = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.If) and first <= node.lineno <= last)
    return max([last, *(node.end_lineno or last for node in tests)])


def _in_the_new(edits: Sequence[LineEdit]) -> Iterator[LineEdit]:
    """The edits with the lines of the new text."""
    moved = 0
    for edit in edits:
        yield replace(edit, start=edit.start + moved)
        moved += len(edit.lines) - (edit.stop - edit.start)


def in_turns(cleans: Sequence[Subject], seed: int) -> Iterator[Mutant]:
    """All mutants in a random order in which the categories take turns, and in each of them its forms."""
    random_ = random.Random(seed)
    queues: dict[str, list[Iterator[Mutant]]] = defaultdict(list)
    for form in random_.sample(FORMS, len(FORMS)):
        queues[form.category].append(_in_random_order(cleans, form, random.Random(f"{seed} {form.name}")))
    while any(queues.values()):
        for queue in queues.values():
            while queue:
                mutants = queue.pop(0)
                mutant = next(mutants, None)
                if mutant is not None:
                    queue.append(mutants)
                    yield mutant
                    break


def _in_random_order(cleans: Sequence[Subject], form: Form, random_: random.Random) -> Iterator[Mutant]:
    """The mutants of a form: at first one of each program, then the others."""
    rest = []
    for clean in random_.sample(cleans, len(cleans)):
        sites = _sites(clean, form)
        random_.shuffle(sites)
        rest.append(_mutants(clean, form, sites))  # a generator written here would use the last `clean` for all
        yield from islice(rest[-1], 1)
    yield from chain.from_iterable(rest)


def judged(
    mutant: Mutant,
    clean: Clean,
    ask: Callable[[Subject], Answer] = advised,
    measure: Callable[[Sequence[Subject], Progress, int], list[float | None]] = measured,
) -> Result:
    """What `advise` makes of a mutant. ask: runs it. measure: times the steps of programs, in turns."""
    answer = ask(mutant.program)
    base = Result(
        mutant.clean.name,
        mutant.form.category,
        mutant.form.name,
        mutant.places,
        False,
        None,
        answer.failure,
        answer.seconds,
    )
    before = clean.advised().advice
    if answer.advice is None or before is None:
        return base
    known = Counter((one.category, one.title) for one in all_findings(before))
    truth = mutant.program.truth()
    named, beside, wrong = [], [], []
    for one in all_findings(answer.advice):
        words = (
            f"{one.category} {one.file}:{one.line} {one.payoff_share[0]:.1%} to {one.payoff_share[1]:.1%}: {one.title}"
        )
        is_known = known[one.category, one.title] > 0
        if mutant.is_named_by(one) and (mutant.is_touched_by(one) or not is_known):
            named.append(words)
        elif mutant.is_touched_by(one) or (not is_known and one.category in mutant.form.also):
            beside.append(words)
        elif (
            not is_known
            and not any(flaw.is_found_by(asdict(one)) for flaw in truth.flaws)
            and one.category not in mutant.clean.flaws
        ):
            wrong.append(words)
    clean_s, mutant_s = measure([clean.subject, mutant.program], silent, RUNS)
    worth = 1 - clean_s / mutant_s if clean_s is not None and mutant_s is not None else None
    return replace(
        base, is_found=bool(named), worth=worth, named=tuple(named), beside=tuple(beside), wrong=tuple(wrong)
    )


def run(
    sample: int,
    programs: int,
    seed: int,
    minutes: float | None,
    only: Sequence[str],
    progress: Progress,
    keep: Callable[[Outcome], object],
) -> Outcome:
    """Make and judge so many mutants of so many programs.

    only: of these categories and forms. keep: gets what there is after every mutant.
    """
    is_over, outcome = over_after(minutes), Outcome()
    cleans: dict[str, Clean] = {}
    chosen = list(subjects())
    chosen = random.Random(seed).sample(chosen, min(programs, len(chosen)))
    for mutant in in_turns(chosen, seed):
        if len(outcome.results) >= sample or is_over():
            break
        if only and not {mutant.form.category, mutant.form.name} & set(only):
            continue
        name, key = mutant.clean.name, f"{mutant.form.category}: {mutant.form.name}"
        progress(f"{len(outcome.results) + 1} of {sample}: {key} in {name}", len(outcome.results) / sample)
        if name not in cleans:
            cleans[name] = Clean(mutant.clean, mutant.clean.run())
            outcome.cleans.append(cleans[name])
        wanted = cleans[name].numbers
        is_precise = mutant.form.category != "float64"
        if wanted is None or not mutant.program.trains_like(wanted, is_precise):
            outcome.discarded[key] += 1
            continue
        outcome.results.append(judged(mutant, cleans[name]))
        keep(outcome)
    return outcome


def table(outcome: Outcome) -> str:
    """The figures as Markdown."""
    heads = ["category", "forms", "mutants", "found", "recall"]
    for worth in WORTH:
        heads += [f"worth {worth:.0%}", "recall"]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    by_category: dict[str, list[Result]] = defaultdict(list)
    for one in outcome.results:
        by_category[one.category].append(one)
    rows = [*by_category.items(), ("all", outcome.results)]
    for category, results in rows:
        cells = [category, str(len({one.form for one in results})), str(len(results))]
        cells += [str(sum(one.is_found for one in results)), _recall(results)]
        for worth in WORTH:
            worthy = [one for one in results if one.worth is not None and one.worth >= worth]
            cells += [str(len(worthy)), _recall(worthy)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_sentences(outcome), "", *_missed(outcome.results)]) + "\n"


def _recall(results: Sequence[Result]) -> str:
    return f"{sum(one.is_found for one in results) / len(results):.0%}" if results else ""


def _sentences(outcome: Outcome) -> Iterator[str]:
    results, cleans = outcome.results, [one for one in outcome.cleans if one.answer is not None]
    right = sum(len(one.named) + len(one.beside) for one in results)
    wrong = sum(len(one.wrong) for one in results)
    lines = sum(one.subject.lines for one in cleans)
    on_clean = [finding for one in cleans for finding in one.wrong()]
    seconds = [one.seconds for one in results] + [one.answer.seconds for one in cleans if one.answer]
    failed = Counter(one.failure.partition(":")[0] for one in results if one.failure)
    if right + wrong:
        share = right / (right + wrong)
        yield f"- Of {right + wrong} findings that the clean program does not have, {right} are right: {share:.1%}."
    if lines:
        rate = 1000 * len(on_clean) / lines
        yield f"- {len(on_clean)} false findings on {len(cleans)} clean programs: {rate:.1f} in 1,000 lines of code."
    yield f"- {sum(outcome.discarded.values())} mutants were discarded, because they did not run or trained otherwise."
    yield f"- {failed['crash']} crashes, {failed['hang']} hangs, {failed['refused']} programs refused."
    if seconds:
        yield f"- One `advise` took {median(seconds):.1f} s in the median, and {max(seconds):.1f} s at most."


def _missed(results: Sequence[Result]) -> Iterator[str]:
    """A row for each form, those with the most misses first."""
    yield "| form | mutants | missed | missed and worth 2 % | median worth |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    forms: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for one in results:
        forms[one.category, one.form].append(one)
    rows = []
    for (category, form), of_form in forms.items():
        missed = [one for one in of_form if not one.is_found]
        worthy = sum(one.worth is not None and one.worth >= WORTH[0] for one in missed)
        worths = [one.worth for one in of_form if one.worth is not None]
        shown = f"{median(worths):.0%}" if worths else ""
        rows.append(
            (-worthy, -len(missed), f"| {category}: {form} | {len(of_form)} | {len(missed)} | {worthy} | {shown} |")
        )
    yield from (row[2] for row in sorted(rows))


def as_json(outcome: Outcome) -> dict[str, Any]:
    """All results, the false findings on clean programs, and what was discarded."""
    cleans = [
        {
            "program": one.subject.name,
            "lines": one.subject.lines,
            "seconds": one.answer.seconds,
            "failure": one.answer.failure,
            "wrong": [f"{f.category} {f.file}:{f.line} {f.payoff_share}: {f.title}" for f in one.wrong()],
        }
        for one in outcome.cleans
        if one.answer is not None
    ]
    return {
        "schema": 1,
        "results": [asdict(one) for one in outcome.results],
        "clean": cleans,
        "discarded": dict(outcome.discarded),
    }


@click.command(cls=Program)
@click.option("--sample", type=click.IntRange(1), default=600, show_default=True, help="Number of mutants.")
@click.option("--programs", type=click.IntRange(1), default=100, show_default=True, help="Clean programs, at most.")
@seed_option("Seed of the choice of both.")
@minutes_option("mutant")
@click.option("--only", metavar="NAMES", default="", help="Only these categories and forms, separated by commas.")
@out_option(FOLDER, "mutants.md and mutants.json")
@json_option("Print JSON instead of the tables.")
def main(sample: int, programs: int, seed: int, minutes: float | None, only: str, out: Path, to_json: bool) -> None:
    """Plant flaws into clean programs, and count those that `mlpprof advise` finds."""
    study = Study.begin("mutants", out)

    def written(outcome: Outcome) -> tuple[str, dict[str, Any]]:
        return study.keep(table(outcome), as_json(outcome), "reports.advise")

    with progress_bar() as progress:
        outcome = run(sample, programs, seed, minutes, [name for name in only.split(",") if name], progress, written)
    text, document = written(outcome)
    show(text, document, to_json)


if __name__ == "__main__":
    main(prog_name="python -m reports.advise.mutants")
