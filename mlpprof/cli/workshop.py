"""`mlpprof workshop`: a folder of exercises, checks on the learner's machine, a board, solutions, a guide."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from mlpprof.cli.saving import Saving
from mlpprof.cli.terminal import output_console, print_json, progress_bar
from mlpprof.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, UsageError
from mlpprof.files import require_writable, require_writable_folder
from mlpprof.workshop import exercises as setting
from mlpprof.workshop.board import read_folders, write_board
from mlpprof.workshop.check import examine, race
from mlpprof.workshop.exercises import EXERCISES, Exercise, exercise, solution_text, text
from mlpprof.workshop.folder import (
    RESULTS,
    keep,
    learner_name,
    new_folder,
    next_exercise,
    parse_guess,
    require_folder,
    stored_results,
)
from mlpprof.workshop.notebook import notebook_text
from mlpprof.workshop.result import Result, result_json
from mlpprof.workshop.words import last_line, rows, title

EXIT_CODES = {"pass": EXIT_OK, "fail": EXIT_FAILED, "inconclusive": EXIT_INCONCLUSIVE}
STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}
NUMBER = click.IntRange(0, EXERCISES[-1].number)


@click.group("workshop")
def command() -> None:
    """Teach performance with exercises: from the loop over samples to the roofline.

    Learners: new, then check. Teachers: guide, solution, board.
    """


@command.command("new", short_help="Make a learner's folder.")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--notebook", is_flag=True, help="Add the exercises as a notebook (needs the extra 'notebook').")
def new(folder: Path, notebook: bool) -> None:
    """Make DIR with a README, my_mlp.py as it begins, and a page for each exercise.

    Nothing is ever overwritten: a folder that is not empty is refused.
    """
    new_folder(folder, notebook_text() if notebook else None)
    click.echo(f"made {folder}: read {folder / 'README.md'}, then: cd {folder}; mlpprof workshop check")


@command.command("check", short_help="Check my_mlp.py: right, built as asked, fast enough here?")
@click.argument("number", type=NUMBER, required=False, metavar="[EXERCISE]")
@click.option("--predict", metavar="X", help="Your guess, before it is measured; without it you are asked.")
@click.option("--name", help="Who you are on the board (default: as before, as in git, or your account).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def check(ctx: click.Context, number: int | None, predict: str | None, name: str | None, as_json: bool) -> None:
    """Check my_mlp.py in this folder against EXERCISE (default: the first that is not passed yet).

    First whether it is right, then how it is built, then how fast: against where the exercise starts and against its
    solution, in the same processes, so that the speed of the machine does not matter. The result is kept in results/.
    Exit code 0: passed; 1: not there yet; 3: too close to tell.
    """
    folder = Path.cwd()
    require_folder(folder)
    done = stored_results(folder)
    chosen = exercise(next_exercise(done) if number is None else number)
    learner = learner_name(name, done, folder)
    require_writable_folder(folder / RESULTS)
    guess = None if predict is None else parse_guess(predict)
    with progress_bar() as progress:
        examined = examine(folder, chosen, learner, setting.CLASSROOM, progress)
    result = examined.result
    if result.outcome == "pass":
        guess = guess or _earlier_guess(done, chosen) or _ask(chosen)
        with progress_bar() as progress:
            result = race(examined, guess, progress)
    saving, told = Saving(), None
    with saving.attempt():
        path, kept = keep(folder, result)
        where = path.relative_to(folder)
        told = f"kept in {where}" if kept else f"{where} holds a better result of before, and keeps it"
    with saving.report_first():
        if as_json:
            print_json(result_json(result))
        else:
            console = output_console()
            _print(result, console)
            if told is not None:
                console.print(Text(told, "dim"), soft_wrap=True)
    ctx.exit(EXIT_CODES[result.outcome])


@command.command("board", short_help="One page from the results of a class.")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="DIR...")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("board.html"),
    show_default=True,
    help="The page to write.",
)
def board(folders: tuple[Path, ...], out: Path) -> None:
    """Collect the result files under each DIR (or single files) into one HTML page, ranked by speed.

    A file that is no result, or damaged, is named and skipped. The page needs no network.
    """
    require_writable(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"cannot write {out}: the board is a page; expected a name that ends in .html")
    results, skipped = read_folders(folders)
    for reason in skipped:
        click.echo(f"mlpprof: skipped: {reason}", err=True)
    if not results:
        raise UsageError("no results there; learners' results lie in results/*.json of their folders")
    learners = write_board(results, skipped, out)
    click.echo(f"{out}: {_counted(learners, 'learner')}, {_counted(len(results), 'result')}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@command.command("solution", short_help="Print the solved my_mlp.py of an exercise.")
@click.argument("number", type=NUMBER, metavar="EXERCISE")
def solution(number: int) -> None:
    """Print my_mlp.py as it is when EXERCISE is solved, made from the rung of the ladder."""
    click.echo(solution_text(number), nl=False)


@command.command("guide", short_help="The teacher's guide.")
def guide() -> None:
    """Print the teacher's guide: schedules, what goes wrong on which machine, questions with answers.

    As Markdown where the output is no terminal: mlpprof workshop guide > guide.md
    """
    console = output_console()
    if console.is_terminal:
        with console.pager(styles=True):
            console.print(Markdown(text("guide.md")))
    else:
        click.echo(text("guide.md"), nl=False)


def _earlier_guess(done: dict[int, Result], chosen: Exercise) -> float | None:
    """The first guess counts: once it was measured, it would be none any more."""
    return done[chosen.number].guess if chosen.number in done else None


def _ask(chosen: Exercise) -> float | None:
    """The learner's guess, where somebody can be asked; nothing typed is no guess."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    while True:
        question = f"Right so far. {chosen.question} Guess (Enter: none)"
        typed: str = click.prompt(question, default="", show_default=False, err=True)
        try:
            return parse_guess(typed)
        except UsageError as problem:
            click.echo(str(problem), err=True)


def _print(result: Result, console: Console) -> None:
    console.print(Text(title(result), "bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, told in rows(result):
        grid.add_row(Text(name), Text(told))
    console.print(grid)
    console.print(Text(last_line(result), STYLES[result.outcome]), soft_wrap=True)
