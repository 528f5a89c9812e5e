"""Runs on disk: one HDF5 file a run, with every raw sample, which is all that any report is made from.

The first 1,024 bytes, HDF5's user block, hold the digest of the rest (`mlpprof.results.on_disk`); h5dump and h5py
skip them:

| where                     | what                                                                                   |
| ------------------------- | -------------------------------------------------------------------------------------- |
| run                       | JSON: every field of `results.Run` that is in no other row                             |
| source                    | text of the variant's file                                                             |
| machine                   | JSON: the description of the machine                                                   |
| results/I                 | batch I, counted from 0; attributes batch, steps_per_epoch, warmup_steps, separable,   |
|                           | steps_a_sample (1 where absent)                                                        |
| results/I/total_s         | float64 (rounds, steps): seconds a step without instruments; alike phases_pass_s       |
|                           | and labels_pass_s                                                                      |
| results/I/losses          | float64 (steps,)                                                                       |
| results/I/phases/J        | float64 (rounds, steps): seconds a step in phase J; attributes name, bytes_allocated,  |
|                           | peak_bytes, page_faults (an absent one was not measured)                               |
| results/I/labels          | table: phase, label, in_loop, layer (meaningless unless in_loop), calls                |
| results/I/label_step_s    | float64 (labels, rounds, steps): seconds a step under each row of the table            |
| results/I/counts          | JSON: operations (`results.Operation`) of one step, uncounted; absent in older runs    |
| lines                     | table: line, hits, time_s; attributes batch, steps, wall_s; absent without --lines     |
| stacks                    | JSON text of pyinstrument; attributes batch, steps; absent without --stacks            |
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from datetime import UTC, datetime
from io import BufferedIOBase, BytesIO
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import h5py
import numpy as np

from mlpprof import __version__
from mlpprof.errors import RunFileError, UsageError
from mlpprof.files import write_atomically
from mlpprof.results import (
    BatchResult,
    LabelSamples,
    LineProfile,
    LineTime,
    Operation,
    PhaseSamples,
    Run,
    Samples,
    StackProfile,
)

# The digest of a run's file, verified with plain reads before h5py opens it: libhdf5 may crash on a damaged file.
#
# The first 1,024 bytes are left to us by HDF5 (its "user block"). They hold one line of ASCII, then zero bytes:
#
# mlpprof-run schema=1 bytes=183520 sha256=0f3a...
#
# schema: number of the layout (`mlpprof.results.on_disk.SCHEMA`). bytes, sha256: length and digest of all that
# follows the block.


BLOCK_SIZE = 1024
"""Bytes before the HDF5 part: a power of two and at least 512, as HDF5 wants it."""

_HEADER = re.compile(rb"mlpprof-run schema=(\d{1,9}) ")
_STATED_SIZE = re.compile(rb" bytes=(\d{1,18}) ")
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_EXPECTED = "expected a run written by mlpprof profile"


def seal(path: Path, schema: int) -> None:
    """Write the block of a finished file over the 1,024 bytes that were left free for it."""
    with path.open("r+b") as file:
        file.seek(BLOCK_SIZE)
        size, digest = _rest(file)
        file.seek(0)
        file.write(_block(schema, size, digest))


def verify(path: Path, schema: int) -> None:
    """Raise RunFileError unless the file is, byte for byte, one that `seal` wrote with this schema or an older one."""
    try:
        _refuse_special(path)
        with path.open("rb") as file:
            block = file.read(BLOCK_SIZE)
            size, digest = _rest(file)
    except OSError as error:
        raise RunFileError(f"cannot read {path}: {error.strerror}; {_EXPECTED}") from error
    header = _HEADER.match(block)
    if header is None:
        raise RunFileError(f"{path} {_foreign(block)}; {_EXPECTED}")
    written_schema = int(header[1])
    if written_schema > schema:
        raise RunFileError(
            f"{path} has schema {written_schema}, of a newer mlpprof; {__version__} reads up to {schema}: "
            "pip install --upgrade mlpprof"
        )
    if written_schema < 1 or block != _block(written_schema, size, digest):
        stated = _STATED_SIZE.search(block)
        cut = len(block) < BLOCK_SIZE or (stated is not None and int(stated[1]) > size)
        found = f"cut off after {len(block) + size:,} bytes" if cut else "its content does not match its digest"
        raise RunFileError(f"{path} is damaged: {found}; copy it again from where it came, or profile again")


def _block(schema: int, size: int, digest: str) -> bytes:
    return f"mlpprof-run schema={schema} bytes={size} sha256={digest}\n".encode("ascii").ljust(BLOCK_SIZE, b"\0")


def _rest(file: BufferedIOBase) -> tuple[int, str]:
    """Length and SHA-256 of everything from the file's position on."""
    start = file.tell()
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return file.tell() - start, digest


