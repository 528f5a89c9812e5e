"""In the worker: the same random numbers in every run of a program, also from generators made without a seed."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import numpy.random.bit_generator as bit_generator


def seed_alike(seed: int = 0) -> None:
    """From now on, `random`, `numpy.random`, and every generator that is made without a seed have fixed seeds.

    The n-th generator that a program makes without a seed gets the n-th seed. Seeds that the program sets stay.
    """
    numbers = itertools.count(seed)
    # NumPy takes the entropy of every generator without a seed from this function, whatever the kind of generator.
    setattr(bit_generator, "randbits", lambda bits: next(numbers))  # noqa: B010 - it is no declared attribute
    plain = random.Random.seed

    def seeded(generator: random.Random, a: Any = None, version: int = 2) -> None:
        plain(generator, next(numbers) if a is None else a, version)

    setattr(random.Random, "seed", seeded)  # noqa: B010 - a plain assignment to a method is none to mypy
    shared: random.Random = random.seed.__self__  # type: ignore[attr-defined]  # the generator of the module
    random.seed = shared.seed
    random.seed(seed)
    np.random.seed(seed)
