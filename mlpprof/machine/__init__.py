"""What a run records about the machine it ran on.

keys.py: every key of a description and what it means.
description.py: `describe()`, called inside the worker process, collects them; it loads NumPy.
blas.py: which BLAS is loaded, what pins it, the environment of a worker, the header lines of a report.
kernels.py: how BLAS kernels rank against the vector instructions of a CPU.
cpu.py, memory.py, container.py: facts of the processor, the memory and the limits of a container.
system_files.py: reading /proc and /sys below a root that tests replace.
versions.py: the commit of the user's folder, the hash of a source file.

Nothing here guesses and nothing raises because of the machine: what cannot be read is None.
Import from the modules: the process that starts workers needs `blas` without loading NumPy.
"""
