"""One figure as a file, of those that `report.gallery` has data for."""

from __future__ import annotations

from pathlib import Path

from mlpprof.errors import UsageError
from mlpprof.report.story import Story

PICTURES = ("png", "svg")


def require_picture(figure: str | None, path: Path, file_format: str) -> None:
    """Raise UsageError for a figure that no data could give, or that is to be written as something else."""
    if figure is None:
        return
    if file_format not in PICTURES:
        raise UsageError(f"--figure {figure} is drawn as .png or .svg, but {path} is to be {file_format}; name it so")
    # loading matplotlib takes longer than writing all other formats together
    from mlpprof.report.gallery import require_known_kind

    require_known_kind(figure)


def write_picture(path: Path, story: Story, figure: str | None, file_format: str) -> Path:
    """Draw a figure, else the most telling one, as "png" or "svg"; returns the path.

    Raises UsageError that tells the names there are, and where the file cannot be written.
    """
    from mlpprof.report.gallery import write_figure

    return write_figure(path, story, figure, file_format)
