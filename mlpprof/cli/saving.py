"""What is written after a measurement: its place is tried before it, and no failure keeps the report from showing."""

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

from mlpprof.errors import MlpprofError, OutputError, UsageError
from mlpprof.files import require_writable_folder

REPORTS = Path("reports")

Written = TypeVar("Written")


def is_default(ctx: click.Context, parameter: str) -> bool:
    """Whether the user left a parameter alone: neither typed it nor configured it."""
    return ctx.get_parameter_source(parameter) is ParameterSource.DEFAULT


class Saving:
    """Writes what was measured, and holds failures back until the report is printed.

    folder: where runs and other things that need no name are kept; it changes to one that works where that one fails.
    """

    def __init__(self, folder: Path = REPORTS) -> None:
        self.folder = folder
        self.failures: list[str] = []
        self._standard = folder
        self._kept: str | None = None

    def try_folder(self, *, by_default: bool = True) -> None:
        """Before the measurement: see that the folder can be written; warn and go elsewhere where it cannot.

        by_default: the user did not name it. Raises UsageError for a named one, and where no other folder works.
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
                    click.echo(f"mlpprof: {error}; what is measured will be kept in {folder}", err=True)
                    return
            raise UsageError(f"{error}, and there is no other place either; free some space first") from error

    def keep(self, what: str, write: Callable[[Path], Written], refused: UsageError | None = None) -> Written | None:
        """Have `write` write into the folder, or elsewhere where that fails; returns its result, or None if all fail.

        what: names it, such as 'the run'. refused: why it could not be written to the place that the user named.
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
        """Hold back what the block raises about a file that the user named."""
        try:
            yield
        except MlpprofError as error:
            self.failures.append(f"{error}; {self._kept}" if self._kept else str(error))

    @contextmanager
    def report_first(self) -> Iterator[None]:
        """The block prints the report; then raises UsageError with what failed before, for exit code 2."""
        try:
            yield
        except OutputError as error:
            told = self.failures or ([self._kept] if self._kept else [])
            raise type(error)("; ".join([str(error), *told])) from error
        if self.failures:
            raise UsageError("; ".join(self.failures))

    def _elsewhere(self) -> Iterator[Path]:
        """Folders that the user did not have to name; one in the temporary folder is made when it is asked for."""
        yield platformdirs.user_state_path("mlpprof", appauthor=False) / self._standard.name
        try:
            folder = Path(tempfile.mkdtemp(prefix="kept-by-mlpprof-"))
        except OSError:
            return
        yield folder
        with contextlib.suppress(OSError):  # only reached where it could not be written either
            folder.rmdir()
