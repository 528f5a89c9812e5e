"""Frozen records of a reproduced source: the author's claims, our measurements, and whether the claims hold.

They contain words, numbers and curves, so that the terminal, the figures and the JSON are made from the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Claim:
    """One statement of a source beside our measurement.

    what: the quantity. claimed, measured: as numbers of the same unit (often a ratio), None where there is none.
    claimed_text, measured_text: as people read them, with unit and spread. rule: when the claim counts as true.
    holds: whether it is true by that rule; None where it could not be measured or the measurement cannot decide.
    note: one sentence on what agrees, what does not, and why.
    """

    what: str
    claimed: float | None
    claimed_text: str
    measured: float | None
    measured_text: str
    rule: str
    holds: bool | None
    note: str

    @property
    def ratio(self) -> float | None:
        """Measured divided by claimed, None where either is missing."""
        if self.claimed is None or self.measured is None or self.claimed == 0:
            return None
        return self.measured / self.claimed


@dataclass(frozen=True)
class Table:
    """A table beside the claims: rows of texts under columns; the first column contains names, the others figures."""

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Curve:
    """Points (x, y), joined in order. low, high: the ends of a band around y, empty without one.

    dashed: it is the reference that the others are compared with.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    y_limits: what the axis shows at least; it grows where a curve goes beyond. None leaves it to the curves. band: what
    the bands around the curves show, in words.
    """

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    log_x: bool = False
    log_y: bool = False
    y_limits: tuple[float, float] | None = None
    band: str = ""


@dataclass(frozen=True)
class Figure:
    """Panels side by side. name: of the files, without extension. caption: what the figure shows, in words."""

    name: str
    caption: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Reproduction:
    """One source, reproduced.

    setting: (name, text) lines: data, network, training, where rates come from. choices: our decisions where the source
    says nothing. shortened: what --quick left out, and by how much; empty for a whole run. machine: as in a run.
    """

    name: str
    title: str
    setting: tuple[tuple[str, str], ...]
    choices: tuple[str, ...]
    shortened: tuple[str, ...]
    claims: tuple[Claim, ...]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    machine: Mapping[str, Any]
