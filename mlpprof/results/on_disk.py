"""Runs on disk: each run is one HDF5 file with every raw sample, from which every report can be made again.

The first 1,024 bytes, which HDF5 leaves to its users ("user block"), hold one line of ASCII with the length and the
digest of all that follows, then zero bytes. The digest is verified before h5py opens the file. h5dump and h5py skip
these bytes:

    mlpprof-run schema=1 bytes=183520 sha256=0f3a...

The rest has this layout:

| where                     | what                                                                                   |
| ------------------------- | -------------------------------------------------------------------------------------- |
| run                       | JSON: every field of `results.Run` that is in no other row                             |
| source                    | text of the variant's file                                                             |
| machine                   | JSON: the description of the machine                                                   |
| results/I                 | batch I, counted from 0; attributes batch, steps_per_epoch, warmup_steps, separable,   |
|                           | steps_a_sample (1 where absent)                                                        |
| results/I/total_s         | float64 (rounds, steps): seconds per step without instruments; phases_pass_s and       |
|                           | labels_pass_s have the same form                                                       |
| results/I/losses          | float64 (steps,)                                                                       |
| results/I/phases/J        | float64 (rounds, steps): seconds per step in phase J; attributes name, bytes_allocated, |
|                           | peak_bytes, page_faults (if one is absent, it was not measured)                        |
| results/I/labels          | table: phase, label, in_loop, layer (only if in_loop is true), calls                    |
| results/I/label_step_s    | float64 (labels, rounds, steps): seconds per step under each row of the table          |
| results/I/counts          | JSON: operations (`results.Operation`) of one step, uncounted; absent in older runs    |
| results/I/stream          | JSON: `results.StreamRecord`; absent if the data were in memory                        |
| lines                     | table: file (absent in older runs), line, hits, time_s; attributes batch, steps,       |
|                           | wall_s; absent without --lines                                                         |
| stacks                    | JSON text of pyinstrument; attributes batch, steps; absent without --stacks            |
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Annotated, Any, TypedDict

import h5py
import numpy as np
from msgspec import Meta

from mlpprof import __version__
from mlpprof.errors import RunFileError, one_line
from mlpprof.files import make_folder, write_atomically, write_new
from mlpprof.results import (
    BatchResult,
    LabelSamples,
    LineProfile,
    LineTime,
    Operation,
    PhaseSamples,
    ProgramRecord,
    Run,
    Samples,
    StackProfile,
    StreamRecord,
)
from mlpprof.results.json import decode, parse, plain

OF_VARIANTS, OF_PROGRAMS, OF_RACES = 1, 2, 3
"""The number of the layout. It is raised whenever an older mlpprof could not read what is written.

