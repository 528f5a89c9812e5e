"""mlpprof: profile and optimize hand-written NumPy multi-layer perceptrons."""

import importlib
from typing import Any

__version__ = "0.1.0"


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext mlpprof` in IPython or Jupyter: adds the magics `%mlpprof` and `%%mlpprof`."""
    importlib.import_module("mlpprof.cli.magics").register(ipython)
