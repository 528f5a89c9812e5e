"""The check of a learner's MLP: a worker process of its own (`check_worker`) runs the file and answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mlpprof.compare.entrants import Environment
from mlpprof.machine.blas import worker_environment
from mlpprof.process import Progress, Worker
from mlpprof.profile.request import Request
from mlpprof.workloads import Workload
from mlpprof.workshop.check_worker import MODULE


def ask_worker(
    call: str, file: Path, trained: Workload, environment: Environment, progress: Progress, **arguments: Any
) -> dict[str, Any]:
    """Return the answer of a function of `check_worker`, 'examine' or 'measure', about the MLP of a file.

    Raises VariantError or WorkerDied if the file cannot be loaded, or ends its process.
    """
    request = Request(str(file.resolve()), trained.network, trained.source).to_json()
    variables = worker_environment(os.environ, environment.threads, environment.native_blas)
    with Worker(MODULE, variables, runs=file.name) as worker:
        answer = worker.call(
            call, progress, file=request["variant"], network=request["network"], batch=trained.batch, **arguments
        )
    return dict(answer)