def _refuse_special(path: Path) -> None:
    if not path.exists():
        raise RunFileError(f"there is no file {path}; mlpprof profile writes a run and says where")
    if path.is_dir():
        raise RunFileError(f"{path} is a folder; name one of the .h5 files in it")
    if not path.is_file():
        raise RunFileError(f"{path} is not a regular file; {_EXPECTED}")


def _foreign(block: bytes) -> str:
    if not block:
        return "is empty"
    if block.startswith(_HDF5_SIGNATURE):
        return "is an HDF5 file but not a run (mlpprof data show tells what is in it)"
    return f"is not a run: it begins with {block[:16].decode('ascii', 'replace')!a}"


SCHEMA = 1
"""Number of the layout, raised whenever an older mlpprof could not read what is written.

1: mlpprof 0.1.0, the layout in the table above.
"""

_TEXT = h5py.string_dtype()
_LABELS = np.dtype([("phase", _TEXT), ("label", _TEXT), ("in_loop", "?"), ("layer", "i8"), ("calls", "i8")])
_LINES = np.dtype([("line", "i8"), ("hits", "i8"), ("time_s", "f8")])
_BATCH_NUMBERS = ("batch", "steps_per_epoch", "warmup_steps", "separable", "steps_a_sample")
_BATCH_SAMPLES = ("total_s", "phases_pass_s", "labels_pass_s", "losses")
_PHASE_FIGURES = ("bytes_allocated", "peak_bytes", "page_faults")
_NOT_IN_JSON = ("machine", "results", "lines", "stacks")

# what h5py, json, NumPy and the records themselves raise for content that no mlpprof has written
_CONTENT_ERRORS = (
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    UsageError,
    ValueError,
)

Record = TypeVar("Record")


def run_file_name(run: Run) -> str:
    """'20261121T003005Z-cached-digits.h5': UTC time, variant and workload, in characters that any system takes."""
    created = datetime.fromisoformat(run.created)
    created = created.replace(tzinfo=UTC) if created.tzinfo is None else created.astimezone(UTC)
    return f"{created:%Y%m%dT%H%M%SZ}-{_name_part(run.variant.name)}-{_name_part(run.workload)}.h5"


def _name_part(name: str) -> str:
    by_path = re.fullmatch(r"(?:.*[/\\])?([^/\\]*)\.py(:\w+)?", name)
    if by_path is not None:  # of '../nets/mine.py:Fast' the last part, 'mine-Fast', is enough
        name = by_path[1] + (by_path[2] or "")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:60].strip("-.") or "unnamed"


