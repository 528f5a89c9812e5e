"""JSON in both directions: records become plain JSON, and JSON becomes records again once every value was checked.

`plain` and `json_text` write JSON that any parser takes. `parse` and `decode` read JSON that somebody else may have
written: a value of another type, a number out of range, a missing key or lists nested 100,000 deep raise `WrongJson`,
whose message names the place. Ranges are part of a record's types: `Annotated[float, Meta(gt=0)]`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlpprof.errors import MlpprofError, one_line

Message = dict[str, Any]
"""A JSON object on its way between two processes."""

DEEPEST = 100
"""JSON that is nested deeper than this is refused, because a function that walks through it would run out of stack."""

TOO_DEEP = "its lists or objects are nested too deep"

Record = TypeVar("Record")


class WrongJson(ValueError):
    """A text that is not JSON, or JSON that is not the expected record."""


def plain(value: Any, *, keep_nan: bool = False) -> Any:
    """The value as JSON knows it: records become objects, arrays and tuples become lists, NumPy's numbers plain ones.

    A number that is not finite becomes null, because JSON has no word for it; keep_nan keeps it, for `decode`.
    """
    if isinstance(value, np.ndarray):
        listed = value.tolist()
        return listed if keep_nan or np.isfinite(value).all() else plain(listed)
    if isinstance(value, np.generic):
        return plain(value.item(), keep_nan=keep_nan)
    if isinstance(value, float):
        return value if keep_nan or math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), keep_nan=keep_nan) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item, keep_nan=keep_nan) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, keep_nan=keep_nan) for item in value]
    return sorted(value) if isinstance(value, frozenset) else value


def plain_object(value: object) -> dict[str, Any]:
    """`plain` of a record or a dictionary, which is a dictionary."""
    return cast(dict[str, Any], plain(value))


def encode(record: object) -> Message:
    """A record as a message to another process, from which `decode` makes the same record, NaN included."""
    return cast(Message, plain(record, keep_nan=True))


def json_text(document: object) -> str:
    """The document with a final newline, for files and for standard output alike.

    It is ASCII, because the name of a file may hold bytes that are not UTF-8.
    """
    return json.dumps(plain(document), indent=2, allow_nan=False) + "\n"


def parse(text: str | bytes, *, allow_nan: bool = False) -> Any:
    """The value of a JSON text; raises WrongJson for anything else.

    allow_nan: take NaN and Infinity as numbers, which `encode` writes and JSON does not know.
    """
    try:
        value = json.loads(text, parse_constant=None if allow_nan else _refuse_constant)
    except RecursionError as error:
        raise WrongJson(TOO_DEEP) from error
    except ValueError as error:
        raise WrongJson(one_line(error)) from error
    level = [value]
    for _ in range(DEEPEST):
        lists = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [inner for one in lists for inner in one]
        if not level:
            return value
    raise WrongJson(TOO_DEEP)


def _refuse_constant(constant: str) -> float:
    raise WrongJson(f"it holds {constant}, which is not a JSON number")


def read_json(path: Path, most_bytes: int = 10_000_000) -> Any:
    """The value of a JSON file; raises WrongJson for a file that cannot be read, is too large, or is not JSON."""
    try:
        if (size := path.stat().st_size) > most_bytes:
            raise WrongJson(f"it has {size:,} bytes, and expected were at most {most_bytes:,}")
        return parse(path.read_bytes())
    except OSError as error:
        raise WrongJson(error.strerror or str(error)) from error


def decode(record: type[Record], value: object) -> Record:
    """The record of a JSON value; keys that the record does not have are passed over.

    Raises WrongJson, which names the place, for a value that is missing, of another type or out of range.
    """
    try:
        return msgspec.convert(value, record, dec_hook=_array)
    except (msgspec.ValidationError, MlpprofError) as error:  # the second one comes from a record that checks itself
        what, _, place = str(error).rpartition(" - at `$")
        raise WrongJson(f"{place.strip('.`')}: {what[0].lower()}{what[1:]}" if what else str(error)) from error


def _array(kind: Any, value: object) -> NDArray[np.float64]:
    """The one type of a record's fields that is not JSON's own is an array of float64."""
    return np.asarray(value, np.float64)
