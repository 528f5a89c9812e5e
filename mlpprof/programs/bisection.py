"""Git's own bisection, in a repository of its own that borrows the objects of the user's, which is only read."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from mlpprof.errors import UsageError
from mlpprof.owned import new_folder
from mlpprof.programs.git_ref import commit_of, git, top_of
from mlpprof.programs.name import ProgramName

Mark = Literal["good", "bad", "skip"]

_FIRST_BAD = re.compile(r"^# first bad commit: \[([0-9a-f]+)\]", re.MULTILINE)
_POSSIBLE = re.compile(r"^# possible first bad commit: \[([0-9a-f]+)\]", re.MULTILINE)


@dataclass(frozen=True)
class Commit:
    """A commit: its whole name, the first line of its message, its author and its day."""

    sha: str
    title: str = ""
    author: str = ""
    date: str = ""

    @property
    def short(self) -> str:
        """The name in ten characters."""
        return self.sha[:10]


class Bisection:
    """The search for the first bad commit after a good one; a context manager that removes its repository.

    good, bad: refs in the repository of the program. Raises UsageError if there is no such repository or ref, and if
    git cannot search between them.
    """

    def __init__(self, program: ProgramName, good: str, bad: str) -> None:
        self._top = top_of(program)
        self.good, self.bad = (self.commit(commit_of(self._top, ref)) for ref in (good, bad))
        if self.good == self.bad:
            raise UsageError(f"'{good}' and '{bad}' are the same commit ({self.good.short}); name two different ones")
        if self.count == 0:
            raise UsageError(f"'{good}' comes after '{bad}'; --good names the older commit, and --bad the later one")
        self._folder = Path(new_folder("bisect"))
        git(self._folder, "init", "--quiet", "--bare")
        objects = git(self._top, "rev-parse", "--path-format=absolute", "--git-path", "objects").strip()
        (self._folder / "objects" / "info" / "alternates").write_text(f"{objects}\n", encoding="utf-8")
        shallow = Path(git(self._top, "rev-parse", "--path-format=absolute", "--git-path", "shallow").strip())
        if shallow.is_file():
            shutil.copy(shallow, self._folder / "shallow")

    def __enter__(self) -> Bisection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Begin; from now on there is a commit to test, unless the first bad one is known already."""
        git(self._folder, "update-ref", "--no-deref", "HEAD", self.bad.sha)  # git does not bisect without a HEAD
        git(self._folder, "bisect", "start", "--no-checkout", self.bad.sha, self.good.sha, why="git cannot bisect")

    def mark(self, commit: Commit, mark: Mark) -> None:
        """Say what a commit is. Raises UsageError if git then sees that the search makes no sense."""
        try:
            git(self._folder, "bisect", mark, commit.sha, why="git cannot bisect further")
        except UsageError:  # git says so too if only skipped commits are left
            if not self.possible:
                raise

    @property
    def next(self) -> Commit | None:
        """The commit to test next; None at the end."""
        if self.possible:
            return None
        return self.commit(git(self._folder, "rev-parse", "--verify", "BISECT_HEAD").strip())

    @property
    def possible(self) -> list[Commit]:
        """The first bad commit once it is known, or those that may be it if the others had to be skipped."""
        log = git(self._folder, "bisect", "log")
        return [self.commit(sha) for sha in dict.fromkeys(_FIRST_BAD.findall(log) or _POSSIBLE.findall(log))]

    @property
    def count(self) -> int:
        """How many commits come after the good one, up to the bad one."""
        return int(git(self._top, "rev-list", "--count", f"{self.good.sha}..{self.bad.sha}"))

    def before(self, commit: Commit) -> Commit | None:
        """The (first) parent of a commit; None for the first commit of all."""
        parents = git(self._top, "rev-list", "--parents", "-n", "1", commit.sha).split()[1:]
        return self.commit(parents[0]) if parents else None

    def commit(self, sha: str) -> Commit:
        """A commit by its name."""
        shown = git(self._top, "show", "--no-patch", "--format=%H%x00%s%x00%an%x00%as", sha)
        return Commit(*shown.rstrip("\n").split("\0"))
