"""What a check found: the record, and the JSON file that a learner hands in.

The contract of the file is `result.schema.json`. Because a board is made from files of other people, the types of the
record hold the ranges of its values, and a file that does not keep them is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from mlpprof.errors import DataError
from mlpprof.files import write_atomically
from mlpprof.results.json import WrongJson, decode, json_text, plain_object, read_json

SCHEMA = 1
KIND = "mlpprof workshop result"
MOST_BYTES = 100_000
LONGEST_NAME = 80
LONGEST_TEXT = 4_000

Name = Annotated[str, Meta(max_length=LONGEST_NAME)]
Text = Annotated[str, Meta(max_length=LONGEST_TEXT)]
Outcome = Annotated[str, Meta(pattern="^(pass|fail|inconclusive)$")]
Stage = Annotated[str, Meta(pattern="^(load|correctness|structure|speed)$")]
Positive = Annotated[float, Meta(ge=1e-12, le=1e9)]
"""No clock measures a shorter time, and the product or quotient of two such numbers is finite and not zero."""
Count = Annotated[int, Meta(ge=0, le=1_000_000)]


@dataclass(frozen=True)
class Ratio:
    """A paired ratio of step times with its 95 % interval. If it is above 1, the learner's step is the faster one."""

    ratio: Positive
    low: Positive
    high: Positive

    def __post_init__(self) -> None:
        if not self.low <= self.ratio <= self.high:
            raise ValueError(f"the ratio {self.ratio:g} lies outside its interval, {self.low:g} to {self.high:g}")


@dataclass(frozen=True)
class Speed:
    """What the race showed; ratios are paired within processes.

    over_start, over_reference, over_first: how many times as fast my_mlp.py is as the start of the exercise, as the
    rung that solves it, and as the first version. reference_over_start: what the rung itself gains on this machine.
    target: the over_start that was wanted, None if the exercise wants none. step_s: median seconds per step of
    my_mlp.py. share_of_limit: the lower bound of a step on this machine, divided by the time of a step; only in the
    free exercise. lost: where the learner's step takes longer than the reference's.
    """

    outcome: Outcome
    over_start: Ratio
    over_reference: Ratio
    over_first: Ratio
    reference_over_start: Ratio
    target: Positive | None
    step_s: Positive
    processes: Annotated[int, Meta(ge=1, le=1_000_000)]
    share_of_limit: Positive | None = None
    lost: Text = ""


@dataclass(frozen=True)
class AsUsed:
    """A training run in a fresh process: its steps, and the seconds of the start of the exercise and of my_mlp.py.

    The times contain loading the file and compiling it, but not loading the data.
    """

    steps: Count
    start_s: Positive
    mine_s: Positive


@dataclass(frozen=True)
class Result:
    """One check of one exercise.

    learner: the name, as the learner gave it. place: distinguishes the folders of learners who have the same name.
    stage: how far the check came. message: what to do, empty on a pass. line, text: the statement that the message is
    about. guess: the learner's answer to `Exercise.question`. networks: the number of random networks on which the
    gradients were right. facts: structural facts that hold. bottleneck: what takes most time now, and its share.
    course: the name of the course; empty for the built-in one.
    """

    exercise: Annotated[int, Meta(ge=0, le=99)]
    learner: Name
    place: Name
    created: Name
    mlpprof_version: Name
    workload: Name
    outcome: Outcome
    stage: Stage
    message: Text = ""
    line: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    text: Text = ""
    networks: Count = 0
    facts: tuple[Text, ...] = ()
    notes: tuple[Text, ...] = ()
    guess: Positive | None = None
    speed: Speed | None = None
    as_used: AsUsed | None = None
    bottleneck: Text = ""
    cpu: Text = ""
    source_sha256: Name = ""
    course: Name = ""

    @property
    def passed(self) -> bool:
        """Whether the exercise is done."""
        return self.outcome == "pass"

    def is_better_than(self, other: Result) -> bool:
        """Whether this result replaces another one: a pass beats anything else, a faster pass beats a slower one."""
        if self.passed != other.passed:
            return self.passed
        if self.passed and self.speed is not None and other.speed is not None:
            return self.speed.over_first.ratio >= other.speed.over_first.ratio
        return True


def result_json(result: Result) -> dict[str, Any]:
    """The result as plain JSON, as its file and `mlpprof workshop check --json` show it."""
    return plain_object({"schema": SCHEMA, "kind": KIND, **vars(result)})


def write_result(result: Result, path: Path) -> None:
    """Write the file of a result. Raises UsageError if it cannot be written."""
    with write_atomically(path) as part:
        part.write_text(json_text(result_json(result)), encoding="utf-8")


def read_result(path: Path) -> Result:
    """The result in a file.

    Raises DataError, which names the file, for anything else, for a damaged result, and for one of a newer version.
    """
    try:
        document = read_json(path, MOST_BYTES)
    except WrongJson as error:
        raise DataError(f"{path} cannot be read as a result of a workshop: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise DataError(f"{path} is not a result of a workshop (mlpprof workshop check writes them)")
    if document.get("schema") != SCHEMA:
        raise DataError(f"{path} has schema {document.get('schema')!r:.80}; this mlpprof reads {SCHEMA}")
    try:
        return decode(Result, document)
    except WrongJson as error:
        raise DataError(f"{path} is damaged or was changed by hand: {error}") from error