1: mlpprof 0.1.0, the layout in the table above. Runs of variants are still written in it.
2: the run of a program, which has no network and no data; "program" in `run` describes it, without the samples of its
expressions, which are those of the labels.
3: no run but a race, see `races_on_disk`.
"""

SCHEMA = OF_RACES
"""The newest layout that this mlpprof reads."""

BLOCK_SIZE = 1024
"""The bytes before the HDF5 part. HDF5 wants a power of two and at least 512."""

_HEADER = re.compile(rb"mlpprof-run schema=(\d{1,9}) ")
_STATED_SIZE = re.compile(rb" bytes=(\d{1,18}) ")
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_EXPECTED = "expected a run written by mlpprof profile"

_TEXT = h5py.string_dtype()
_LABELS = np.dtype([("phase", _TEXT), ("label", _TEXT), ("in_loop", "?"), ("layer", "i8"), ("calls", "i8")])
_LINES = np.dtype([("file", _TEXT), ("line", "i8"), ("hits", "i8"), ("time_s", "f8")])
_BATCH_SAMPLES = ("total_s", "phases_pass_s", "labels_pass_s", "losses")
_PHASE_FIGURES = ("bytes_allocated", "peak_bytes", "page_faults")
_NOT_IN_JSON = ("machine", "results", "lines", "stacks")

# h5py, NumPy and `results.json` raise these for content that no mlpprof has written
CONTENT_ERRORS = (
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)

SHORTEST_STEP_S, LONGEST_S = 1e-12, 1e8
"""A stored step is refused if it is shorter than a picosecond, and any stored time if it is longer than three years:
no clock measured them, and reports compute ratios and whole nanoseconds from them."""

AtLeastOne = Annotated[int, Meta(ge=1)]
AtLeastZero = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class _BatchNumbers:
    """The attributes of results/I."""

    batch: AtLeastZero
    steps_per_epoch: AtLeastZero
    warmup_steps: AtLeastZero
    separable: bool
    steps_a_sample: AtLeastOne = 1


class _MachineCache(TypedDict):
    level: int | None
    type: str | None
    size_bytes: int | None


class _Machine(TypedDict, total=False):
    """The keys of a machine whose inner parts reports read; all other keys may hold anything."""

    cpu_caches: list[_MachineCache] | None
    cpu_simd: list[str] | None
    blas: list[dict[str, Any]] | None
    blas_environment: dict[str, str | None] | None


class _Limit(TypedDict):
    value: Annotated[float, Meta(gt=0, le=1e300)]
    unit: str


def seal(content: bytes, schema: int) -> bytes:
    """The bytes of an HDF5 file with their digest in the 1,024 bytes that HDF5 left free at the front."""
    rest = content[BLOCK_SIZE:]
    return _block(schema, len(rest), hashlib.sha256(rest).hexdigest()) + rest


def intact_schema(path: Path) -> int:
    """The schema of a file that is, byte for byte, as it was sealed.

    Raises RunFileError for any other file, and for a newer schema.

    Only plain reads are made, because libhdf5 may crash on a damaged file.
    """
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
    if written_schema > SCHEMA:
        raise RunFileError(
            f"{path} has schema {written_schema}, of a newer mlpprof; {__version__} reads up to {SCHEMA}: "
            "pip install --upgrade mlpprof"
        )
    if written_schema < 1 or block != _block(written_schema, size, digest):
        stated = _STATED_SIZE.search(block)
        cut = len(block) < BLOCK_SIZE or (stated is not None and int(stated[1]) > size)
        found = f"cut off after {len(block) + size:,} bytes" if cut else "its content does not match its digest"
        raise RunFileError(f"{path} is damaged: {found}; copy it again from its source, or profile again")
    return written_schema


def _block(schema: int, size: int, digest: str) -> bytes:
    return f"mlpprof-run schema={schema} bytes={size} sha256={digest}\n".encode("ascii").ljust(BLOCK_SIZE, b"\0")


def _rest(file: BufferedIOBase) -> tuple[int, str]:
    """Length and SHA-256 of everything from the file's position on."""
    start = file.tell()
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return file.tell() - start, digest


def _refuse_special(path: Path) -> None:
    if not path.exists():
        raise RunFileError(f"there is no file {path}; mlpprof profile writes a run and prints its path")
    if path.is_dir():
        raise RunFileError(f"{path} is a folder; name one of the .h5 files in it")
    if not path.is_file():
        raise RunFileError(f"{path} is not a regular file; {_EXPECTED}")


def _foreign(block: bytes) -> str:
    if not block:
        return "is empty"
    if block.startswith(_HDF5_SIGNATURE):
        return "is an HDF5 file but not a run (mlpprof data show lists its content)"
    return f"is not a run: it begins with {block[:16].decode('ascii', 'replace')!a}"


def run_file_name(run: Run) -> str:
    """'20261121T003005Z-cached-digits.h5': UTC time, variant and workload, in characters that any system takes."""
    created = datetime.fromisoformat(run.created)
    created = created.replace(tzinfo=UTC) if created.tzinfo is None else created.astimezone(UTC)
    names = [name_part(name) for name in (run.variant.name, run.workload) if name is not None]
    return f"{created:%Y%m%dT%H%M%SZ}-{'-'.join(names)}.h5"


def name_part(name: str) -> str:
    """A name in characters that any system takes in the name of a file."""
    by_path = re.fullmatch(r"(?:.*[/\\])?([^/\\]*)\.py(:\w+)?", name)
    if by_path is not None:  # '../nets/mine.py:Fast' becomes 'mine-Fast'
        name = by_path[1] + (by_path[2] or "")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:60].strip("-.") or "unnamed"


