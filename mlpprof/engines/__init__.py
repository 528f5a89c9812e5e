"""What the fast variants share: teams of processes, MPI, passes compiled by numba, functions in place."""
