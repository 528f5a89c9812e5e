"""Measurements that are kept in the user's cache folder: one JSON file for each key, in a folder for each kind.

The key is everything that a measurement depends on. A file of another schema, or one that is damaged, counts as
missing, and the caller measures again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import platformdirs

from mlpprof.files import make_folder, write_atomically
from mlpprof.results.json import WrongJson, decode, json_text, plain, read_json

Record = TypeVar("Record")


@dataclass(frozen=True)
class Cache(Generic[Record]):
    """The kept measurements of one kind.

    name: of the folder. schema: raised when the record changes its meaning. record: the type of a measurement; its
    fields stand in the file beside "schema" and "key".
    """

    name: str
    schema: int
    record: type[Record]

    def path(self, key: Mapping[str, Any], folder: Path | None = None) -> Path:
        """The file of a key. folder: in which it lies, by default below the folder that this system has for caches."""
        if folder is None:
            folder = Path(platformdirs.user_cache_dir("mlpprof", appauthor=False)) / self.name
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return folder / f"{digest[:16]}.json"

    def read(self, key: Mapping[str, Any], note: Callable[[str], None], folder: Path | None = None) -> Record | None:
        """What is kept for a key, None if there is nothing. note: is called with a sentence if the file is damaged."""
        path = self.path(key, folder)
        if not path.exists():
            return None
        try:
            document = read_json(path)
            if not isinstance(document, dict):
                raise WrongJson("it is not a JSON object")
            if document.get("schema") != self.schema or document.get("key") != plain(key):
                return None
            return decode(self.record, document)
        except WrongJson as error:
            note(f"{path} is damaged ({error}); what it held was measured again")
            return None

    def write(self, key: Mapping[str, Any], record: Record, folder: Path | None = None) -> Path:
        """Keep a measurement in place of the one before; returns its file.

        Raises UsageError if it cannot be written.
        """
        path = self.path(key, folder)
        make_folder(path.parent)
        with write_atomically(path) as temporary:
            text = json_text({"schema": self.schema, "key": key, **plain(record)})
            temporary.write_text(text, encoding="utf-8")
        return path