def save_new_run(run: Run, folder: Path) -> Path:
    """Save a run in a folder under its own name, followed by -2, -3 ... if the name is taken; returns the path.

    The folder is made if it is missing. Raises UsageError if the run cannot be written.
    """
    make_folder(folder)
    return write_new(folder / run_file_name(run), lambda: run_bytes(run))


def save_run(run: Run, path: Path) -> Path:
    """Write a run, replacing the file at `path`; returns the path.

    Raises UsageError if the file cannot be written.
    """
    with write_atomically(path) as temporary:
        temporary.write_bytes(run_bytes(run))
    return path


def load_run(path: Path) -> Run:
    """Read a run after its digest was verified.

    Raises RunFileError, in one line, for a file that is missing, foreign, damaged or of a newer schema.
    """
    if intact_schema(path) == OF_RACES:
        raise RunFileError(f"{path} holds a race, not a run; mlpprof report {path} shows it")
    try:
        with h5py.File(path, "r") as file:
            return read_run(file)
    except CONTENT_ERRORS as error:
        found = one_line(error) or type(error).__name__
        raise RunFileError(f"{path} is not damaged, but its content is not a run: {found}; profile again") from error


def run_bytes(run: Run) -> bytes:
    """The content of a run's file."""
    # It is made in memory, because libhdf5 keeps what it could not write to a full disk, tries again when the
    # interpreter ends, and crashes there.
    content = BytesIO()
    with h5py.File(content, "w", userblock_size=BLOCK_SIZE) as file:
        write_run(file, run)
    return seal(content.getvalue(), OF_VARIANTS if run.program is None else OF_PROGRAMS)


def write_run(file: h5py.Group, run: Run) -> None:
    """Write a run into a file, or into a group of one."""
    in_json = {field.name: getattr(run, field.name) for field in fields(Run) if field.name not in _NOT_IN_JSON}
    variant = {field.name: getattr(run.variant, field.name) for field in fields(run.variant) if field.name != "source"}
    file["source"] = run.variant.source
    if run.program is None:
        del in_json["program"]  # an older mlpprof reads runs of variants, and does not know the key
    else:
        in_json["program"] = replace(
            run.program, expressions=tuple(replace(one, seconds=()) for one in run.program.expressions)
        )
    file["run"] = ascii_json({**in_json, "variant": variant})
    file["machine"] = ascii_json(run.machine)
    for i, result in enumerate(run.results):
        _write_result(file.create_group(f"results/{i}"), result)
    if run.lines is not None:
        file["lines"] = np.array([(x.file, x.line, x.hits, x.time_s) for x in run.lines.lines], _LINES)
        file["lines"].attrs.update(batch=run.lines.batch, steps=run.lines.steps, wall_s=run.lines.wall_s)
    if run.stacks is not None:
        file["stacks"] = run.stacks.session_json
        file["stacks"].attrs.update(batch=run.stacks.batch, steps=run.stacks.steps)


def _write_result(group: h5py.Group, result: BatchResult) -> None:
    group.attrs.update({field.name: getattr(result, field.name) for field in fields(_BatchNumbers)})
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
    group["counts"] = ascii_json({"operations": result.operations, "uncounted": result.uncounted})
    if result.stream is not None:
        group["stream"] = ascii_json(result.stream)


def read_run(file: h5py.Group) -> Run:
    """Read a run from a file, or from a group of one. Raises CONTENT_ERRORS for any other content."""
    content, machine = parsed(file["run"]), parsed(file["machine"])
    content["variant"]["source"] = file["source"].asstr()[()]
    decode(_Machine, machine)
    decode(dict[str, _Limit], content.get("limits", {}))
    results = tuple(_read_result(file["results"][str(i)]) for i in range(len(file["results"])))
    if not results:
        raise ValueError("it holds no batch size")
    run = decode(Run, {**content, "machine": machine, "results": []})
    if run.program is None and not all(result.batch and result.steps_per_epoch for result in results):
        raise ValueError("it is no program's, but has no batch size or no steps of an epoch")
    return replace(
        run,
        results=results,
        program=None if run.program is None else _with_samples(run.program, results[0]),
        lines=_read_lines(file["lines"]) if "lines" in file else None,
        stacks=_read_stacks(file["stacks"]) if "stacks" in file else None,
    )


