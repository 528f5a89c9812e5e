"""What a notebook cell shows of a run or of comparisons; the record itself is in the view."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files

from markupsafe import Markup

from mlpprof.report.advice_words import headline_text, looked_for, other_lines, steps_text
from mlpprof.report.claims import counted_text
from mlpprof.report.facts import comparison_facts, run_facts
from mlpprof.report.figures.canvas import theme_css
from mlpprof.report.figures.gallery import Drawing, drawings
from mlpprof.report.finding_view import finding_table, finding_views
from mlpprof.report.html import Picture, environment, picture_of
from mlpprof.report.numbers import format_time
from mlpprof.report.program_rows import program_view
from mlpprof.report.rows import (
    comparison_table,
    expression_change_table,
    memory_table,
    phase_table,
    statement_table,
    time_table,
)
from mlpprof.report.sentences import batches_text, doubts, run_sentences
from mlpprof.report.story import Story
from mlpprof.report.terminal.advise import print_advice
from mlpprof.report.terminal.compare import print_comparisons
from mlpprof.report.terminal.console import text_of
from mlpprof.report.terminal.profile import print_run
from mlpprof.report.terminal.proof import print_proof
from mlpprof.results import Comparison, Run
from mlpprof.results.advice import Advice


def run_pictures(run: Run) -> list[Picture]:
    """The figures of a run: first where the time goes, then the roofline, the scaling and the samples."""
    found = drawings(Story.of(runs=[run]))
    first = "phases" if len(run.results) > 1 else "layers"
    order = [first, *(kind for kind in ("layers", "phases", "roofline", "scaling", "samples") if kind != first)]
    chosen = [one for kind in order for name, one in found.items() if name.partition("-")[0] == kind]
    if len(run.results) == 1:
        # with a single batch size the figure of layers also shows the phases
        chosen = [one for one in chosen if one.name != "phases" or "layers" not in found]
    return [_picture(one, run.created + run.command) for one in chosen]


def comparison_pictures(comparison: Comparison) -> list[Picture]:
    """Where the difference lies; no figure where that was not measured."""
    found = drawings(Story.of(comparisons=[comparison]))
    key = f"{comparison.command}{comparison.old}{comparison.new}{comparison.batch}"
    return [_picture(one, key) for name, one in found.items() if name.partition("-")[0] == "waterfall"]


def _picture(drawing: Drawing, key: str) -> Picture:
    # a notebook contains many figures, and their ids must differ
    return picture_of(
        drawing, "mlpprof-" + hashlib.sha256(f"{key}{drawing.name}".encode()).hexdigest()[:8], twice=False
    )


DARK_FRONT_ENDS = ('[data-jp-theme-light="false"]', "body.vscode-dark", "html[theme=dark]")
"""JupyterLab, VS Code and Colab mark dark pages with these: a light notebook on a dark desktop stays light."""


@cache
def style_sheet() -> Markup:
    """The text within <style>. It contains no text of users, so nothing needs escaping."""
    light, dark = theme_css()
    selectors = ",".join(f"{front_end} .mlpprof" for front_end in DARK_FRONT_ENDS)
    rules = files("mlpprof.report.notebook").joinpath("templates", "style.css").read_text(encoding="utf-8")
    return Markup(f".mlpprof{{{light}}}{selectors}{{{dark}}}\n{rules}")


@dataclass(frozen=True, repr=False)
class RunView:
    """One profile in a notebook. kept: where the run is stored; verbose: whether small statements are shown."""

    run: Run
    kept: str = ""
    verbose: bool = False

    def __repr__(self) -> str:
        text = text_of(partial(print_run, self.run, verbose=self.verbose))
        return f"{text}\nkept in {self.kept}" if self.kept else text

    def _repr_html_(self) -> str:
        run = self.run
        measured = Story.of(runs=[run]).measured
        tables = [time_table(measured), phase_table(measured)]
        if len(measured) > 1:
            tables.append(memory_table(measured))
        facts = run_facts(run)
        warnings = [text for _, style, text in facts if style in ("warning", "bad")]
        for meaning, batches in doubts(run).items():
            warnings.append(f"{batches_text(batches)}: {meaning}")
        return _rendered(
            "run.html",
            run=run,
            sentences=run_sentences(run),
            warnings=warnings,
            facts=facts,
            tables=tables,
            program=None if run.program is None else program_view(run.program.time, run.program.step),
            statements=statement_table(measured, verbose=self.verbose),
            pictures=run_pictures(run),
            text=repr(self),
            open_text=run.lines is not None or run.stacks is not None,
            kept=self.kept,
        )


@dataclass(frozen=True, repr=False)
class ComparisonView:
    """Comparisons of one `%mlpprof OLD NEW ...` in a notebook."""

    comparisons: Sequence[Comparison]

    def __repr__(self) -> str:
        return text_of(partial(print_comparisons, self.comparisons))

    def _repr_html_(self) -> str:
        blocks = [
            {
                "comparison": one,
                "facts": [*comparison_facts(one), *(("counted", "", counted_text(fact)) for fact in one.counted)],
                "changes": comparison_table(one),
                "expressions": None if one.programs is None else expression_change_table(one.programs.expressions),
                "pictures": comparison_pictures(one),
            }
            for one in self.comparisons
        ]
        return _rendered("comparisons.html", blocks=blocks, text=repr(self))


@dataclass(frozen=True, repr=False)
class AdviceView:
    """The findings on one step in a notebook."""

    advice: Advice

    def __repr__(self) -> str:
        return self._proof + text_of(partial(print_advice, self.advice))

    @property
    def _proof(self) -> str:
        """What --prove has proven; empty without it."""
        program = self.advice.step.partition(":")[0]
        return "" if self.advice.proof is None else text_of(partial(print_proof, self.advice, program)) + "\n"

    def _repr_html_(self) -> str:
        advice = self.advice
        findings = finding_views(advice)
        return _rendered(
            "advice.html",
            headline=headline_text(advice),
            facts=[("step", "", f"{format_time(advice.step_s)}, {steps_text(advice)}")],
            program=program_view(advice.program, advice.step),
            findings=findings,
            table=finding_table(findings) if findings else None,
            looked_for=looked_for(),
            proof=self._proof,
            others=other_lines(advice),
            notes=advice.notes,
            text=repr(self),
        )


def _rendered(template: str, **content: object) -> str:
    return environment("mlpprof.report.notebook").get_template(template).render(style=style_sheet(), **content)
