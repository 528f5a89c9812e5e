"""The request to a worker: which program to run, and how. It travels as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlpprof.process import TIME_LIMIT_S
from mlpprof.programs.git_ref import sources_at
from mlpprof.programs.name import ProgramName
from mlpprof.results.json import Message, decode, encode

WAIT_S = TIME_LIMIT_S
"""The first step of a program may take so many seconds; some load data for a minute before they train."""

STILL_S = 30.0
"""A program that has begun to train is ended if all its threads stand at the same instructions for so many seconds."""


@dataclass(frozen=True)
class ProgramRequest:
    """A program with its arguments.

    step: the training step as 'Class.method', 'function', 'file.py:Class.method', or 'LINE' or 'file.py:LINE' of the
    loop whose body it is; None if it has to be found. include, exclude: file name patterns of modules that are
    instrumented though they are in an installed library, or are not although they are the user's. allow_writes: let
    the program write files outside temporary folders. overlay: absolute path of a source file -> the text that the
    program gets in place of the file on disk, or None if the file does not exist for the program.
    wait_s: the program may take so many seconds until its first step.
    """

    name: ProgramName
    arguments: tuple[str, ...] = ()
    step: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    allow_writes: bool = False
    overlay: Mapping[str, str | None] = field(default_factory=dict)
    wait_s: float = WAIT_S

    def to_json(self) -> Message:
        """The request as plain JSON."""
        return encode(self)

    @classmethod
    def from_json(cls, message: Message) -> ProgramRequest:
        """The request from `to_json`; raises WrongJson for anything else."""
        return decode(cls, message)


def request_for(
    text: str | Path,
    *,
    arguments: Sequence[str] = (),
    step: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    allow_writes: bool = False,
    wait_s: float = WAIT_S,
) -> ProgramRequest:
    """The request for a program as the user names it; a git ref is read here.

    Raises UsageError for a name that is no program's, a file that does not exist, or a git ref that has no such file.
    """
    name = ProgramName.parse(str(text))
    overlay = {} if name.ref is None else sources_at(name)
    return ProgramRequest(name, tuple(arguments), step, tuple(include), tuple(exclude), allow_writes, overlay, wait_s)
