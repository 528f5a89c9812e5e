"""The measured limits of this machine: what its products, its memory and its functions reach at best.

names.py: what limits there are, and which a step needs.
worker.py: measures them, inside a process in the environment that they hold for.
cache.py: keeps them for this machine, BLAS, NumPy and environment.
obtain.py: takes them from the cache and has the missing ones measured.

A limit is a maximum, so the best of its repetitions is kept, and the better of two measurements.
"""
