"""Speedups that a project claims in its pyproject.toml; they are measured without pytest.

An entry is a table [[tool.mlpprof.claims]]: `new` is at least `at_least` times as fast as `over`. Paths in it begin at
the folder of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from mlpprof.catalog import find_all
from mlpprof.compare.error_bounds import procedure_for
from mlpprof.compare.resolution import share_of
from mlpprof.compare.same_code import SameCode, require_different_variants
from mlpprof.errors import CheckFailed, MlpprofError, UsageError, did_you_mean
from mlpprof.programs.name import ProgramName, is_program
from mlpprof.report.json_documents import speedup_json, unmeasured_json
from mlpprof.results.json import WrongJson, decode
from mlpprof.testing.baseline import Positive
from mlpprof.testing.programs import Programs, announced
from mlpprof.testing.speedup import Measuring, measure_speedup, stored_claim
from mlpprof.workloads import DEFAULT_WORKLOAD, resolve

TABLE = "[[tool.mlpprof.claims]]"

EXAMPLE = f"""\
expected tables such as:
    {TABLE}
    new = "train.py"
    over = "train.py@HEAD^1"
    at_least = 0.95"""

OF_VARIANTS = ("workload", "batch", "dtype")
OF_PROGRAMS = ("arguments", "step", "over_step")
"""Keys that only claims about variants, and only claims about programs can have."""

EXPECTED = {
    "at_least": 'a ratio above 0, such as 1.15, or "baseline"',
    "batch": "a whole number of 1 or more",
    "dtype": '"float32" or "float64"',
    "arguments": 'a list of texts, such as ["--epochs", "3"]',
    "resolution": "a share, such as 0.02 for 2 %",
}
"""Key -> the values that it can have; those of the other keys are texts."""


@dataclass(frozen=True)
class ClaimedSpeedup:
    """An entry; `new` and `over` are two programs or two variants.

    at_least: a ratio, or "baseline" for the one that `mlpprof calibrate` stored. The other keys are those of
    `mlpprof.testing.measure_speedup`.
    """

    new: str
    over: str
    at_least: Positive | Literal["baseline"]
    workload: str | None = None
    batch: Annotated[int, Meta(ge=1)] | None = None
    dtype: Literal["float32", "float64"] | None = None
    arguments: tuple[str, ...] = ()
    step: str | None = None
    over_step: str | None = None
    resolution: float | None = None

    @property
    def name(self) -> str:
        """'train.py over train.py@main'."""
        return f"{self.new} over {self.over}"

    @property
    def is_about_programs(self) -> bool:
        """Whether both are programs."""
        return is_program(self.new) and is_program(self.over)

    @property
    def may_be_unchanged(self) -> bool:
        """Whether it says that a program stays as fast as it was, which holds if its code has not changed."""
        if not self.is_about_programs or isinstance(self.at_least, str) or self.at_least > 1:
            return False
        names = [replace(ProgramName.parse(one), ref=None) for one in (self.new, self.over)]
        return self.new != self.over and names[0] == names[1]

    def programs(self, allow_writes: bool) -> Programs:
        """Both programs."""
        return Programs(self.new, self.over, self.arguments, self.step, self.over_step, allow_writes)


def read_claimed(entries: object, path: Path) -> list[ClaimedSpeedup]:
    """The entries of a pyproject.toml. Nothing is measured, but every entry is checked as far as that is possible.

    Raises UsageError with the number of the entry and its key.
    """
    if not isinstance(entries, list) or not entries:
        found = "has no claims" if entries in (None, []) else f"has claims = {entries!r:.60}"
        raise UsageError(f"{path} {found}; {EXAMPLE}")
    return [_claimed(entry, f"{path}: claim {number}") for number, entry in enumerate(entries, start=1)]


def _claimed(entry: object, place: str) -> ClaimedSpeedup:
    if not isinstance(entry, dict):
        raise UsageError(f"{place} is {entry!r:.60}; {EXAMPLE}")
    known = [field.name for field in fields(ClaimedSpeedup)]
    for key in entry:
        if key not in known:
            hint = did_you_mean(key, known)
            raise UsageError(f"{place} has '{key}', which is not a key of a claim{hint} (keys: {', '.join(known)})")
    missing = [key for key in ("new", "over", "at_least") if key not in entry]
    if missing:
        raise UsageError(f"{place} has no '{missing[0]}'; {EXAMPLE}")
    try:
        claim = decode(ClaimedSpeedup, entry)
        _require_measurable(claim)
    except (WrongJson, MlpprofError) as error:
        named = f" ({entry['new']} over {entry['over']})"
        what = _wrong_value(error, entry) if isinstance(error, WrongJson) else error
        raise UsageError(f"{place}{named}: {what}") from error
    return claim


def _wrong_value(error: WrongJson, entry: Mapping[str, object]) -> str:
    """'at_least is 0; expected a ratio above 0, ...'; the error starts with the key, perhaps with an index."""
    key = str(error).partition(":")[0].partition("[")[0]
    return f"{key} is {entry[key]!r:.60}; expected {EXPECTED.get(key, 'a text')}"


def _require_measurable(claim: ClaimedSpeedup) -> None:
    """Raise what is wrong with an entry: a name, a file, a git ref, or a key that is for another kind."""
    if claim.resolution is not None:
        share_of(claim.resolution)
    both = [is_program(one) for one in (claim.new, claim.over)]
    if any(both) and not all(both):
        raise UsageError("new and over have to be two programs or two variants")
    others = OF_VARIANTS if all(both) else OF_PROGRAMS
    given = [key for key in others if getattr(claim, key)]
    if given:
        raise UsageError(f"'{given[0]}' is for {'variants' if all(both) else 'programs'} only; leave it out")
    if all(both):
        try:
            claim.programs(allow_writes=False).requests()
        except SameCode:
            if not claim.may_be_unchanged:
                raise
    else:
        require_different_variants(*find_all((claim.over, claim.new)))
        resolve(claim.workload or DEFAULT_WORKLOAD, batch=claim.batch)


def announcements(claim: ClaimedSpeedup, measuring: Measuring, allow_writes: bool) -> list[str]:
    """Sentences that say how often the programs of a claim will be run at most; none if there are no runs.

    A claim that cannot be measured gets none; why is said when its turn comes.
    """
    if not claim.is_about_programs:
        return []
    procedure = procedure_for(claim.resolution or measuring.resolution)
    programs = claim.programs(allow_writes)
    try:
        if isinstance(claim.at_least, str):
            stored_claim(programs, measuring)
        return announced(programs, measuring.budget_s, procedure)
    except UsageError:
        return []


Measure = Callable[..., Any]
"""Measures a claim as `measure_speedup` does."""


def decided(
    place: int, claim: ClaimedSpeedup, measuring: Measuring, *, allow_writes: bool, measure: Measure = measure_speedup
) -> dict[str, Any]:
    """The JSON of a claim, also of one that cannot be measured, as `--mlpprof-json` writes it.

    place: of the claim in the file, counted from 0. measure: as `measure_speedup`.
    """
    return {"test": f"claim {place + 1}", **_decided(claim, measuring, allow_writes, measure)}


def _decided(claim: ClaimedSpeedup, measuring: Measuring, allow_writes: bool, measure: Measure) -> dict[str, Any]:
    options = {key: value for key, value in asdict(claim).items() if value and key not in ("new", "over")}
    if allow_writes and claim.is_about_programs:
        options["allow_writes"] = True
    claimed = None if isinstance(claim.at_least, str) else claim.at_least
    try:
        return speedup_json(measure(claim.new, over=claim.over, measuring=measuring, **options))
    except SameCode as error:
        verdict = "unchanged" if claim.may_be_unchanged else "error"
        return unmeasured_json(claim.new, claim.over, claimed, verdict, str(error))
    except (CheckFailed, AssertionError) as error:
        return unmeasured_json(claim.new, claim.over, claimed, "fail", str(error))
    except MlpprofError as error:
        return unmeasured_json(claim.new, claim.over, claimed, "error", str(error))
