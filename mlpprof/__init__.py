"""mlpprof finds the slow NumPy operations in hand-written multi-layer perceptrons."""

import importlib
from typing import Any

__version__ = "0.1.0"


def load_ipython_extension(ipython: Any) -> None:
    """Add the magics `%mlpprof` and `%%mlpprof` to IPython or Jupyter, for `%load_ext mlpprof`."""
    importlib.import_module("mlpprof.cli.magics").register(ipython)
