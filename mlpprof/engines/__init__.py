"""What the fast variants share: teams of processes and threads, MPI ranks, numba passes, functions in place."""
