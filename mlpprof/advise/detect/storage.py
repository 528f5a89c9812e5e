"""Reading files in every step: rows of an HDF5 dataset by index, chunk by chunk, or a whole set for each batch."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlpprof.advise.candidate import Candidate, around, by_hand, indices
from mlpprof.advise.cures.storage import read_once
from mlpprof.advise.editing.recorded_code import code_of
from mlpprof.machine.linux import free_memory_bytes
from mlpprof.programs.record.file_reads import FileRead
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import seconds_of

MOST_OF_MEMORY = 0.5
"""A set fits into memory if it takes no more than this share of what is free."""

POOL_BYTES = 64 << 20
"""The rows are taken from an array of up to so many bytes to find out what that takes: more than most caches hold."""


def detect(graph: Graph, free: Callable[[], int] = free_memory_bytes) -> list[Candidate]:
    """Reads of files in the step. free: gives the bytes of memory that are free."""
    plain_s = graph.trace.times.plain_s
    # other programs have interrupted the reads as they have interrupted the steps
    calm = min(1.0, graph.step_s * len(plain_s) / sum(plain_s)) if plain_s else 1.0
    reads = [replace(one, seconds=calm * one.seconds) for one in graph.trace.file_reads if one.in_step]
    return _candidates(reads, graph, free)


def around_the_step(
    graph: Graph, most_s: Callable[[FileRead], float], free: Callable[[], int] = free_memory_bytes
) -> list[Candidate]:
    """Reads of files in the code around the step, with what they save for each step.

    most_s: the seconds for each step that the statement takes that makes a read.
    """
    reads = [one for one in graph.trace.file_reads if not one.in_step]
    return _candidates([replace(one, seconds=min(one.seconds, most_s(one))) for one in reads], graph, free)


def _candidates(reads: list[FileRead], graph: Graph, free: Callable[[], int]) -> list[Candidate]:
    if not reads:
        return []
    code = code_of(graph)
    whole = frozenset(node for one in reads if one.is_whole and (node := code.node_of(one.site)) is not None)
    most = int(MOST_OF_MEMORY * free())
    return [_candidate(one, whole, most, graph) for one in reads]


def _candidate(one: FileRead, whole: frozenset[ast.AST], most: int, graph: Graph) -> Candidate:
    site = one.site
    fits = one.all_bytes <= most
    fast_s = 0.0 if one.is_whole and fits else _seconds_of_rows(one, fits)
    may_change = one.stored is not None and one.stored.may_change
    edit = read_once(one, whole, graph) if fits and not may_change else None
    title, why = _words(one, graph.span_text(one.place, 50), one.seconds / one.times / one.rows, fast_s / one.rows)
    where = "taking as many rows from an array" if fits else "reading as many bytes in one piece"
    less = f", less the time of {where}" if fast_s else ""
    return Candidate(
        category="storage",
        site=site,
        title=title,
        why=why,
        cures=(edit,) if edit is not None else (),
        cure=f"Read the set once, before the loop over the batches. It takes {megabytes(one.all_bytes)} of memory."
        if edit is not None
        else by_hand(*_by_hand(one, most if not fits else None, graph.place(site))),
        saved_s=around(max(0.0, one.seconds - fast_s * one.times)),
        measured=f"the time of the reads while the program trained{less}",
        covers=indices(event for event in graph.turn if graph.span(event.site) == one.place),
        is_outside=not one.in_step,
        evidence={
            "reads_per_step": round(one.times, 3),
            "bytes_per_read": one.nbytes,
            **({"shape": list(one.stored.shape), "chunks": list(one.stored.chunks)} if one.stored is not None else {}),
        },
    )


def megabytes(nbytes: int) -> str:
    """Bytes in words: '62.7 MB'."""
    return f"{nbytes / 1e6:,.1f} MB" if nbytes < 1e9 else f"{nbytes / 1e9:,.1f} GB"


def _seconds_of_rows(one: FileRead, fits: bool) -> float:
    """What it takes to get as many rows from memory; if not all fit into it, as many bytes from the file."""
    rng = np.random.default_rng(0)
    if not fits:
        return _seconds_of_bytes(one, rng)
    row_bytes = max(1, one.all_bytes // max(1, one.all_rows))
    shape = one.shape if one.is_one_row else one.shape[1:]
    pool = np.ones((max(one.rows, min(one.all_rows, POOL_BYTES // row_bytes)), *shape), one.dtype)
    rows = rng.integers(len(pool), size=one.rows)
    return seconds_of(lambda: pool[rows])


def _seconds_of_bytes(one: FileRead, rng: np.random.Generator) -> float:
    """What it takes to read as many bytes as the rows have in one piece, which a run of rows in a good layout is."""
    if one.stored is None:
        return 0.0
    try:
        with Path(one.stored.file).open("rb", buffering=0) as file:
            last = max(1, file.seek(0, os.SEEK_END) - one.nbytes)
            buffer = bytearray(one.nbytes)

            def read() -> None:
                file.seek(int(rng.integers(last)))
                file.readinto(buffer)

            return seconds_of(read)
    except OSError:  # the program has removed the file
        return 0.0


def _words(one: FileRead, text: str, row_s: float, fast_row_s: float) -> tuple[str, str]:
    """The title, and why it costs time. row_s, fast_row_s: what a row takes, and what it would take; 0 if nothing."""
    if one.is_whole or one.stored is None:
        return (
            f"`{text}` reads all {one.all_rows:,} rows from the file again and again",
            f"The file does not change, but {megabytes(one.nbytes)} are read and copied to new memory each time.",
        )
    compared = f" Here a row takes {_microseconds(row_s)}"
    compared += f", and {_microseconds(fast_row_s)} after the cure." if fast_row_s else "."
    unpacked = " and unpacked" if one.stored.is_packed else ""
    chunk_rows = one.stored.chunks[0] if one.stored.chunks else 0
    if not one.is_run and chunk_rows > one.rows:
        unpacks = " and unpacks" if one.stored.is_packed else ""
        bytes_of_chunks = chunk_rows * one.all_bytes // max(1, one.all_rows)
        return (
            f"`{text}` reads {_rows(one.rows)} of an HDF5 dataset, whose chunks have {chunk_rows:,} rows each",
            f"HDF5 reads{unpacks} whole chunks, here {megabytes(bytes_of_chunks)}, to give a row. It keeps few chunks, "
            "so in random order it reads the same chunk again for another row." + compared,
        )
    if one.is_one_row:
        return (
            f"`{text}` reads the rows of an HDF5 dataset one by one",
            "For every row, h5py checks the index, makes a selection, and makes a new array." + compared,
        )
    if one.is_run:
        return (
            f"`{text}` reads {_rows(one.rows)} from the file in every step",
            f"The same rows are read{unpacked} again in every epoch." + compared,
        )
    return (
        f"`{text}` picks {_rows(one.rows)} of an HDF5 dataset by an index",
        "h5py makes a selection of every single row, and HDF5 looks up and copies each of them on its own." + compared,
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.2g} µs" if seconds < 1e-4 else f"{seconds * 1e6:,.0f} µs"


def _by_hand(one: FileRead, most: int | None, place: str) -> Iterator[str]:
    """most: so many bytes may be used, if the set does not fit into them."""
    if most is None:
        yield (
            f"read the set once before the training, and take the rows in {place} from this array. It takes "
            f"{megabytes(one.all_bytes)} of memory."
        )
        return
    too_large = f"All rows take {megabytes(one.all_bytes)}, which is more than half of the memory that is free."
    if one.stored is None:
        yield (f"keep the set of {place} in an HDF5 file without compression, and read only runs of rows of it.")
        yield too_large
        return
    if one.is_run:
        yield f"read the rows of {place} ahead, in a thread, while the steps before it compute."
    else:
        yield (
            f"read runs of rows in {place}, as `dataset[start:stop]`, with the starts in random order, and shuffle the "
            "rows of several runs together in memory."
        )
    yield too_large
    if one.stored.chunks:
        yield "`mlpprof data repack` writes a file without chunks and compression, in which runs of rows read fast."
