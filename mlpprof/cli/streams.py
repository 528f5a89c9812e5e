"""Standard output that may be full, closed, or unable to show every character: one sentence, and never a traceback."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from mlpprof.errors import OutputClosed, OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SPELLED = "mlpprof-spelled"
PLAIN = {
    **{"…": "...", "–": "-", "—": "-", "−": "-", "×": "x", "·": ".", "→": "->", "µ": "u", "±": "+-", "∞": "inf"},
    **{"│": "|", "├": "|", "└": "`", "─": "-", "≥": ">=", "≤": "<="},
    **dict.fromkeys("█▉▊▋▌▍▎▏▓▒░■▀", "#"),
}
"""How the characters of our reports are written where the output's encoding has none of them; others become '?'."""


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end


codecs.register_error(SPELLED, _spell)


class _Guarded(io.BufferedWriter):
    """Raises OutputError, which is no OSError: click and rich end the program themselves at a broken pipe."""

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
        raise OutputClosed("the reader of standard output has gone") from error
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error


def guard_output() -> None:
    """Have standard output raise OutputError, and replace what its encoding lacks.

    Raises OutputError where the program was started without a standard output.
    """
    stream = sys.stdout
    if stream is None:
        raise OutputError("standard output is closed; use > /dev/null where it is not wanted")
    if isinstance(stream, io.TextIOWrapper):
        raw: Any = getattr(stream.buffer, "raw", stream.buffer)
        sys.stdout = io.TextIOWrapper(
            _Guarded(raw),
            encoding=stream.encoding,
            errors=SPELLED,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )


def discard(stream: TextIO) -> None:
    """Send what is left in a stream to nowhere: Python would complain about it when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file, as under a test, flushes nothing at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
