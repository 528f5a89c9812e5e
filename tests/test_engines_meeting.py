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


CALL_AFTER_CALL = """
import threading
import numpy as np
from numba import njit
from mlpprof.engines.meeting import LINE, CompiledTeam, meet

@njit(nogil=True)
def meet_often(numbers, worker):
    for _ in range(1000):
        if not meet(numbers, worker):
            return

team = CompiledTeam(2)
team.run(meet_often)  # compiles everything, so that Ctrl-C does not come meanwhile
try:
    print("begun", flush=True)
    while True:
        team.run(meet_often)
except KeyboardInterrupt:
    team.close()
    print(threading.active_count(), "thread")
"""


def interrupted_output(program: str) -> str:
    """What a program prints after Ctrl-C, which comes when it has printed "begun"."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output


def test_ctrl_c_comes_between_two_calls_and_ends_the_threads():
    assert interrupted_output(CALL_AFTER_CALL) == "1 thread\n"


def test_a_team_that_nobody_needs_any_more_ends_its_threads():
    before = threading.active_count()
    done, seen = np.zeros((2, 2, 10), np.int64)
    team = CompiledTeam(2)
    team.run(lambda numbers, worker, team=team: count_together(numbers, worker, done, seen))
    assert threading.active_count() == before + 1
    del team
    assert threading.active_count() == before


LATE = """
import threading
import time
import numpy as np
from numba import njit
from mlpprof.engines.meeting import LINE, CompiledTeam, meet

@njit(nogil=True)
def meet_once(numbers, worker):
    return meet(numbers, worker)

meet_once(np.zeros(2 * LINE, np.int64), 0)  # compiles it
late, has_come, answers = threading.Event(), threading.Event(), []

def interrupted(numbers, worker):
    if worker == 0:
        print("begun", flush=True)
        time.sleep(60)  # Ctrl-C comes here
    late.wait()  # until the next work has begun
    answers.append(meet_once(numbers, worker))
    has_come.set()

def again(numbers, worker):
    if worker == 0:
        late.set()
        has_come.wait()
    answers.append(meet_once(numbers, worker))

team = CompiledTeam(2)
try:
    team.run(interrupted)
except KeyboardInterrupt:
    team.run(again)
    team.close()
    print(answers)
"""


def test_a_thread_that_comes_late_after_ctrl_c_does_not_meet_the_workers_of_the_next_work():
    assert interrupted_output(LATE) == "[False, True, True]\n"
