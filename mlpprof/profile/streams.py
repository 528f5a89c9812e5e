"""Streams in a worker: one for all variants, the shares of MPI's ranks, and whether a variant can train from one."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlpprof.data import DataSource, Stream, StreamedSet, load_stream
from mlpprof.engines.team import shared_zeros
from mlpprof.engines.windows import Window, register
from mlpprof.errors import DataError, UnsupportedNetwork
from mlpprof.model import Network, Variant
from mlpprof.model.gradcheck import closed_after
from mlpprof.results.json import decode, encode, parse

TRIAL_ROWS = 8
"""Whether a variant can be trained from a stream is tried on this many rows."""

TRIAL_RATE = 0.5
"""The rate of the trial, which is so high that the weights move."""

SAME_STEP = 0.02
"""Two steps are the same if their weights differ by no more than this share of the step: other rows turn it around."""


@dataclass(frozen=True)
class StreamSizes:
    """What has to be the same in all processes that read a stream; rows and run_rows: as in `Plan`."""

    rows: int
    run_rows: int
    file_bytes: int

    @classmethod
    def of(cls, stream: Stream) -> StreamSizes:
        return cls(stream.plan.rows, stream.plan.run_rows, stream.data.file.stat().st_size)

    @property
    def text(self) -> str:
        return f"{self.rows:,} rows in {self.file_bytes:,} bytes, to be read {self.run_rows:,} at a time"


@dataclass(frozen=True)
class StreamRequest:
    """A stream; shares: as in `Plan`. sizes: those of rank 0, for the others."""

    source: DataSource
    n_outputs: int
    dtype: str
    seed: int
    shares: int = 1
    sizes: StreamSizes | None = None

    def open(self, data: StreamedSet, share: int | None) -> Stream:
        """The stream, or the share of one process."""
        return Stream(data, self.n_outputs, self.dtype, self.seed, self.shares, share)

    def open_here(self, data: StreamedSet) -> Stream:
        """The stream; if it has shares, that of rank 0, from which the other ranks learn how to open theirs."""
        if self.shares == 1:
            return self.open(data, None)
        stream = self.open(data, 0)
        described = json.dumps(encode(replace(self, sizes=StreamSizes.of(stream))))
        register(stream.X, Window(f"{__name__}:{open_share.__name__}", described, lambda: stream.part))
        return stream


def open_share(text: str, share: int) -> Stream:
    """The share of another process in a stream, from the text of a `StreamRequest`.

    Raises DataError if the file is not that of rank 0: another machine has its own, perhaps older, copy.
    """
    asked = decode(StreamRequest, parse(text))
    stream = asked.open(load_stream(asked.source), share)
    found = StreamSizes.of(stream)
    if asked.sizes is not None and found != asked.sizes:
        raise DataError(
            f"{stream.data.file} on {socket.gethostname()} has {found.text}; expected {asked.sizes.text}, as on "
            "rank 0; copy the same file to all machines"
        )
    return stream


def require_streaming(name: str, cls: type[Variant], network: Network, dtype: np.dtype[Any]) -> None:
    """Raise UnsupportedNetwork if a variant keeps a copy of X or Y, which a stream replaces while it trains.

    It makes two steps on a window whose content is replaced in between, and the same two on a set in memory.
    """
    network = replace(network, rate=TRIAL_RATE)
    X = np.random.default_rng(0).random((TRIAL_ROWS, network.layers[0])).astype(dtype)
    Y = np.random.default_rng(1).random((TRIAL_ROWS, network.layers[-1])).astype(dtype)
    whole = [np.concatenate(parts) for parts in ((X, -X), (Y, 1 - Y))]
    window = [shared_zeros(array.shape, dtype) for array in (X, Y)]
    rows = [np.arange(start, start + TRIAL_ROWS) for start in (0, TRIAL_ROWS)]
    found = []
    for is_window in (True, False):
        with closed_after(cls(network, network.initial_parameters(0, dtype))) as instance:
            weights = []
            for index in rows:
                if is_window:
                    for array, values in zip(window, whole, strict=True):
                        array[...] = values[index]
                    instance.train_step(*window, rows[0])
                else:
                    instance.train_step(*whole, index)
                weights.append(instance.parameters()[0][0])
            found.append(weights[1] - weights[0])
    from_window, from_whole = found
    if np.linalg.norm(from_window - from_whole) > SAME_STEP * np.linalg.norm(from_whole):
        raise UnsupportedNetwork(
            f"{name} keeps a copy of the samples, so it cannot train on rows that are read from the file meanwhile; "
            "leave --stream out, or use another variant, such as processes or chunked"
        )
