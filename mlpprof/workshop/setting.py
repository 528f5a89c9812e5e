"""What the exercises are measured on, and how long that may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlpprof.data import DataSource
from mlpprof.data import load as load_data
from mlpprof.errors import DataError
from mlpprof.files import write_atomically
from mlpprof.measure.racers import Environment
from mlpprof.stats import Procedure
from mlpprof.workloads import Workload, resolve

WORKLOAD = "workshop"
SAMPLES = 4_000
"""Of the embedded digits: a class has small machines, and every process of a check loads them."""
DIGITS_FILE = "digits.npz"


PROCEDURE = Procedure(looks=(3, 5, 8), resolution=1.06, bias=1.01)
"""Fewer looks than a regression test takes, for a class waits; a finer resolution, for some exercises gain a tenth.

All contestants share a process, and no claim is made beyond it, so that less bias of a run need be allowed for.
"""


BLOCKS = 16
"""Twice as many as in a comparison: with two busy programs on two cores, processes then scatter by 2 instead of 4 %."""


@dataclass(frozen=True)
class Setting:
    """The network and data of a check, and what it may spend.

    procedure: looks and error budgets of the verdict. blocks: of every process of the race. budget_s: no process of
    the race is started that would not end within it, once there are three. roofline: whether the free exercise is held
    against the machine's limits.
    """

    workload: str = WORKLOAD
    procedure: Procedure = PROCEDURE
    blocks: int = BLOCKS
    environment: Environment = field(default_factory=Environment)
    budget_s: float = 30.0
    roofline: bool = True

    def trained(self, folder: Path) -> Workload:
        """The workload on the digits that lie in the folder, which are made where they are missing."""
        if self.workload != WORKLOAD:
            return resolve(self.workload)
        path = folder / DIGITS_FILE
        if not path.is_file():
            write_digits(path)
        try:
            return resolve(self.workload, source=DataSource(path=str(path.resolve())))
        except DataError as error:
            raise DataError(f"{error}; delete {DIGITS_FILE}, and the next check makes it anew") from error


CLASSROOM = Setting()
"""What `mlpprof workshop check` takes: three, five or eight processes."""


def write_digits(path: Path) -> None:
    """The first of the embedded digits as .npz, the same on every machine."""
    data = load_data(DataSource("digits"))
    assert data.labels is not None
    with write_atomically(path) as part, part.open("wb") as file:
        np.savez_compressed(file, X=data.X[:SAMPLES], Y=data.labels[:SAMPLES])
