"""What to type instead: for a word that is not a command, an unknown option and a missing word."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import click

from mlpprof.cli.commands import COMMANDS, EXAMPLES, TAKE_PROGRAMS
from mlpprof.errors import did_you_mean


def no_command(words: Sequence[str]) -> str:
    """The message for a first word that is not a command, with the commands that may be meant."""
    first, *others = words
    problem = f"'{first}' is not a command"
    if is_program_text(first):
        return _commands_for_program(problem, first, others)
    if ".py:" in first:
        return _with_commands(problem, ["profile", first, *others], ["advise", first.partition(":")[0]])
    if not (hint := did_you_mean(first, COMMANDS)):
        catalog = importlib.import_module("mlpprof.catalog")
        if meant := catalog.module_meant(first):
            return _commands_for_program(f"{problem}, but a package", meant.split(" or ")[0], others)
        variants = list(catalog.ladder())
        if first in variants:
            problem += ", but a variant"
            return _with_commands(problem, ["profile", first, *others], ["compare", "naive", first, *others])
        hint = did_you_mean(first, variants) or ", and no variant has this name"
    return f"{problem}{hint} (mlpprof --help shows all commands, and mlpprof list all variants)"


def _commands_for_program(problem: str, name: str, arguments: list[str]) -> str:
    """The message for a program in place of a command; the nearest file is taken if it does not exist."""
    file, _, ref = name.partition("@")
    if not (name.startswith(MODULE) or Path(file).is_file()):
        beside = [str(other) for other in Path(file).parent.glob("*") if is_program_text(other.name)]
        near = get_close_matches(file, beside, n=1, cutoff=0.7)
        problem += f", and there is no file '{file}'"
        if not near:
            return f"{problem} (mlpprof --help shows all commands)"
        problem += f"; did you mean '{near[0]}'?"
        file = near[0]
    if arguments and not {"--", *COMMON_OPTIONS}.intersection(word.split("=")[0] for word in arguments):
        arguments = ["--", *arguments]
    now = f"{file}@{ref}" if ref else file
    has_repository = any((folder / ".git").exists() for folder in Path(file).resolve().parents)
    before = [f"{file}@{ref or 'HEAD'}", file] if has_repository else [now, "NEW" + Path(file).suffix]
    return _with_commands(
        problem, ["advise", now, *arguments], ["profile", now, *arguments], ["compare", *before, *arguments]
    )


COMMON_OPTIONS = frozenset(("--step", "-o", "--out", "--json", "--threads", "--allow-writes", "--help"))
"""Options of mlpprof that are written after a program; all others are taken to be the program's own."""

MODULE = "-m "
"""A module is named as for Python, after this."""


def is_program_text(text: str) -> bool:
    """Whether a typed word looks as if a program was meant."""
    return text.startswith(MODULE) or text.partition("@")[0].endswith((".py", ".ipynb"))


def _with_commands(problem: str, *commands: Sequence[str]) -> str:
    """The problem, and commands in lines of their own, so that they are ready to be copied."""
    lines = [typed(["mlpprof", *words]) for words in commands]
    width = max(map(len, lines))
    shown = [f"    {line:<{width}}   {COMMANDS[words[0]]}" for line, words in zip(lines, commands, strict=True)]
    return "\n".join([problem + (" Type one of:" if problem.endswith("?") else ". Type one of:"), *shown])


def typed(words: Sequence[str]) -> str:
    """The words as they are typed in a shell."""
    return " ".join(word if word.startswith(MODULE) else shlex.quote(word) for word in words)


