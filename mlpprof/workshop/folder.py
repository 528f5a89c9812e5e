"""A learner's folder: made whole or not at all, recognized, and read for what is done already."""

from __future__ import annotations

import getpass
import hashlib
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from mlpprof.errors import DataError, UsageError
from mlpprof.files import make_folder
from mlpprof.report.numbers import plain
from mlpprof.workshop.exercises import DIGITS_FILE, EXERCISES, start_text, text, write_digits
from mlpprof.workshop.result import LONGEST_NAME, Result, read_result, write_result

MY_MLP = "my_mlp.py"
NOTEBOOK = "workshop.ipynb"
PAGES = "exercises"
RESULTS = "results"
FOLDER_MODE = 0o755


def new_folder(path: Path, notebook: str | None = None) -> None:
    """Make the folder of a learner; notebook: text of the notebook version, where it is wanted.

    Raises UsageError where something is there already, or the folder cannot be made.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; name a folder that is not there yet")
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(
            f"{path} is not empty, and nothing in it is overwritten; name another folder, or empty this one first"
        )
    parent = path.resolve().parent
    if not parent.is_dir():
        raise UsageError(f"cannot make {path}: there is no folder {path.parent}; create it first")
    part: Path | None = None
    try:
        part = Path(tempfile.mkdtemp(prefix=".mlpprof-workshop-", dir=parent))
        _fill(part, notebook)
        part.chmod(FOLDER_MODE)
        if path.is_dir():
            path.rmdir()
        part.replace(path.resolve())
    except OSError as error:
        raise UsageError(f"cannot make {path}: {error.strerror or error}; choose another place") from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def _fill(folder: Path, notebook: str | None) -> None:
    (folder / PAGES).mkdir()
    (folder / RESULTS).mkdir()
    texts = {"README.md": text("README.md"), MY_MLP: start_text()}
    texts |= {f"{PAGES}/{exercise.file_name}": text(exercise.file_name) for exercise in EXERCISES}
    if notebook is not None:
        texts[NOTEBOOK] = notebook
    for name, content in texts.items():
        (folder / name).write_text(content, encoding="utf-8")
    write_digits(folder / DIGITS_FILE)


def require_folder(folder: Path) -> Path:
    """my_mlp.py of a folder; raises UsageError, with what to type, where there is none."""
    file = folder / MY_MLP
    if not file.is_file():
        raise UsageError(
            f"there is no {MY_MLP} in {folder}; go into the folder of your workshop, or make one: mlpprof workshop new "
            "DIR"
        )
    return file


def place_of(folder: Path) -> str:
    """Eight hexadecimal digits for this folder on this machine, so that learners of one name stay apart."""
    return hashlib.sha256(f"{platform.node()}:{folder.resolve()}".encode()).hexdigest()[:8]


def result_file(folder: Path, learner: str, number: int) -> Path:
    """Where the result of an exercise lies; files of a whole class can be put into one folder."""
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in learner.lower()).strip("-")[: LONGEST_NAME // 2]
    return folder / RESULTS / f"{name or 'learner'}-{place_of(folder)}-{number}.json"


def stored_results(folder: Path) -> dict[int, Result]:
    """The best result of every exercise in a learner's folder; files that are none are passed over."""
    found: dict[int, Result] = {}
    for path in sorted((folder / RESULTS).glob("*.json")) if (folder / RESULTS).is_dir() else ():
        try:
            result = read_result(path)
        except DataError:
            continue  # the board names such files; here they only do not count
        known = found.get(result.exercise)
        if known is None or result.is_better_than(known):
            found[result.exercise] = result
    return found


def next_exercise(done: dict[int, Result]) -> int:
    """The first exercise that is not passed yet; the last one where all are."""
    return next(
        (e.number for e in EXERCISES if e.number not in done or not done[e.number].passed), EXERCISES[-1].number
    )


def keep(folder: Path, result: Result) -> tuple[Path, bool]:
    """Store a result, unless a better one of that exercise is there: where it lies, and whether it was stored."""
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


def checked_name(name: str) -> str:
    """A learner's name on one line; raises UsageError where nothing is left of it, or it is too long."""
    shown = plain(name).strip()
    if not shown or len(shown) > LONGEST_NAME:
        raise UsageError(f"'{shown[:LONGEST_NAME]}' is no name to show; expected 1 to {LONGEST_NAME} characters")
    return shown


# Who is learning: the name that stands on the board, unless another one is given.


GIT_TIMEOUT_S = 5.0


def learner_name(given: str | None, done: dict[int, Result], folder: Path) -> str:
    """The name that was given, else the one of earlier results in the folder, else git's, else the account's."""
    if given is not None:
        return checked_name(given)
    known = max(done.values(), key=lambda result: result.created, default=None)
    for name in (known.learner if known else "", _git_name(folder), _account()):
        if name.strip():
            return checked_name(name)
    return "learner"


def _git_name(folder: Path) -> str:
    try:
        done = subprocess.run(
            ["git", "config", "user.name"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip()


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no entry for this user, or no such database on this system
        return ""


def parse_guess(text: str) -> float | None:
    """'2.5', '2,5' or '2.5 x' as 2.5; nothing typed is no guess. Raises UsageError for anything else."""
    word = text.strip().lower().removesuffix("x").removesuffix("×").strip().replace(",", ".")
    if not word:
        return None
    try:
        guess = float(word)
    except ValueError:
        guess = float("nan")
    if not 0 < guess < 1e6:
        raise UsageError(f"'{text.strip()}' is no guess; expected a number above 0, such as 2.5")
    return guess
