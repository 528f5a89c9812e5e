"""Teams of processes and threads: they do the work, sleep when idle, and leave nothing behind, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import psutil
import pytest

from mlpprof.catalog import ladder, load
from mlpprof.compare.entrants import SHARING
from mlpprof.engines.members import WORKERS_VARIABLE
from mlpprof.engines.team import Barrier, ProcessTeam, ThreadTeam, shared_zeros, workers_wanted
from mlpprof.errors import WorkerDied
from mlpprof.model import Network

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
TEAMS = [pytest.param(ProcessTeam, marks=forks), ThreadTeam]
each_team = pytest.mark.parametrize("team_class", TEAMS)
each_variant = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[forks, pytest.mark.slow] if ladder()[name].extra else [forks]) for name in SHARING],
)

TRAIN = """
import sys, time
import numpy as np
from mlpprof.catalog import ladder, load
from mlpprof.model import Network
network = Network((6, 5, 2), hidden="sigmoid", output="sigmoid", loss="cross_entropy")
mlp = load(ladder()["processes"])(network, network.initial_parameters(0))
X, Y = np.ones((20, 6)), np.ones((20, 2))
mlp.train_step(X, Y, np.arange(20))
print(*mlp.team.pids, flush=True)
if sys.argv[1] == "return":
    sys.exit()
if sys.argv[1] == "raise":
    raise ValueError("planted")
while True:
    mlp.train_step(X, Y, np.arange(20))
