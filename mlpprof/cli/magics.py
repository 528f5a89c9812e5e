"""The magics `%mlpprof VARIANT`, `%mlpprof OLD NEW ...` and `%%mlpprof` of IPython and Jupyter.

One variant is profiled, with the options of `mlpprof profile`; several are compared, with the options of
`mlpprof compare`. A cell that defines a class with the interface is used like a file. Only the parser runs in the
notebook's own process; a cell is measured in a worker, so it must import everything that it uses.
"""

from __future__ import annotations

import html
import shlex
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from mlpprof.cli.compare import compare_as_asked
from mlpprof.cli.main import cli
from mlpprof.cli.mistyped import usage_message
from mlpprof.cli.profile import profile_as_asked, require_no_step_options
from mlpprof.cli.saving import Saving
from mlpprof.cli.terminal import progress_bar
from mlpprof.errors import MlpprofError, UsageError
from mlpprof.process import Progress
from mlpprof.report.json_documents import comparison_json, profile_json
from mlpprof.report.notebook.views import ComparisonView, RunView

CELL_FILE = "cell.py"
REPORT_EVERY_S = 0.2

Bar = Callable[[], AbstractContextManager[Progress]]


class NotebookError(Exception):
    """Ends a magic with one line instead of a traceback; the cells after it do not run."""

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython shows for this exception."""
        return [f"mlpprof: {self}"]


def register(shell: Any) -> None:
    """Add the magics to an IPython shell."""

    def mlpprof(line: str, cell: str | None = None) -> Any:
        """Profile a variant, compare several, or profile the class that a cell defines (%mlpprof --help)."""
        with _one_line_errors(is_cell=cell is not None):
            return _run(shell, line, cell)

    shell.register_magic_function(mlpprof, magic_kind="line_cell", magic_name="mlpprof")


@contextmanager
def _one_line_errors(is_cell: bool) -> Iterator[None]:
    try:
        yield
    except click.exceptions.Exit:  # --help has been printed
        return
    except click.ClickException as error:
        raise NotebookError(usage_message(error)) from None
    except MlpprofError as error:
        hint = ""
        if is_cell and "NameError" in str(error):
            hint = "; a cell is measured in a process of its own, so it must import and define everything that it uses"
        raise NotebookError(f"{error}{hint}") from None
    except KeyboardInterrupt:
        raise NotebookError("interrupted; nothing was kept") from None


def _run(shell: Any, line: str, cell: str | None) -> Any:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"cannot read '{line}': {error}") from error
    bar = partial(_progress_in_cell, shell.display_pub) if hasattr(shell, "kernel") else progress_bar
    if cell is None:
        return _measure(words, f"%mlpprof {line}".strip(), bar)
    with tempfile.TemporaryDirectory(prefix="mlpprof-cell-") as folder:
        path = Path(folder) / CELL_FILE
        # the magic is the first line of the cell, so line numbers are the same as in the notebook
        path.write_text(f"\n{cell}", encoding="utf-8")
        view = _measure([*words, str(path)], f"%%mlpprof {line}".strip(), bar)
    # the class is defined for the cells below, as if the cell had no magic
    shell.run_cell(cell, store_history=False)
    return view


def _measure(words: Sequence[str], typed: str, bar: Bar) -> Any:
    saving = Saving()
    if _count_variants(words) < 2:
        options = _options("profile", words)
        if options["step"] is not None:
            raise UsageError(f"--step {options['step']} is for a script; type: !mlpprof profile FILE.py --step NAME")
        require_no_step_options(options)
        run, kept = profile_as_asked(options.pop("variant"), options, typed, bar, saving)
        _warn(saving)
        if options["as_json"]:
            return profile_json(run)
        where = "" if kept is None else f"{kept} (mlpprof report {kept} shows it again)"
        return RunView(run, where, options["verbose"])
    options = _options("compare", words)
    old, new = options.pop("old"), options.pop("new")
    stored = [name for name in (old, *new) if name.endswith(".h5")]
    if stored:
        raise UsageError(f"'{stored[0]}' is a stored run; to show it, type: !mlpprof report {stored[0]}")
    comparisons = compare_as_asked(old, new, options, typed, bar, saving)
    _warn(saving)
    return [comparison_json(one) for one in comparisons] if options["as_json"] else ComparisonView(comparisons)


def _warn(saving: Saving) -> None:
    # not an exception, because a cell with an exception shows no result
    for failure in saving.failures:
        warnings.warn(failure, stacklevel=2)


def _count_variants(words: Sequence[str]) -> int:
    """The number of words that are neither options nor their values; unknown options are reported later."""
    command = cli.get_command(click.Context(cli), "compare")
    profile = cli.get_command(click.Context(cli), "profile")
    assert command is not None
    assert profile is not None
    known = {flag: p for p in (*command.params, *profile.params) if isinstance(p, click.Option) for flag in p.opts}
    count, value_follows = 0, False
    for word in words:
        option = known.get(word)
        if not value_follows and not word.startswith("-"):
            count += 1
        value_follows = option is not None and not option.is_flag and not value_follows
    return count


def _options(name: str, words: Sequence[str]) -> dict[str, Any]:
    """The parameters of a command from its own parser, with the defaults of pyproject.toml and the environment."""
    with cli.make_context("mlpprof", [name, *words]) as context:
        _, command, rest = cli.resolve_command(context, [name, *words])
        assert command is not None
        return dict(command.make_context(name, rest, parent=context).params)


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
