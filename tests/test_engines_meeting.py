"""Threads that meet within compiled code: they see what the others wrote, and none of them is left waiting."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("numba")
from numba import njit

from mlpprof.engines.meeting import CompiledTeam, meet

pytestmark = pytest.mark.slow  # numba has to compile first


@njit(nogil=True)
def count_together(numbers, worker, done, seen):
    for i in range(done.shape[1]):
        done[worker, i] = 1
        if not meet(numbers, worker):
            return
        for other in range(len(done)):
            seen[worker, i] += done[other, i]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_at_a_meeting_see_what_all_others_have_written_before(workers):
    done, seen = np.zeros((2, workers, 200), np.int64)
    team = CompiledTeam(workers)
    team.run(lambda numbers, worker: count_together(numbers, worker, done, seen))
    team.close()
    assert (seen == workers).all()


def test_a_worker_that_fails_ends_the_others_and_its_exception_is_raised():
    done, seen = np.zeros((2, 3, 10), np.int64)
    team, before = CompiledTeam(3), threading.active_count()

    def work(numbers, worker):
        if worker == 1:
            raise ValueError("planted")
        count_together(numbers, worker, done, seen)

    with pytest.raises(ValueError, match="planted"):
        team.run(work)
    assert threading.active_count() == before
    team.run(lambda numbers, worker: count_together(numbers, worker, done, seen))  # it begins anew
    team.close()
    assert (done == 1).all()
    assert threading.active_count() == before


FOREVER = """
import threading
import numpy as np
from numba import njit
from mlpprof.engines.meeting import CompiledTeam, meet

@njit(nogil=True)
def forever(numbers, worker):
    while meet(numbers, worker):
        pass

def work(numbers, worker):
    if worker == 0:
        print("begun", flush=True)
    forever(numbers, worker)

try:
    CompiledTeam(2).run(work)
except KeyboardInterrupt:
    print(threading.active_count(), "thread")
"""


def test_ctrl_c_reaches_whoever_waits_for_the_team_and_ends_its_threads():
    process = subprocess.Popen(
        [sys.executable, "-c", FOREVER],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert output == "1 thread\n"
    assert process.returncode == 0
