"""What every page has around its story: style, script, data, and a policy that lets it load and send nothing.

jinja2 escapes every text; what is not escaped is made here: our own style and script, and JSON in which no tag can
begin.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlpprof import __version__
from mlpprof.measure.waterfall import REST
from mlpprof.report.figures.palette import PHASE_COLORS, THEME
from mlpprof.report.format import digits, format_number, format_percent, format_time, plain, printable
from mlpprof.report.page.headline import interval


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
