"""Exercises: a folder with `course.toml`, the pages that learners read, and the code that they start from and reach.

The built-in workshop is such a folder (`texts`), and `mlpprof workshop author` makes one of a pair of versions. What a
teacher may change by hand is read here, and nowhere else; each mistake in it is reported with the key that has it.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Any

from msgspec import Meta

from mlpprof.catalog import ladder
from mlpprof.errors import UsageError, did_you_mean
from mlpprof.results.advice import CATEGORIES
from mlpprof.results.json import WrongJson, decode
from mlpprof.workloads import get_workload
from mlpprof.workshop.right_structure import PROGRAM, SAMPLE_LOOPS, VARIANT, fact_text, facts_for

FORMAT = 1
COURSE_FILE = "course.toml"
README = "README.md"
FIGURES = "figures"
"""The folder, beside the pages, with the pictures that they show."""
HIDDEN_COURSE = ".course"
"""The copy of a course in a learner's folder; a folder without one is for the built-in workshop."""

MY_MLP = "my_mlp.py"
NOTEBOOK = "workshop.ipynb"
PAGES = "exercises"
RESULTS = "results"
DIGITS_FILE = "digits.npz"
ROOFLINE = "roofline.svg"
"""The picture of the learner's statements below the limits of the machine, which the check of a free exercise draws."""
TAKEN = (README, COURSE_FILE, HIDDEN_COURSE, MY_MLP, NOTEBOOK, PAGES, RESULTS, ROOFLINE)
"""What mlpprof writes into a learner's folder, so that a further file of a course cannot have such a name."""

WORKLOAD = "workshop"

Word = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,59}$")]
Text = Annotated[str, Meta(min_length=1, max_length=400)]
FileName = Annotated[str, Meta(max_length=200)]
Limit = Annotated[int, Meta(ge=0, le=10**15)]

SPEEDUP_QUESTION = "How many times faster will my_mlp.py be after this exercise?"


@dataclass(frozen=True)
class Version:
    """A version of the learner's file: a file of the folder, or a rung of the ladder.

    function, of: a function of the file that is taken from another rung. docstring: in place of the one of the rung.
    step: the training step of a program, as `mlpprof profile --step` takes it; empty to have it found.
    """

    file: FileName = ""
    rung: FileName = ""
    function: FileName = ""
    of: FileName = ""
    docstring: str = ""
    step: FileName = ""

    @property
    def name(self) -> str:
        """The rung, or the file without its ending."""
        return self.rung or PurePosixPath(self.file).stem

    def file_name(self, number: int) -> str:
        """Return the name under which a check writes this version, which is the code after that exercise.

        The number distinguishes two versions of one name; -1 is the start.
        """
        return f"{self.name}_{number + 1}.py"


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    name: the file name of its page, without the number. at_most: what the code has to satisfy, beside the speed: how
    often a step may contain each of `right_structure.FACTS`. An exercise requires what those before it require, too.
    share: the part of the solution's speedup that is required, on a logarithmic scale: 0.5 requires the square root of
    the speedup, and 0 requires only that the code is as fast as at the start. goal: 'solve'; 'measure' requires nothing
    but a guess of what the whole course gains; in a 'free' exercise, the structure of the code is free. question: what
    the learner guesses before the measurement. solution: None if the code stays as it is. teaches: the categories of
    `mlpprof advise` that the exercise is about. longest_s: the processor time that everything before the race may take.
    """

    name: Word
    title: Text
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    goal: Annotated[str, Meta(pattern="^(solve|measure|free)$")] = "solve"
    at_most: dict[str, Limit] = field(default_factory=dict)
    question: Text = SPEEDUP_QUESTION
    solution: Version | None = None
    teaches: tuple[str, ...] = ()
    longest_s: Annotated[float, Meta(gt=0, le=600)] = 15.0
    number: int = 0

    @property
    def file_name(self) -> str:
        """The file name of the exercise's page."""
        return f"{self.number}-{self.name}.md"

    @property
    def is_free(self) -> bool:
        """Whether the structure of the code is free."""
        return self.goal == "free"

    @property
    def facts(self) -> tuple[str, ...]:
        """What the code has to satisfy, in words."""
        return tuple(fact_text(name, most) for name, most in self.at_most.items())


