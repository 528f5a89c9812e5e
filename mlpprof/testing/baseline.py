"""Stored claims: a small TOML file in the user's repository, reviewed like code.

`mlpprof calibrate OLD NEW` measures a ratio and stores it for this class of machine; a test then says
`at_least="baseline"`. That claims the lower end of the stored 95 % interval: what the calibration was sure of.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpprof.errors import UsageError, did_you_mean
from mlpprof.files import write_atomically
from mlpprof.machine.blas import cpu_rank
from mlpprof.profile.profile import DEFAULT_THREADS

DEFAULT_FILE = Path("mlpprof-baselines.toml")

HEAD = """\
# Speedups that tests rely on (at_least = "baseline"), by class of machine.
# Written by `mlpprof calibrate OLD NEW`; a changed number is a changed claim: review it.
"""


@dataclass(frozen=True)
class Claim:
    """A measured speedup: what, on which class of machine, the ratio with its 95 % interval, and the day."""

    what: str
    machine: str
    ratio: float
    low: float
    high: float
    date: str


def claim_key(
    new: str, old: str, workload: str, batch: int, dtype: str | None = None, threads: int | None = DEFAULT_THREADS
) -> str:
    """What a claim is about, in words: 'sliced over naive, digits, batch 500'; what is not the default follows."""
    key = f"{new} over {old}, {workload}, batch {batch}"
    if dtype is not None:
        key += f", {dtype}"
    return key if threads == DEFAULT_THREADS else f"{key}, {threads or 'all'} threads"


def machine_class(description: Mapping[str, Any]) -> str:
    """The class of a described machine: architecture, vector width, cores, NumPy's BLAS and its kernel.

    Machines of one class run the same kernels on as many cores; their ratios are near each other, their times need
    not be.
    """
    rank = cpu_rank(description)
    libraries = sorted(description.get("blas") or [], key=lambda library: library.get("loaded_by") != "numpy")
    blas = next((f"{library.get('vendor')} {library.get('kernel')}" for library in libraries), "unknown BLAS")
    vector = "unknown vectors" if rank is None else rank.text
    cores = description.get("cpu_core_count") or description.get("cpu_count")
    return f"{description.get('cpu_architecture')} {vector}, {cores} cores, {blas}"


def read_claims(path: Path) -> list[Claim]:
    """The claims of a file; none if there is no such file. Raises UsageError, naming the entry, for a damaged one."""
    if not path.exists():
        return []
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("claim", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the baselines in {path}: {error}") from error
    claims = []
    for entry in entries:
        try:
            claim = Claim(**{**entry, "date": str(entry["date"])})
            sound = 0 < claim.low <= claim.ratio <= claim.high
        except (TypeError, KeyError):
            sound = False
        if not sound:
            raise UsageError(f"{path}: {entry} is no claim; expected what, machine, ratio, low, high and date")
        claims.append(claim)
    return claims


def write_claim(path: Path, claim: Claim) -> None:
    """Add a claim, or put it in the place of the one about the same on the same class of machine."""
    others = [old for old in read_claims(path) if (old.what, old.machine) != (claim.what, claim.machine)]
    blocks = [HEAD]
    for one in sorted([*others, claim], key=lambda c: (c.what, c.machine)):
        blocks.append(
            f"[[claim]]\nwhat = {json.dumps(one.what)}\nmachine = {json.dumps(one.machine)}\n"
            f"ratio = {one.ratio:.3f}\nlow = {one.low:.3f}\nhigh = {one.high:.3f}\ndate = {one.date}\n"
        )
    with write_atomically(path) as temporary:
        temporary.write_text("\n".join(blocks), encoding="utf-8", newline="\n")


def claimed(path: Path, what: str, machine: str, command: str) -> float:
    """The at_least that a stored claim stands for: the lower end of its interval.

    command: stores such a claim. Raises UsageError that names it if nothing is stored about this on this class of
    machine.
    """
    claims = read_claims(path)
    for claim in claims:
        if (claim.what, claim.machine) == (what, machine):
            return claim.low
    elsewhere = [claim.machine for claim in claims if claim.what == what]
    hint = f" (stored for: {'; '.join(elsewhere)})" if elsewhere else did_you_mean(what, [c.what for c in claims])
    raise UsageError(f"no baseline in {path} for '{what}' on {machine}{hint}; store one with: {command}")
