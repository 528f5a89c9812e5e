"""A place in a program's source: a line of a file, or of a cell of a notebook."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A line of a user's file: its path as given, or relative to the script's folder.

    line: 1-based. cell: of a notebook, whose cells are counted from 1; the line is then counted within the cell. None
    if the file is not a notebook.
    """

    file: str
    line: int
    cell: int | None = None

    @property
    def source(self) -> str:
        """What the line is counted in: 'train.py', or 'work.ipynb:cell 3'."""
        return self.file if self.cell is None else f"{self.file}:cell {self.cell}"

    @property
    def text(self) -> str:
        """The place as every report shows it: 'train.py:12', or 'work.ipynb:cell 3:12'."""
        return f"{self.source}:{self.line}"

    @property
    def words(self) -> str:
        """The line within a sentence about its file: 'line 12', or 'line 12 of cell 3'."""
        return f"line {self.line}" if self.cell is None else f"line {self.line} of cell {self.cell}"
