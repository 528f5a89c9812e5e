"""The board of a class: one page from the result files of many learners, ranked by their speedup.

The speedup is that of the learner's fastest version compared with the very first version. The files come from other
people, so files that are not valid results are listed and skipped, and every text is escaped.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from mlpprof.errors import DataError, UsageError
from mlpprof.files import write_atomically
from mlpprof.owned import new_folder
from mlpprof.report.figures.canvas import THEME
from mlpprof.report.numbers import digits, format_percent, plain
from mlpprof.report.page.page import content_policy
from mlpprof.workshop.exercises import Course, Exercise
from mlpprof.workshop.folder import next_exercise
from mlpprof.workshop.result import MOST_BYTES, Result, read_result
from mlpprof.workshop.result_text import guess_error

TEMPLATE = "board.html.jinja"
MOST_FILES = 10_000


@dataclass(frozen=True)
class Cell:
    """One exercise of one learner. state: pass, open (tried, not passed) or none. value: the key to sort by."""

    state: str
    text: str
    value: float
    hint: str


@dataclass(frozen=True)
class Row:
    """One learner.

    ratio: the largest speedup compared with the first version in a passed exercise, or 0. share: the share of the
    machine's limit, as text. off: the median factor by which guesses were wrong, as text.
    """

    rank: int
    name: str
    ratio: float
    ratio_text: str
    passed: int
    following: int
    share: str
    off: str
    cells: tuple[Cell, ...]


def read_folders(paths: Sequence[Path], course: Course) -> tuple[list[Result], list[str]]:
    """Return all results of a course in files, folders and zip files, and why others were skipped.

    Raises UsageError for far too many files.
    """
    results, skipped = [], []
    with ExitStack() as stack:
        folders: list[Path] = []
        shown: dict[str, str] = {}
        for path in paths:
            if path.suffix.lower() == ".zip" and path.is_file():
                unpacked = new_folder("board")
                stack.callback(shutil.rmtree, unpacked, ignore_errors=True)
                shown[unpacked] = str(path)
                folders.append(Path(unpacked))
                skipped += _unpack(path, Path(unpacked))
            else:
                folders.append(path)
        for path in _files(folders):
            try:
                results.append(_of_course(read_result(path), course, path))
            except DataError as reason:
                text = str(reason)
                for folder, name in shown.items():
                    text = text.replace(folder, name)
                skipped.append(plain(text))
    return results, skipped


def _of_course(result: Result, course: Course, path: Path) -> Result:
    """Return the result; raise DataError if it belongs to another course."""
    if result.course != course.name:
        own = f"the exercises '{plain(result.course)}'" if result.course else "the exercises that come with mlpprof"
        hint = "add --exercises with their folder" if result.course else "leave out --exercises"
        raise DataError(f"{path} is a result of {own}; for a board of these, {hint}")
    if result.exercise > course.last.number:
        raise DataError(f"{path} has exercise {result.exercise}; the last one is {course.last.number}")
    return result


def _unpack(path: Path, folder: Path) -> list[str]:
    """Write the JSON files of a zip file into a folder; return why others were skipped."""
    skipped = []
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if one.filename.lower().endswith(".json")]
            if len(members) > MOST_FILES:
                raise UsageError(f"{path} has more than {MOST_FILES:,} .json files; give one with those of the class")
            for member in members:
                if member.file_size > MOST_BYTES:  # it may be a few bytes that unpack to a full disk
                    name = plain(f"{path}/{member.filename}")
                    skipped.append(f"{name} has {member.file_size:,} bytes, and a result has at most {MOST_BYTES:,}")
                else:
                    archive.extract(member, folder)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        skipped.append(plain(f"{path} cannot be read as a zip file: {error}"))
    return skipped


def without_names(results: Sequence[Result]) -> list[Result]:
    """Return the results with the number of the learner's folder in place of the name."""
    return [replace(result, learner=f"learner {result.place}") for result in results]


