"""Colours by role, for light and dark, that people with any colour vision can tell apart.

The colours of phases are Paul Tol's "bright" scheme (https://personal.sron.nl/~pault/), which was made for that and
stands on white and on near-black alike. The other roles have two values each: a figure is drawn in the light ones, and
on a page they are replaced by CSS variables of the same names.
"""

from __future__ import annotations

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
"""Role -> (light, dark). No two light values are equal, so that each names its role."""

PAPER, INK, MUTED, GRID, REST, ACCENT, GOOD, BAD = (light for light, _ in THEME.values())

ON_DARK, ON_LIGHT = "#fefefe", "#15191f"
"""Text on the colour of a phase, the same in light and dark."""

SERIES_COLORS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee", "#bb6633")
SERIES_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def phase_color(phase: str) -> str:
    """Of one of the five phases; the grey of the rest for any other."""
    return PHASE_COLORS.get(phase, REST)


def text_on(phase: str) -> str:
    """Ink that is readable on the colour of a phase."""
    return ON_DARK if phase in ("forward", "update") else ON_LIGHT


def series_style(i: int) -> tuple[str, str]:
    """Colour and marker of the i-th line of several, so that none rests on its colour alone."""
    return SERIES_COLORS[i % len(SERIES_COLORS)], SERIES_MARKERS[i % len(SERIES_MARKERS)]
