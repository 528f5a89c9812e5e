"""The sheet that figures are drawn on: matplotlib without pyplot, in our style, with the same bytes every time.

A figure is drawn at two widths, for a desk and for a phone, and saved as SVG for a page, as SVG for a file, or as PNG.
Text stays text and is never read as mathematics, because names come from users and may contain a dollar sign.
"""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlpprof.report.numbers import plain

# The colours of phases are Paul Tol's "bright" scheme (https://personal.sron.nl/~pault/), which people with any colour
# vision can distinguish, on white and on near-black. The other roles have two values each: a figure is drawn in the
# light ones, and on a page they are replaced by CSS variables of the same names.
PHASE_COLORS = {
    "fetch_batch": "#66ccee",
    "forward": "#4477aa",
    "loss": "#ccbb44",
    "backward": "#ee6677",
    "update": "#228833",
}

THEME = {
    "paper": ("#ffffff", "#14171c"),
    "ink": ("#1b1f27", "#e9ebef"),
    "muted": ("#565e6b", "#a7b0bd"),
    "grid": ("#e4e7eb", "#2b313a"),
    "rest": ("#b9bfc8", "#5d6673"),
    "accent": ("#8f2d6b", "#e08fc0"),
    "good": ("#1f7a34", "#6fce86"),
    "bad": ("#b3283d", "#ff8d9c"),
}
"""Role -> (light, dark). No two light values are equal, so that a light value identifies its role."""


def theme_css() -> tuple[str, str]:
    """The roles as CSS variables, in light and in dark."""
    light, dark = ("".join(f"--{role}:{pair[i]};" for role, pair in THEME.items()) for i in (0, 1))
    return light, dark


PAPER, INK, MUTED, GRID, REST, ACCENT, GOOD, BAD = (light for light, _ in THEME.values())

ON_DARK, ON_LIGHT = "#fefefe", "#15191f"
"""The colours of text on the colour of a phase; they are the same in light and dark."""

SERIES_COLORS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee", "#bb6633")
SERIES_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


WORDS_OF_PHASES = {
    "fetch_batch": ("fetch", "gather", "load", "next_batch", "get_batch"),
    "backward": ("back", "grad", "delta"),
    "forward": ("forward", "feed", "predict"),
    "loss": ("loss", "cost", "error"),
    "update": ("update", "optim", "sgd", "adam", "descen", "apply"),
}
"""If the name of a phase in a program contains one of these words, the phase has the colour of ours."""

OTHER_COLORS = ("#aa3377", "#bb6633", "#009988", "#997700")
"""Colours of a program's other phases."""


def our_phase(phase: str) -> str:
    """The one of the five phases that a phase of a program corresponds to by its name; else its own name."""
    last = phase.rpartition(".")[2].lower()
    found = (ours for ours, words in WORDS_OF_PHASES.items() if any(word in last for word in words))
    return phase if phase in PHASE_COLORS else next(found, phase)


def phase_color(phase: str) -> str:
    """The colour of a phase; what is in no phase, or in the step itself, is grey."""
    if phase in ("rest", "other") or phase.startswith("("):
        return REST
    ours = our_phase(phase)
    return PHASE_COLORS.get(ours) or OTHER_COLORS[zlib.crc32(phase.encode()) % len(OTHER_COLORS)]


def text_on(phase: str) -> str:
    """Ink that is readable on the colour of a phase."""
    color = phase_color(phase)
    return ON_DARK if color in (PHASE_COLORS["forward"], PHASE_COLORS["update"], *OTHER_COLORS) else ON_LIGHT


def series_style(i: int) -> tuple[str, str]:
    """Colour and marker of the i-th line, so that no line is identified by its colour alone."""
    return SERIES_COLORS[i % len(SERIES_COLORS)], SERIES_MARKERS[i % len(SERIES_MARKERS)]


WIDE, NARROW = 7.2, 3.5
"""The widths of a figure on a desk and on a phone, in inches."""
POINTS = 72.0
"""There are this many points in an inch; a unit of the SVG is a point."""
PNG_DPI = 200

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"

_STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "text.usetex": False,
    "font.size": 8.5,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "svg.fonttype": "none",
    "svg.hashsalt": "mlpprof",
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8,
    "axes.linewidth": 0.8,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}


