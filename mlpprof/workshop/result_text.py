"""A result in words, one row per fact, as the terminal and the notebook show it."""

from __future__ import annotations

from mlpprof.report.numbers import digits, format_percent, format_time
from mlpprof.workshop.exercises import MY_MLP, PAGES, Course, Exercise
from mlpprof.workshop.result import AsUsed, Ratio, Result, Speed

HEADLINES = {"pass": "PASS", "fail": "NOT THERE YET", "inconclusive": "INCONCLUSIVE"}
BAR = 20
"""The number of characters of a bar."""
STAGE_NAMES = {"load": "error", "correctness": "wrong", "structure": "to do", "speed": "to do"}


def title(course: Course, result: Result) -> str:
    """Return, for example, 'Exercise 3: The delta that nobody uses'."""
    return f"Exercise {result.exercise}: {course.numbered(result.exercise).title}"


def rows(course: Course, result: Result) -> list[tuple[str, str]]:
    """Return (name, text) for everything that the check found, in the order of its stages."""
    found = []
    if result.networks:
        networks = f"on {result.networks} random networks"
        found.append(("correct", f"gradients, 20 training steps and predictions are correct {networks}"))
    if result.facts:
        found.append(("structure", "; ".join(result.facts)))
    if result.speed is not None:
        found += _speed_rows(course.numbered(result.exercise), result.speed)
    if result.guess is not None and result.speed is not None:
        measured = digits(_asked(course, result).ratio)
        found.append(("guess", f"your guess was {digits(result.guess)}x, measured was {measured}x"))
    if result.message:
        found.append((STAGE_NAMES[result.stage], result.message))
    if result.line is not None:
        found.append(("line", f"{MY_MLP}:{result.line}   {result.text}"))
    if result.as_used is not None:
        found.append(("as used", _as_used(result.as_used)))
    if result.bottleneck:
        found.append(("next", result.bottleneck))
    found += [("note", note) for note in result.notes]
    return found


def last_line(course: Course, result: Result) -> str:
    """Return the verdict, and what to do next."""
    headline = HEADLINES[result.outcome]
    number = result.exercise
    if result.passed and number < course.last.number:
        following = course.exercises[number + 1]
        return f"{headline}. Next: exercise {following.number}, {PAGES}/{following.file_name}"
    if result.passed:
        return f"{headline}. That was the last exercise. Well done!"
    if result.outcome == "inconclusive":
        return f"{headline}. Run the check again when this computer is less busy: mlpprof workshop check {number}"
    hint = "No time was measured. " if result.stage != "speed" else ""
    return f"{headline}. {hint}{PAGES}/{course.numbered(number).file_name} has three hints."


def guess_error(course: Course, result: Result) -> float | None:
    """Return the factor, 1 or more, by which the guess was wrong; None if there is no guess or no measurement."""
    if result.guess is None or result.speed is None:
        return None
    off = result.guess / _asked(course, result).ratio
    return max(off, 1 / off)


def _asked(course: Course, result: Result) -> Ratio:
    """Return the measured answer to the exercise's question."""
    assert result.speed is not None
    is_measured = course.numbered(result.exercise).goal == "measure"
    return result.speed.reference_over_start if is_measured else result.speed.over_start


def _speed_rows(exercise: Exercise, speed: Speed) -> list[tuple[str, str]]:
    processes = f"measured in {speed.processes} processes"
    if exercise.goal == "measure":
        found = f"the final version of the workshop is {_ratio(speed.reference_over_start)} as this one on this machine"
        return [("speed", f"{found}, {processes}")]
    rows = [("speed", f"{_ratio(speed.over_start)} as at the start of this exercise, {processes}")]
    if speed.target is not None and not exercise.is_free:
        reached = speed.reference_over_start
        rows.append(("", f"required: {digits(speed.target)}x; the solution reaches {digits(reached.ratio)}x here"))
    if exercise.number > 0:
        rows.append(("", f"{digits(speed.over_first.ratio)}x as fast as the very first version"))
    if speed.share_of_limit is not None:
        share = f"{format_percent(speed.share_of_limit)} of what is possible on this machine"
        rows.append(("roofline", f"{_bar(speed.share_of_limit)} your step reaches {share}"))
    return rows


def _bar(share: float) -> str:
    """Return a share as a bar, for example '[#####-----]'."""
    full = round(BAR * min(1.0, share))
    return f"[{'#' * full}{'-' * (BAR - full)}]"


def _as_used(run: AsUsed) -> str:
    ratio = digits(run.start_s / run.mine_s)
    return (
        f"{run.steps} steps in a fresh process take {format_time(run.mine_s)}, loading and compiling included; the "
        f"start of the exercise takes {format_time(run.start_s)} ({ratio}x)"
    )


def _ratio(ratio: Ratio) -> str:
    return f"{digits(ratio.ratio)}x as fast (95 %: {digits(ratio.low)}–{digits(ratio.high)})"
