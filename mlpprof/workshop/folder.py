"""A learner's folder: how it is made, where results are stored, and which exercises are done already."""

from __future__ import annotations

import hashlib
import platform
import shlex
import shutil
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from mlpprof.errors import DataError, UsageError
from mlpprof.files import make_folder
from mlpprof.owned import owned_name, sweep
from mlpprof.workshop.conditions import write_digits
from mlpprof.workshop.exercises import (
    COURSE_FILE,
    DIGITS_FILE,
    FIGURES,
    HIDDEN_COURSE,
    MY_MLP,
    NOTEBOOK,
    PAGES,
    README,
    RESULTS,
    Course,
    built_in,
    copied_course,
    read_course,
)
from mlpprof.workshop.result import LONGEST_NAME, Result, read_result, write_result
from mlpprof.workshop.solutions import start_text

FOLDER_MODE = 0o755


def new_folder(path: Path, course: Course, notebook: str | None = None) -> None:
    """Make the folder of a learner, as a whole or not at all; notebook: the text of the notebook, if it is wanted.

    Raises UsageError if the folder exists and is not empty, or if it cannot be made.
    """
    make_whole(path, lambda folder: _fill(folder, course, notebook))


def make_whole(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder as a whole or not at all; fill: puts everything into it. Raises UsageError as `new_folder`."""
    require_new(path)
    parent = path.resolve().parent
    part: Path | None = None
    try:
        sweep(parent)
        part = parent / f".{owned_name('workshop')}"
        part.mkdir()
        fill(part)
        part.chmod(FOLDER_MODE)
        if path.is_dir():
            path.rmdir()
        part.replace(path.resolve())
    except OSError as error:
        raise UsageError(f"cannot make {path}: {error.strerror or error}; choose another place") from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def require_new(path: Path) -> None:
    """Raise UsageError if a folder exists and is not empty, or if there is no place for it."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; give the name of a folder that does not exist yet")
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(
            f"{path} is not empty, and mlpprof does not overwrite anything; choose another folder, or empty this one"
        )
    if not path.resolve().parent.is_dir():
        raise UsageError(f"cannot make {path}: there is no folder {path.parent}; create it first")


def _fill(folder: Path, course: Course, notebook: str | None) -> None:
    (folder / PAGES).mkdir()
    (folder / RESULTS).mkdir()
    texts = {README: course.text(README), MY_MLP: start_text(course)}
    texts |= {f"{PAGES}/{exercise.file_name}": course.text(exercise.file_name) for exercise in course.exercises}
    if notebook is not None:
        texts[NOTEBOOK] = notebook
    for name, content in texts.items():
        (folder / name).write_text(content, encoding="utf-8")
    if pictures := course.pictures():
        (folder / PAGES / FIGURES).mkdir()
        for name, picture in pictures.items():
            (folder / PAGES / FIGURES / name).write_bytes(picture)
    if course.name:
        (folder / HIDDEN_COURSE).mkdir()
        for name, code in copied_course(course).items():
            (folder / HIDDEN_COURSE / name).write_bytes(code)
            if name in course.files:
                (folder / name).write_bytes(code)
    if course.trains_digits:
        write_digits(folder / DIGITS_FILE)


def course_of(folder: Path) -> Course:
    """Return the course of a learner's folder; raise UsageError if its copy of the course is damaged."""
    return read_course(folder / HIDDEN_COURSE) if (folder / HIDDEN_COURSE / COURSE_FILE).is_file() else built_in()


def require_folder(folder: Path) -> Path:
    """Return my_mlp.py of a folder; raise UsageError, with the command to type, if there is none."""
    file = folder / MY_MLP
    if not file.is_file():
        near = get_close_matches(MY_MLP, [path.name for path in folder.glob("*.py")], n=1)
        if near:
            rename = f"mv {shlex.quote(near[0])} {MY_MLP}"
            raise UsageError(f"there is no {MY_MLP} in {folder}, but there is {near[0]}; rename it: {rename}")
        raise UsageError(
            f"there is no {MY_MLP} in {folder}; change to the folder of your workshop, or make one: "
            "mlpprof workshop new DIR"
        )
    return file


def place_of(folder: Path) -> str:
    """Return eight hexadecimal digits for this folder on this machine, to distinguish learners with the same name."""
    return hashlib.sha256(f"{platform.node()}:{folder.resolve()}".encode()).hexdigest()[:8]


def result_file(folder: Path, learner: str, number: int) -> Path:
    """Return the file of a result. Its name is unique, so that the files of a class can be put into one folder."""
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in learner.lower()).strip("-")[: LONGEST_NAME // 2]
    return folder / RESULTS / f"{name or 'learner'}-{place_of(folder)}-{number}.json"


def stored_results(folder: Path) -> dict[int, Result]:
    """Return the best result of every exercise in a learner's folder; files that are not results are ignored."""
    found: dict[int, Result] = {}
    for path in sorted((folder / RESULTS).glob("*.json")) if (folder / RESULTS).is_dir() else ():
        try:
            result = read_result(path)
        except DataError:
            continue  # only the board reports such files
        known = found.get(result.exercise)
        if known is None or result.is_better_than(known):
            found[result.exercise] = result
    return found


def next_exercise(course: Course, done: dict[int, Result]) -> int:
    """Return the first exercise that is not passed yet, or the last one if all are passed."""
    open_ones = (e.number for e in course.exercises if e.number not in done or not done[e.number].passed)
    return next(open_ones, course.last.number)


def keep(folder: Path, result: Result) -> tuple[Path, bool]:
    """Store a result unless a better one of that exercise exists; return its file, and whether it was stored."""
    path = result_file(folder, result.learner, result.exercise)
    make_folder(path.parent)
    try:
        known = read_result(path) if path.is_file() else None
    except DataError:
        known = None
    if known is not None and not result.is_better_than(known):
        return path, False
    write_result(result, path)
    return path, True
