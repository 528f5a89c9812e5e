"""The conditions of a check: the network and data that a learner's MLP trains on, and how long a check may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlpprof.compare.entrants import Environment
from mlpprof.compare.error_bounds import Procedure
from mlpprof.compare.live_race import BLOCKS
from mlpprof.data import DataSource
from mlpprof.data import load as load_data
from mlpprof.errors import DataError
from mlpprof.files import write_atomically
from mlpprof.workloads import Workload, resolve
from mlpprof.workshop.exercises import DIGITS_FILE, WORKLOAD

SAMPLES = 4_000
"""The number of embedded digits that a check trains on. Every process of a check loads them, on small machines too."""

PROCEDURE = Procedure(looks=(3, 5, 8), resolution=1.06, bias=1.01, shape_sd=0.02)
"""There are fewer looks than in a regression test, because a class waits for the result.

The resolution is finer, because the solution of some exercises gains only 10 %. The allowed bias is smaller, because
all versions run in the same process, and the result is valid for this machine only. The deviation of the normal margin
is larger than usual, because the first look is at three replicates.
"""


@dataclass(frozen=True)
class Conditions:
    """The network and data of a check, and how much time it may take.

    workload: in place of the one of the course. procedure: looks and error budgets of the verdict. blocks: number of
    blocks in each process of the race. With more of them, there would be time for fewer processes on a busy machine,
    and the bounds for three processes are much wider than those for five. whole_s: the time of a whole check. After the
    first three processes, the race starts none that would end later than this, and what would not fit into the rest of
    the time is left out. roofline: whether the free exercise is compared with the limits of the machine.
    """

    workload: str = ""
    procedure: Procedure = PROCEDURE
    blocks: int = BLOCKS
    environment: Environment = field(default_factory=Environment)
    whole_s: float = 58.0  # the rest of a minute starts mlpprof and writes the result
    roofline: bool = True

    def trained(self, folder: Path, workload: str = WORKLOAD) -> Workload:
        """Return the workload of a course with the digits of the folder; write them first if they are missing."""
        workload = self.workload or workload
        if workload != WORKLOAD:
            return resolve(workload)
        path = folder / DIGITS_FILE
        if not path.is_file():
            write_digits(path)
        try:
            return resolve(workload, source=DataSource(path=str(path.resolve())))
        except DataError as error:
            raise DataError(f"{error}; delete {DIGITS_FILE}, and the next check writes it again") from error


CLASSROOM = Conditions()
"""The conditions of `mlpprof workshop check`."""


def write_digits(path: Path) -> None:
    """Write the first embedded digits as .npz, the same on every machine."""
    data = load_data(DataSource("digits"))
    assert data.labels is not None
    with write_atomically(path) as part, part.open("wb") as file:
        np.savez_compressed(file, X=data.X[:SAMPLES], Y=data.labels[:SAMPLES])
