"""Where things lie in memory, at random: arrays lie elsewhere in every instance, and stacks in every process.

The place of an array decides which cache lines it shares with others and whether two addresses agree in their last
12 bits (4 KiB aliasing). One run has one such place, and with it a bias that no repetition within the run shows. Where
every instance is made anew at a random place, the same effect is a part of the scatter, and averages out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mlpprof.compare.entrants import Entrant, Environment
from mlpprof.model import Array

LINE = 16
"""The allocator gives addresses in multiples of so many bytes."""
LARGEST_BALLAST = 16_384
"""An array of the ballast has at most so many bytes, four pages: the offset of what follows is any one in a page."""
BALLAST_ARRAYS = 12
PADDING_VARIABLE, LONGEST_PADDING = "MLPPROF_PADDING", 4096
"""A variable of the environment lies above the stack, and moves it by its length."""


def ballast(rng: np.random.Generator) -> list[Array]:
    """Arrays that nobody reads: as long as they are kept, what is allocated next lies somewhere else."""
    kept = [np.empty(LINE * int(lines), np.uint8) for lines in rng.integers(1, LARGEST_BALLAST // LINE, BALLAST_ARRAYS)]
    del kept[:: int(rng.integers(2, 4))]  # the gaps that this leaves are filled first
    return kept


def with_padding(entrants: Sequence[Entrant], rng: np.random.Generator) -> list[Entrant]:
    """The entrants in environments of another size, which is the same for all of them."""
    padding = (PADDING_VARIABLE, "x" * int(rng.integers(LONGEST_PADDING)))

    def padded(environment: Environment) -> Environment:
        others = (one for one in environment.variables if one[0] != PADDING_VARIABLE)
        return replace(environment, variables=(*others, padding))

    return [replace(one, environment=padded(one.environment)) for one in entrants]
