"""The source files of a program as they were at a git ref; the working tree is only read."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

from mlpprof.errors import UsageError, did_you_mean
from mlpprof.programs.name import KINDS, ProgramName

SUBMODULE, SYMBOLIC_LINK = "160000", "120000"
"""Git's modes of entries that are no files."""


def sources_at(name: ProgramName) -> dict[str, str | None]:
    """Absolute path -> text at the ref, for all source files of the repository; None for one that came later.

    Files that git does not track, such as data, are those of the working tree. Raises UsageError if there is no
    repository, no such ref, or no such program at the ref.
    """
    assert name.ref is not None
    top = top_of(name)
    commit = commit_of(top, name.ref)
    sources = _sources_in(top, commit)
    for path in _candidates(name, top):
        if sources.get(str(path)) is not None:
            return sources
    relative = _candidates(name, top)[0].relative_to(top)
    raise UsageError(f"'{relative}' does not exist at {name.ref} (commit {commit[:10]}); choose a later ref")


def top_of(name: ProgramName) -> Path:
    """The root folder of the repository of a program. Raises UsageError if it is in none."""
    folder = name.folder
    while not folder.is_dir():  # the folder may have existed at the ref only
        folder = folder.parent
    return Path(git(folder, "rev-parse", "--show-toplevel", why=f"'{name.text}' needs a git repository").strip())


def _candidates(name: ProgramName, top: Path) -> list[Path]:
    """The files that may be the program's main file."""
    if name.kind != "module":
        path = Path(name.target).resolve()
        if not path.is_relative_to(top):
            raise UsageError(f"'{name.target}' is not in the git repository {top}")
        return [path]
    base = Path.cwd().resolve().joinpath(*name.target.split("."))
    if not base.is_relative_to(top):
        raise UsageError(f"the module '{name.target}' is not in the git repository {top}")
    return [base.with_suffix(".py"), base / "__main__.py"]


def commit_of(top: Path, ref: str) -> str:
    """The whole name of the commit of a ref. Raises UsageError, with a similar name, if there is none."""
    try:
        return git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").strip()
    except UsageError:
        known = git(top, "for-each-ref", "--format=%(refname:short)").split()
        raise UsageError(
            f"there is no git ref '{ref}' in {top}{did_you_mean(ref, known)}; expected a tag, a branch, a commit or "
            "HEAD~1"
        ) from None


def _sources_in(top: Path, commit: str) -> dict[str, str | None]:
    blobs: dict[str, str] = {}
    found: dict[str, str | None] = {
        str(top / file): None for file in git(top, "ls-files", "-z").split("\0") if _is_source(file)
    }
    for line in filter(None, git(top, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0")):
        facts, _, file = line.partition("\t")
        mode, _, blob = facts.split()
        inner = top / file
        if mode == SUBMODULE and (inner / ".git").exists():
            found |= _submodule(inner, blob)
        elif mode not in (SUBMODULE, SYMBOLIC_LINK) and _is_source(file):
            blobs[str(inner)] = blob
    return found | _texts(top, blobs)


def _submodule(folder: Path, commit: str) -> dict[str, str | None]:
    """The sources of a submodule at the commit that the outer repository had then."""
    try:
        git(folder, "cat-file", "-e", commit)
    except UsageError:
        raise UsageError(
            f"the submodule {folder.name} has no commit {commit[:10]} here, which belongs to this ref; type: git -C "
            f"{folder} fetch"
        ) from None
    return _sources_in(folder.resolve(), commit)


def _texts(top: Path, blobs: dict[str, str]) -> dict[str, str | None]:
    if not blobs:
        return {}
    asked = "".join(f"{blob}\n" for blob in blobs.values()).encode()
    answer = _run(top, ("cat-file", "--batch"), asked)
    texts: dict[str, str | None] = {}
    start = 0
    for path in blobs:
        end = answer.index(b"\n", start)
        size = int(answer[start:end].split()[2])
        texts[path] = _decoded(answer[end + 1 : end + 1 + size])
        start = end + 1 + size + 1
    return texts


def _decoded(content: bytes) -> str:
    try:
        return importlib.util.decode_source(content)
    except (SyntaxError, UnicodeDecodeError):  # Python will say so, if the program imports the file
        return content.decode("utf-8", errors="replace")


def _is_source(file: str) -> bool:
    return Path(file).suffix in KINDS


def git(folder: Path, *arguments: str, why: str = "git could not answer") -> str:
    """What git answers in a folder. Raises UsageError with why, and with what git says, if it fails."""
    try:
        return _run(folder, arguments).decode("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise UsageError(f"{why}, but the program git is not installed") from None
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.decode(errors="replace").split())
        raise UsageError(f"{why}; git says in {folder}: {said}") from None


def _run(folder: Path, arguments: tuple[str, ...], asked: bytes | None = None) -> bytes:
    # A git hook sets variables such as GIT_DIR, which would lead git to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, input=asked, capture_output=True, check=True, env=environment).stdout
