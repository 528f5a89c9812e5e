"""The contract of a multi-layer perceptron: the network, its functions, the interface of a variant, the gradient check.

Variants import NumPy, SciPy and this package, and nothing else of mlpprof.
"""

from mlpprof.errors import UnsupportedNetwork
from mlpprof.model.activations import ACTIVATIONS, Activation, Loss, loss_of, sample_losses
from mlpprof.model.interface import PHASES, Array, Parameters, Variant
from mlpprof.model.network import Network

__all__ = [
    "ACTIVATIONS",
    "PHASES",
    "Activation",
    "Array",
    "Loss",
    "Network",
    "Parameters",
    "UnsupportedNetwork",
    "Variant",
    "loss_of",
    "sample_losses",
]
