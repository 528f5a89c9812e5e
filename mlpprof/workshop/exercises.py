"""The exercises of the workshop, one for each idea of the ladder, and the texts that belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from mlpprof.errors import UsageError

# What a learner reads as required of the code; `right_structure` checks each of them.
NO_LOOP = "no Python loop over samples"
SINGLE = "no float64 array"
NO_INPUT_DELTA = "no array as large as the input in backward"
NO_EVALUATION = "no evaluation of the sigmoid in backward"
NO_COPY = "no copy of a batch in forward and backward"
FEW_ARRAYS = "almost no new arrays"

SPEEDUP_QUESTION = "How many times faster will my_mlp.py be after this exercise?"


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    name: the file name of its page, without the number. fact: what the code has to satisfy from this exercise on,
    beside the speed. share: the part of the solution's speedup that is required, on a logarithmic scale: 0.5 requires
    the square root of the speedup, and 0 requires only that the code is as fast as at the start. question: what the
    learner guesses before the measurement. longest_s: the processor time that everything before the race may take. The
    solutions need 0.1 s, and the start with its loop over samples needs 0.4 s; a slow laptop needs a few times as much.
    """

    number: int
    name: str
    title: str
    share: float
    fact: str | None = None
    question: str = SPEEDUP_QUESTION
    longest_s: float = 15.0

    @property
    def file_name(self) -> str:
        """The file name of the exercise's page."""
        return f"{self.number}-{self.name}.md"

    @property
    def is_free(self) -> bool:
        """Whether the structure of the code is free, as it is in the last exercise."""
        return self.number == EXERCISES[-1].number

    @property
    def facts(self) -> tuple[str, ...]:
        """What the code has to satisfy: the facts of this exercise and of those before it."""
        if self.is_free:
            return ()
        return tuple(e.fact for e in EXERCISES[: self.number + 1] if e.fact is not None)


EXERCISES = (
    Exercise(
        0,
        "measure",
        "Measure first",
        0.0,
        question="How many times faster than this first version will the final version of the workshop be?",
        longest_s=30.0,
    ),
    Exercise(1, "per-sample-loop", "The loop over samples", 0.6, NO_LOOP, longest_s=30.0),
    Exercise(2, "float32", "Single precision", 0.6, SINGLE),
    Exercise(3, "input-delta", "The delta that nobody uses", 0.6, NO_INPUT_DELTA),
    Exercise(4, "cached-activations", "What forward already knows", 0.4, NO_EVALUATION),
    Exercise(5, "memory-order", "Memory order and bias slices", 0.4, NO_COPY),
    Exercise(6, "buffers", "Buffers and out=", 0.3, FEW_ARRAYS),
    Exercise(7, "free-style", "Free style: how close to the limit?", 0.0, longest_s=30.0),
)


def exercise(number: int) -> Exercise:
    """Return the exercise with that number; raise UsageError if there is none."""
    if not 0 <= number < len(EXERCISES):
        raise UsageError(f"there is no exercise {number}; expected a number from 0 to {len(EXERCISES) - 1}")
    return EXERCISES[number]


def text(file_name: str) -> str:
    """Return a text of the workshop: 'README.md', 'guide.md' or the page of an exercise."""
    return (files("mlpprof.workshop") / "texts" / file_name).read_text(encoding="utf-8")
