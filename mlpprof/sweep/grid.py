"""The cells of a sweep, and the key under which a finished one is found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from mlpprof import __version__
from mlpprof.catalog import Entry, find_all
from mlpprof.data.source import data_state
from mlpprof.machine.facts import source_sha256
from mlpprof.profile.request import Request
from mlpprof.programs.name import ProgramName
from mlpprof.programs.request import ProgramRequest
from mlpprof.results.json import encode
from mlpprof.results.on_disk import name_part
from mlpprof.results.sweep import SweepCell
from mlpprof.workloads import Workload


@dataclass(frozen=True)
class Cell:
    """What a node needs to measure one cell; either variants or programs are given, the baseline of a race first.

    shown: the cell in tables. folder: the working folder of the command. steps: timed steps a pass, None as time
    allows. budget_s: the limit of time for a race. inputs: what the result depends on beside the settings: fingerprints
    of the code and of the data.
    """

    shown: SweepCell
    folder: str
    typed: str
    variants: tuple[Request, ...] = ()
    programs: tuple[ProgramRequest, ...] = ()
    workload: str = ""
    native_blas: bool = False
    steps: int | None = None
    budget_s: float | None = None
    inputs: tuple[str, ...] = ()

    def key(self, machine: str) -> dict[str, Any]:
        """What a finished cell depends on; machine: the class of the machine."""
        settings = encode(replace(self, folder="", typed=""))
        for one in settings["variants"]:
            del one["variant"]  # the path of a file; what is in it is among the inputs
        return {"mlpprof": __version__, "machine": machine, **settings}

    def file_name(self, machine: str) -> str:
        """The name of the cell's file: what a reader wants to know of it, and the beginning of the key's digest."""
        digest = hashlib.sha256(json.dumps(self.key(machine), sort_keys=True).encode()).hexdigest()
        shown = self.shown
        parts = (
            shown.target if shown.over is None else f"{shown.target}-over-{shown.over}",
            shown.layers,
            None if shown.batch is None else f"batch{shown.batch}",
            shown.dtype,
            None if shown.threads is None else f"threads{shown.threads}",
        )
        return f"{'-'.join(name_part(part) for part in parts if part is not None)}-{digest[:16]}.h5"

    @property
    def text(self) -> str:
        """The cell in progress and messages: 'cached 784-70-30-10 batch 500 float32 threads 1'."""
        shown = self.shown
        parts = [shown.target.strip()]
        parts += [] if shown.over is None else [f"over {shown.over.strip()}"]
        parts += [] if shown.layers is None else [shown.layers, f"batch {shown.batch}"]
        parts += [] if shown.dtype is None else [shown.dtype]
        return " ".join([*parts, *([] if shown.threads is None else [f"threads {shown.threads}"])])


def variant_cells(
    targets: Sequence[str],
    over: str | None,
    workloads: Sequence[Workload],
    batches: Sequence[int],
    dtypes: Sequence[str | None],
    threads: Sequence[int | None],
    seed: int,
    common: Cell,
) -> Iterator[Cell]:
    """The grid of variants; the workloads differ in their layers. batches: empty for the workload's own.

    common: has what all cells share. Raises what `find_all` raises for an unknown variant.
    """
    entries = find_all([*([over] if over is not None else []), *targets])
    baseline, newer = (entries[0], entries[1:]) if over is not None else (None, entries)
    codes = {entry.reference: _code_of_variant(entry) for entry in entries}
    for workload, dtype, count in product(workloads, dtypes, threads):
        data = data_state(workload.source)
        for batch in batches or (workload.batch,):
            for entry in newer:
                if baseline is not None and entry.reference == baseline.reference:
                    continue
                raced = [entry] if baseline is None else [baseline, entry]
                yield replace(
                    common,
                    shown=SweepCell(
                        *(entry.name, None if baseline is None else baseline.name),
                        *(workload.network.text, batch, dtype, count),
                    ),
                    variants=tuple(
                        Request(one.reference, workload.network, workload.source, dtype, seed, one.name)
                        for one in raced
                    ),
                    workload=workload.name,
                    inputs=(*(codes[one.reference] for one in raced), data),
                )


def program_cells(
    programs: Sequence[ProgramRequest], over: ProgramRequest | None, threads: Sequence[int | None], common: Cell
) -> Iterator[Cell]:
    """The grid of programs, which bring their own network, data and batch."""
    for count, program in product(threads, programs):
        if over is not None and program.name == over.name:
            continue
        raced = (program,) if over is None else (over, program)
        yield replace(
            common,
            shown=SweepCell(*(program.name.text, None if over is None else over.name.text), *(None, None, None, count)),
            programs=raced,
            inputs=tuple(_code_of_program(one) for one in raced),
        )


def _code_of_variant(entry: Entry) -> str:
    """A fingerprint: of a built-in variant's file, whose imports the version stands for; of a user's whole folder."""
    if entry.own or entry.module is not None:
        return source_sha256(entry.path) or ""
    return code_below(entry.path)


def _code_of_program(program: ProgramRequest) -> str:
    name = program.name
    if name.ref is not None:
        return hashlib.sha256(json.dumps(dict(program.overlay), sort_keys=True).encode()).hexdigest()
    return code_below(_file_of(name))


def _file_of(name: ProgramName) -> Path:
    """The file of a script or notebook; of a module one in the folder of its outermost package."""
    return Path(name.target) if name.kind != "module" else Path(name.target.partition(".")[0], "__init__.py")


def code_below(path: Path) -> str:
    """A fingerprint of a file, of the Python files beside it, and of those in packages below its folder.

    A program imports from there. A change in a file that it does not import only costs a measurement.
    """
    digest = hashlib.sha256()
    for file in sorted({path, *_python_files(path.parent)}):
        digest.update(f"{file.relative_to(path.parent).as_posix()} {source_sha256(file)}\n".encode())
    return digest.hexdigest()


def _python_files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.suffix == ".py":
            yield path
        elif (path / "__init__.py").is_file() and not path.is_symlink():
            yield from _python_files(path)


def values_of(texts: Sequence[str]) -> list[str]:
    """The values of an option that can be repeated and takes commas, each once: ('8,16', '16') -> ['8', '16']."""
    return list(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))
