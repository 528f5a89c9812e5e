"""`mlpprof workshop` makes a folder of exercises, checks them, and has solutions, a guide and a page for a class."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from mlpprof.cli.configuration import WrittenPath
from mlpprof.cli.options import given_options
from mlpprof.cli.saving import Saving
from mlpprof.cli.streams import complain
from mlpprof.cli.terminal import output_console, print_json, print_sentence, progress_bar
from mlpprof.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, UsageError, counted
from mlpprof.files import require_writable, require_writable_folder, write_atomically
from mlpprof.report.numbers import digits
from mlpprof.results.json import json_text
from mlpprof.workloads import WORKLOADS
from mlpprof.workshop import conditions
from mlpprof.workshop.author import Wanted
from mlpprof.workshop.author import author as make_exercise
from mlpprof.workshop.board import read_folders, without_names, write_board
from mlpprof.workshop.check import examine, race, require_as_used
from mlpprof.workshop.exercises import COURSE_FILE, RESULTS, WORKLOAD, Course, Exercise, built_in, read_course
from mlpprof.workshop.folder import course_of, keep, new_folder, next_exercise, require_folder, stored_results
from mlpprof.workshop.gradebooks import FORMATS
from mlpprof.workshop.learner import learner_name, parse_guess
from mlpprof.workshop.notebook import notebook_text
from mlpprof.workshop.pair import is_pair_of_programs
from mlpprof.workshop.result import Result
from mlpprof.workshop.result_text import last_line, rows, title
from mlpprof.workshop.solutions import solution_text

EXIT_CODES = {"pass": EXIT_OK, "fail": EXIT_FAILED, "inconclusive": EXIT_INCONCLUSIVE}
STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}

exercises_option = click.option(
    "--exercises",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Take the exercises of FOLDER, which mlpprof workshop author has made (default: those of mlpprof).",
)


class InOrder(click.Group):
    """A group that lists its commands in the order in which they are defined."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group("workshop", cls=InOrder)
def command() -> None:
    """Teach performance with exercises, from the loop over samples to the roofline.

    Learners use new, then check. Teachers use guide, solution and board, and author for exercises of their own.
    """


@command.command("new", short_help="Make a folder with the exercises.")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--notebook", is_flag=True, help="Add the exercises as a notebook (needs the extra 'notebook').")
@exercises_option
def new(folder: Path, notebook: bool, exercises: Path | None) -> None:
    """Make DIR with a README, the file my_mlp.py to start from, and a page for each exercise.

    DIR must be new or empty, so nothing is overwritten.
    """
    course = _course(exercises, None)
    new_folder(folder, course, notebook_text(course) if notebook else None)
    click.echo(f"made {folder}: read {folder / 'README.md'}, then type: cd {folder}; mlpprof workshop check")


