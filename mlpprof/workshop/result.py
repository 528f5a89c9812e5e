"""What a check found, as a frozen record, and as the JSON file that a learner hands in.

The contract of the file is `result.schema.json`. Reading is strict: a board is made from files of other people.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlpprof.errors import DataError
from mlpprof.files import write_atomically
from mlpprof.results.json import json_text, without_nan

SCHEMA = 1
KIND = "mlpprof workshop result"
OUTCOMES = ("pass", "fail", "inconclusive")
STAGES = ("load", "correctness", "structure", "speed")
MOST_BYTES = 100_000
LONGEST_NAME = 80
LONGEST_TEXT = 4_000


@dataclass(frozen=True)
class Ratio:
    """A paired ratio of step times, above 1 the learner's is faster, and its 95 % interval."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Speed:
    """What the race showed; ratios are paired within processes.

    over_start, over_reference, over_first: of my_mlp.py over the exercise's start, the rung that solves it, and the
    first version. reference_over_start: what the rung itself gains here. target: what was wanted of over_start, None
    where nothing was. step_s: median seconds a step of my_mlp.py. share_of_limit: the lower bound of a step on this
    machine over its time, in the free exercise. lost: where the learner's step takes longer than the reference's.
    """

    outcome: str
    over_start: Ratio
    over_reference: Ratio
    over_first: Ratio
    reference_over_start: Ratio
    target: float | None
    step_s: float
    processes: int
    share_of_limit: float | None = None
    lost: str = ""


@dataclass(frozen=True)
class Result:
    """One check of one exercise.

    learner: as told; place: tells folders of learners of one name apart. stage: how far the check came. message: what
    to do, empty on a pass; line, text: the statement it is about. guess: of the learner, for what `Exercise.question`
    asks. networks: random ones on which the gradients were right. facts: structural facts that hold.
    """

    exercise: int
    learner: str
    place: str
    created: str
    mlpprof_version: str
    workload: str
    outcome: str
    stage: str
    message: str = ""
    line: int | None = None
    text: str = ""
    networks: int = 0
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    guess: float | None = None
    speed: Speed | None = None
    cpu: str = ""
    source_sha256: str = ""

    @property
    def passed(self) -> bool:
        """Whether the exercise is done."""
        return self.outcome == "pass"

    def is_better_than(self, other: Result) -> bool:
        """A pass before anything else, then the later one; in an exercise that both passed, the faster one."""
        if self.passed != other.passed:
            return self.passed
        if self.passed and self.speed is not None and other.speed is not None:
            return self.speed.over_first.ratio >= other.speed.over_first.ratio
        return True


def result_json(result: Result) -> dict[str, Any]:
    """The record as plain JSON."""
    document: dict[str, Any] = without_nan({"schema": SCHEMA, "kind": KIND, **asdict(result)})
    return document


def write_result(result: Result, path: Path) -> None:
    """Write the file, whole or not at all."""
    with write_atomically(path) as part:
        part.write_text(json_text(result_json(result)), encoding="utf-8")


def read_result(path: Path) -> Result:
    """The record of a file; raises DataError, naming the file, for what is none, damaged, or of a newer version."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes are no result of a workshop")
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as a result of a workshop: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise DataError(f"{path} is no result of a workshop (mlpprof workshop check writes them)")
    if document.get("schema") != SCHEMA:
        raise DataError(f"{path} has schema {document.get('schema')!r}; this mlpprof reads {SCHEMA}")
    try:
        return _result(document)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged or was changed by hand: {' '.join(str(error).split())}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of a result")


def _result(document: dict[str, Any]) -> Result:
    speed = document.get("speed")
    line = document.get("line")
    return Result(
        exercise=_whole(document, "exercise", 0, 99),
        learner=_text(document, "learner", LONGEST_NAME),
        place=_text(document, "place", LONGEST_NAME),
        created=_text(document, "created", LONGEST_NAME),
        mlpprof_version=_text(document, "mlpprof_version", LONGEST_NAME),
        workload=_text(document, "workload", LONGEST_NAME),
        outcome=_one_of(document, "outcome", OUTCOMES),
        stage=_one_of(document, "stage", STAGES),
        message=_text(document, "message", LONGEST_TEXT),
        line=None if line is None else _whole(document, "line", 1, 10**6),
        text=_text(document, "text", LONGEST_TEXT),
        networks=_whole(document, "networks", 0, 10**6),
        facts=_texts(document, "facts"),
        notes=_texts(document, "notes"),
        guess=_positive(document, "guess", optional=True),
        speed=None if speed is None else _speed(speed),
        cpu=_text(document, "cpu", LONGEST_TEXT),
        source_sha256=_text(document, "source_sha256", LONGEST_NAME),
    )


def _speed(document: dict[str, Any]) -> Speed:
    return Speed(
        outcome=_one_of(document, "outcome", OUTCOMES),
        over_start=_ratio(document, "over_start"),
        over_reference=_ratio(document, "over_reference"),
        over_first=_ratio(document, "over_first"),
        reference_over_start=_ratio(document, "reference_over_start"),
        target=_positive(document, "target", optional=True),
        step_s=_positive(document, "step_s") or 0.0,
        processes=_whole(document, "processes", 1, 10**6),
        share_of_limit=_positive(document, "share_of_limit", optional=True),
        lost=_text(document, "lost", LONGEST_TEXT),
    )


def _ratio(document: dict[str, Any], key: str) -> Ratio:
    inner = document[key]
    ratio, low, high = (_positive(inner, name) or 0.0 for name in ("ratio", "low", "high"))
    return Ratio(ratio, low, high)


def _positive(document: dict[str, Any], key: str, optional: bool = False) -> float | None:
    value = document[key]
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"'{key}' is {value!r:.80}; expected a number above 0")
    return float(value)


def _whole(document: dict[str, Any], key: str, least: int, most: int) -> int:
    value = document[key]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"'{key}' is {value!r:.80}; expected a whole number from {least} to {most}")
    return value


def _text(document: dict[str, Any], key: str, longest: int) -> str:
    value = document[key]
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"'{key}' is {value!r:.80}; expected a text of at most {longest} characters")
    return value


def _texts(document: dict[str, Any], key: str) -> tuple[str, ...]:
    value = document[key]
    if not isinstance(value, list) or not all(isinstance(x, str) and len(x) <= LONGEST_TEXT for x in value):
        raise ValueError(f"'{key}' is {value!r:.80}; expected a list of texts")
    return tuple(value)


def _one_of(document: dict[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    value = document[key]
    if value not in allowed:
        raise ValueError(f"'{key}' is {value!r:.80}; expected one of {', '.join(allowed)}")
    return str(value)
