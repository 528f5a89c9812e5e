"""What a notebook cell shows of a run or of comparisons; the record itself is in the view."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console

from mlpprof.report.comparison import print_comparison
from mlpprof.report.notebook.pictures import comparison_pictures, run_pictures
from mlpprof.report.notebook.style import style_sheet
from mlpprof.report.notebook.tables import (
    change_table,
    comparison_facts,
    phase_table,
    run_facts,
    sentences,
    statement_table,
    time_table,
    warnings_of,
)
from mlpprof.report.terminal import TEXT_WIDTH, print_run
from mlpprof.results import Comparison, Run


@dataclass(frozen=True, repr=False)
class RunView:
    """One profile in a notebook. kept: where the run is stored; verbose: with the small statements too."""

    run: Run
    kept: str = ""
    verbose: bool = False

    def __repr__(self) -> str:
        text = _text(partial(print_run, self.run, verbose=self.verbose))
        return f"{text}\nkept in {self.kept}" if self.kept else text

    def _repr_html_(self) -> str:
        run = self.run
        return (
            _environment()
            .get_template("run.html")
            .render(
                style=style_sheet(),
                run=run,
                sentences=sentences(run),
                warnings=warnings_of(run),
                facts=run_facts(run),
                time=time_table(run.results),
                phases=phase_table(run.results),
                statements=statement_table(run.results, self.verbose),
                pictures=run_pictures(run),
                text=repr(self),
                open_text=run.lines is not None or run.stacks is not None,
                kept=self.kept,
            )
        )


@dataclass(frozen=True, repr=False)
class ComparisonView:
    """Comparisons of one `%mlpprof OLD NEW ...` in a notebook."""

    comparisons: Sequence[Comparison]

    def __repr__(self) -> str:
        return "\n".join(_text(partial(print_comparison, one)) for one in self.comparisons)

    def _repr_html_(self) -> str:
        blocks = [
            {
                "comparison": one,
                "facts": comparison_facts(one),
                "changes": change_table(one),
                "pictures": comparison_pictures(one),
            }
            for one in self.comparisons
        ]
        template = _environment().get_template("comparisons.html")
        return template.render(style=style_sheet(), blocks=blocks, text=repr(self))


def _text(show: Callable[[Console], None]) -> str:
    """What a report prints, without colours."""
    buffer = io.StringIO()
    show(Console(file=buffer, width=TEXT_WIDTH, color_system=None, force_terminal=False, force_jupyter=False))
    return buffer.getvalue()


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("mlpprof.report.notebook"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
