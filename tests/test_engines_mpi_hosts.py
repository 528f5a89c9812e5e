"""Ranks on several hosts, joined by SSH: they share a profile, and a host that fails is reported and leaves nothing."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import mlpprof
from mlpprof.engines.mpiexec import HOSTFILE_VARIABLE, find_mpiexec, has_mpi4py, mpiexec_command
from mlpprof.errors import EXIT_OK, EXIT_USAGE, WorkerDied
from mlpprof.process import Worker
from reports.hosts import NETWORK, Host, hosts, missing_for_hosts

MISSING = missing_for_hosts() if has_mpi4py() and find_mpiexec() else "mpi4py or mpiexec is not installed"

pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.slow,
    pytest.mark.xdist_group("mpi"),  # all on one worker, which makes the hosts once
]

ENDLESS = """
import numpy as np
from mlpprof.catalog import find, load
from mlpprof.model import Network
from mlpprof.process import serve


def train(report):
    network = Network((3, 2))
    mlp, X, Y = load(find("mpi"))(network, network.initial_parameters(1)), np.ones((9, 3)), np.ones((9, 2))
    mlp.train_step(X, Y, np.arange(9))
    report("training", 0.0)
    while True:
        mlp.train_step(X, Y, np.arange(9))


def main():
    serve({"train": train})
"""

Profile = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Host]]:
    """Three hosts; the last one may die."""
    with hosts(3) as found:
        yield found


@pytest.fixture
def profile(nodes: list[Host], tmp_path: Path) -> Iterator[Profile]:
    """`mlpprof profile mpi` on the first host, with these names in the hostfile; then nothing is left anywhere."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def run(*names: str, ranks: int = 2) -> subprocess.CompletedProcess[str]:
        (tmp_path / "hosts").write_text("".join(f"{name}:{ranks // 2}\n" for name in names))
        options = ["--ranks", str(ranks), "--hostfile", "hosts", "--workload", "tiny", "--steps", "3", "--no-check"]
        command = [sys.executable, "-m", "mlpprof", "profile", "mpi", *options, "--no-limits"]
        environment = {**os.environ, "TMPDIR": str(temporary)}
        return subprocess.run(
            nodes[0].command(command), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )

    yield run
    assert list(temporary.iterdir()) == []
    assert_nothing_is_left(nodes[:2])


def assert_nothing_is_left(nodes: Sequence[Host]) -> None:
    until = time.monotonic() + 20.0
    while any(node.processes() for node in nodes) and time.monotonic() < until:
        time.sleep(0.05)
    assert [node.processes() for node in nodes] == [[]] * len(nodes)
    assert [node.run("ls", "/dev/shm") for node in nodes] == [""] * len(nodes)


def test_ranks_on_two_hosts_share_the_steps_of_a_profile(nodes, profile):
    before = nodes[1].received()
    done = profile("node1", "node2", ranks=4)
    assert done.returncode == EXIT_OK, done.stderr
    assert "all-reduce" in done.stdout
    assert nodes[1].received() > before + 100_000


def test_a_host_that_cannot_be_reached_is_named_before_a_rank_starts(nodes, profile):
    nodes[1].run("ip", "address", "replace", f"{NETWORK}.99/24", "dev", "eth0")  # no daemon listens there
    done = profile("node1", f"{NETWORK}.99")
    assert done.returncode == EXIT_USAGE, done.stdout
    assert "mpiexec cannot start mlpprof on all machines of hosts" in done.stderr
    assert f"ssh: connect to host {NETWORK}.99 port 22: Connection refused" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_versions_on_a_host_are_named(nodes, profile, tmp_path):
    numpy = importlib.metadata.distribution("numpy")
    [metadata] = [str(file.locate()) for file in numpy.files or () if file.match("numpy-*/METADATA")]
    other = tmp_path / "METADATA"
    other.write_text(Path(metadata).read_text("utf-8").replace(f"\nVersion: {numpy.version}\n", "\nVersion: 1.0.7\n"))
    nodes[1].run("mount", "--bind", str(other), metadata)
    done = profile("node1", "node2")
    nodes[1].run("umount", metadata)
    assert done.returncode == EXIT_USAGE, done.stdout
    assert f"numpy is {numpy.version} on node1, and 1.0.7 on node2; install the same one" in done.stderr


def test_a_host_without_mlpprof_is_named(nodes, profile):
    package = str(Path(mlpprof.__file__).parent)
    nodes[1].run("mount", "-t", "tmpfs", "none", package)
    done = profile("node1", "node2")
    nodes[1].run("umount", package)
    assert done.returncode == EXIT_USAGE, done.stdout
    assert "(node1 answered): on node2: ModuleNotFoundError: No module named 'mlpprof.engines'" in done.stderr


def test_a_host_that_dies_in_the_middle_ends_the_ranks_on_the_others(nodes, tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    (tmp_path / "hosts").write_text("node1:2\nnode3:2\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"}
    command = mpiexec_command(4, {HOSTFILE_VARIABLE: str(tmp_path / "hosts")})
    lost = pytest.raises(WorkerDied, match=r"the connection to (node3|a machine of the hostfile) was lost, so all ")
    with Worker("endless", environment, nodes[0].command(command)) as worker, lost:
        worker.call("train", lambda what, share: nodes[2].die())
    assert_nothing_is_left(nodes[:1])
