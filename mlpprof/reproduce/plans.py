"""How long a reproduction takes: the whole of it, or shortened, which the report then says field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mlpprof.data import DataSource, peek
from mlpprof.errors import DataError
from mlpprof.process import Progress
from mlpprof.report.format import format_number


def shortened(plan: Any, names: Mapping[str, str]) -> tuple[str, ...]:
    """What a plan (a dataclass whose defaults are the whole run) leaves out: 'epochs: 3 instead of 35'.

    names: of the fields, for people.
    """
    whole = type(plan)()
    return tuple(
        f"{names[field.name]}: {_text(getattr(plan, field.name))} instead of {_text(getattr(whole, field.name))}"
        for field in fields(plan)
        if getattr(plan, field.name) != getattr(whole, field.name)
    )


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_text(item) for item in value)
    return format_number(value) if isinstance(value, int | float) else str(value)


class Stages:
    """Progress of a reproduction that goes through stages of about the same length."""

    def __init__(self, name: str, count: int, progress: Progress) -> None:
        self._name = name
        self._count = count
        self._done = -1
        self._progress = progress

    def next(self) -> Progress:
        """The progress of the next stage."""
        self._done += 1
        done = self._done

        def report(what: str, share: float) -> None:
            self._progress(f"{self._name}: {what}", min(1.0, (done + min(1.0, share)) / self._count))

        return report


def digits_source(data: Path | None) -> DataSource:
    """MNIST, where the folder holds it, else the embedded digits."""
    if data is not None and data.is_dir():
        for suffix in ("", ".gz"):
            if (data / f"train-images-idx3-ubyte{suffix}").is_file():
                return DataSource(path=str(data))
    return DataSource("digits")


def cats_source(data: Path | None) -> DataSource:
    """The HDF5 file with pictures: the file itself, or the first of the folder; else the embedded cats."""
    if data is None:
        return DataSource("cats")
    if data.is_dir():
        files = sorted(file for file in data.iterdir() if file.suffix in (".h5", ".hdf5"))
        training = [file for file in files if file.name.startswith("train")]
        return DataSource(path=str((training or files)[0])) if files else DataSource("cats")
    return DataSource(path=str(data))


def require_data(data: Path | None) -> None:
    """Raise DataError, in one line, where nothing there can be used."""
    if data is None:
        return
    if not data.exists():
        raise DataError(f"no folder '{data}'; expected one with MNIST's four files, the cats' HDF5 files, or both")
    digits, cats = digits_source(data), cats_source(data)
    if digits.name is not None and cats.name is not None:
        raise DataError(f"{data} holds neither MNIST's IDX files nor an HDF5 file; leave --data out for embedded sets")
    for source in (digits, cats):
        if source.path is not None:
            peek(source)


def data_text(source: DataSource) -> str:
    """Which data were used, for the report."""
    if source.name is not None:
        return f"the embedded set '{source.name}', made from a seed; --data FOLDER takes the author's"
    return f"from {Path(source.text).name}, given by --data"
