"""Limits that have been measured, kept in the user's cache folder: one file a machine, BLAS, NumPy and environment.

A limit holds for the processor, the BLAS with its kernel and threads, NumPy, and the variables that steer them; these
are the key. What is measured again replaces what is kept only where it comes closer to the limit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from mlpprof.files import write_atomically
from mlpprof.machine.keys import Json
from mlpprof.machine.limits.names import Limit, Limits, is_better, unit_of

SCHEMA = 1

KEY_FACTS = (
    *("cpu_model_name", "cpu_simd", "cpu_affinity_count", "cpu_quota", "cpu_caches", "numpy_version", "scipy_version"),
    *("blas_environment", "allocator_environment", "preloaded_libraries", "transparent_hugepages", "libc_version"),
)


def key_of(machine: Mapping[str, Json]) -> dict[str, Json]:
    """What limits depend on, from the description of a process; of the BLAS the one that NumPy uses."""
    found = machine.get("blas")
    libraries = [library for library in found if isinstance(library, dict)] if isinstance(found, list) else []
    numpy_blas = [library for library in libraries if library.get("loaded_by") != "scipy"]
    return {fact: machine.get(fact) for fact in KEY_FACTS} | {"blas": list(numpy_blas)}


def default_folder() -> Path:
    """Where limits are kept: below the folder that this system has for caches."""
    return Path(platformdirs.user_cache_dir("mlpprof", appauthor=False)) / "limits"


def cache_path(key: Mapping[str, Json], folder: Path | None = None) -> Path:
    """The file of a key."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return (default_folder() if folder is None else folder) / f"{digest[:16]}.json"


@dataclass(frozen=True)
class Kept:
    """The limits kept for a key, and the names of those that were measured beside others' work: worth another try."""

    limits: Limits = field(default_factory=dict)
    doubtful: frozenset[str] = frozenset()


def read(key: Mapping[str, Json], folder: Path | None = None) -> Kept:
    """What is kept for a key; nothing where there is no file, or one that is damaged or of another schema."""
    try:
        document = json.loads(cache_path(key, folder).read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA or document["key"] != json.loads(json.dumps(key)):
            return Kept()
        limits: Limits = {
            name: {"value": float(limit["value"]), "unit": unit_of(name)}
            for name, limit in document["limits"].items()
            if limit["unit"] == unit_of(name) and float(limit["value"]) > 0
        }
        return Kept(limits, frozenset(str(name) for name in document["doubtful"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return Kept()


def merged(kept: Mapping[str, Limit], measured: Mapping[str, Limit]) -> Limits:
    """The better of two measurements of each limit."""
    best = dict(kept)
    for name, limit in measured.items():
        if name not in best or is_better(name, limit["value"], best[name]["value"]):
            best[name] = limit
    return best


def write(key: Mapping[str, Json], kept: Kept, folder: Path | None = None) -> None:
    """Keep the limits of a key, instead of what was kept before.

    Raises UsageError where the file cannot be written.
    """
    path = cache_path(key, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"schema": SCHEMA, "key": key, "limits": kept.limits, "doubtful": sorted(kept.doubtful)}
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
