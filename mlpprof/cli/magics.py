"""The magics `%mlpprof` and `%%mlpprof` of IPython and Jupyter.

`%mlpprof advise`, `%mlpprof profile` and `%mlpprof compare` take what the commands take. The first two, without a name,
are for the cells of the notebook so far: a worker runs them again, in the order in which they were executed. Without a
command, one name is profiled, and several are compared.

A cell with `%%mlpprof` that defines a class with the interface is used like a file, so it must import everything that
it uses. A cell that trains is run in a worker after the cells before it, and its training step is measured. Only the
parser runs in the notebook's own process. Afterwards the cell runs in the notebook, as if it had no magic.
"""

from __future__ import annotations

import ast
import html
import shlex
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from mlpprof.advise.proof.trials import how_often_proven
from mlpprof.cli.advise import advise_as_asked, wanted_from
from mlpprof.cli.compare import compare_as_asked, require_no_program_options, subjects_as_asked
from mlpprof.cli.main import cli
from mlpprof.cli.mistyped import usage_message
from mlpprof.cli.options import announcement, program_request, subject_from, trained_on
from mlpprof.cli.profile import profile_as_asked, request_as_asked, require_no_step_options
from mlpprof.cli.saving import Saving
from mlpprof.cli.session import NAME, Session
from mlpprof.cli.terminal import progress_bar
from mlpprof.errors import MlpprofError, UsageError
from mlpprof.process import Progress, time_limit_s
from mlpprof.programs.name import has_variant_class, is_program
from mlpprof.report.json_documents import advice_json, comparison_json, profile_json
from mlpprof.report.notebook.views import AdviceView, ComparisonView, RunView

CELL_FILE = "cell.py"
COMMANDS = ("advise", "profile", "compare")
HELP = frozenset(("-h", "--help"))
RED, PLAIN = "\x1b[31m", "\x1b[0m"
REPORT_EVERY_S = 0.2

Bar = Callable[[], AbstractContextManager[Progress]]


