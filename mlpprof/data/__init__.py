"""Samples and labels: embedded sets, IDX, HDF5 and npz files, all as the same Dataset, or streamed from their file."""

from mlpprof.data.dataset import DataFacts, Dataset
from mlpprof.data.embedded import EMBEDDED
from mlpprof.data.source import DataSource, load, load_stream, memory_needed, peek
from mlpprof.data.stream import Stream
from mlpprof.data.streamed_set import StreamedSet

__all__ = [
    "EMBEDDED",
    "DataFacts",
    "DataSource",
    "Dataset",
    "Stream",
    "StreamedSet",
    "load",
    "load_stream",
    "memory_needed",
    "peek",
]
