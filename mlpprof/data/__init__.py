"""Samples and labels: embedded sets, IDX, HDF5 and npz files, all as the same Dataset."""

from mlpprof.data.dataset import DataFacts, Dataset
from mlpprof.data.embedded import EMBEDDED
from mlpprof.data.source import DataSource, load, peek

__all__ = ["EMBEDDED", "DataFacts", "DataSource", "Dataset", "load", "peek"]
