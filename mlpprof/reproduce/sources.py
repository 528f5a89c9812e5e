"""The sources by name, and the one function that reproduces some of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpprof.errors import UsageError, did_you_mean
from mlpprof.process import Progress, part_of
from mlpprof.reproduce import forever, liu, optprop, persample, stepiii
from mlpprof.reproduce.rules import require_data
from mlpprof.results.reproduction import Reproduction


@dataclass(frozen=True)
class Source:
    """A source: reproduce(data, plan, progress) with one of its two plans."""

    reproduce: Callable[[Path | None, Any, Progress], Reproduction]
    whole: Any
    quick: Any


SOURCES = {
    module.NAME: Source(module.reproduce, module.Plan(), module.QUICK)
    for module in (stepiii, persample, forever, liu, optprop)
}


def reproduce(names: Sequence[str], data: Path | None, quick: bool, progress: Progress) -> list[Reproduction]:
    """The named sources, or all of them if there are no names, one after the other.

    data: a folder with MNIST or the cats, or an HDF5 file. Raises UsageError for an unknown name, and DataError for
    data that cannot be used, before anything runs.
    """
    for name in names:
        if name not in SOURCES:
            raise UsageError(f"there is no source '{name}'{did_you_mean(name, SOURCES)} (known: {', '.join(SOURCES)})")
    require_data(data)
    chosen = list(dict.fromkeys(names)) or list(SOURCES)
    done = []
    for i, name in enumerate(chosen):
        part = part_of(progress, i / len(chosen), 1 / len(chosen))
        source = SOURCES[name]
        done.append(source.reproduce(data, source.quick if quick else source.whole, part))
    return done
