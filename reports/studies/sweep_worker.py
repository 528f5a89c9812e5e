"""The worker of the sweep: races the rungs on one network after another, with the data loaded once."""

from __future__ import annotations

from typing import Any

from mlpprof import catalog
from mlpprof.compare.race import VariantContestant, race
from mlpprof.process import Progress, serve
from mlpprof.profile.prepare import Loader
from mlpprof.profile.request import Request


class Session:
    """Keeps the arrays between the networks."""

    def __init__(self) -> None:
        self._loader = Loader()

    def cell(
        self, report: Progress, requests: list[dict[str, Any]], batch: int, blocks: int, seed: int
    ) -> list[list[list[float]]]:
        """Seconds a step, (blocks, rungs, 2), of all rungs on one network."""
        contestants: list[VariantContestant] = []
        try:
            for request in requests:
                it = self._loader.prepare(Request.from_json(request), report)
                it.require_batch(batch)
                with catalog.variant_code(it.entry):
                    contestants.append(VariantContestant(it.entry, it.subject, batch))
            turns: list[list[list[float]]] = race(contestants, blocks, seed, report).tolist()
            return turns
        finally:
            for contestant in contestants:
                contestant.close()


def main() -> None:
    """Serve until the parent is done."""
    serve({"cell": Session().cell})