@command.command("check", short_help="Check my_mlp.py: is it right, built as required, and fast enough?")
@click.argument("number", type=int, required=False, metavar="[EXERCISE]")
@click.option("--predict", metavar="X", help="Your guess of the speedup; if you leave it out, you are asked.")
@click.option(
    "--name", help="Your name on the page of the class (default: the last one used, from git, or your account)."
)
@click.option(
    "--as-used",
    is_flag=True,
    help="Also time a training run in a fresh process, with loading and compiling; this takes longer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(list(FORMATS)),
    help="The form of the JSON, with --json or -o, for the system of your course (default: json).",
)
@click.option(
    "-o",
    "--out",
    type=WrittenPath(dir_okay=False),
    metavar="FILE",
    help="Also write the JSON to FILE; Otter and Gradescope expect results.json.",
)
@click.pass_context
def check(
    ctx: click.Context,
    number: int | None,
    predict: str | None,
    name: str | None,
    as_used: bool,
    as_json: bool,
    file_format: str | None,
    out: Path | None,
) -> None:
    """Check my_mlp.py in this folder for EXERCISE (default: the first one that is not passed yet).

    The check asks three questions: Are the results correct? Is the structure as required? Is it fast enough? For speed,
    my_mlp.py is compared with the start of the exercise and with its solution in the same processes, so a slow machine
    is no disadvantage. A check takes about a minute at most. A loop that never ends is stopped after some seconds, and
    the check names its line. The result is stored in results/. Exit code 0: passed; 1: not passed; 3: inconclusive.
    """
    if file_format is not None and not as_json and out is None:
        raise UsageError(f"--format {file_format} is the form of the JSON; add --json to print it, or -o FILE")
    require_writable(out)
    folder = Path.cwd()
    require_folder(folder)
    done = stored_results(folder)
    course = course_of(folder)
    if as_used:
        require_as_used(course)
    chosen = course.numbered(next_exercise(course, done) if number is None else number)
    learner = learner_name(name, done, folder)
    require_writable_folder(folder / RESULTS)
    guess = None if predict is None else parse_guess(predict)
    with progress_bar() as progress:
        examined = examine(folder, course, chosen, learner, conditions.CLASSROOM, progress)
    result = examined.result
    if result.outcome == "pass":
        guess = guess or _earlier_guess(done, chosen) or _ask(chosen)
        with progress_bar() as progress:
            result = race(examined, guess, progress, as_used)
    saving, note = Saving(), None
    with saving.attempt():
        path, kept = keep(folder, result)
        where = path.relative_to(folder)
        note = f"stored in {where}" if kept else f"not stored, because {where} already has a better result"
        if out is not None:
            with write_atomically(out) as part:
                part.write_text(json_text(FORMATS[file_format or "json"](course, result)), encoding="utf-8")
    with saving.report_first():
        if as_json:
            print_json(FORMATS[file_format or "json"](course, result))
        else:
            console = output_console()
            _print(course, result, console)
            if note is not None:
                print_sentence(console, note, "dim")
    ctx.exit(EXIT_CODES[result.outcome])


@command.command("board", short_help="Make one page with the results of a class.")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="DIR...")
@click.option(
    "-o",
    "--out",
    type=WrittenPath(dir_okay=False),
    default=Path("board.html"),
    show_default=True,
    help="The page to write.",
)
@click.option("--names", is_flag=True, help="Show the names of the learners in place of their numbers.")
@exercises_option
def board(folders: tuple[Path, ...], out: Path, names: bool, exercises: Path | None) -> None:
    """Collect the result files under each DIR (or in zip files) into one HTML page, ordered by speed.

    Without --names, a learner is shown by the number that is in the names of their result files. Files that are damaged
    or are not results are listed and skipped. The page works without a network connection.
    """
    require_writable(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"cannot write {out}: the page needs a name that ends in .html")
    course = _course(exercises, None)
    results, skipped = read_folders(folders, course)
    for reason in skipped:
        complain(f"skipped: {reason}")
    if not results:
        raise UsageError("there are no results; the results of a learner are in results/*.json of their folder")
    learners = write_board(results if names else without_names(results), skipped, out, course)
    click.echo(f"{out}: {counted(learners, 'learner')}, {counted(len(results), 'result')}")


@command.command("solution", short_help="Print the solution of an exercise.")
@click.argument("number", type=int, metavar="EXERCISE")
@exercises_option
def solution(number: int, exercises: Path | None) -> None:
    """Print my_mlp.py with EXERCISE solved.

    In a folder that was made with --exercises, these are the exercises.
    """
    click.echo(solution_text(_course(exercises, Path.cwd()), number), nl=False)


@command.command("guide", short_help="Show the guide for teachers, a script, or the answers.")
@click.option("--script", "part", flag_value="script", help="Show a script for a lesson of 90 minutes, on two pages.")
@click.option("--answers", "part", flag_value="answers", help="Show the answers to the questions of all exercises.")
def guide(part: str | None) -> None:
    """Show the guide for teachers: how to prepare, what a check does, problems on certain machines, and questions.

    Without a terminal the output is Markdown: mlpprof workshop guide --script > script.md
    """
    page = built_in().text(f"{part or 'guide'}.md")
    console = output_console()
    if console.is_terminal:
        with console.pager():  # without styles, because a pager may print escape codes as text
            console.print(Markdown(page))
    else:
        click.echo(page, nl=False)


