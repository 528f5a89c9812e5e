"""The page as one file, which contains its figures, style, script and data and loads nothing.

Its sections: the verdict, where the time goes, what limits it, what each rung changed, how it scales, how sure we are,
the machine, the raw data. jinja2 escapes every text. Only content that is made here is not escaped: SVG from
matplotlib, our own style and script, and JSON in which no tag can begin.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mlpprof import __version__
from mlpprof.model import PHASES
from mlpprof.report.facts import machine_facts, story_warnings, work_facts
from mlpprof.report.figures.canvas import PHASE_COLORS, REST, phase_color, theme_css
from mlpprof.report.html import environment
from mlpprof.report.json_documents import comparison_json, ladder_json, profile_json
from mlpprof.report.page.changes import rung_changes
from mlpprof.report.page.headline import headline
from mlpprof.report.page.pictures import Pictures
from mlpprof.report.page.variant_views import variant_views
from mlpprof.report.rows import Table, agreement_table, memory_table, phase_table, race_table, time_table
from mlpprof.report.story import Story
from mlpprof.results import BatchResult, Run
from mlpprof.results.json import plain_object


def render(template: str, title: str, data: str, data_words: str, **story: object) -> str:
    """The whole page as text; data: JSON in which no tag can begin; story: the content for the template."""
    script = _resource("script.js")
    page = environment("mlpprof.report.page").get_template(template)
    return page.render(
        version=__version__,
        policy=content_policy(script),
        style=Markup(_theme() + _resource("style.css")),
        script=Markup(script),
        title=title,
        data=Markup(data),
        data_words=data_words,
        **story,
    )


def content_policy(script: str) -> str:
    """The content security policy of a page: it may run its own script, and load and send nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )


def _theme() -> str:
    """The colours of both themes as variables: dark if the system or the reader wants it, light on paper."""
    phases = "".join(f"--{phase}:{color};" for phase, color in PHASE_COLORS.items())
    light, dark = theme_css()
    return (
        f":root{{{phases}{light}color-scheme:light}}"
        f"@media screen{{:root[data-theme=dark]{{{dark}color-scheme:dark}}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}color-scheme:dark}}}}\n"
    )


def _resource(name: str) -> str:
    return files("mlpprof.report.page").joinpath("templates", name).read_text(encoding="utf-8")


# The raw data within a page: a run is the output of `mlpprof profile --json` with six digits per figure, and under
# `raw_ns` every sample of every pass in whole nanoseconds, the resolution of the clock.

SCHEMA = 1
BUDGET = 400_000
"""If the data would be longer than this many characters, the samples of single labels are left out."""
LEFT_OUT = "samples of single labels: their medians are here, the samples in the run's .h5 file"


def embedded(story: Story) -> str:
    """All data of the story as JSON text that is safe within <script>."""
    text = script_text(document(story, with_labels=True))
    return text if len(text) <= BUDGET else script_text(document(story, with_labels=False))


def document(story: Story, *, with_labels: bool) -> dict[str, Any]:
    """All data of the story as plain JSON; with_labels: with every sample of every label."""
    return plain_object(
        {
            "schema": SCHEMA,
            "mlpprof": __version__,
            "left_out": None if with_labels else LEFT_OUT,
            "runs": [{"name": name, **_run(run, with_labels)} for name, run in story.profiles],
            "comparisons": [comparison_json(one) for one in story.comparisons],
            "ladders": [ladder_json(one) for one in story.ladders],
        }
    )


def _run(run: Run, with_labels: bool) -> dict[str, Any]:
    plain = profile_json(run)
    plain["source"] = run.variant.source
    if run.program is not None:
        plain["program"]["sources"] = dict(run.program.sources)
        for found in (plain["step_s"], plain["clocked_s"], *plain["phases"].values(), *plain["expressions"]):
            del found["samples"]  # raw_ns has them
    for found, result in zip(plain["results"], run.results, strict=True):
        # raw_ns has the same samples in fewer characters
        del found["step_s"]["samples"]
        found.update(_rounded(found))
        found["raw_ns"] = _raw_ns(result, with_labels)
    return plain


def _raw_ns(result: BatchResult, with_labels: bool) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "total": _whole_ns(result.total_s),
        "phases_pass": _whole_ns(result.phases_pass_s),
        "labels_pass": _whole_ns(result.labels_pass_s),
        "phases": {name: _whole_ns(phase.step_s) for name, phase in result.phases.items()},
    }
    if with_labels:
        raw["labels"] = [_whole_ns(label.step_s) for label in result.labels]
    return raw


def _whole_ns(samples: NDArray[np.float64]) -> list[list[int]]:
    whole: list[list[int]] = np.rint(samples * 1e9).astype(np.int64).tolist()
    return whole


def _rounded(value: Any) -> Any:
    """The same with six significant digits; no figure here is more exact."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def script_text(content: dict[str, Any]) -> str:
    """ASCII, in which `<` is written as an escape: neither </script> nor <!-- can stand in it."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_html(story: Story) -> str:
    """The whole page as text."""
    pictures = Pictures(story)
    verdict = headline(story)
    return render(
        "page.html",
        verdict.title,
        embedded(story),
        "This file contains all figures and samples as JSON. Times are in seconds, raw samples in nanoseconds.",
        headline=verdict,
        warnings=story_warnings(story),
        names=story.names,
        phases=_phases(story),
        pictures=pictures,
        times=_time_tables(story),
        races=[race_table(ladder) for ladder in story.ladders],
        variants=variant_views(story, pictures),
        changes=rung_changes(story),
        agreement=agreement_table(story.measured) if story.measured else None,
        work=work_facts(story),
        machine=machine_facts(story),
        slow=sorted({name for ladder in story.ladders for name in ladder.race.slow}),
        skipped={name: why for ladder in story.ladders for name, why in ladder.skipped.items()},
    )


def _phases(story: Story) -> dict[str, str]:
    """Phase -> its colour in CSS, with a variable of the theme where there is one."""
    own = dict.fromkeys(name for one in story.measured if one.run.program is not None for name in one.result.phases)
    has_variants = any(one.run.program is None for one in story.measured) or not own
    ours = {phase: f"var(--{phase})" for phase in PHASES} if has_variants else {}
    colors = {phase: phase_color(phase) for phase in own if phase not in ours}
    return {**ours, **{p: "var(--rest)" if c == REST else c for p, c in colors.items()}, "rest": "var(--rest)"}


def _time_tables(story: Story) -> list[Table]:
    """Steps and phases: several variants side by side by the time of each phase, a single one with its memory."""
    if not story.measured:
        return []
    if len({one.name for one in story.measured}) > 1:
        return [time_table(story.measured, with_phases=True)]
    tables = [time_table(story.measured), phase_table(story.measured)]
    several = sum(bool(one.result.phases) for one in story.measured) > 1
    return [table for table in [*tables, *[memory_table(story.measured)] * several] if table.rows]
