"""What `autotune` has found, kept in the user's cache folder: one file a machine, network, batch and precision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import platformdirs

from mlpprof.files import make_folder, write_atomically
from mlpprof.machine.keys import Json
from mlpprof.machine.limits.cache import key_of
from mlpprof.model import Network
from mlpprof.results import Change, Verdict
from mlpprof.results.tuning import Trial, Tuning

SCHEMA = 2


def tuned_key(machine: Mapping[str, Json], network: Network, batch: int, dtype: str | None) -> dict[str, Any]:
    """What a result depends on; dtype None: every variant's own."""
    return {"machine": key_of(machine), "network": json.loads(json.dumps(asdict(network))), "batch": batch} | {
        "dtype": dtype
    }


def default_folder() -> Path:
    """Below the folder that this system has for caches."""
    return Path(platformdirs.user_cache_dir("mlpprof", appauthor=False)) / "tuned"


def tuned_path(key: Mapping[str, Any], folder: Path | None = None) -> Path:
    """The file of a key."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return (default_folder() if folder is None else folder) / f"{digest[:16]}.json"


def read_tuned(key: Mapping[str, Any], folder: Path | None = None) -> Tuning | None:
    """What is kept for a key; None where there is no file, or one that is damaged or of another schema."""
    try:
        document = json.loads(tuned_path(key, folder).read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA or document["key"] != json.loads(json.dumps(key)):
            return None
        return tuning_from(document["tuning"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def keep_tuned(key: Mapping[str, Any], tuning: Tuning, folder: Path | None = None) -> Path:
    """Keep a result, whole or not at all; returns its file. Raises UsageError where it cannot be written."""
    path = tuned_path(key, folder)
    make_folder(path.parent)
    document = {"schema": SCHEMA, "key": dict(key), "tuning": asdict(tuning)}
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def tuning_from(plain: Mapping[str, Any]) -> Tuning:
    """A Tuning from its JSON."""
    network, verdict = plain["network"], plain["over_runner_up"]
    return Tuning(
        **{
            **plain,
            "network": Network(**{**network, "layers": tuple(network["layers"])}),
            "over_runner_up": None if verdict is None else Verdict(**verdict),
            "phases": tuple(Change(**change) for change in plain["phases"]),
            "trials": tuple(Trial(**trial) for trial in plain["trials"]),
        }
    )
