"""Hosts with a network between them, made of Linux namespaces on one machine, for a test and for a study.

A host has its own name, network, processes, `/dev/shm` and SSH daemon, which listens in its own network only. It has
the machine's files and processors. `ssh HOST` works from every host to every other one. All keys and settings are in
one temporary folder, and nothing of a host is left when its first process ends, which takes all others with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

NETWORK = "10.86.22"
"""The hosts have the addresses .1, .2 and so on of this network, which exists between them alone."""

ENTERED = ("--net", "--uts", "--ipc", "--mount", "--pid")
NAMESPACES = ("setpriv", "--pdeathsig=KILL", "unshare", *ENTERED, "--fork", "--mount-proc", "--kill-child")
TOOLS = ("setpriv", "unshare", "nsenter", "ip", "tc", "ssh", "ssh-keygen", "sshd")

BECOME_A_SWITCH = "ip link add switch up type bridge; echo ready; read -r _"
BECOME_A_HOST = """
hostname "$1"
mount -t tmpfs none /dev/shm
mount -t tmpfs none /run
mkdir /run/sshd
mount --bind "$2/ssh" /etc/ssh
mount --bind "$2/hosts" /etc/hosts
echo ready
read -r _
exec "$3" -D -e -o ListenAddress="$4" 2>&1
"""
SSH_CLIENT = """
IdentityFile {folder}/key
UserKnownHostsFile {folder}/known
ForwardX11 no
"""
SSH_DAEMON = """
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PasswordAuthentication no
StrictModes no
PidFile none
"""


def missing_for_hosts() -> str | None:
    """Why this machine cannot make hosts, or None if it can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "only root can make network namespaces"
    if lacking := [name for name in TOOLS if _program(name) is None]:
        return f"{', '.join(lacking)} missing (Debian: util-linux, iproute2, openssh-server)"
    tried = subprocess.run([*NAMESPACES, "ip", "link", "add", "type", "veth"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"no network namespaces: {tried.stderr.strip()}"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


@dataclass(frozen=True)
class Host:
    """A host that runs. pid: its first process."""

    name: str
    address: str
    pid: int

    def command(self, words: Sequence[str]) -> list[str]:
        """The command that runs these words on the host, in the working folder of the caller."""
        return ["nsenter", f"--target={self.pid}", *ENTERED, "--wd=.", "--", *words]

    def run(self, *words: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a command on the host, and return what it printed. Raises CalledProcessError if it fails."""
        done = subprocess.run(self.command(words), check=True, capture_output=True, text=True, env=environment)
        return done.stdout

    def processes(self) -> list[str]:
        """The command lines of what runs there, without the SSH daemon and what has just ended."""
        lines = self.run("ps", "-e", "-o", "pid=,stat=,args=").splitlines()
        running = [line.split(maxsplit=2) for line in lines]
        return [words for pid, state, words in running if pid != "1" and state[0] != "Z" and "ps -e -o" not in words]

    def received(self) -> int:
        """The bytes that its network has received."""
        [link] = json.loads(self.run("ip", "-json", "-statistics", "link", "show", "eth0"))
        received: int = link["stats64"]["rx"]["bytes"]
        return received

    def limit_network(self, megabits: float, delay_ms: float) -> bool:
        """Send at most so many megabits per second, each packet after a delay; returns whether it can be delayed.

        netem does both. A kernel without netem can only limit the rate, with tbf.
        """
        to = ("tc", "qdisc", "replace", "dev", "eth0", "root")
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run(*to, "netem", "delay", f"{delay_ms}ms", "rate", f"{megabits}mbit", "limit", "10000")
            return True
        self.run(*to, "tbf", "rate", f"{megabits}mbit", "burst", "2kb", "latency", "1s")
        return False

    def die(self) -> None:
        """End all processes of the host at once; the kernel closes their connections."""
        os.kill(self.pid, 9)

    def disconnect(self) -> None:
        """Cut the host off: packets to it and from it are lost without a word."""
        self.run("ip", "link", "set", "eth0", "down")


@contextlib.contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts, named node1, node2 and so on, at one switch. Call it only if `missing_for_hosts` returns None."""
    with tempfile.TemporaryDirectory(prefix="mlpprof-hosts-") as folder, contextlib.ExitStack() as stack:
        names = [f"node{i}" for i in range(1, count + 1)]
        addresses = [f"{NETWORK}.{i}" for i in range(1, count + 1)]
        _write_settings(Path(folder), dict(zip(names, addresses, strict=True)))
        sshd = str(_program("sshd"))
        starting = [
            stack.enter_context(_begun(["bash", "-ec", BECOME_A_HOST, "host", name, folder, sshd, address]))
            for name, address in zip(names, addresses, strict=True)
        ]
        switch = stack.enter_context(_begun(["bash", "-ec", BECOME_A_SWITCH]))
        inside = [_first_process(one) for one in (switch, *starting)]
        found = [Host(*one) for one in zip(names, addresses, inside[1:], strict=True)]
        at_switch = Host("switch", "", inside[0])
        for host in found:
            port = f"to-{host.name}"
            cable = ["type", "veth", "peer", "name", "eth0", "netns", str(host.pid)]
            subprocess.run(["ip", "link", "add", port, "netns", str(at_switch.pid), *cable], check=True)
            at_switch.run("ip", "link", "set", port, "up", "master", "switch")
        for host, one in zip(found, starting, strict=True):
            host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                host.run("ip", "link", "set", link, "up")
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
            _wait_for("Server listening", one)
        yield found


@contextlib.contextmanager
def _begun(words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Namespaces of its own, whose first process runs these words; they end with the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*NAMESPACES, *words], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as one:
        try:
            yield one
        finally:
            one.kill()


def _wait_for(words: str, one: subprocess.Popen[str]) -> None:
    assert one.stdout is not None
    if not any(line.startswith(words) for line in one.stdout):
        raise RuntimeError(f"a host has ended before it wrote '{words}'")


def _first_process(one: subprocess.Popen[str]) -> int:
    """Its number on this machine, once it is ready."""
    _wait_for("ready", one)
    [first] = psutil.Process(one.pid).children()
    return int(first.pid)


def _write_settings(folder: Path, addresses: Mapping[str, str]) -> None:
    """One key is that of every host and of its user, so that they all know each other."""
    (folder / "ssh").mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    public = (folder / "key.pub").read_text(encoding="utf-8")
    (folder / "known").write_text("".join(f"{name},{one} {public}" for name, one in addresses.items()), "utf-8")
    lines = ["127.0.0.1 localhost\n", *(f"{address} {name}\n" for name, address in addresses.items())]
    (folder / "hosts").write_text("".join(lines), "utf-8")
    (folder / "ssh" / "ssh_config").write_text(SSH_CLIENT.format(folder=folder), "utf-8")
    (folder / "ssh" / "sshd_config").write_text(SSH_DAEMON.format(folder=folder), "utf-8")