@dataclass(frozen=True)
class Course:
    """A folder of exercises.

    name: distinguishes the results of different courses; empty for the built-in one. kind: what learners change, a
    variant (a class with the methods of the interface) or a whole program. workload: the network and data of a variant.
    start: what learners begin with. files: other files that the code needs, which are copied beside it.
    """

    title: Text
    start: Version
    exercises: Annotated[tuple[Exercise, ...], Meta(min_length=1, max_length=100)]
    name: Annotated[str, Meta(pattern="^([a-z0-9][a-z0-9-]{0,59})?$")] = ""
    kind: Annotated[str, Meta(pattern="^(variant|program)$")] = VARIANT
    workload: Word = WORKLOAD
    files: tuple[FileName, ...] = ()
    folder: Any = None

    @property
    def last(self) -> Exercise:
        """The last exercise."""
        return self.exercises[-1]

    @property
    def is_program(self) -> bool:
        """Whether learners change a program, and not a variant."""
        return self.kind == PROGRAM

    @property
    def trains_digits(self) -> bool:
        """Whether the learner's folder needs the digits that the network of the built-in workshop trains on."""
        return not self.is_program and self.workload == WORKLOAD

    def numbered(self, number: int) -> Exercise:
        """Return the exercise with that number; raise UsageError if there is none."""
        if not 0 <= number < len(self.exercises):
            expected = "expected 0" if self.last.number == 0 else f"expected a number from 0 to {self.last.number}"
            raise UsageError(f"there is no exercise {number}; {expected}")
        return self.exercises[number]

    def text(self, file_name: str) -> str:
        """Return a text of the folder: 'README.md', the page of an exercise, or a file of code."""
        try:
            return self.content(file_name).decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.folder / file_name} is not UTF-8 text; save it as UTF-8") from error

    def content(self, file_name: str) -> bytes:
        """Return the bytes of a file of the folder; raise UsageError if it cannot be read."""
        try:
            return bytes(self.folder.joinpath(file_name).read_bytes())
        except OSError as error:
            raise UsageError(f"cannot read {self.folder / file_name}: {error.strerror or error}") from error

    def pictures(self) -> dict[str, bytes]:
        """Return the pictures that the pages show, by file name. One that is a link out of the folder is left out."""
        folder = self.folder / FIGURES
        found = sorted(folder.iterdir(), key=lambda one: one.name) if folder.is_dir() else []
        return {
            one.name: one.read_bytes()
            for one in found
            if one.name.endswith((".svg", ".png")) and not _leads_out(self.folder, f"{FIGURES}/{one.name}")
        }

    def texts(self) -> list[str]:
        """Return the names of all texts of the folder: the README, the pages, and the files of code."""
        versions = [self.start, *(e.solution for e in self.exercises if e.solution is not None)]
        own = [version.file for version in versions if version.file]
        return list(dict.fromkeys([README, *(e.file_name for e in self.exercises), *own]))


@cache
def built_in() -> Course:
    """Return the workshop that comes with mlpprof."""
    return read_course(files("mlpprof.workshop") / "texts")


