"""Results where changes are reviewed: on standard output, and in the summary of a step of a GitHub workflow."""

from __future__ import annotations

from typing import TypeVar

from mlpprof.cli.terminal import print_text
from mlpprof.report.files.formats import Formats
from mlpprof.report.files.markup import add_to_step_summary

Results = TypeVar("Results")


def print_format(formats: Formats[Results], results: Results, named: str) -> None:
    """Print results in a format that is text; with `github`, their Markdown is added to the summary of the step.

    Raises UsageError for a format that is not text, and if the summary cannot be written.
    """
    print_text(formats.text(results, named))
    if named == "github":
        add_to_step_summary(formats.text(results, "markdown"))
