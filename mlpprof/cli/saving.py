"""Saving writes files after a measurement: it tests the folder before, and a failure does not stop the report."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TypeVar

import click
import platformdirs
from click.core import ParameterSource

from mlpprof.cli.streams import complain
from mlpprof.errors import MlpprofError, OutputError, UsageError
from mlpprof.files import require_writable_folder

REPORTS = Path("reports")

Written = TypeVar("Written")


def is_default(ctx: click.Context, parameter: str) -> bool:
    """Whether a parameter has its default value: the user neither typed nor configured it."""
    return ctx.get_parameter_source(parameter) is ParameterSource.DEFAULT


class Saving:
    """Writes what was measured, and reports failures only after the report is printed.

    folder: where files without a name from the user are kept; if it cannot be written, another folder takes its place.
    """

    def __init__(self, folder: Path = REPORTS) -> None:
        self.folder = folder
        self.failures: list[str] = []
        self._standard = folder
        self._kept: str | None = None

    def try_folder(self, *, by_default: bool = True) -> None:
        """Before the measurement, check that the folder can be written; if not, warn and use another folder.

        by_default: the user did not name the folder. Raises UsageError if the user did, or if no other folder works.
        """
        try:
            require_writable_folder(self.folder)
        except UsageError as error:
            if not by_default:
                raise UsageError(f"{error}; choose another place with -o") from error
            for folder in self._elsewhere():
                with contextlib.suppress(UsageError):
                    require_writable_folder(folder)
                    self.folder = folder
                    complain(f"{error}; the results will be kept in {folder}")
                    return
            raise UsageError(f"{error}, and no other folder can be written; free some space first") from error

    def keep(self, what: str, write: Callable[[Path], Written], refused: UsageError | None = None) -> Written | None:
        """Call `write` with the folder, or with others if that fails; return its result, or None if all fail.

        what: its name in messages, such as 'the run'. refused: why it could not be written to the file that the user
        named.
        """
        for folder in chain([self.folder], self._elsewhere()):
            try:
                written = write(folder)
            except UsageError as error:
                refused = refused or error
                continue
            self.folder = folder
            self._kept = f"{what} is kept in {written if isinstance(written, Path) else folder}"
            if refused is not None:
                self.failures.append(f"{refused}; {self._kept}")
            return written
        self.failures.append(f"{refused}; {what} is lost")
        return None

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Store an error of the block, which writes a file that the user named, until the report is printed."""
        try:
            yield
        except MlpprofError as error:
            self.failures.append(f"{error}; {self._kept}" if self._kept else str(error))

    @contextmanager
    def report_first(self) -> Iterator[None]:
        """Run the block, which prints the report; then raise UsageError if something failed before."""
        try:
            yield
        except OutputError as error:
            known = self.failures or ([self._kept] if self._kept else [])
            raise type(error)("; ".join([str(error), *known])) from error
        if self.failures:
            raise UsageError("; ".join(self.failures))

    def _elsewhere(self) -> Iterator[Path]:
        """Other folders to write to; the last one is made in the temporary folder when it is needed."""
        yield platformdirs.user_state_path("mlpprof", appauthor=False) / self._standard.name
        try:
            folder = Path(tempfile.mkdtemp(prefix="kept-by-mlpprof-"))
        except OSError:
            return
        yield folder
        with contextlib.suppress(OSError):  # only reached if this folder could not be written either
            folder.rmdir()