@command.command("author", short_help="Make an exercise of your own two versions.")
@click.argument("slow", metavar="SLOW")
@click.argument("fast", metavar="FAST")
@click.option(
    "-o",
    "--out",
    type=WrittenPath(file_okay=False),
    default=Path("exercise"),
    show_default=True,
    metavar="FOLDER",
    help="The folder to make; it must be new or empty.",
)
@click.option("--title", metavar="TEXT", help="The title of the exercise (default: from what mlpprof advise finds).")
@click.option(
    "--workload",
    default=WORKLOAD,
    show_default=True,
    metavar="NAME",
    help=f"The network and data that two variants train: {', '.join(WORKLOADS)}.",
)
@click.option("--step", metavar="NAME", help="The training step of two programs, if mlpprof does not find it.")
@click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Another file that both versions need, such as data; learners get a copy. Can be repeated.",
)
@click.pass_context
def author(
    ctx: click.Context,
    slow: str,
    fast: str,
    out: Path,
    title: str | None,
    workload: str,
    step: str | None,
    files: tuple[Path, ...],
) -> None:
    """Make an exercise whose start is SLOW and whose solution is FAST.

    Both are variants (FILE.py or FILE.py:Class with the methods of the interface), or both are programs (scripts). They
    have to train the same, and FAST has to be faster; mlpprof measures both. FOLDER gets the two files, a page with a
    question and three hints, and course.toml with what is required. All of it is a draft: read it and change it. Then
    learners take it with --exercises.

    \b
    mlpprof workshop author slow.py fast.py -o buffers
    mlpprof workshop new anna --exercises buffers
    """
    is_program = is_pair_of_programs(slow, fast)
    if step is not None and not is_program:
        raise UsageError(f"--step {step} is for programs, and '{slow}' is a variant; leave it out")
    if step is not None and (step.isdecimal() or ":" in step):
        raise UsageError(
            f"--step {step} fits one file only, and learners change theirs; expected Class.method or the name of a "
            "function, so put the step into a function"
        )
    if is_program and given_options(ctx, ["workload"]):
        raise UsageError(f"--workload {workload} is for variants, and '{slow}' is a program; leave it out")
    wanted = Wanted(slow, fast, title, workload, step, files)
    with progress_bar() as progress:
        measured = make_exercise(wanted, out, progress)
    speedup = measured.speedup
    click.echo(
        f"made {out}: the solution is {digits(speedup.ratio)}x as fast as the start (95 %: {digits(speedup.low)}–"
        f"{digits(speedup.high)}); {measured.same}"
    )
    course = read_course(out)
    for fact in course.last.facts:
        click.echo(f"required: {fact}")
    following = shlex.join(["mlpprof", "workshop", "new", "learner", "--exercises", str(out)])
    click.echo(f"read {out / course.last.file_name} and {out / COURSE_FILE}, then type: {following}")


def _course(exercises: Path | None, folder: Path | None) -> Course:
    """The exercises in the given folder, else those of a learner's folder, else those of mlpprof."""
    if exercises is not None:
        return read_course(exercises)
    return built_in() if folder is None else course_of(folder)


def _earlier_guess(done: dict[int, Result], chosen: Exercise) -> float | None:
    """The guess of the first check, because after a measurement a guess is not a guess any more."""
    return done[chosen.number].guess if chosen.number in done else None


def _ask(chosen: Exercise) -> float | None:
    """Ask the learner for a guess; None without a terminal, or if nothing is typed."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    while True:
        question = f"Correct so far. {chosen.question} Your guess (press Enter for none)"
        typed: str = click.prompt(question, default="", show_default=False, err=True)
        try:
            return parse_guess(typed)
        except UsageError as problem:
            complain(str(problem))


def _print(course: Course, result: Result, console: Console) -> None:
    console.print(Text(title(course, result), "bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, cell in rows(course, result):
        grid.add_row(Text(name), Text(cell))
    console.print(grid)
    print_sentence(console, last_line(course, result), STYLES[result.outcome])