def read_course(folder: Traversable) -> Course:
    """Return the course in a folder; raise UsageError, which names the file and the key, for one that is not valid."""
    file = folder / COURSE_FILE
    make = "mlpprof workshop author SLOW.py FAST.py makes such a folder"
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; expected a folder with {COURSE_FILE} ({make})")
    if not file.is_file():
        raise UsageError(f"there is no {COURSE_FILE} in {folder}; {make}")
    try:
        document = tomllib.loads(file.read_bytes().decode("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{file} is not valid TOML: {error}; correct it, or make the folder anew") from error
    found = document.pop("format", None)
    if type(found) is not int or found != FORMAT:
        what = "has no format" if found is None else f"has format {found!r:.40}"
        raise UsageError(f"{file} {what}; this mlpprof reads 'format = {FORMAT}'. Make the folder anew: {make}")
    _require_known(document, Course, "", file)
    try:
        course = decode(Course, document)
    except WrongJson as error:
        raise UsageError(f"{file} is not valid: {error}") from error
    try:
        course = replace(course, folder=folder, exercises=_in_order(course.exercises))
        _require_valid(course)
    except ValueError as error:
        raise UsageError(f"{file} is not valid: {error}") from error
    return course


RECORDS: dict[str, type] = {"start": Version, "exercises": Exercise, "solution": Version}
"""The tables of the file that are records of their own."""
OUR_OWN = ("folder", "number")
"""Fields that are no keys of the file."""


def _require_known(table: Mapping[str, Any], record: type, where: str, file: object) -> None:
    """Raise UsageError for a key that a table does not have, because a misspelt key would be passed over silently."""
    known = [one.name for one in fields(record) if one.name not in OUR_OWN]
    for key, value in table.items():
        if key not in known:
            raise UsageError(
                f"{file} has the unknown key '{where}{key}'{did_you_mean(key, known)}; known: {', '.join(known)}"
            )
        if key in RECORDS:
            inner = value if isinstance(value, list) else [value]
            for i, one in enumerate(inner):
                if isinstance(one, dict):
                    place = f"{where}{key}[{i}]." if isinstance(value, list) else f"{where}{key}."
                    _require_known(one, RECORDS[key], place, file)


def _in_order(exercises: Sequence[Exercise]) -> tuple[Exercise, ...]:
    """Number the exercises; each requires what those before it require, and a free one requires nothing."""
    limits: dict[str, int] = {}
    found = []
    for number, exercise in enumerate(exercises):
        limits = limits | exercise.at_most
        found.append(replace(exercise, number=number, at_most={} if exercise.is_free else limits))
    return tuple(found)


def _require_valid(course: Course) -> None:
    """Raise ValueError for what the types of the records cannot express."""
    if course.exercises[0].solution is None and course.exercises[0].goal == "solve":
        raise ValueError("exercises[0].solution is missing; the first exercise with goal 'solve' needs a solution")
    if not course.is_program:
        try:
            get_workload(course.workload)
        except UsageError as error:
            raise ValueError(f"workload: {error}") from error
    _require_version(course, course.start, "start")
    for exercise in course.exercises:
        where = f"exercises[{exercise.number}]"
        if exercise.solution is not None:
            _require_version(course, exercise.solution, f"{where}.solution")
        for category in exercise.teaches:
            if category not in CATEGORIES:
                hint = did_you_mean(category, CATEGORIES)
                raise ValueError(f"{where}.teaches has '{category}'{hint}; known: {', '.join(CATEGORIES)}")
        for name in exercise.at_most:
            allowed = facts_for(course.kind)
            if name == SAMPLE_LOOPS and exercise.at_most[name]:
                raise ValueError(f"{where}.at_most.{name} is {exercise.at_most[name]}; expected 0")
            if name not in allowed:
                raise ValueError(
                    f"{where}.at_most has '{name}'{did_you_mean(name, allowed)}; known for a {course.kind}: "
                    f"{', '.join(allowed)}"
                )
    require_free_names(course)
    for name in (*course.texts(), *course.files):
        _require_inside(name)
        if _leads_out(course.folder, name):
            raise ValueError(
                f"'{name}' is a link to a file outside this folder; expected a file of the folder, because learners "
                "get a copy of it. Replace the link by a copy of the file"
            )
        if not course.folder.joinpath(name).is_file():
            raise ValueError(f"there is no file {course.folder / name}; add it, or make the folder anew")


def _require_version(course: Course, version: Version, where: str) -> None:
    if bool(version.file) == bool(version.rung):
        raise ValueError(f"{where} needs either 'file' or 'rung', and has {'both' if version.file else 'neither'}")
    if bool(version.function) != bool(version.of):
        raise ValueError(f"{where} needs 'function' and 'of' together, and has one of them")
    known = ladder() if version.rung else {}
    for key, name in (("rung", version.rung), ("of", version.of)):
        if version.rung and name and name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"{where}.{key}: there is no rung '{name}'{hint} (mlpprof list shows all)")
    if version.rung and version.function:
        for rung in (version.rung, version.of):
            functions = [one.name for one in ast.parse(known[rung].source()).body if isinstance(one, ast.FunctionDef)]
            if functions.count(version.function) != 1:
                raise ValueError(
                    f"{where}.function: the rung {rung} has {functions.count(version.function)} functions "
                    f"'{version.function}'; expected one that both rungs have"
                )
    if not _is_docstring(version.docstring):
        raise ValueError(
            f"{where}.docstring cannot stand between three quotation marks; expected a text without a backslash, "
            'without three quotation marks in a row, and without " at its end'
        )
    if version.rung and course.is_program:
        raise ValueError(f"{where}.rung is for variants; expected 'file', because kind is '{PROGRAM}'")


def require_free_names(course: Course) -> None:
    """Raise ValueError for a further file whose name is wrong, or which another file of a folder or a check has."""
    versions = [(-1, course.start), *((one.number, one.solution) for one in course.exercises if one.solution)]
    taken = {*TAKEN, *course.texts(), *(version.file_name(number) for number, version in versions)}
    if course.trains_digits:
        taken.add(DIGITS_FILE)
    for name in course.files:
        _require_inside(name)
        if name in taken:
            raise ValueError(
                f"files has '{name}', which mlpprof itself writes or which is a page or a version of the course; "
                "expected another name, so rename the file"
            )
        if course.files.count(name) > 1:
            raise ValueError(f"files has '{name}' twice; expected each name once, so leave one out or rename its file")


def _leads_out(folder: Traversable, name: str) -> bool:
    """Return whether a file of a course is a link out of its folder.

    The folder is where course.toml really is, because the files of an installed mlpprof may all be links into a cache.
    """
    if not isinstance(folder, Path):
        return False
    place = (folder / COURSE_FILE).resolve().parent / PurePath(name).parent
    return (folder / name).resolve().parent != place


def _require_inside(name: str) -> None:
    if name in ("", ".", "..") or set("/\\:\0") & set(name):
        raise ValueError(f"'{name}' is not a file of this folder; expected a name without .. and without a /")


def _is_docstring(text: str) -> bool:
    """Return whether a text between three quotation marks is a docstring that has this text."""
    try:
        return "\\" not in text and bool(ast.literal_eval(f'"""{text}"""') == text)
    except (SyntaxError, ValueError):
        return False


def copied_course(course: Course) -> dict[str, bytes]:
    """Return the files of a course by name, to put them into another folder."""
    return {name: course.content(name) for name in (COURSE_FILE, *course.texts(), *course.files)}