def _with_samples(program: ProgramRecord, result: BatchResult) -> ProgramRecord:
    expressions = tuple(
        replace(one, seconds=tuple(label.step_s.ravel().tolist()))
        for one, label in zip(program.expressions, result.labels, strict=True)
    )
    return replace(program, expressions=expressions)


def parsed(dataset: h5py.Dataset) -> Any:
    """The value of a dataset that holds JSON."""
    return parse(dataset.asstr()[()], allow_nan=True)


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
    counts = parsed(group["counts"]) if "counts" in group else {}
    numbers = {name: plain(value) for name, value in group.attrs.items()}
    result = BatchResult(
        **vars(decode(_BatchNumbers, numbers)),
        losses=np.asarray(group["losses"], np.float64),
        total_s=_samples(group["total_s"]),
        phases_pass_s=_samples(group["phases_pass_s"]),
        labels_pass_s=_samples(group["labels_pass_s"]),
        phases=phases,
        labels=labels,
        operations=decode(tuple[Operation, ...], counts.get("operations", [])),
        uncounted=decode(tuple[str, ...], counts.get("uncounted", [])),
        stream=decode(StreamRecord, parsed(group["stream"])) if "stream" in group else None,
    )
    _refuse_mismatch(result)
    return result


def _samples(dataset: Any) -> Samples:
    samples = np.asarray(dataset, np.float64)
    if samples.ndim != 2:
        raise ValueError(f"samples have shape {samples.shape}; expected (rounds, steps)")
    if not ((samples >= 0) & (samples <= LONGEST_S)).all():
        raise ValueError(f"a sample is not a time; expected seconds from 0 to {LONGEST_S:g}")
    return samples


def _refuse_mismatch(result: BatchResult) -> None:
    """Raise ValueError if a pass lacks the samples that the figures of `results` are computed from."""
    parts: dict[str, tuple[Samples, list[Samples]]] = {
        "total": (result.total_s, [result.total_s]),
        "phases": (result.phases_pass_s, [phase.step_s for phase in result.phases.values()]),
        "labels": (result.labels_pass_s, [label.step_s for label in result.labels]),
    }
    counts = [count for one in result.operations for count in vars(one).values() if isinstance(count, int)]
    if any(abs(count) >= 2**63 for count in counts):
        raise ValueError("an operation has a count of over 63 bits")
    if any(math.isinf(getattr(phase, name) or 0.0) for phase in result.phases.values() for name in _PHASE_FIGURES):
        raise ValueError("a phase has an infinite figure of memory")
    for name, (pass_s, samples) in parts.items():
        if (pass_s < SHORTEST_STEP_S).any():
            raise ValueError(f"a step of the {name} pass took less than {SHORTEST_STEP_S:g} seconds")
        if samples and (pass_s.size == 0 or len(pass_s) != len(result.total_s)):
            raise ValueError(f"{name} pass of shape {pass_s.shape} beside a total pass of {result.total_s.shape}")
        if any(part.shape != pass_s.shape for part in samples):
            raise ValueError(f"the {name} pass has shape {pass_s.shape} but its parts have another")


def _read_lines(table: h5py.Dataset) -> LineProfile:
    has_files = "file" in table.dtype.names
    rows = tuple(
        LineTime(int(row["line"]), int(row["hits"]), float(row["time_s"]), row["file"].decode() if has_files else "")
        for row in table[()]
    )
    wall_s = float(table.attrs["wall_s"])
    if not all(0 <= seconds <= LONGEST_S for seconds in (wall_s, *(row.time_s for row in rows))):
        raise ValueError(f"the line view holds a time that is not from 0 to {LONGEST_S:g} seconds")
    return LineProfile(int(table.attrs["batch"]), int(table.attrs["steps"]), wall_s, rows)


def _read_stacks(text: h5py.Dataset) -> StackProfile:
    return StackProfile(int(text.attrs["batch"]), int(text.attrs["steps"]), text.asstr()[()])


def ascii_json(value: object) -> str:
    """A value as JSON in ASCII, because file names of the command line may hold bytes that are not UTF-8."""
    return json.dumps(plain(value, keep_nan=True))
