"""The page as one file: figures, style, script and data within it, and nothing that is loaded from elsewhere.

The story's order: the verdict, where the time goes, what limits it, what each rung changed, how it scales, how sure we
are, the machine, the raw data. jinja2 escapes every text; what is not escaped is made here: SVG from matplotlib, our
own style and script, and JSON in which no tag can begin.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlpprof import __version__
from mlpprof.files import write_atomically
from mlpprof.measure.waterfall import REST
from mlpprof.model import PHASES
from mlpprof.report.figures.palette import PHASE_COLORS, THEME
from mlpprof.report.format import digits, format_number, format_percent, format_time, plain, printable
from mlpprof.report.page.changes import rung_changes
from mlpprof.report.page.embedded import embedded
from mlpprof.report.page.facts import machine_facts, warnings_of, work_facts
from mlpprof.report.page.headline import headline, interval
from mlpprof.report.page.pictures import Pictures
from mlpprof.report.page.tables import agreement_table, memory_table, race_table, time_table
from mlpprof.report.page.variant_views import variant_views
from mlpprof.report.story import Story
from mlpprof.results import Comparison, Ladder, Run


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
    script = _resource("script.js")
    pictures = Pictures(story)
    return (
        _environment()
        .get_template("page.html")
        .render(
            version=__version__,
            policy=_policy(script),
            style=Markup(_theme() + _resource("style.css")),
            script=Markup(script),
            headline=headline(story),
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
            data=Markup(embedded(story)),
            slow=sorted({name for ladder in story.ladders for name in ladder.race.slow}),
            skipped={name: why for ladder in story.ladders for name, why in ladder.skipped.items()},
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
