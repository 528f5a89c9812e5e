"""What this machine is and can do, and which settings hold it back.

Nothing here guesses, and nothing raises because of the machine: a fact that cannot be read is None.
Import from the modules: the process that starts workers needs `blas` without loading NumPy.
"""
