"""One of the catalog's variants as a program: it trains on batches of a workload."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import CodeType

import numpy as np

from mlpprof.catalog import find, own_modules
from mlpprof.process import Progress
from mlpprof.profile.prepare import Loader
from mlpprof.profile.request import Request
from mlpprof.programs.load import Exit, load_through, own_files
from mlpprof.programs.record.schedule import Enough
from mlpprof.programs.request import WAIT_S

STEPS = 2_000
"""mlpprof never records so many steps."""


@dataclass(frozen=True)
class VariantLoop:
    """A variant, trained on batches of a workload."""

    request: Request
    batch: int
    report: Progress
    may_be_short = False
    wait_s = WAIT_S
    is_own = staticmethod(own_files((), ()))

    @property
    def folder(self) -> str:
        """The folder of the variant's file."""
        return str(find(self.request.variant).path.parent)

    def run(self, compiled: Callable[[str, str], CodeType]) -> Exit | None:
        """Train until `Enough`. Raises what loading a variant raises."""
        load_through(self.is_own, compiled)
        prepared = Loader().prepare(self.request, self.report)
        prepared.require_batch(self.batch)
        X, Y = prepared.subject.X, prepared.subject.Y
        variant = prepared.subject.make()
        random = np.random.default_rng(self.request.seed)
        with own_modules(prepared.entry), suppress(Enough):
            for _ in range(STEPS):
                variant.train_step(X, Y, random.choice(len(X), self.batch, replace=False))
            return Exit()
        return None  # it was stopped early