class NotebookError(Exception):
    """Ends a magic with one line instead of a traceback; the cells after it do not run."""

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython shows for this exception."""
        return [f"{RED}mlpprof: {self}{PLAIN}"]


def register(shell: Any) -> None:
    """Add the magics to an IPython shell."""
    session = Session(shell)
    shell.events.register("post_run_cell", session.note)

    def mlpprof(line: str, cell: str | None = None) -> Any:
        """Advise on the cells so far or on a program, profile it, or compare several (%mlpprof advise --help)."""
        with _one_line_errors():
            return _run(shell, session, line, cell)

    shell.register_magic_function(mlpprof, magic_kind="line_cell", magic_name="mlpprof")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except click.exceptions.Exit:  # --help has been printed
        return
    except click.ClickException as error:
        raise NotebookError(usage_message(error)) from None
    except MlpprofError as error:
        hint = ""
        if "NameError" in str(error) and str(error).startswith(CELL_FILE):
            hint = "; a cell is measured in a process of its own, so it must import and define everything that it uses"
        raise NotebookError(f"{error}{hint}") from None
    except KeyboardInterrupt:
        raise NotebookError("interrupted; nothing was kept") from None


def _run(shell: Any, session: Session, line: str, cell: str | None) -> Any:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"cannot read '{line}': {error}") from error
    command = words.pop(0) if words and words[0] in COMMANDS else None
    bar = partial(_progress_in_cell, shell.display_pub) if hasattr(shell, "kernel") else progress_bar
    typed = f"{'%mlpprof' if cell is None else '%%mlpprof'} {line}".strip()
    if cell is None:
        return _result(words, command, typed, session, bar)
    if command == "advise" or trains(cell):
        if command == "compare" or _count_names(words):
            raise UsageError(
                "a cell that trains cannot be compared; leave out the names to profile it. To compare a cell with a "
                "variant, it must define a class with the whole interface (mlpprof list shows the variants)"
            )
        # the magic is the first line of the cell, so line numbers are the same as in the notebook
        view = _result(words, command or "profile", typed, session, bar, f"{typed}\n{cell}")
    else:
        with tempfile.TemporaryDirectory(prefix="mlpprof-cell-") as folder:
            path = Path(folder) / CELL_FILE
            path.write_text(f"\n{cell}", encoding="utf-8")
            view = _result([*words, str(path)], command, typed, session, bar, of_class=True)
    # the cell does for the cells below what it does without the magic
    shell.run_cell(cell, store_history=False)
    return view


def trains(cell: str) -> bool:
    """Whether a cell does something, as a training loop, and does not only define what a variant consists of."""
    if has_variant_class(cell):
        return False
    try:
        body = ast.parse(cell).body
    except SyntaxError:  # the reader of notebooks knows the magics in it, and the place of what is wrong
        return True
    return any(
        isinstance(node, ast.For | ast.While | ast.With | ast.If)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
        for node in body
    )


def _result(
    words: list[str],
    command: str | None,
    typed: str,
    session: Session,
    bar: Bar,
    cell: str | None = None,
    of_class: bool = False,
) -> Any:
    """What a magic shows.

    command: None chooses by the number of names. cell: it alone is observed, with its magic. of_class: the last word is
    the file of a cell that must define a class.
    """
    saving, count = Saving(), _count_names(words)
    if command is None and not count and HELP.isdisjoint(words):
        raise UsageError(
            "expected what to do: %mlpprof advise or %mlpprof profile for the cells so far, %mlpprof advise train.py, "
            "or the name of a variant, as in %mlpprof cached"
        )
    if command == "advise":
        view = _advise(words, session if not count else None, bar, saving, cell)
    elif command == "profile" or (command is None and count < 2):
        view = _profile(words, session if not count else None, typed, bar, saving, cell, of_class)
    else:
        view = _compare(words, typed, bar, saving, of_class)
    for failure in saving.failures:
        # not an exception, because a cell with an exception shows no result
        warnings.warn(failure, stacklevel=2)
    return view


def _advise(words: list[str], session: Session | None, bar: Bar, saving: Saving, cell: str | None) -> Any:
    """Advice on a program, or on the session."""
    with _context("advise", words if session is None else [NAME, *words]) as context:
        options = dict(context.params)
        if options["times_to_apply"] or options["undo"]:
            raise UsageError("--apply and --undo change files; type them in a terminal, or after !mlpprof advise")
        wanted = wanted_from(options)
        subject = trained_on(subject_from(options["target"], options, options["threads"]), options, context)
        if session is not None:
            subject = replace(subject, target=session.program(cell))
        if subject.is_program:
            _say(announcement(subject.program.name, how_often_proven() if wanted.prove else subject.how_often))
        advice = advise_as_asked(subject, options["out"], bar, saving, wanted)
        if session is not None:
            advice = replace(advice, notes=(*advice.notes, *session.notes()))
        return advice_json(advice) if options["as_json"] else AdviceView(advice)


def _profile(
    words: list[str],
    session: Session | None,
    typed: str,
    bar: Bar,
    saving: Saving,
    cell: str | None,
    of_class: bool,
) -> Any:
    """The profile of a variant, of a program, or of the session."""
    with _context("profile", words if session is None else [NAME, *words]) as context:
        options = dict(context.params)
        target, request = options["variant"], None
        if session is not None:
            request = replace(
                session.program(cell),
                step=options["step"],
                include=tuple(options["include"]),
                exclude=tuple(options["exclude"]),
                allow_writes=options["allow_writes"],
                wait_s=time_limit_s(),
            )
        elif is_program(target) and not of_class:
            request = program_request(target, options)
        if request is not None:
            run, kept = request_as_asked(context, request, options, typed, bar, saving, _say)
        else:
            require_no_step_options(options)
            run, kept = profile_as_asked(options.pop("variant"), options, typed, bar, saving)
        if session is not None:
            run = replace(run, warnings=(*run.warnings, *session.notes()))
        if options["as_json"]:
            return profile_json(run)
        where = "" if kept is None else f"{kept} (mlpprof report {kept} shows it again)"
        return RunView(run, where, options["verbose"])


def _compare(words: list[str], typed: str, bar: Bar, saving: Saving, of_class: bool) -> Any:
    with _context("compare", words) as context:
        options = dict(context.params)
        old, new = options.pop("old"), options.pop("new")
        stored = [name for name in (old, *new) if name.endswith(".h5")]
        if stored:
            raise UsageError(f"'{stored[0]}' is a stored run; to show it, type: !mlpprof report {stored[0]}")
        if of_class:  # its file is a variant, whatever is missing in it
            require_no_program_options(options | {"arguments": ()})
            comparisons = compare_as_asked(old, new, options, typed, bar, saving)
        else:
            comparisons = subjects_as_asked(context, old, new, options, typed, bar, saving, _say)
        return [comparison_json(one) for one in comparisons] if options["as_json"] else ComparisonView(comparisons)


def _say(sentence: str) -> None:
    """Print below the cell, before something runs; `NAME` is explained, since no such file exists."""
    meaning = f". It consists of the cells so far: {NAME}:cell 3:12 is line 12 of In [3]"
    click.echo(f"mlpprof: {sentence}{meaning if NAME in sentence else ''}")


def _count_names(words: Sequence[str]) -> int:
    """The number of words that are neither options nor their values; unknown options are reported later."""
    commands = [cli.get_command(click.Context(cli), name) for name in COMMANDS]
    known = {
        flag: parameter
        for command in commands
        if command is not None
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for flag in parameter.opts
    }
    count, value_follows = 0, False
    for word in words:
        if word == "--" and not value_follows:  # arguments of a program
            break
        option = known.get(word)
        if not value_follows and not word.startswith("-"):
            count += 1
        value_follows = option is not None and not option.is_flag and not value_follows
    return count


def _context(name: str, words: Sequence[str]) -> click.Context:
    """The parameters of a command from its own parser, with the defaults of pyproject.toml and the environment.

    When it is closed, the environment variables that its options have set are as they were.
    """
    with cli.make_context("mlpprof", [name, *words]) as context:
        _, command, rest = cli.resolve_command(context, [name, *words])
        assert command is not None
        return command.make_context(name, rest, parent=context)


@contextmanager
def _progress_in_cell(publisher: Any) -> Iterator[Progress]:
    """A progress bar below the cell, which disappears at the end."""
    name, last_s = uuid.uuid4().hex, float("-inf")

    def show(as_html: str, text: str, update: bool) -> None:
        data = {"text/html": as_html, "text/plain": text}
        publisher.publish(data, metadata={}, transient={"display_id": name}, update=update)

    def report(what: str, share: float) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= REPORT_EVERY_S:
            last_s = time.monotonic()
            bar = f'<progress max="1" value="{share:.3f}"></progress> {html.escape(what)}'
            show(bar, f"{what}, {share:.0%}", update=True)

    show("", "", update=False)
    try:
        yield report
    finally:
        show("", "", update=True)
