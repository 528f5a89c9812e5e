"""Ranks of MPI: they make the steps that rank 0 makes, sleep when idle, and leave nothing behind, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from mlpprof.catalog import find
from mlpprof.engines.members import RANKS_VARIABLE
from mlpprof.engines.mpiexec import find_mpiexec, has_mpi4py, mpiexec_command
from mlpprof.errors import EXIT_INTERRUPTED, WorkerDied
from mlpprof.process import Worker

pytestmark = [
    pytest.mark.skipif(not has_mpi4py() or find_mpiexec() is None, reason="mpi4py or mpiexec is not installed"),
    pytest.mark.xdist_group("mpi"),  # ranks that wait keep their cores busy
]

SHARED_MEMORY = Path("/dev/shm")

STEPS = """
import time
from itertools import islice
import numpy as np
from mlpprof.catalog import find, load
from mlpprof.data import DataSource, load_stream
from mlpprof.model import Network
from mlpprof.process import serve
from mlpprof.profile.prepare import Loader
from mlpprof.profile.request import Request
from mlpprof.profile.streams import StreamRequest

network = Network((6, 5, 2), "sigmoid", "sigmoid", "cross_entropy", rate=0.5, momentum=0.9, l1=0.01, l2=0.02)
generator = np.random.default_rng(3)
X, Y = generator.standard_normal((2000, 6)), generator.integers(0, 2, (2000, 2)).astype(float)


def make(name):
    return load(find(name))(network, network.initial_parameters(1))