@contextmanager
def style() -> Iterator[None]:
    """Use our settings only: a user's matplotlibrc does not change a report."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # a user's name may contain characters that matplotlib's font lacks; the browser has other fonts
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


@dataclass
class Sheet:
    """A figure while it is drawn; tags: id of a marked part -> its attributes in the SVG."""

    width: float
    height: float
    figure: Figure = field(init=False)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.figure = Figure(figsize=(self.width, self.height), dpi=POINTS)

    @property
    def is_narrow(self) -> bool:
        return self.width < (WIDE + NARROW) / 2

    def axes(self, left: float, right: float, top: float, bottom: float) -> Axes:
        """Add the plot, with margins in inches."""
        box = (left / self.width, bottom / self.height)
        size = (1 - (left + right) / self.width, 1 - (top + bottom) / self.height)
        return self.figure.add_axes((*box, *size))

    def tag(self, artist: Artist, title: str = "", **data: str | int | float) -> None:
        """Mark a part with a title, which shows under the pointer, and with data attributes for scripts."""
        name = f"part{len(self.tags)}"
        artist.set_gid(name)
        self.tags[name] = {"title": title, **{f"data-{key}": str(value) for key, value in data.items()}}


def text_width(text: str, size: float = 8.5) -> float:
    """The width of a text in points, rather too much than too little."""
    return 0.62 * size * len(text)


def short(text: str, length: int = 28) -> str:
    """A user's text on one line, cut to a length."""
    line = plain(text)
    return line if len(line) <= length else line[: length - 1] + "…"


def png_bytes(sheet: Sheet) -> bytes:
    """The sheet as a picture, on white."""
    buffer = io.BytesIO()
    with style():
        sheet.figure.savefig(buffer, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return buffer.getvalue()


def svg_element(sheet: Sheet, prefix: str) -> ElementTree.Element:
    """The sheet as an <svg> element without a size of its own; ids begin with the prefix, colours are variables."""
    buffer = io.StringIO()
    with style():
        sheet.figure.savefig(buffer, format="svg", facecolor="none", metadata=dict.fromkeys(("Date", "Creator")))
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    _apply_tags(root, sheet.tags)
    _rename_ids(root, prefix)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if element.tag not in ("text", "tspan", "title"):
            element.text = None
        element.tail = None
        for name, value in list(element.attrib.items()):
            if name in ("style", "d", "transform", "x", "y", "viewBox", "points"):
                element.set(name, _compact(value, name))
    for group in root.iter("g"):
        _share_style(group)
    return root


def _share_style(group: ElementTree.Element) -> None:
    """Move a style that all dots of a strip share to their group."""
    styles = {child.get("style") for child in group}
    if len(group) > 1 and len(styles) == 1 and all(child.tag == "use" for child in group):
        (shared,) = styles
        if shared is not None and "style" not in group.attrib:
            group.set("style", shared)
            for child in group:
                del child.attrib["style"]


def _apply_tags(root: ElementTree.Element, tags: dict[str, dict[str, str]]) -> None:
    for element in root.iter():
        for name, value in tags.get(element.get("id", ""), {}).items():
            if name != "title":
                element.set(name, value)
            elif value:
                title = ElementTree.Element("title")
                title.text = plain(value)
                element.insert(0, title)


def _rename_ids(root: ElementTree.Element, prefix: str) -> None:
    """Keep only ids that something refers to, and rename them so that no other figure of the page has the same."""
    used: set[str] = set()
    for element in root.iter():
        for value in element.attrib.values():
            used.update(re.findall(r"url\(#([^)]+)\)", value))
        reference = element.attrib.pop(f"{{{XLINK}}}href", None)
        if reference is not None:
            element.set("href", reference)
            used.add(reference.removeprefix("#"))
    names = {name: f"{prefix}-{i}" for i, name in enumerate(sorted(used))}
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id" and value not in names:
                del element.attrib[key]
            elif key == "id":
                element.set(key, names[value])
            elif key == "href":
                element.set(key, "#" + names[value.removeprefix("#")])
            elif "url(#" in value:
                element.set(key, re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{names[found[1]]})", value))


def _compact(value: str, name: str) -> str:
    """Shorten to two decimals and needed blanks, with one font and themed colours."""
    if name == "style":
        value = re.sub(r"font: ((?:[\w.]+ )*?[\d.]+px) [^;]*", r"font: \1 system-ui, sans-serif", value)
        for role, (light, _) in THEME.items():
            value = value.replace(light, f"var(--{role})")
        value = value.replace(": ", ":").replace("; ", ";")
    short_text = " ".join(re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", value).split())
    return re.sub(r" ?([A-Za-z]) ?", r"\1", short_text) if name == "d" else short_text


def svg_text(element: ElementTree.Element) -> str:
    """The element as text without an XML header, to stand within HTML."""
    return ElementTree.tostring(element, encoding="unicode")


def standalone_svg(sheet: Sheet, title: str, description: str) -> str:
    """The sheet as an SVG file that follows the reader's light or dark setting."""
    root = svg_element(sheet, "figure")
    root.set("xmlns", SVG)
    root.set("role", "img")
    light, dark = theme_css()
    sheet_style = f":root{{{light}background:var(--paper)}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
    for name, text in (("style", sheet_style), ("desc", description), ("title", title)):
        child = ElementTree.Element(name)
        child.text = text if name == "style" else plain(text)
        root.insert(0, child)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg_text(root) + "\n"
