"""Ratios from races, and the rules that decide whether a claim holds.

The rules are few and fixed before anything is measured, so that they cannot be fitted to a result.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mlpprof.compare.decide import block_log_ratios, log_ratios
from mlpprof.data import DataSource, peek
from mlpprof.errors import DataError
from mlpprof.process import Progress, part_of
from mlpprof.report.numbers import digits, format_number
from mlpprof.results import Race

Size = TypeVar("Size")

ABOUT = 1.5
"""A ratio that is claimed as "about R" holds from R / 1.5 to R * 1.5."""
ELSEWHERE = 5.0
"""A time in seconds from an unknown machine holds within this factor: the span of a decade of desktop computers."""

RULE_AT_LEAST = "every process (or block, if there is one process) measures at least as much"
RULE_ABOUT = f"measured within a factor of {ABOUT:g}"
RULE_ELSEWHERE = f"a time on an unknown machine must be within a factor of {ELSEWHERE:g}"


@dataclass(frozen=True)
class Ratio:
    """The old time divided by the new one: the median of the replicates, their lowest and their highest."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The ratio with its spread: '1.23 x (1.20 to 1.25)'."""
        return f"{digits(self.value)} x ({digits(self.low)} to {digits(self.high)})"

    @property
    def saved(self) -> Ratio:
        """The share of the old time that is saved: 1 - new / old."""
        return Ratio(1 - 1 / self.value, 1 - 1 / self.low, 1 - 1 / self.high)

    def times(self, factor: float) -> Ratio:
        """The ratio scaled, for an old time that was measured in part."""
        return Ratio(self.value * factor, self.low * factor, self.high * factor)


def ratio(race: Race, old: int, new: int) -> Ratio:
    """The old time divided by the new one. If there is a single process, its blocks count as replicates."""
    logs = (
        np.array(block_log_ratios(race.turns_s[0], old, new)) if len(race.turns_s) == 1 else log_ratios(race, old, new)
    )
    return Ratio(float(np.exp(np.median(logs))), float(np.exp(logs.min())), float(np.exp(logs.max())))


def at_least(measured: Ratio, claimed: float) -> bool | None:
    """Whether all replicates reach the claim; None if some do and some do not."""
    if measured.low >= claimed:
        return True
    return False if measured.high < claimed else None


def about(measured: float, claimed: float, factor: float = ABOUT) -> bool:
    """Whether the two lie within a factor of each other."""
    return claimed / factor <= measured <= claimed * factor


def planned(whole: Size, name: str) -> Size:
    """A field of a plan: its value in a whole run, and its name in reports."""
    made: Size = field(default=whole, metadata={"name": name})  # the type that a dataclass's field is said to have
    return made


def shortened(plan: Any) -> tuple[str, ...]:
    """What a plan leaves out of the whole run, which its defaults are: 'epochs: 3 instead of 35'."""
    return tuple(
        f"{one.metadata['name']}: {_text(value)} instead of {_text(one.default)}"
        for one in fields(plan)
        if (value := getattr(plan, one.name)) != one.default
    )


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_text(item) for item in value)
    return format_number(value) if isinstance(value, int | float) else str(value)


def minutes(seconds: float) -> str:
    """Minutes, from two hours on as hours: '28.0 min', '9.00 h'."""
    return f"{digits(seconds / 60)} min" if seconds < 7200 else f"{digits(seconds / 3600)} h"


class Stages:
    """Progress of a reproduction that goes through stages of about the same length."""

    def __init__(self, name: str, count: int, progress: Progress) -> None:
        self._name = name
        self._count = count
        self._done = -1
        self._progress = progress

    def next(self) -> Progress:
        self._done += 1
        return part_of(self._progress, self._done / self._count, 1 / self._count, self._name)


def digits_source(data: Path | None) -> DataSource:
    """MNIST if the folder contains it, else the embedded digits."""
    if data is not None and data.is_dir():
        for suffix in ("", ".gz"):
            if (data / f"train-images-idx3-ubyte{suffix}").is_file():
                return DataSource(path=str(data))
    return DataSource("digits")


def cats_source(data: Path | None) -> DataSource:
    """The HDF5 file with pictures: the file itself or the first one in the folder, else the embedded cats."""
    if data is None:
        return DataSource("cats")
    if data.is_dir():
        files = sorted(file for file in data.iterdir() if file.suffix in (".h5", ".hdf5"))
        training = [file for file in files if file.name.startswith("train")]
        return DataSource(path=str((training or files)[0])) if files else DataSource("cats")
    return DataSource(path=str(data))


def require_data(data: Path | None) -> None:
    """Raise DataError if there is nothing that can be used."""
    if data is None:
        return
    if not data.exists():
        raise DataError(
            f"there is no folder '{data}'; expected one with MNIST's four files, the cats' HDF5 files, or both"
        )
    digits, cats = digits_source(data), cats_source(data)
    if digits.name is not None and cats.name is not None:
        raise DataError(
            f"{data} contains neither MNIST's IDX files nor an HDF5 file; leave --data out to use the embedded sets"
        )
    for source in (digits, cats):
        if source.path is not None:
            peek(source)


def data_text(source: DataSource) -> str:
    """Which data were used, for the report."""
    if source.name is not None:
        return f"the embedded set '{source.name}', made from a seed; --data FOLDER takes the author's"
    return f"from {Path(source.text).name}, given by --data"