def usage_message(error: click.ClickException, words: Sequence[str] = ()) -> str:
    """What click found wrong with the typed words, in our words, and what to type next."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption) and context is not None:
        return _no_option(error.option_name, context, list(words))
    if context is None:
        return error.format_message().rstrip(".")
    message = _problem(error, context)
    if isinstance(error, click.MissingParameter) and context.info_name in EXAMPLES:
        example = EXAMPLES[context.info_name]
        given = [word for word in words[1:] if is_program_text(word)]
        if context.info_name in ("compare", "calibrate") and len(given) == 1 and "@" not in given[0]:
            example = typed(["mlpprof", context.info_name, f"{given[0]}@HEAD", given[0]])
        return f"{message}; for example: {example} ({context.command_path} --help shows the options)"
    return f"{message}; {context.command_path} --help shows the options"


def _problem(error: click.ClickException, context: click.Context) -> str:
    """What is wrong, as a sentence."""
    message = error.format_message().rstrip(".")
    parameter = getattr(error, "param", None)
    if isinstance(error, click.MissingParameter) and parameter is not None:
        return f"the {parameter.param_type_name} {_label(parameter)} is missing"
    if isinstance(error, click.BadParameter) and parameter is not None:
        found = error.message.rstrip(".")
        if isinstance(parameter.type, NUMBERS):
            value = found.partition(" is not ")[0].strip("'")
            return f"{_label(parameter)} {value}: expected {_numbers(parameter.type)}"
        path = re.fullmatch(r"\S+ ('.*') does not exist", found)
        return f"{_label(parameter)}: " + (found if path is None else f"there is no file or folder {path[1]}")
    if (extra := re.fullmatch(r"Got unexpected extra arguments? \((.*)\)", message)) is not None:
        return f"{context.command_path} does not expect '{extra[1]}'"
    if (command := re.match(r"No such command '(.*?)'", message)) is not None and isinstance(
        context.command, click.Group
    ):
        known = context.command.list_commands(context)
        return f"'{command[1]}' is not a command of {context.command_path}, which has {', '.join(known)}"
    return message


NUMBERS = (click.types.IntParamType, click.types.FloatParamType)
"""Types of numbers; those with a range are kinds of them."""


def _label(parameter: click.Parameter) -> str:
    """The name of an option or argument as it is typed, or as the help shows it."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return (parameter.metavar or parameter.human_readable_name).upper().removesuffix("...")


def _numbers(kind: click.types.IntParamType | click.types.FloatParamType) -> str:
    """'a whole number from 1 to 100', 'a number above 0'."""
    words = "a whole number" if isinstance(kind, click.types.IntParamType) else "a number"
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    if low is not None and high is not None:
        return f"{words} from {low:,} to {high:,}"
    if low is not None:
        return f"{words} above {low:g}" if getattr(kind, "min_open", False) else f"{words} of {low:g} or more"
    return words


def _no_option(option: str, context: click.Context, words: list[str]) -> str:
    """The message for an option that a command does not have; it may be one of the user's program."""
    command = context.info_name or ""
    if context.parent is None:
        if option == "-m" and "-m" in words[:-1]:
            at = words.index("-m")
            return no_command([f"{MODULE}{words[at + 1]}", *words[at + 2 :]])
        return f"there is no option '{option}'; mlpprof --help shows the options"
    known = [flag for parameter in context.command.params for flag in parameter.opts if flag.startswith("-")]
    message = f"{command} has no option '{option}'{did_you_mean(option, known)}"
    program = next((i for i, word in enumerate(words) if is_program_text(word) or word == "-m"), None)
    if command not in TAKE_PROGRAMS or program is None:
        link = "" if message.endswith("?") else ";"
        return f"{message}{link} {context.command_path} --help shows the options"
    ours: list[str] = []
    theirs: list[str] = []
    is_theirs = False  # an unknown option, and the words after it up to the next option, are the program's
    for i, word in enumerate(words):
        if word.startswith("-"):
            is_theirs = i > program and word.split("=")[0] not in (*known, "-m")
        elif is_program_text(word):
            is_theirs = False
        if word != "--":
            (theirs if is_theirs else ours).append(word)
    if not theirs:  # the option stands in front of the program
        first = next((i for i, word in enumerate(words) if word.split("=")[0] == option), program)
        ours, theirs = [*words[:first], *words[program:]], list(words[first:program])
    message += " If" if message.endswith("?") else ". If"
    return f"{message} it is an option of your program, type: {typed(['mlpprof', *ours, '--', *theirs])}"
