"""mpiexec: how it is called, the error without it, and the rank that died first."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlpprof.compare.entrants import Environment, refusals
from mlpprof.engines import mpi_hosts, mpiexec
from mlpprof.engines.members import RANKS_VARIABLE, WORKERS_VARIABLE
from mlpprof.engines.mpi_hosts import MARK, answers_in, reason, require_same, require_same_hosts
from mlpprof.engines.mpiexec import HOSTFILE_VARIABLE, dead_rank, lost_machine, mpiexec_command
from mlpprof.errors import MissingExtra, UsageError
from mlpprof.profile import variant as ranks
from mlpprof.profile.request import Request
from mlpprof.profile.variant import mpiexec_for
from mlpprof.workloads import get_workload


@pytest.fixture(autouse=True)
def mpich(monkeypatch):
    """As if it were installed."""
    monkeypatch.setattr(mpiexec, "find_mpiexec", lambda: "/opt/bin/mpiexec")
    monkeypatch.setattr(mpiexec, "_is_open_mpi", lambda program: False)
    monkeypatch.setattr(ranks, "has_mpi4py", lambda: True)


def test_only_a_variant_of_several_ranks_is_started_by_mpiexec():
    assert mpiexec_for(["cached", "processes"], {RANKS_VARIABLE: "4"}) == []
    assert mpiexec_for(["cached", "mpi"], {RANKS_VARIABLE: "4"}) == ["/opt/bin/mpiexec", "-n", "4"]
    assert mpiexec_for(["mpi"], {RANKS_VARIABLE: "1"}) == []


def test_there_are_as_many_ranks_as_other_variants_have_workers_by_default():
    assert mpiexec_for(["mpi"], {WORKERS_VARIABLE: "3"})[-1] == "3"
    assert mpiexec_for(["mpi"], {WORKERS_VARIABLE: "3", RANKS_VARIABLE: "5"})[-1] == "5"


def test_without_mpi4py_the_variant_itself_says_what_it_lacks(monkeypatch):
    monkeypatch.setattr(ranks, "has_mpi4py", lambda: False)
    assert mpiexec_for(["mpi"], {RANKS_VARIABLE: "4"}) == []
    program = (
        "import sys; sys.modules['mpi4py'] = None\n"
        "from mlpprof.catalog import find, load\nfrom mlpprof.errors import MissingExtra\n"
        "try: load(find('mpi'))\nexcept MissingExtra as missing: print(missing)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "variant 'mpi' needs mpi4py; install it with: pip install 'mlpprof[mpi]'"


def test_without_mpiexec_the_error_has_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(mpiexec, "find_mpiexec", lambda: None)
    with pytest.raises(MissingExtra, match=r"^4 ranks need mpiexec, .*: pip install 'mlpprof\[mpi\]', or use "):
        mpiexec_command(4, {})


def test_a_race_goes_on_without_a_variant_that_lacks_mpiexec(monkeypatch):
    monkeypatch.setattr(mpiexec, "find_mpiexec", lambda: None)
    monkeypatch.setenv(RANKS_VARIABLE, "2")
    tiny = get_workload("tiny")
    requests = [Request(name, tiny.network, tiny.source) for name in ("sliced", "mpi")]
    refused = refusals(requests, Environment(), lambda what, share: None)
    assert list(refused) == ["mpi"]
    assert "2 ranks need mpiexec" in refused["mpi"]


def test_a_hostfile_is_passed_on_and_a_missing_one_is_refused(tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost:4\n")
    assert mpiexec_command(4, {HOSTFILE_VARIABLE: str(hosts)})[3:] == ["--hostfile", str(hosts)]
    with pytest.raises(UsageError, match="no hostfile 'nodes'"):
        mpiexec_command(4, {HOSTFILE_VARIABLE: "nodes"})


def test_open_mpi_does_not_bind_ranks_to_cores_and_passes_variables_on(tmp_path, monkeypatch):
    monkeypatch.setattr(mpiexec, "_is_open_mpi", lambda program: True)
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=4\n")
    environment = {HOSTFILE_VARIABLE: str(hosts), "OMP_NUM_THREADS": "1", "HOME": "/"}
    command = " ".join(mpiexec_command(4, environment))
    assert "--bind-to none" in command
    assert command.endswith(f"-x {HOSTFILE_VARIABLE} -x OMP_NUM_THREADS")


def test_inside_an_mpiexec_no_other_is_started():
    with pytest.raises(UsageError, match=r"runs under one \(PMI_RANK is set\); use --ranks 4"):
        mpiexec_command(4, {"PMI_RANK": "0"})


@pytest.mark.parametrize("variable", [RANKS_VARIABLE, WORKERS_VARIABLE])
@pytest.mark.parametrize("text", ["0", "-1", "many", "2.5", "²"])
def test_a_variable_that_does_not_hold_a_whole_number_from_1_is_refused(variable, text):
    with pytest.raises(UsageError, match=f"{variable}={text}: expected a whole number of (ranks|workers), 1 or more"):
        mpiexec_for(["mpi"], {variable: text})


def test_the_first_rank_that_died_is_read_from_what_all_of_them_wrote():
    log = (
        "RuntimeWarning: of a rank\n"
        "mlpprof: rank 2 of 0 to 3 (process 5218 on node7) was killed by SIGSEGV\n"
        "=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES\n=   PID 5217 RUNNING AT node7\n"
        "mlpprof: rank 0 of 0 to 3 (process 5216 on node7) was killed by SIGKILL\n"
    )
    assert dead_rank(log) == "rank 2 of 0 to 3 (process 5218 on node7) was killed by SIGSEGV"
    assert dead_rank("Segmentation fault\n") is None


@pytest.mark.parametrize(
    ("line", "machine"),
    [
        ("Connection to node2 closed by remote host.", "node2"),
        ("Timeout, server node2 not responding.", "node2"),
        ("Connection reset by 10.0.0.2 port 22: Broken pipe", "10.0.0.2"),
        ("  HNP daemon   : [prterun-a@0,0] on node a\n  Remote daemon: [prterun-a@0,1] on node b", "b"),
        ("[mpiexec@a] control_cb (/mpich/pmiserv_cb.c:280): assert (!closed) failed", ""),
        ("mlpprof: rank 2 of 0 to 3 (process 5218 on node7) was killed by SIGSEGV", None),
    ],
)
def test_a_lost_machine_is_read_from_what_ssh_and_mpiexec_wrote(line, machine):
    assert lost_machine(f"RuntimeWarning: of a rank\n{line}\n") == machine


def test_the_reason_why_ranks_did_not_start_is_that_of_ssh_or_the_first_of_mpiexec():
    log = (
        "[proxy:1@node2] launch_procs (/mpich/pmip_cb.c:891): unable to change wdir to /home/ada (No such file)\n"
        "[mpiexec@node1] main (/mpich/mpiexec.c:270): process manager error waiting for completion\n\n"
    )
    assert reason(log) == "on node2: unable to change wdir to /home/ada (No such file)"
    refused, warning = "ssh: connect to host node2 port 22: Connection refused", "Warning: Permanently added 'node3' to"
    assert reason(f"{log}{refused}\n") == f"{refused}; {reason(log)}"
    assert reason(f"{warning}\n{log}") == reason(log)


def test_torn_lines_among_the_answers_of_machines_are_left_out():
    whole = f'{MARK}{{"host": "a"}}'
    assert answers_in(f"{whole}\n{whole[:25]}\nhello\n{whole}{whole}\n".encode() + b"\xff" + whole.encode()) == [
        {"host": "a"},
        {"host": "a"},
    ]


def asked(tmp_path: Path, program: str, hosts: str = "a:1\n") -> None:
    """Ask the machines of a hostfile through an mpiexec that is this program of the shell."""
    file = tmp_path / "mpiexec"
    file.write_text(f"#!/bin/sh\n{program}\n")
    file.chmod(0o755)
    (tmp_path / "hosts").write_text(hosts)
    command = [str(file), "-n", "1", "--hostfile", str(tmp_path / "hosts"), "--allow-run-as-root"]
    require_same_hosts(command, {**os.environ, HOSTFILE_VARIABLE: str(tmp_path / "hosts")})


@pytest.mark.skipif(os.name == "nt", reason="the program is one of the shell")
def test_an_ssh_that_stays_and_holds_the_output_open_does_not_hold_up_the_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(mpi_hosts, "ANSWER_S", 0.5)
    monkeypatch.setattr(mpi_hosts, "END_S", 0.2)
    begun = time.monotonic()
    with pytest.raises(UsageError, match=r"no answer within 0 seconds.* to try it: .*--allow-run-as-root hostname$"):
        asked(tmp_path, f"sleep 15 & echo $! > {shlex.quote(str(tmp_path / 'pid'))}\nexit 1")
    assert time.monotonic() - begun < 10
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_line_of_a_hostfile_that_ssh_would_read_as_an_option_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"hosts:2: '-oProxyCommand=id:1' begins with '-', so ssh would .*expected"):
        asked(tmp_path, "exit 1", "a:1\n -oProxyCommand=id:1\n")


def test_machines_with_other_versions_are_refused():
    newer, older = {"mlpprof": "1.0", "numpy": "2.1"}, {"mlpprof": "1.0", "numpy": "2.0"}
    require_same({"a": newer, "b": newer}, "hosts")
    with pytest.raises(UsageError, match="hosts have different versions: numpy is 2.1 on a, and 2.0 on b; install"):
        require_same({"a": newer, "b": older}, "hosts")
