"""Where a variant is an MPI program: its worker is started by mpiexec, as rank 0 of several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from mlpprof.catalog import find
from mlpprof.machine.blas import WORKERS_VARIABLE
from mlpprof.machine.cpu import affinity
from mlpprof.mpiexec import EXTRA, has_mpi4py, mpiexec_command, ranks_in
from mlpprof.process import Worker


def mpiexec_for(variants: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """The command that starts a worker for these variants, where one of them takes several ranks; else empty.

    As many ranks as --ranks says, else as other variants have workers. Raises MissingExtra without mpiexec. Without
    mpi4py it is empty too: the variant says by itself what it lacks.
    """
    if not any(find(variant).extra == EXTRA for variant in variants) or not has_mpi4py():
        return []
    workers = environment.get(WORKERS_VARIABLE, "")
    ranks = ranks_in(environment, int(workers) if workers.isdigit() else len(affinity() or ()) or os.cpu_count() or 1)
    return mpiexec_command(ranks, environment) if ranks > 1 else []


def start_worker(module: str, environment: Mapping[str, str], variants: Iterable[str]) -> Worker:
    """A worker for these variants; raises what `mpiexec_for` raises."""
    return Worker(module, environment, mpiexec_for(variants, environment))
