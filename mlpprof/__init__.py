"""mlpprof: profile and optimize hand-written NumPy multi-layer perceptrons."""

__version__ = "0.1.0"
