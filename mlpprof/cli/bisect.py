"""`mlpprof bisect TARGET --good REF --bad REF` finds the commit that made a program slow."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import click

from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.options import (
    ProgramCommand,
    SecondsRange,
    allow_writes_option,
    arguments_argument,
    figure_option,
    modules_options,
    program_request,
    resolution_option,
    step_option,
    time_limit_option,
)
from mlpprof.cli.saving import Saving
from mlpprof.cli.streams import complain
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.compare.bisect import Bisected, bisect
from mlpprof.compare.entrants import Environment
from mlpprof.compare.error_bounds import Procedure, procedure_for
from mlpprof.compare.programs import ProgramComparer, TrainsDifferently, Wanted
from mlpprof.compare.variant_difference import PAIRS
from mlpprof.errors import EXIT_INCONCLUSIVE, EXIT_OK, UsageError
from mlpprof.files import require_writable
from mlpprof.profile.program import profile_step
from mlpprof.programs.bisection import Bisection, Commit
from mlpprof.programs.load import own_sources
from mlpprof.programs.name import EXPECTED, ProgramName, is_program
from mlpprof.programs.request import ProgramRequest
from mlpprof.report.files.formats import COMPARISONS
from mlpprof.report.json_documents import bisect_json
from mlpprof.report.terminal.bisect import print_bisected
from mlpprof.results import Comparison


@click.command("bisect", cls=ProgramCommand)
@click.argument("target")
@arguments_argument
@click.option("--good", required=True, metavar="REF", help="A commit at which the program was fast.")
@click.option("--bad", default="HEAD", show_default=True, metavar="REF", help="A later commit at which it is slow.")
@click.option(
    "--at-least",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="R",
    help="A commit is slow if it is less than R times as fast as the good one (default: about the middle between the "
    "ratio of the bad commit and 1).",
)
@step_option
@modules_options
@allow_writes_option
@time_limit_option
@click.option("--threads", type=click.IntRange(1, 1024), help="Number of BLAS threads (default: the program's own).")
@click.option("--native-blas", is_flag=True, help="Ignore variables that fix the BLAS kernel (OPENBLAS_CORETYPE, ...).")
@resolution_option
@click.option("--budget", type=SecondsRange(0, min_open=True), metavar="SECONDS", help="Time limit per commit.")
@click.option(
    "-o",
    "--out",
    type=WrittenPath(dir_okay=False),
    is_eager=True,
    metavar="FILE",
    help="Write the comparison of the slow commit with the one before to FILE: .html .json .csv .png .svg .md .h5",
)
@figure_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the report.")
@click.pass_context
def command(ctx: click.Context, /, target: str, good: str, bad: str, **options: Any) -> None:
    """Find the commit that made the training step of TARGET slow: a script, a notebook or a module.

    Git chooses the commits, as in git bisect, and each is raced against the good one. Your files, your branches and
    your own git bisect are not touched: every version of the source code is taken from git, with the data that is there
    now. A commit that cannot be run is skipped, and the report says why. A commit with the same code as another one is
    not raced again.

    At the end, the first slow commit is raced against the one before it. The report shows how much slower it is, and
    which expression lost the time. The arguments of the program follow after --.

    The exit code is 0 if the commit was found, 1 if the bad commit is not slower than the good one, and 3 if that is
    undecided, or if the commits that are left had to be skipped.

    \b
    mlpprof bisect train.py --good v1.0
    mlpprof bisect train.py --good HEAD~40 --bad HEAD --at-least 0.9 -- --epochs 3
    """
    out, figure = options["out"], options["figure"]
    name = _program(target)
    if out is not None:
        require_writable(out)
        COMPARISONS.choose(out, None, figure)
    races = CommitRaces(name, options)
    saving = Saving()
    with Bisection(name, good, bad) as git:
        for sentence in races.announcement(git):
            complain(sentence)
        found = bisect(git, races, options["at_least"], complain, shlex.join(["mlpprof", *sys.argv[1:]]))
    if out is not None and found.explained is not None:
        with saving.attempt():
            COMPARISONS.write([found.explained], out, None, figure)
    with saving.report_first():
        if options["as_json"]:
            print_json(bisect_json(found))
        else:
            print_bisected(found, output_console())
    ctx.exit(exit_code(found))


def exit_code(found: Bisected) -> int:
    """0 if one commit is known to be the first slow one."""
    return EXIT_OK if found.first_slow is not None else EXIT_INCONCLUSIVE


def _program(target: str) -> ProgramName:
    """The program without a ref. Raises UsageError if it is none, or if it has a ref."""
    words = target.strip()
    if not is_program(words):
        raise UsageError(f"'{words}' is not a program; {EXPECTED.partition(', each')[0]}")
    name = ProgramName.parse(words)
    if name.ref is not None:
        command = f"mlpprof bisect {replace(name, ref=None).text} --good {name.ref}"
        raise UsageError(f"'{words}' has a git ref, but refs are for --good and --bad; type {command}")
    return name


@dataclass
class CommitRaces:
    """Races commits of one program, each as its sources were; the steps that were found are kept.

    options: of the command.
    """

    name: ProgramName
    options: Mapping[str, Any]
    _steps: dict[str, str] = field(default_factory=dict)

    @property
    def _procedure(self) -> Procedure:
        return procedure_for(self.options["resolution"])

    def race(self, old: Commit, new: Commit, at_least: float | None) -> Comparison:
        """Race two commits. Whether both train the same is not asked: it may have changed on purpose."""
        return self._compared(
            old, new, Wanted(at_least, self.options["budget"], check=False, procedure=self._procedure)
        )

    def explained(self, old: Commit, new: Commit) -> Comparison:
        """Race two commits and profile both; a note says if they do not train the same."""
        wanted = Wanted(
            budget_s=self.options["budget"],
            profile_step=partial(profile_step, threads=self.options["threads"]),
            pairs=PAIRS,
            procedure=self._procedure,
        )
        try:
            return self._compared(old, new, wanted)
        except TrainsDifferently as error:
            found = self._compared(old, new, replace(wanted, check=False))
            assert found.programs is not None
            note = f"the two do not train the same: {error.different.training.reason}"
            return replace(found, programs=replace(found.programs, notes=(*found.programs.notes, note)))

    def code_of(self, commit: Commit) -> dict[str, str]:
        """The texts of the program's own files at a commit."""
        return own_sources(self._request(commit))

    def announcement(self, git: Bisection) -> list[str]:
        """Sentences that say how many commits there are, and how often the program will run."""
        request = ProgramRequest(self.name, step=self.options["step"])
        at_least, budget_s = self.options["at_least"] or 1.0, self.options["budget"]
        wanted = Wanted(at_least, budget_s, check=False, procedure=self._procedure)
        most = sum(sum(count for count, _ in wanted.runs(request, is_old)) for is_old in (True, False))
        races = math.ceil(math.log2(max(1, git.count))) + 2
        commits = "1 commit comes" if git.count == 1 else f"{git.count} commits come"
        return [
            f"{commits} after {git.good.short}, so there are about {races} races of two commits; in "
            f"each, {self.name.short} runs up to {most} times, and is stopped as soon as it has made enough steps"
        ]

    def _compared(self, old: Commit, new: Commit, wanted: Wanted) -> Comparison:
        environment = Environment(self.options["threads"], self.options["native_blas"])
        comparer = ProgramComparer([self._request(old), self._request(new)], environment, wanted, lambda text: None)
        with progress_bar() as progress:
            [found] = comparer.compare("", progress)
        assert found.programs is not None
        self._steps.update(zip((old.sha, new.sha), found.programs.steps, strict=True))
        return found

    def _request(self, commit: Commit) -> ProgramRequest:
        step = self.options["step"] or self._steps.get(commit.sha)
        return program_request(replace(self.name, ref=commit.short).text, {**self.options, "step": step})
