"""Races on disk: comparisons and ladders with every raw sample, in one HDF5 file that is sealed as runs are.

| where          | what                                                                                              |
| -------------- | ------------------------------------------------------------------------------------------------- |
| races          | attribute kind: "comparison" or "ladder"                                                          |
| races/I/record | JSON: every field of `results.Comparison` or `results.Ladder` but the samples and the profiles    |
| races/I/turns/P | float64 (blocks, entrants, 2): seconds per step in process P; attribute scatter, float64         |
|                | (entrants,): see `results.Race.scatter`                                                           |
| races/I/runs/J | the profile of rung J, laid out as in `on_disk`                                                   |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mlpprof.errors import RunFileError, one_line
from mlpprof.results.comparison import Comparison, Ladder, Race
from mlpprof.results.json import decode, encode
from mlpprof.results.on_disk import (
    BLOCK_SIZE,
    CONTENT_ERRORS,
    LONGEST_S,
    OF_RACES,
    SHORTEST_STEP_S,
    ascii_json,
    intact_schema,
    parsed,
    read_run,
    seal,
    write_run,
)

KINDS: dict[str, type[Comparison] | type[Ladder]] = {"comparison": Comparison, "ladder": Ladder}


@dataclass(frozen=True)
class StoredRace:
    """A race as it was read. scatter: for each process, (entrants,), as it was written beside the samples."""

    record: Comparison | Ladder
    scatter: tuple[NDArray[np.float64], ...]


def races_bytes(records: Sequence[Comparison | Ladder]) -> bytes:
    """The content of a file with comparisons or with ladders."""
    content = BytesIO()  # in memory, for the reason that `on_disk.run_bytes` gives
    with h5py.File(content, "w", userblock_size=BLOCK_SIZE) as file:
        races = file.create_group("races")
        races.attrs["kind"] = "ladder" if isinstance(records[0], Ladder) else "comparison"
        for i, record in enumerate(records):
            _write(races.create_group(str(i)), record)
    return seal(content.getvalue(), OF_RACES)


def load_races(path: Path) -> list[StoredRace]:
    """Read the races of a file after its digest was verified.

    Raises RunFileError, in one line, for a file that is missing, foreign, damaged or of a newer schema, or that holds a
    run.
    """
    if intact_schema(path) != OF_RACES:
        raise RunFileError(f"{path} is a run, not a race; expected a file that mlpprof compare or ladder wrote")
    try:
        with h5py.File(path, "r") as file:
            races = file["races"]
            kind = KINDS[races.attrs["kind"]]
            return [_read(races[str(i)], kind) for i in range(len(races))]
    except CONTENT_ERRORS as error:
        found = one_line(error) or type(error).__name__
        raise RunFileError(f"{path} is not damaged, but its content is not a race: {found}; measure again") from error


def _write(group: h5py.Group, record: Comparison | Ladder) -> None:
    without_samples = replace(record, race=replace(record.race, turns_s=()))
    runs = record.runs if isinstance(record, Ladder) else ()
    if isinstance(without_samples, Ladder):
        without_samples = replace(without_samples, runs=())
    group["record"] = ascii_json(encode(without_samples))
    turns = group.create_group("turns")
    for process, turns_s in enumerate(record.race.turns_s):
        dataset = turns.create_dataset(str(process), data=turns_s, dtype="f8")
        dataset.attrs["scatter"] = record.race.scatter(process)
    for j, run in enumerate(runs):
        write_run(group.create_group(f"runs/{j}"), run)


def _read(group: h5py.Group, kind: type[Comparison] | type[Ladder]) -> StoredRace:
    content: dict[str, Any] = parsed(group["record"])
    turns = [group["turns"][str(process)] for process in range(len(group["turns"]))]
    record = decode(kind, content)
    race = replace(record.race, turns_s=tuple(_turns(one, record.race) for one in turns))
    if not turns:
        raise ValueError("it holds no samples")
    if isinstance(record, Ladder):
        runs = group.get("runs", {})
        record = replace(record, runs=tuple(read_run(runs[str(j)]) for j in range(len(runs))))
    return StoredRace(replace(record, race=race), _scatter(turns))


def _turns(dataset: h5py.Dataset, race: Race) -> NDArray[np.float64]:
    turns_s = np.asarray(dataset, np.float64)
    if turns_s.ndim != 3 or turns_s.shape[1:] != (len(race.variants), 2) or len(turns_s) == 0:
        raise ValueError(f"samples have shape {turns_s.shape}; expected (blocks, {len(race.variants)}, 2)")
    taken = turns_s[~np.isnan(turns_s)]
    if not ((taken >= SHORTEST_STEP_S) & (taken <= LONGEST_S)).all():
        raise ValueError(f"a sample is not a time; expected seconds from {SHORTEST_STEP_S:g} to {LONGEST_S:g}")
    return turns_s


def _scatter(turns: Sequence[h5py.Dataset]) -> tuple[NDArray[np.float64], ...]:
    return tuple(np.asarray(one.attrs["scatter"], np.float64) for one in turns)