def rows_of(results: Sequence[Result], course: Course) -> list[Row]:
    """Return one row per learner, the fastest first. Learners with the same name in different folders have two rows."""
    learners: dict[tuple[str, str], dict[int, Result]] = {}
    for result in results:
        best = learners.setdefault((plain(result.learner), result.place), {})
        known = best.get(result.exercise)
        if known is None or result.is_better_than(known):
            best[result.exercise] = result
    ordered = sorted(learners.items(), key=lambda item: (-_speedup(item[1], course), -_passed(item[1]), item[0]))
    return [_row(rank, name, best, course) for rank, ((name, _), best) in enumerate(ordered, start=1)]


def board_html(results: Sequence[Result], skipped: Sequence[str], created: str, course: Course) -> str:
    """Return the page as text."""
    source = (files("mlpprof.workshop") / "texts" / TEMPLATE).read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    rows = rows_of(results, course)
    return environment.from_string(source).render(
        rows=rows,
        exercises=course.exercises,
        skipped=skipped,
        created=created,
        fastest=max((row.ratio for row in rows), default=0.0) or 1.0,
        theme=THEME,
        policy=content_policy(source.partition("<script>")[2].partition("</script>")[0]),
        workloads=sorted({plain(result.workload) for result in results}),
    )


def write_board(results: Sequence[Result], skipped: Sequence[str], path: Path, course: Course) -> int:
    """Write the page, as a whole or not at all; return the number of learners on it."""
    created = datetime.now(UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00") + " UTC"
    with write_atomically(path) as part:
        part.write_text(board_html(results, skipped, created, course), encoding="utf-8")
    return len({(plain(result.learner), result.place) for result in results})


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        for file in sorted(path.rglob("*.json")) if path.is_dir() else (path,):
            # Jupyter stores its own files in hidden folders
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
                found.setdefault(file.resolve(), file)
                if len(found) > MOST_FILES:
                    raise UsageError(f"{path} has more than {MOST_FILES:,} .json files; name the folders of the class")
    yield from found.values()


def _speedup(best: dict[int, Result], course: Course) -> float:
    raced = (r for r in best.values() if r.passed and course.exercises[r.exercise].goal != "measure")
    return max((r.speed.over_first.ratio for r in raced if r.speed), default=0.0)


def _passed(best: dict[int, Result]) -> int:
    return sum(result.passed for result in best.values())


def _row(rank: int, name: str, best: dict[int, Result], course: Course) -> Row:
    ratio = _speedup(best, course)
    last = best.get(course.last.number)
    share = None if last is None or last.speed is None or not last.passed else last.speed.share_of_limit
    off = sorted(error for result in best.values() if (error := guess_error(course, result)) is not None)
    return Row(
        rank=rank,
        name=name,
        ratio=ratio,
        ratio_text=f"{digits(ratio)} ×" if ratio else "–",
        passed=_passed(best),
        following=next_exercise(course, best),
        share="–" if share is None else format_percent(share),
        off=f"{digits(off[len(off) // 2])} ×" if off else "–",
        cells=tuple(_cell(exercise, best.get(exercise.number)) for exercise in course.exercises),
    )


def _cell(exercise: Exercise, result: Result | None) -> Cell:
    if result is None:
        return Cell("none", "·", -1.0, f"{exercise.title}: not tried yet")
    if not result.passed or result.speed is None:
        return Cell("open", "…", 0.0, f"{exercise.title}: tried, but not passed yet")
    is_measured = exercise.goal == "measure"
    ratio = result.speed.reference_over_start if is_measured else result.speed.over_start
    if is_measured:
        return Cell("pass", "✓", 1.0, f"{exercise.title}: the goal is {digits(ratio.ratio)} × as fast on this machine")
    hint = (
        f"{exercise.title}: {digits(ratio.ratio)} × as fast as before (95 %: {digits(ratio.low)}–{digits(ratio.high)})"
    )
    return Cell("pass", f"{digits(ratio.ratio)} ×", ratio.ratio, hint)
