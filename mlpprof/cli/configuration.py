"""Defaults of options from [tool.mlpprof] of the nearest pyproject.toml; every value is checked before it is used.

The file may come from somebody else, with a repository that you have cloned. So a path in it is not taken for writing
over your files: reports go into the folder reports/, and files that a command keeps stay in the file's own folder.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mlpprof.cli.commands import COMMANDS
from mlpprof.errors import UsageError, did_you_mean, one_line

FILE = "pyproject.toml"
EXAMPLE = "expected one table for each command, such as [tool.mlpprof.profile]"
CLAIMS = "claims"
"""The key of the speedups that `mlpprof check-claims` measures; it checks them itself."""
REPORTS = "reports"
"""The folder into which configured paths may write."""


class WrittenPath(click.Path):
    """A path to which a command writes. is_kept: the command reads it too, and keeps what else is in it."""

    def __init__(self, *, is_kept: bool = False, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(file_okay=file_okay, dir_okay=dir_okay, path_type=Path)
        self.is_kept = is_kept


def configuration(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The nearest pyproject.toml and its table for each command; None if there is no such file.

    Raises UsageError if it cannot be read, or if [tool.mlpprof] holds something else.
    """
    path = next((f / FILE for f in (folder, *folder.parents) if (f / FILE).is_file()), None)
    if path is None:
        return None
    try:
        tool = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(tool, dict):
        raise UsageError(f"{path}: 'tool' is {_kind(tool)}; {EXAMPLE}")
    table = tool.get("mlpprof", {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: [tool] has 'mlpprof', which is {_kind(table)}; {EXAMPLE}")
    for name, options in table.items():
        if name == CLAIMS:
            continue
        if name not in COMMANDS or not isinstance(options, dict):
            hint = did_you_mean(name, [*COMMANDS, CLAIMS])
            raise UsageError(f"{path}: [tool.mlpprof] has '{name}'{hint}; {EXAMPLE}")
    return path, table


def by_parameter(
    command: click.Command, names: tuple[str, ...], options: Mapping[str, Any], path: Path, where: str | None = None
) -> Any:
    """Configured values under click's names of the parameters, and of the commands of a group.

    names: of the command, such as ("workshop", "check"). where: the table, for messages; None takes that of a
    pyproject.toml. `native-blas` and `native_blas` are the same option. Raises
    UsageError, which names the file and the key, for a key that is no option, or a value that the option does not take.
    """
    known = {flag.lstrip("-"): p for p in command.params if isinstance(p, click.Option) for flag in p.opts}
    inner: Mapping[str, click.Command] = getattr(command, "commands", {})
    table = where or f"{path}: [tool.mlpprof.{'.'.join(names)}]"
    found: dict[str, Any] = {}
    for key, value in options.items():
        if key in inner:
            if not isinstance(value, dict):
                raise UsageError(f"{table} has '{key}', which is {_kind(value)}; expected a table of its options")
            found[key] = by_parameter(inner[key], (*names, key), value, path)
            continue
        option = known.get(key.replace("_", "-"))
        if option is None:
            raise UsageError(
                f"{table} has '{key}'{did_you_mean(key, [*known, *inner])} "
                f"(mlpprof {' '.join(names)} --help shows the options)"
            )
        found[option.name or key] = _checked(option, value, f"{table} has {key} = {_shown(value)}", path)
    return found


def _checked(option: click.Option, value: Any, found: str, path: Path) -> Any:
    """The value, if the option takes it. found: the beginning of the message if not."""
    if option.multiple:
        if not isinstance(value, list):
            raise UsageError(f"{found}; expected a list")
        return [_checked_one(option, one, found, path) for one in value]
    return _checked_one(option, value, found, path)


def _checked_one(option: click.Option, value: Any, found: str, path: Path) -> Any:
    if option.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{found}; expected true or false")
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (isinstance(value, str) or is_number) or (isinstance(option.type, click.Path) and is_number):
        raise UsageError(f"{found}; expected {'a path in quotes' if is_number else 'a text or a number'}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{found}; expected a finite number")
    try:
        option.type.convert(value, option, None)
    except (click.BadParameter, UsageError, OverflowError, ValueError) as error:
        raise UsageError(f"{found}: {one_line(error).rstrip('.')}") from error
    if isinstance(option.type, WrittenPath):
        _require_inside(Path(str(value)), option.type.is_kept, found, path)
    return value


def _require_inside(target: Path, is_kept: bool, found: str, path: Path) -> None:
    """Raise UsageError if somebody else's pyproject.toml could let a command write over the user's files."""
    here = path.parent.resolve()
    allowed = here if is_kept else here / REPORTS
    if not target.resolve().is_relative_to(allowed):
        where = "in the folder of that file" if is_kept else f"below {REPORTS}/ in the folder of that file"
        raise UsageError(f"{found}; a configured path has to be {where}. Type the path on the command line instead")


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date or a time")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
