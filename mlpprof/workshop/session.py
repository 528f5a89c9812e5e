"""`check` for notebooks: what `mlpprof workshop check` does, as a function whose result shows itself."""

from __future__ import annotations

from html import escape
from pathlib import Path

from mlpprof.workshop import setting
from mlpprof.workshop.check import examine, race
from mlpprof.workshop.exercises import exercise
from mlpprof.workshop.folder import keep, next_exercise, require_folder, stored_results
from mlpprof.workshop.learner import learner_name
from mlpprof.workshop.outcome import Result
from mlpprof.workshop.wording import last_line, rows, title


class Checked:
    """A result that shows itself as text and in a notebook."""

    def __init__(self, result: Result) -> None:
        self.result = result

    def __repr__(self) -> str:
        lines = [f"  {name:<10} {told}" for name, told in rows(self.result)]
        return "\n".join([title(self.result), *lines, last_line(self.result)])

    def _repr_html_(self) -> str:
        told = "".join(f"<tr><th>{escape(name)}</th><td>{escape(words)}</td></tr>" for name, words in rows(self.result))
        return (
            f"<p><b>{escape(title(self.result))}</b></p><table style='text-align: left'>{told}</table>"
            f"<p><b>{escape(last_line(self.result))}</b></p>"
        )


def check(
    number: int | None = None, guess: float | None = None, name: str | None = None, folder: str | Path = "."
) -> Checked:
    """Check my_mlp.py in a folder against an exercise (None: the first not yet passed), and keep the result.

    guess: what you expect of the measurement. Raises UsageError where there is no my_mlp.py or no such exercise.
    """
    place = Path(folder)
    require_folder(place)
    done = stored_results(place)
    chosen = exercise(next_exercise(done) if number is None else number)
    examined = examine(place, chosen, learner_name(name, done, place), setting.CLASSROOM, _silent)
    result = examined.result
    if result.outcome == "pass":
        earlier = done[chosen.number].guess if chosen.number in done else None
        result = race(examined, guess if guess is not None else earlier, _silent)
    keep(place, result)
    return Checked(result)


def _silent(what: str, share: float) -> None:
    """A notebook shows by itself that a cell is running."""
