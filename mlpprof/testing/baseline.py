"""Stored claims are speedups that tests require, in a small TOML file in the user's repository.

`mlpprof calibrate OLD NEW` measures a speedup and stores it for this class of machine. A test with
`at_least="baseline"` then requires the lower end of the stored 95 % interval.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from mlpprof.errors import UsageError, did_you_mean
from mlpprof.files import write_atomically
from mlpprof.profile.variant import DEFAULT_THREADS
from mlpprof.results.json import WrongJson, decode

DEFAULT_FILE = Path("mlpprof-baselines.toml")

Positive = Annotated[float, Meta(gt=0, le=1e9)]

HEAD = """\
# Speedups that tests rely on (at_least = "baseline"), by class of machine.
# Written by `mlpprof calibrate OLD NEW`. A test requires these numbers, so review changes as you review code.
"""


@dataclass(frozen=True)
class Claim:
    """A measured speedup of one pair on one class of machine: the ratio, its 95 % interval and the day."""

    what: str
    machine: str
    ratio: Positive
    low: Positive
    high: Positive
    date: str

    def __post_init__(self) -> None:
        if not self.low <= self.ratio <= self.high:
            raise ValueError(f"the ratio {self.ratio:g} lies outside its interval, {self.low:g} to {self.high:g}")


def claim_key(
    new: str, old: str, workload: str, batch: int, dtype: str | None = None, threads: int | None = DEFAULT_THREADS
) -> str:
    """The name of a claim, such as 'sliced over naive, digits, batch 500'; settings that are not the default follow."""
    key = f"{new} over {old}, {workload}, batch {batch}"
    if dtype is not None:
        key += f", {dtype}"
    return key if threads == DEFAULT_THREADS else f"{key}, {threads or 'all'} threads"


def read_claims(path: Path) -> list[Claim]:
    """The claims of a file; none if there is no such file. Raises UsageError with the entry if one is damaged."""
    if not path.exists():
        return []
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("claim", [])
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read the baselines in {path}: {error}") from error
    if not isinstance(entries, list):
        raise UsageError(
            f"{path}: 'claim' is {entries!r:.80}; expected tables [[claim]] as mlpprof calibrate writes them"
        )
    return [_claim(entry, path) for entry in entries]


def _claim(entry: object, path: Path) -> Claim:
    names = [field.name for field in fields(Claim)]
    try:
        if not isinstance(entry, dict) or entry.keys() != set(names):
            raise WrongJson(f"expected {', '.join(names)}")
        return decode(Claim, {**entry, "date": str(entry["date"])})
    except WrongJson as error:
        raise UsageError(f"{path}: {entry!r:.200} is not a stored speedup: {error}") from error


def write_claim(path: Path, claim: Claim) -> None:
    """Add a claim; it replaces a claim about the same pair on the same class of machine."""
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
    """The speedup that a stored claim requires: the lower end of its interval.

    command: the command that stores such a claim. Raises UsageError with this command if nothing is stored about this
    pair on this class of machine.
    """
    claims = read_claims(path)
    for claim in claims:
        if (claim.what, claim.machine) == (what, machine):
            return claim.low
    elsewhere = [claim.machine for claim in claims if claim.what == what]
    hint = f" (stored for: {'; '.join(elsewhere)})" if elsewhere else did_you_mean(what, [c.what for c in claims])
    raise UsageError(f"{path} has no speedup for '{what}' on {machine}{hint}. To store one, type: {command}")
