"""Standard output and standard error: an output that is full, closed or of a poor encoding gives one sentence."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO
from unicodedata import category

import click

from mlpprof.errors import OutputClosed, OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SPELLED = "mlpprof-spelled"
PLAIN = {
    **{"…": "...", "–": "-", "—": "-", "−": "-", "×": "x", "·": ".", "→": "->", "µ": "u", "±": "+-", "∞": "inf"},
    **{"│": "|", "├": "|", "└": "`", "─": "-", "≥": ">=", "≤": "<="},
    **dict.fromkeys("█▉▊▋▌▍▎▏▓▒░■▀", "#"),
}
"""How we write the characters of our reports if the output's encoding lacks them; all others become '?'."""


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end


codecs.register_error(SPELLED, _spell)


class _Guarded(io.BufferedWriter):
    """Raises OutputError and not OSError, because click and rich end the program themselves at a broken pipe."""

    def write(self, data: ReadableBuffer, /) -> int:
        with _named():
            return super().write(data)

    def flush(self) -> None:
        with _named():
            super().flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosed("the program that reads standard output has ended") from error
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error


def guard_output() -> None:
    """Make standard output raise OutputError, and replace characters that its encoding lacks.

    Raises OutputError if the program was started without a standard output.
    """
    stream = sys.stdout
    if stream is None:
        raise OutputError("standard output is closed; to run without output, use > /dev/null")
    if isinstance(stream, io.TextIOWrapper):
        raw: Any = getattr(stream.buffer, "raw", stream.buffer)
        sys.stdout = io.TextIOWrapper(
            _Guarded(raw),
            encoding=stream.encoding,
            errors=SPELLED,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` characters; a word or a path is never broken, even if it is longer.

    Lines that are indented stay as they are: they are commands to copy, or what a program has printed.
    """
    options = {"subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
    return "\n".join(
        line if line.startswith(" ") else textwrap.fill(line, width, **options)  # type: ignore[arg-type]
        for line in text.split("\n")
    )


def complain(text: str) -> None:
    """Print one message to standard error, wrapped at spaces on a terminal, as one line elsewhere.

    A terminal by itself would break the line in the middle of a word or a path.
    """
    # names of files and keys may come from anybody, and an escape sequence in them would reach the terminal
    message = f"mlpprof: {''.join('�' if category(c) == 'Cc' and c != chr(10) else c for c in text)}"
    try:
        if sys.stderr.isatty():
            message = wrapped(message, shutil.get_terminal_size().columns)
        click.echo(message, err=True)
    except OSError:  # there is no place left to print to; the exit code still says that it failed
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Send the rest of a stream to nowhere, because Python would complain about it in the flush at exit."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file, as under a test, flushes nothing at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
