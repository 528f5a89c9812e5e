"""A result in words, a row a fact, for the terminal and the notebook alike."""

from __future__ import annotations

from mlpprof.report.numbers import digits, format_percent
from mlpprof.workshop.exercises import EXERCISES, exercise
from mlpprof.workshop.folder import MY_MLP, PAGES
from mlpprof.workshop.result import Ratio, Result, Speed

HEADLINES = {"pass": "PASS", "fail": "NOT THERE YET", "inconclusive": "INCONCLUSIVE"}
STAGE_NAMES = {"load": "loading", "correctness": "wrong", "structure": "structure", "speed": "speed"}


def title(result: Result) -> str:
    """'Exercise 3: The delta that nobody uses'."""
    return f"Exercise {result.exercise}: {exercise(result.exercise).title}"


def rows(result: Result) -> list[tuple[str, str]]:
    """(name, text) of everything that was found, in the order in which it was found."""
    found = []
    if result.networks:
        found.append(("right", f"gradients, 20 training steps and predictions, on {result.networks} random networks"))
    if result.facts:
        found.append(("structure", "; ".join(result.facts)))
    if result.speed is not None:
        found += _speed_rows(result.exercise, result.speed)
    if result.guess is not None and result.speed is not None:
        found.append(("guess", f"{digits(result.guess)} x; measured {digits(_asked(result).ratio)} x"))
    if result.message:
        found.append((STAGE_NAMES[result.stage], result.message))
    if result.line is not None:
        found.append(("line", f"{MY_MLP}:{result.line}   {result.text}"))
    found += [("note", note) for note in result.notes]
    return found


def last_line(result: Result) -> str:
    """The verdict, and what comes next."""
    headline = HEADLINES[result.outcome]
    number = result.exercise
    if result.passed and number < EXERCISES[-1].number:
        following = EXERCISES[number + 1]
        return f"{headline}. Next: exercise {following.number}, {PAGES}/{following.file_name}"
    if result.passed:
        return f"{headline}. That was the last one; every percent from here on is yours"
    hint = "nothing was timed; " if result.stage != "speed" else ""
    return f"{headline}: {hint}{PAGES}/{exercise(number).file_name} has three hints"


def guess_error(result: Result) -> float | None:
    """By which factor the guess was off, 1 or more; None where there is none, or nothing was measured."""
    if result.guess is None or result.speed is None:
        return None
    off = result.guess / _asked(result).ratio
    return max(off, 1 / off)


def _asked(result: Result) -> Ratio:
    """What the exercise's question asks for."""
    assert result.speed is not None
    return result.speed.reference_over_start if result.exercise == 0 else result.speed.over_start


def _speed_rows(number: int, speed: Speed) -> list[tuple[str, str]]:
    if number == 0:
        text = f"the last version of the workshop is {_ratio(speed.reference_over_start)} as this one on this machine"
        return [("speed", f"{text}; {speed.processes} processes")]
    found = [("speed", f"{_ratio(speed.over_start)} as at the start of this exercise; {speed.processes} processes")]
    if speed.target is not None and not exercise(number).is_free:
        reached = speed.reference_over_start
        found.append(("", f"wanted {digits(speed.target)} x; the solution reaches {digits(reached.ratio)} x here"))
    found.append(("", f"{digits(speed.over_first.ratio)} x as fast as the first version of all"))
    if speed.share_of_limit is not None:
        found.append(("roofline", f"{format_percent(speed.share_of_limit)} of what this machine could do"))
    return found


def _ratio(ratio: Ratio) -> str:
    return f"{digits(ratio.ratio)} x as fast (95 %: {digits(ratio.low)}–{digits(ratio.high)})"