def compare(first, second):
    for (W, b), (V, c) in zip(first.parameters(), second.parameters(), strict=True):
        np.testing.assert_allclose(W, V, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(b, c, rtol=1e-10, atol=1e-12)


def check_steps(singly=True):
    ours, theirs, other = make("mpi"), make("buffered"), make("mpi")
    for m in (40, 7, 2, 1, 1700, 40):  # also fewer samples than ranks, and more than a piece for each
        index = np.random.default_rng(m).permutation(len(X))[:m]
        for data in (X, -X):
            loss = ours.train_step(data, Y, index)
            assert np.isclose(loss, theirs.train_step(data, Y, index), rtol=1e-12), (m, loss)
        compare(ours, theirs)
        for (dW, db), (dV, dc) in zip(ours.gradients(), theirs.gradients(), strict=True):
            np.testing.assert_allclose(dW, dV, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(db, dc, rtol=1e-9, atol=1e-12)
        other.train_step(X, Y, index)
        if singly:  # rank 0 goes on by itself, and then with the others
            for instance in (ours, theirs):
                instance.fetch_batch(X, Y, index)
                instance.forward()
                instance.loss()
                instance.backward()
                instance.update()
        if m == 2:
            other = make("mpi")  # the first one is collected
    return ours.ranks.size


def steps(report):
    return check_steps()


def endless(report):
    mlp = make("mpi")
    mlp.train_step(X, Y, np.arange(20))
    report("training", 0.0)
    while True:
        mlp.train_step(X, Y, np.arange(20))


def idle(report):
    mlp = make("mpi")
    mlp.train_step(X, Y, np.arange(20))
    return mlp.ranks.size


def planted(report, file):
    load(find(file))(network, network.initial_parameters(1)).train_step(X, Y, np.arange(20))


def left(report):
    mlp = make("mpi")
    for _ in range(2):
        try:
            mlp.train_step(X, Y, "no index")
        except ValueError:
            pass


def streamed(report, path):
    source = DataSource(path=path, part_rows=80)
    it = Loader().prepare(Request("mpi", network, source, "float64", seed=1), report)
    ours, theirs = it.subject.make(), make("buffered")
    shares = it.subject.stream.plan.shares
    whole = StreamRequest(source, 2, "float64", 1, shares).open(load_stream(source), None)
    for data in (whole, None, whole):  # None: arrays in memory
        for index, same in zip(it.subject.walk(12), islice(whole.walk(12), 40)):
            if data is None:
                index = same = np.arange(12)
            arrays = (it.subject.X, it.subject.Y) if data is whole else (X, Y)
            expected = (whole.X, whole.Y) if data is whole else (X, Y)
            assert np.isclose(ours.train_step(*arrays, index), theirs.train_step(*expected, same), rtol=1e-12)
        compare(ours, theirs)
    return shares, int(np.isnan(it.subject.X[next(it.subject.walk(12))]).any(axis=1).sum())


def main():
    serve({"streamed": streamed, "steps": steps, "endless": endless, "idle": idle, "planted": planted, "left": left})
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "trained.py").write_text(STEPS)
    return {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture
def shared_memory() -> Iterator[None]:
    """Nothing with a name is left in it."""
    before = set(SHARED_MEMORY.glob("*")) if SHARED_MEMORY.exists() else set()
    yield
    if SHARED_MEMORY.exists():
        assert {path for path in set(SHARED_MEMORY.glob("*")) - before if "mpi" in path.name} == set()


@pytest.fixture
def worker(environment: dict[str, str], shared_memory: None) -> Iterator[Worker]:
    with Worker("trained", environment, mpiexec_command(3, environment)) as worker:
        yield worker


def ranks_below(pid: int) -> dict[int, int]:
    """Process of every rank among the descendants, rank -> process: the child of the one that mpiexec started."""
    found = {}
    for process in psutil.Process(pid).children(recursive=True):
        environment = process.environ()
        for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK"):
            if name in environment:
                found[int(environment[name])] = max(process.pid, found.get(int(environment[name]), 0))
    return found


def gone(pids: list[int], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_the_steps_of_rank_0_and_its_followers_are_those_of_one_process(worker):
    assert worker.call("steps") == 3
    ranks = list(ranks_below(worker.pid).values())
    assert len(ranks) == 3
    worker.close()
    assert gone(ranks)


@pytest.mark.slow
def test_every_rank_reads_its_own_rows_of_a_file_that_is_streamed(worker, tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / "a.npz"
    np.savez(path, X=generator.standard_normal((300, 6)), Y=generator.integers(0, 2, 300))
    assert worker.call("streamed", path=str(path)) == [3, 8]  # two thirds of a batch are the rows of other ranks


def test_a_script_that_all_ranks_run_makes_the_same_steps(environment, tmp_path):
    script = "import os, trained; os.write(1, b'size %d;' % trained.check_steps())"  # at once: all write there
    command = [*mpiexec_command(3, environment), sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("size 3;") == 3


@pytest.mark.parametrize("victim", [0, 2])
def test_a_killed_rank_is_named_and_the_others_end(worker, victim):
    ranks: dict[int, int] = {}

    def kill(what: str, share: float) -> None:
        ranks.update(ranks_below(worker.pid))
        threading.Timer(0.2, os.kill, (ranks[victim], signal.SIGKILL)).start()

    with pytest.raises(WorkerDied, match=rf"rank {victim} of 0 to 2 \(process \d+ on .*\) was killed by SIGKILL"):
        worker.call("endless", kill)
    assert gone(list(ranks.values()))


def test_an_exception_in_a_follower_is_reported_with_its_rank(worker, tmp_path):
    text = find("mpi").source()
    line = "        self.ranks.begin(X, Y, index)\n"
    assert line in text
    planted = text.replace(line, line + "        if self.ranks.rank == 1:\n            raise ValueError('planted')\n")
    (tmp_path / "broken.py").write_text(planted, encoding="utf-8")
    with pytest.raises(WorkerDied, match=r"rank 1 of 0 to 2 \(process \d+ on .*\) failed: ValueError: planted"):
        worker.call("planted", file=str(tmp_path / "broken.py"))


@pytest.mark.slow
def test_ranks_that_no_longer_agree_are_reported_and_end_at_once(worker):
    with pytest.raises(WorkerDied, match="rank 0 has left a step before its end"):
        worker.call("left")
    ranks = list(ranks_below(worker.pid).values())
    worker.close()
    assert gone(ranks)


def test_ranks_in_the_midst_of_a_step_end_with_their_worker(worker):
    ranks: list[int] = []

    def close(what: str, share: float) -> None:
        ranks.extend(ranks_below(worker.pid).values())
        threading.Timer(0.2, worker.close).start()

    with pytest.raises((WorkerDied, ValueError)):  # the pipe is closed under the one who reads
        worker.call("endless", close)
    assert len(ranks) == 3
    assert gone(ranks)


def test_ranks_end_with_a_tool_that_is_killed(environment, shared_memory):
    program = (
        "import os\nfrom mlpprof.engines.mpiexec import mpiexec_command\nfrom mlpprof.process import Worker\n"
        "worker = Worker('trained', dict(os.environ), mpiexec_command(3, os.environ))\n"
        "worker.call('endless', lambda what, share: print(worker.pid, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True) as tool:
        assert tool.stdout is not None
        pid = int(tool.stdout.readline())
        ranks = list(ranks_below(pid).values())
        tool.kill()
    assert len(ranks) == 3
    assert gone([pid, *ranks])


@pytest.mark.slow
def test_ctrl_c_ends_the_ranks_of_a_profile(tmp_path, shared_memory):
    command = [sys.executable, "-m", "mlpprof", "profile", "mpi", "--ranks", "3", "--workload", "tiny", "--no-check"]
    with subprocess.Popen(
        [*command, "--no-limits", "--steps", "1000000"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    ) as tool:
        until = time.monotonic() + 30
        while len(ranks := ranks_below(tool.pid)) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1.0)
        tool.send_signal(signal.SIGINT)
        _, errors = tool.communicate(timeout=30)
    assert tool.returncode == EXIT_INTERRUPTED, errors
    assert len(ranks) == 3
    assert gone(list(ranks.values()))


@pytest.mark.slow
def test_profile_starts_as_many_ranks_as_asked_for_on_the_machines_of_the_hostfile(tmp_path):
    version = subprocess.run([*mpiexec_command(1, {}), "--version"], capture_output=True, text=True, check=False).stdout
    (tmp_path / "hosts").write_text("localhost slots=2\n" if "Open MPI" in version else "localhost:2\n")
    command = [sys.executable, "-m", "mlpprof", "profile", "mpi", "--ranks", "2", "--hostfile", "hosts"]
    done = subprocess.run(
        [*command, "--workload", "tiny", "--steps", "20", "--no-limits"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={name: value for name, value in os.environ.items() if name != RANKS_VARIABLE},
    )
    assert done.returncode == 0, done.stderr
    assert "all-reduce" in done.stdout


@pytest.mark.slow
@pytest.mark.timing
def test_idle_followers_leave_the_cores_to_others(worker):
    assert worker.call("idle") == 3
    followers = [psutil.Process(pid) for rank, pid in ranks_below(worker.pid).items() if rank]
    time.sleep(0.2)
    used, begun = [sum(one.cpu_times()[:2]) for one in followers], time.monotonic()
    time.sleep(1.0)
    share = [sum(one.cpu_times()[:2]) - before for one, before in zip(followers, used, strict=True)]
    assert max(share) < 0.2 * (time.monotonic() - begun)