"""
"""A script without a guard that trains with three workers; its argument says how it ends."""


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


def start_training(ending: str) -> tuple[subprocess.Popen[str], list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, ending],
        env={**os.environ, WORKERS_VARIABLE: "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()]


@each_team
def test_every_other_member_does_every_task_before_wait_returns(team_class):
    done = shared_zeros((4, 100), np.int64)

    def work(member, task):
        done[member, task] += 1

    team = team_class(4, work)
    for task in range(100):
        team.go(task)
        team.wait()
        assert done[1:, : task + 1].all()
        assert not done[:, task + 1 :].any()
    team.close()
    team.close()
    assert not done[0].any()
    assert (done[1:] == 1).all()


@each_team
def test_a_member_that_slept_does_its_next_task(team_class):
    done = shared_zeros(3, np.int64)

    def work(member, task):
        done[member] += task

    team = team_class(3, work)
    for task in (1, 10):
        time.sleep(0.3)
        team.go(task)
        team.wait()
    team.close()
    assert done.tolist() == [0, 11, 11]


def test_an_exception_in_a_thread_is_raised_by_wait():
    def work(member, task):
        raise ValueError(f"planted in member {member}")

    team = ThreadTeam(2, work)
    team.go(1)
    with pytest.raises(ValueError, match="planted in member 1"):
        team.wait()
    team.close()


@forks
def test_a_process_that_raises_is_named_with_its_exit_code_and_the_others_end(capfd):
    def work(member, task):
        if member == 2:
            raise ValueError("planted")

    team = ProcessTeam(4, work)
    team.go(1)
    with pytest.raises(WorkerDied, match=rf"worker 2 of 0 to 3 \(process {team.pids[1]}\) ended with exit code 1"):
        team.wait()
    assert gone(team.pids)
    assert "ValueError: planted" in capfd.readouterr().err


@forks
def test_a_killed_process_is_named_with_its_signal_and_the_others_end():
    team = ProcessTeam(4, lambda member, task: None)
    team.go(1)
    team.wait()
    os.kill(team.pids[2], signal.SIGKILL)
    team.go(2)
    with pytest.raises(WorkerDied, match=rf"worker 3 of 0 to 3 \(process {team.pids[2]}\) was killed by SIGKILL"):
        team.wait()
    assert gone(team.pids)


@forks
def test_members_at_a_barrier_see_what_all_others_have_done_before():
    done, seen = shared_zeros((4, 50), np.int64), shared_zeros((4, 50), np.int64)
    barrier = Barrier(4)

    def work(member, task):
        for i in range(50):
            done[member, i] = 1
            barrier.wait(member, lambda: None)
            seen[member, i] = done[:, i].sum()
            barrier.wait(member, lambda: None)

    team = ProcessTeam(4, work)
    team.go(1)
    work(0, 1)
    team.wait()
    team.close()
    assert (seen == 4).all()


@forks
def test_waiting_at_a_barrier_for_a_killed_member_is_an_error_that_names_it():
    barrier = Barrier(3)
    team = ProcessTeam(3, lambda member, task: time.sleep(1000))
    os.kill(team.pids[0], signal.SIGKILL)
    with pytest.raises(WorkerDied, match=r"worker 1 of 0 to 2 .* was killed by SIGKILL"):
        barrier.wait(0, team.require_all_alive)
    assert gone(team.pids)


@forks
def test_a_member_that_is_busy_when_the_team_closes_is_killed():
    team = ProcessTeam(2, lambda member, task: time.sleep(1000))
    team.go(1)
    team.close()
    assert gone(team.pids)


@forks
def test_a_team_ends_with_its_last_reference():
    team = ProcessTeam(3, lambda member, task: None)
    pids = team.pids
    del team
    assert gone(pids)


@forks
@pytest.mark.parametrize("ending", ["return", "raise"])
def test_a_script_that_ends_takes_its_workers_along(ending):
    process, pids = start_training(ending)
    _, errors = process.communicate(timeout=60)
    assert len(pids) == 2
    assert process.returncode == (ending == "raise")
    assert gone(pids)
    assert ("planted" in errors) == (ending == "raise")
    assert "resource_tracker" not in errors


@forks
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_process_that_is_interrupted_or_killed(number):
    process, pids = start_training("train")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert wait_until(lambda: gone(pids))


@forks
@pytest.mark.parametrize("name", ["processes", "neuron_shards"])  # which wait for the team, and at a barrier
def test_a_killed_worker_of_a_variant_is_named_and_leaves_nothing(name, monkeypatch):
    monkeypatch.setenv(WORKERS_VARIABLE, "3")
    mlp, X, Y = small(name)
    mlp.train_step(X, Y, np.arange(9))
    pids = mlp.team.pids
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(WorkerDied, match="worker 1 of 0 to 2"):
        mlp.train_step(X, Y, np.arange(9))
    mlp.close()
    assert gone(pids)


@forks
@pytest.mark.timing
def test_an_idle_team_leaves_the_cores_to_others():
    team = ProcessTeam(3, lambda member, task: None)
    team.go(1)
    team.wait()
    time.sleep(0.2)
    members = [psutil.Process(pid) for pid in team.pids]
    used, begun = [sum(member.cpu_times()[:2]) for member in members], time.monotonic()
    time.sleep(1.0)
    share = [(sum(member.cpu_times()[:2]) - before) for member, before in zip(members, used, strict=True)]
    assert max(share) < 0.2 * (time.monotonic() - begun)
    team.close()


def small(name, l1=0.0, l2=0.0, samples=40):
    network = Network((6, 5, 2), "sigmoid", "sigmoid", "cross_entropy", rate=0.5, momentum=0.9, l1=l1, l2=l2)
    generator = np.random.default_rng(3)
    X, Y = generator.standard_normal((samples, 6)), generator.integers(0, 2, (samples, 2)).astype(float)
    return load(ladder()[name])(network, network.initial_parameters(1)), X, Y


@each_variant
@pytest.mark.parametrize(("workers", "l1", "l2"), [(1, 0.01, 0.02), (2, 0.0, 0.0), (3, 0.01, 0.02)])
def test_a_shared_step_is_the_step_of_one_process(name, workers, l1, l2, monkeypatch):
    monkeypatch.setenv(WORKERS_VARIABLE, str(workers))
    ours, X, Y = small(name, l1, l2, samples=2000)
    theirs, *_ = small("buffered", l1, l2)
    for m in (40, 7, 2, 1, 1700, 40):  # also fewer samples than workers, and more than a piece for each
        index = np.random.default_rng(m).permutation(len(X))[:m]
        for data in (X, -X):
            assert ours.train_step(data, Y, index) == pytest.approx(theirs.train_step(data, Y, index), rel=1e-12)
        for (W, b), (W_theirs, b_theirs) in zip(ours.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(W, W_theirs, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(b, b_theirs, rtol=1e-10, atol=1e-12)
    ours.close()


@each_variant
def test_steps_of_the_team_and_of_worker_0_alone_may_alternate(name, monkeypatch):
    monkeypatch.setenv(WORKERS_VARIABLE, "3")
    (ours, X, Y), (theirs, *_) = small(name, 0.01, 0.02), small("buffered", 0.01, 0.02)
    for m in (9, 40, 5):
        for instance in (ours, theirs):
            instance.train_step(X, Y, np.arange(m))
            instance.fetch_batch(X, Y, np.arange(m))
            instance.forward()
            instance.loss()
            instance.backward()
            instance.update()
            instance.train_step(X, Y, np.arange(m))
        for (W, b), (W_theirs, b_theirs) in zip(ours.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(W, W_theirs, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(b, b_theirs, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-9)
    ours.close()


def test_there_are_as_many_workers_as_cpus_by_default(monkeypatch):
    monkeypatch.delenv(WORKERS_VARIABLE, raising=False)
    assert 1 <= workers_wanted() <= (os.cpu_count() or 1)
    monkeypatch.setenv(WORKERS_VARIABLE, "7")
    assert workers_wanted() == 7
