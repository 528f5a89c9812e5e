"""What pages and notebooks share: the environment of their templates, and figures as SVG within HTML."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlpprof.report.figures.canvas import NARROW, WIDE, svg_element, svg_text
from mlpprof.report.figures.gallery import Drawing
from mlpprof.report.numbers import digits, format_number, format_percent, format_time, plain, printable


@cache
def environment(package: str) -> Environment:
    """The templates of a package, in which every text is escaped and shown with the functions of `numbers`."""
    made = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "time": format_time,
        "percent": format_percent,
        "number": format_number,
        "digits": digits,
        "plain": plain,
        "printable": printable,
    }
    return made


@dataclass(frozen=True)
class Picture:
    """A figure with its caption; narrow: for a phone, None where the wide one is shown there too."""

    title: str
    wide: Markup
    narrow: Markup | None = None


def picture_of(drawing: Drawing, prefix: str, *, twice: bool) -> Picture:
    """A drawing as SVG whose ids begin with the prefix; twice: also drawn for a phone."""
    narrow = _svg(drawing, NARROW, f"{prefix}n") if twice else None
    return Picture(plain(drawing.title), _svg(drawing, WIDE, f"{prefix}w"), narrow)


def _svg(drawing: Drawing, width: float, prefix: str) -> Markup:
    element = svg_element(drawing.sheet(width), prefix)
    element.set("role", "img")
    element.set("aria-label", f"{plain(drawing.title)}. {plain(drawing.description)}")
    # ElementTree has escaped every text of a user
    return Markup(svg_text(element))