def save_new_run(run: Run, folder: Path) -> Path:
    """Save a run in a folder under its own name, with -2, -3 ... where that is taken; returns the path.

    Creates the folder. Raises UsageError where nothing can be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = _reserve(folder / run_file_name(run))
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror}") from error
    try:
        return save_run(run, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the error of the writing is the one to show
            path.unlink()
        raise


def _reserve(path: Path) -> Path:
    """Create an empty file under the first free name, which settles who gets it when two runs end at once."""
    candidate, n = path, 1
    while True:
        try:
            candidate.touch(exist_ok=False)
        except FileExistsError:
            n += 1
            candidate = path.with_name(f"{path.stem}-{n}{path.suffix}")
        else:
            return candidate


def save_run(run: Run, path: Path) -> Path:
    """Write a run as one HDF5 file, replacing what is at `path`; returns the path.

    Raises UsageError where the file cannot be written.
    """
    with write_atomically(path) as temporary:
        temporary.write_bytes(_hdf5(run))
        seal(temporary, SCHEMA)
    return path


def load_run(path: Path) -> Run:
    """Read a run, its digest first.

    Raises RunFileError, in one line, for a file that is missing, foreign, damaged or of a newer schema.
    """
    verify(path, SCHEMA)
    try:
        with h5py.File(path, "r") as file:
            return _read_run(file)
    except _CONTENT_ERRORS as error:
        found = " ".join(str(error).split()) or type(error).__name__
        raise RunFileError(f"{path} is undamaged but not the content of a run: {found}; profile again") from error


def _hdf5(run: Run) -> bytes:
    # made in memory, because libhdf5 keeps what it could not write to a full disk, tries again when the interpreter
    # ends, and crashes there
    content = BytesIO()
    with h5py.File(content, "w", userblock_size=BLOCK_SIZE) as file:
        _write_run(file, run)
    return content.getvalue()


def _write_run(file: h5py.File, run: Run) -> None:
    plain: dict[str, Any] = {}
    for name in (field.name for field in fields(Run) if field.name not in _NOT_IN_JSON):
        value = getattr(run, name)
        plain[name] = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    file["source"] = plain["variant"].pop("source")
    file["run"] = _json(plain)
    file["machine"] = _json(run.machine)
    for i, result in enumerate(run.results):
        _write_result(file.create_group(f"results/{i}"), result)
    if run.lines is not None:
        file["lines"] = np.array([(x.line, x.hits, x.time_s) for x in run.lines.lines], _LINES)
        file["lines"].attrs.update(batch=run.lines.batch, steps=run.lines.steps, wall_s=run.lines.wall_s)
    if run.stacks is not None:
        file["stacks"] = run.stacks.session_json
        file["stacks"].attrs.update(batch=run.stacks.batch, steps=run.stacks.steps)


def _write_result(group: h5py.Group, result: BatchResult) -> None:
    group.attrs.update({name: getattr(result, name) for name in _BATCH_NUMBERS})
    for name in _BATCH_SAMPLES:
        group.create_dataset(name, data=getattr(result, name), dtype="f8")
    phases = group.create_group("phases")
    for j, (name, phase) in enumerate(result.phases.items()):
        dataset = phases.create_dataset(str(j), data=phase.step_s, dtype="f8")
        figures = {figure: getattr(phase, figure) for figure in _PHASE_FIGURES}
        dataset.attrs.update(name=name, **{k: value for k, value in figures.items() if value is not None})
    rows = [(x.phase, x.label, x.layer is not None, x.layer or 0, x.calls) for x in result.labels]
    group["labels"] = np.array(rows, _LABELS)
    samples = np.zeros((len(result.labels), *result.labels_pass_s.shape))
    for j, label in enumerate(result.labels):
        samples[j] = label.step_s
    group["label_step_s"] = samples
    group["counts"] = _json({"operations": [asdict(o) for o in result.operations], "uncounted": result.uncounted})


def _read_run(file: h5py.File) -> Run:
    plain = json.loads(file["run"].asstr()[()])
    plain["variant"]["source"] = file["source"].asstr()[()]
    plain["machine"] = json.loads(file["machine"].asstr()[()])
    plain["results"] = [_read_result(file["results"][str(i)]) for i in range(len(file["results"]))]
    if not plain["results"]:
        raise ValueError("it holds no batch size")
    plain["lines"] = _read_lines(file["lines"]) if "lines" in file else None
    plain["stacks"] = _read_stacks(file["stacks"]) if "stacks" in file else None
    return _record(Run, plain)


def _read_result(group: h5py.Group) -> BatchResult:
    phases = {}
    for j in range(len(group["phases"])):
        dataset = group["phases"][str(j)]
        figures = {figure: float(dataset.attrs[figure]) for figure in _PHASE_FIGURES if figure in dataset.attrs}
        phases[str(dataset.attrs["name"])] = PhaseSamples(_samples(dataset), **figures)
    table, label_step_s = group["labels"][()], group["label_step_s"]
    labels = tuple(
        LabelSamples(
            phase=row["phase"].decode(),
            layer=int(row["layer"]) if row["in_loop"] else None,
            label=row["label"].decode(),
            step_s=_samples(label_step_s[j]),
            calls=int(row["calls"]),
        )
        for j, row in enumerate(table)
    )
    counts = json.loads(group["counts"].asstr()[()]) if "counts" in group else {}
    result = BatchResult(
        batch=int(group.attrs["batch"]),
        steps_per_epoch=int(group.attrs["steps_per_epoch"]),
        warmup_steps=int(group.attrs["warmup_steps"]),
        separable=bool(group.attrs["separable"]),
        steps_a_sample=int(group.attrs.get("steps_a_sample", 1)),
        losses=np.asarray(group["losses"], np.float64),
        total_s=_samples(group["total_s"]),
        phases_pass_s=_samples(group["phases_pass_s"]),
        labels_pass_s=_samples(group["labels_pass_s"]),
        phases=phases,
        labels=labels,
        operations=tuple(_record(Operation, operation) for operation in counts.get("operations", ())),
        uncounted=tuple(str(name) for name in counts.get("uncounted", ())),
    )
    _refuse_mismatch(result)
    return result


def _samples(dataset: Any) -> Samples:
    samples = np.asarray(dataset, np.float64)
    if samples.ndim != 2:
        raise ValueError(f"samples of shape {samples.shape} where (rounds, steps) is expected")
    return samples


def _refuse_mismatch(result: BatchResult) -> None:
    """Raise ValueError where the derived figures of `results` would have nothing to be derived from."""
    parts: dict[str, tuple[Samples, list[Samples]]] = {
        "total": (result.total_s, [result.total_s]),
        "phases": (result.phases_pass_s, [phase.step_s for phase in result.phases.values()]),
        "labels": (result.labels_pass_s, [label.step_s for label in result.labels]),
    }
    for name, (pass_s, samples) in parts.items():
        if samples and (pass_s.size == 0 or len(pass_s) != len(result.total_s)):
            raise ValueError(f"{name} pass of shape {pass_s.shape} beside a total pass of {result.total_s.shape}")
        if any(part.shape != pass_s.shape for part in samples):
            raise ValueError(f"the {name} pass has shape {pass_s.shape} but its parts have another")


def _read_lines(table: h5py.Dataset) -> LineProfile:
    rows = tuple(LineTime(int(row["line"]), int(row["hits"]), float(row["time_s"])) for row in table[()])
    return LineProfile(int(table.attrs["batch"]), int(table.attrs["steps"]), float(table.attrs["wall_s"]), rows)


def _read_stacks(text: h5py.Dataset) -> StackProfile:
    return StackProfile(int(text.attrs["batch"]), int(text.attrs["steps"]), text.asstr()[()])


def _json(value: Any) -> str:
    # ASCII, because file names of the command line may hold bytes that are no UTF-8; NumPy's numbers become plain
    return json.dumps(value, default=lambda number: number.item())


def _record(cls: type[Record], values: Mapping[str, Any]) -> Record:
    """Build a record from JSON; raises TypeError where a field is missing, unknown or of another type."""
    hints = get_type_hints(cls)
    given = {name: _typed(value, hints.get(name), f"{cls.__name__}.{name}") for name, value in values.items()}
    return cls(**given)


def _typed(value: Any, hint: Any, where: str) -> Any:
    arguments = get_args(hint)
    if get_origin(hint) is UnionType:
        if value is None and NoneType in arguments:
            return None
        return _typed(value, arguments[0], where)
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return _record(hint, value)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_typed(item, arguments[0], where) for item in value)
    wanted = {float: (float, int)}.get(hint, get_origin(hint) or hint)
    if wanted is None or not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(f"{where} is {value!r:.60}, expected {hint}")
    return value
