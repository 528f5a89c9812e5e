"""The request to a worker: which variant to run, on which network and data. It travels as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from mlpprof.data.source import DataSource
from mlpprof.model import Network
from mlpprof.results.json import Message, decode, encode


@dataclass(frozen=True)
class Request:
    """One variant on one network and data set.

    variant: a reference that `mlpprof.catalog.find` knows. dtype: None takes the variant's own. name: its name in
    reports, such as 'v1/mine' if another file is called 'mine' too; None takes the catalog's.
    """

    variant: str
    network: Network
    source: DataSource
    dtype: str | None = None
    seed: int = 0
    name: str | None = None

    def to_json(self) -> Message:
        return encode(self)

    @classmethod
    def from_json(cls, message: Message) -> Request:
        """The request from `to_json`; raises WrongJson for anything else."""
        return decode(cls, message)
