"""Proof of cures: they are applied in memory, the program runs with them, and what trains the same and is faster stays.

`trials` runs and times programs with cures, `prove` combines those that are proven and looks for more, `patch` writes
the result into files and takes it back, and `notebooks` does so in notebooks.
"""
