"""The exercises: one for each idea of the ladder, with the rung that solves it and the text that goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from mlpprof.errors import UsageError

NO_LOOP = "no Python loop over samples"
SINGLE = "no float64 array"
NO_INPUT_DELTA = "nothing as large as the input in backward"
NO_EVALUATION = "no sigmoid in backward"
NO_COPY = "no copy of a batch in forward and backward"
FEW_ARRAYS = "hardly a new array"
"""The structural facts, as a learner reads them."""

OVER_START = "How many times as fast as before this exercise will my_mlp.py be?"


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    name: of its page, behind the number. fact: what has to be true of the code from here on, beside speed.
    share: of the way from the start to the reference, on a logarithmic scale, that has to be reached: the square root
    of the reference's speedup for 0.5; for 0, it is enough to be as fast as the start. question: what the learner
    guesses before it is measured.
    """

    number: int
    name: str
    title: str
    share: float
    fact: str | None = None
    question: str = OVER_START

    @property
    def file_name(self) -> str:
        """Of its page."""
        return f"{self.number}-{self.name}.md"

    @property
    def is_free(self) -> bool:
        """Whether everything goes that is right and not slower than where it starts."""
        return self.number == EXERCISES[-1].number

    @property
    def facts(self) -> tuple[str, ...]:
        """What has to be true of the code: of this exercise and of those before it; the last one is free of them."""
        if self.is_free:
            return ()
        return tuple(e.fact for e in EXERCISES[: self.number + 1] if e.fact is not None)


EXERCISES = (
    Exercise(
        0,
        "measure",
        "Measure first",
        0.0,
        question="How many times as fast as this first version will the last one of the workshop be?",
    ),
    Exercise(1, "per-sample-loop", "The loop over samples", 0.6, NO_LOOP),
    Exercise(2, "float32", "Single precision", 0.6, SINGLE),
    Exercise(3, "input-delta", "The delta that nobody uses", 0.6, NO_INPUT_DELTA),
    Exercise(4, "cached-activations", "What forward knows already", 0.4, NO_EVALUATION),
    Exercise(5, "memory-order", "Memory order and bias slices", 0.4, NO_COPY),
    Exercise(6, "buffers", "Buffers and out=", 0.3, FEW_ARRAYS),
    Exercise(7, "free-style", "Free style: how near the roofline?", 0.0),
)


def exercise(number: int) -> Exercise:
    """The exercise of that number; raises UsageError where there is none."""
    if not 0 <= number < len(EXERCISES):
        raise UsageError(f"no exercise {number}; expected 0 to {len(EXERCISES) - 1}")
    return EXERCISES[number]


def text(file_name: str) -> str:
    """A text of the workshop: 'README.md', 'guide.md' or the page of an exercise."""
    return (files("mlpprof.workshop") / "texts" / file_name).read_text(encoding="utf-8")
