"""Trials that are written after each one, so that an interrupted study keeps what it has and can be continued."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from mlpprof.errors import UsageError
from reports.studies.study import Study, circumstances_text

Trial = TypeVar("Trial")


def keep_trials(
    study: Study,
    files: Study,
    schema: int,
    made: Iterable[Trial],
    read: Callable[..., Trial],
    table: Callable[[list[Trial]], str],
    add: bool,
) -> tuple[str, dict[str, Any]]:
    """Make trials, write the table and all of them after each one, and return both as they were written last.

    study: knows the command; files: names the two files. read: makes a trial of the fields in the document. add: keep
    the trials that the file has already; raises UsageError if it has none.
    """
    document: dict[str, Any] = (
        _earlier(files.folder / f"{files.name}.json") if add else {"schema": schema, "trials": [], "parts": []}
    )
    parts = list(document["parts"])

    def write() -> str:
        shown = table([read(**one) for one in document["trials"]])
        text = "\n".join([shown, *map(circumstances_text, document["parts"])])
        files.write(text, document, "md")
        return text

    text = ""
    for trial in made:
        document["trials"].append(asdict(trial))  # type: ignore[call-overload]  # every trial is a dataclass
        document["parts"] = [*parts, study.circumstances("reports.verdicts")]
        text = write()
    return text or write(), document  # without new trials, the table of the earlier ones is made anew


def _earlier(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {"schema": found["schema"], "trials": found["trials"], "parts": found["parts"]}
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path} has no trials to add to ({error!r}); leave --add away to begin anew") from None
