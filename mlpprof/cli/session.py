"""The cells of a running notebook as a program: a worker runs them again, in the order in which they were executed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mlpprof.errors import UsageError
from mlpprof.programs.name import ProgramName
from mlpprof.programs.notebook import notebook_text
from mlpprof.programs.request import ProgramRequest

NAME = "session.ipynb"
"""The name of the program in reports: `session.ipynb:cell 3:12` is line 12 of `In [3]`."""

OWN_MAGIC = re.compile(r"^\s*%mlpprof\b", re.MULTILINE)


class Session:
    """What was executed in an IPython shell. failed: the cells that ended with an error, by their numbers."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.failed: set[int] = set()

    def note(self, result: Any) -> None:
        """Called by IPython after each cell."""
        if not result.success and result.execution_count is not None:
            self.failed.add(result.execution_count)

    def program(self, last: str | None = None) -> ProgramRequest:
        """The cells so far as a program. last: the current cell if it is to be observed alone, with its magic.

        Raises UsageError if nothing has been executed.
        """
        *before, current = self._executed()
        cells = [
            f"# In [{number}] is left out, because it ended with an error" if number in self.failed else cell
            for number, cell in enumerate(before, start=1)
        ]
        # The line of the magic itself, and what comes after it in its cell, has not been executed.
        cells.append(OWN_MAGIC.split(current, maxsplit=1)[0] if last is None else last)
        if not any(cell.strip() for cell in cells):
            raise UsageError(
                "no cell has been executed yet, so there is nothing to run. Execute your cells first, or name a "
                "program: %mlpprof advise train.py"
            )
        # an empty cell would not be counted, and shift the numbers of those after it
        numbered = [cell if cell.strip() else f"# In [{number}]" for number, cell in enumerate(cells, start=1)]
        path = self._folder() / NAME
        name = NAME if path.parent == Path.cwd().resolve() else str(path)
        text = notebook_text(numbered, is_late=last is not None)
        return ProgramRequest(ProgramName("notebook", name), overlay={str(path): text})

    def notes(self) -> list[str]:
        """Sentences about what the program does not contain."""
        if not self.failed:
            return []
        names = ", ".join(f"In [{number}]" for number in sorted(self.failed))
        return [f"mlpprof left out {names}, which ended with an error"]

    def _executed(self) -> list[str]:
        """The text of each cell, by its number; the last one is the current cell."""
        history = self._shell.history_manager.input_hist_raw
        return [str(cell) for cell in history[1:]] or [""]

    def _folder(self) -> Path:
        """The folder in which the kernel was started: the cells change to others themselves."""
        folders = self._shell.user_ns.get("_dh") or [Path.cwd()]
        return Path(str(folders[0])).resolve()
