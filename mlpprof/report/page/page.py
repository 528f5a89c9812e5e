"""The page as one file: figures, style, script and data within it, and nothing that is loaded from elsewhere.

The story's order: the verdict, where the time goes, what limits it, what each rung changed, how it scales, how sure we
are, the machine, the raw data. jinja2 escapes every text; what is not escaped is made here: SVG from matplotlib, our
own style and script, and JSON in which no tag can begin.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from mlpprof import __version__
from mlpprof.compare.waterfall import REST
from mlpprof.files import write_atomically
from mlpprof.model import PHASES
from mlpprof.report.figures.canvas import PHASE_COLORS, THEME
from mlpprof.report.json_documents import comparison_json, ladder_json, profile_json
from mlpprof.report.numbers import digits, format_number, format_percent, format_time, plain, printable
from mlpprof.report.page.changes import rung_changes
from mlpprof.report.page.facts import machine_facts, warnings_of, work_facts
from mlpprof.report.page.headline import headline, interval
from mlpprof.report.page.pictures import Pictures
from mlpprof.report.page.tables import agreement_table, memory_table, race_table, time_table
from mlpprof.report.page.variant_views import variant_views
from mlpprof.report.story import Story
from mlpprof.results import BatchResult, Comparison, Ladder, Run
from mlpprof.results.json import without_nan

# What every page has around its story: style, script, data, and a policy that lets it load and send nothing.
#
# jinja2 escapes every text; what is not escaped is made here: our own style and script, and JSON in which no tag can
# begin.


def render(template: str, title: str, data: str, data_words: str, **story: object) -> str:
    """The whole page as text; data: JSON in which no tag can begin; story: what the template tells."""
    script = _resource("script.js")
    return (
        _environment()
        .get_template(template)
        .render(
            version=__version__,
            policy=_policy(script),
            style=Markup(_theme() + _resource("style.css")),
            script=Markup(script),
            title=title,
            data=Markup(data),
            data_words=data_words,
            **story,
        )
    )


def _policy(script: str) -> str:
    """What the page may do: run its own script and nothing else, load nothing, send nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )


def _theme() -> str:
    """Colours of both themes as variables: dark where the system is or the reader says so, light on paper."""
    phases = "".join(f"--{phase}:{color};" for phase, color in PHASE_COLORS.items())
    light, dark = ("".join(f"--{role}:{pair[i]};" for role, pair in THEME.items()) for i in (0, 1))
    return (
        f":root{{{phases}{light}color-scheme:light}}"
        f"@media screen{{:root[data-theme=dark]{{{dark}color-scheme:dark}}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}color-scheme:dark}}}}\n"
    )


def _resource(name: str) -> str:
    return files("mlpprof.report.page").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mlpprof.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "time": format_time,
        "percent": format_percent,
        "number": format_number,
        "digits": digits,
        "plain": plain,
        "printable": printable,
        "interval": interval,
        "phase": lambda phase: "rest" if phase == REST else plain(phase),
    }
    return environment


# The raw data within a page: every record and every sample, as JSON in which no tag can begin.
#
# A run in it is what `mlpprof profile --json` prints, figures to six digits, and under `raw_ns` every sample of every
# pass in whole nanoseconds, which is what the clock can tell. Where all of it would make the page too long to share,
# the
# samples of single labels stay out, their medians do not, and `left_out` says so.


SCHEMA = 1
BUDGET = 400_000
"""Characters from which on the samples of single labels stay out."""
LEFT_OUT = "samples of single labels: their medians are here, the samples in the run's .h5 file"


def embedded(story: Story) -> str:
    """All data of the story as JSON text that can stand within <script>."""
    text = script_text(document(story, with_labels=True))
    return text if len(text) <= BUDGET else script_text(document(story, with_labels=False))


def document(story: Story, *, with_labels: bool) -> dict[str, Any]:
    """All data of the story as plain JSON; with_labels: with every sample of every label."""
    whole = {
        "schema": SCHEMA,
        "mlpprof": __version__,
        "left_out": None if with_labels else LEFT_OUT,
        "runs": [{"name": name, **_run(run, with_labels)} for name, run in story.profiles],
        "comparisons": [comparison_json(one) for one in story.comparisons],
        "ladders": [ladder_json(one) for one in story.ladders],
    }
    found: dict[str, Any] = without_nan(whole)
    return found


def _run(run: Run, with_labels: bool) -> dict[str, Any]:
    plain = profile_json(run)
    plain["source"] = run.variant.source
    for found, result in zip(plain["results"], run.results, strict=True):
        # nanoseconds tell the same in fewer characters
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
    """The same with six significant digits: no figure here is known better."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def script_text(content: dict[str, Any]) -> str:
    """ASCII, in which `<` is written as an escape: neither </script> nor <!-- can stand in it."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def write_page(
    path: Path, *, runs: Sequence[Run] = (), comparisons: Sequence[Comparison] = (), ladders: Sequence[Ladder] = ()
) -> Path:
    """Write the page of any records, replacing what is there; returns the path.

    Raises ValueError if there is nothing to tell, and UsageError where the file cannot be written.
    """
    text = page_html(Story.of(runs, comparisons, ladders))
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def page_html(story: Story) -> str:
    """The whole page as text."""
    pictures = Pictures(story)
    told = headline(story)
    return render(
        "page.html",
        told.title,
        embedded(story),
        "All figures and samples lie in this file as JSON, times in seconds, raw samples in nanoseconds.",
        headline=told,
        warnings=warnings_of(story),
        names=story.names,
        phases=[*PHASES, "rest"],
        pictures=pictures,
        times=time_table(story),
        races=[race_table(ladder) for ladder in story.ladders],
        memory=memory_table(story),
        variants=variant_views(story, pictures),
        changes=rung_changes(story),
        agreement=agreement_table(story),
        work=work_facts(story),
        machine=machine_facts(story),
        slow=sorted({name for ladder in story.ladders for name in ladder.race.slow}),
        skipped={name: why for ladder in story.ladders for name, why in ladder.skipped.items()},
    )
