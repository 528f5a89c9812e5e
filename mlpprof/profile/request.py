"""What a worker is asked to run, in a form that crosses the process boundary as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mlpprof.data.source import DataSource
from mlpprof.model import Network


@dataclass(frozen=True)
class Request:
    """One variant on one network and data set.

    variant: a reference that `mlpprof.catalog.find` knows. dtype: None takes the variant's own. name: what reports call
    it, such as 'v1/mine' where another file is called 'mine' too; None takes the catalog's.
    """

    variant: str
    network: Network
    source: DataSource
    dtype: str | None = None
    seed: int = 0
    name: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The request as plain JSON."""
        return {
            "variant": self.variant,
            "network": asdict(self.network),
            "source": self.source.to_dict(),
            "dtype": self.dtype,
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_json(cls, message: dict[str, Any]) -> Request:
        """The request from `to_json`."""
        network = message["network"]
        return cls(
            variant=message["variant"],
            network=Network(**{**network, "layers": tuple(network["layers"])}),
            source=DataSource.from_dict(message["source"]),
            dtype=message["dtype"],
            seed=message["seed"],
            name=message["name"],
        )
