"""mlpprof finds the slow NumPy operations in hand-written multi-layer perceptrons.

Where things are, from the bottom up; imports go downward only:

- `model`, `engines`: the interface of a variant, and parts that variants are made of.
- `results`: the records between measuring and reporting, and how they are stored.
- `data`, `workloads`, `catalog`: data sets, sizes of networks, and the variants by name.
- `instrument`: clocks and counters that watch a step. `process`, `machine`: workers, what the machine can do
  (`doctor`), and how close to it a step comes (`roofline`).
- `programs`: names, runs, searches and records a user's program.
- `profile` measures one step and checks variants, `compare` races entrants and decides (also `verify`, `autotune`),
  `advise` finds flaws and proves their cures.
- `sweep` runs profiles or races for every cell of a grid, here or on a cluster.
- `report`: terminal, page, figures and files.
- `testing`, `reproduce`, `workshop`: the pytest plugin, the published sources, the course.
- `cli`: the commands, one file each.
"""

import importlib
from typing import Any

__version__ = "0.1.0"


def load_ipython_extension(ipython: Any) -> None:
    """Add the magics `%mlpprof` and `%%mlpprof` to IPython or Jupyter, for `%load_ext mlpprof`."""
    importlib.import_module("mlpprof.cli.magics").register(ipython)
