"""The child behind a real sshd, on a port of this machine, with keys and configs of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from autotinybert.errors import WorkError
from device_profiles.machine import measurement_key
from device_profiles.protocol import Protocol
from device_profiles.target import Configuration
from profiler.campaign import ConnectionLostError, WorkerLostError
from profiler.child import ChildWorker, open_child
from profiler.doctor_cli import examine_machine
from profiler.ssh import RemoteHost, ssh_command
from supernet.architecture import Architecture

ROOT = Path(__file__).resolve().parent.parent.parent
SSHD = Path("/usr/sbin/sshd")
TINY = Configuration(Architecture(1, 24, 40, 3, 27))
HUGE = Configuration(Architecture(12, 768, 3072, 12, 768))
QUICK = Protocol(min_time_s=0.001, most_waiting_share=1.0)
ENDLESS = Protocol(min_time_s=10_000, min_runs=10_000, max_runs=10_000, most_waiting_share=1.0)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (SSHD.exists() and shutil.which("ssh")),
        reason="there is no sshd (openssh-server) or no ssh (openssh-client) here",
    ),
]

SSHD_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""
SSH_CONFIG = """
Host device
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/{key}
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/{known_hosts}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  # What a personal config may hold, and must not break the conversation:
  RequestTTY force
  RemoteCommand echo never
  LogLevel QUIET
  ControlMaster auto
  ControlPath {folder}/control
"""


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        if condition():
            return True
        time.sleep(0.05)
    return False


class Server:
    """A running sshd."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("host_key", "user_key", "stranger_key"):
            keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
            subprocess.run(keygen, check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        public = (folder / "host_key.pub").read_text().split()[:2]
        (folder / "known").write_text(f"[127.0.0.1]:{self._port} {' '.join(public)}\n")
        (folder / "unknown").write_text("")
        config = SSHD_CONFIG.format(port=self._port, folder=folder)
        (folder / "sshd_config").write_text(config)
        # The package is not installed on the "other" machine, so its Python is told where it is.
        self.python = folder / "python"
        self.python.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
        self.python.chmod(0o755)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # as the system's service does it
        self.start()

    def start(self) -> None:
        with (self._folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(SSHD), "-D", "-e", "-f", str(self._folder / "sshd_config")], stderr=log
            )
        assert wait_for(self._answers), (self._folder / "sshd.log").read_text()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def remote(self, *, key: str = "user_key", known: str = "known") -> RemoteHost:
        config = self._folder / f"config-{key}-{known}"
        config.write_text(
            SSH_CONFIG.format(
                port=self._port,
                user=getpass.getuser(),
                folder=self._folder,
                key=key,
                known_hosts=known,
            )
        )
        return RemoteHost(host="device", python=str(self.python), config=config)

    def workers(self) -> list[psutil.Process]:
        """The measuring children that it started."""
        below = psutil.Process(self._process.pid).children(recursive=True)
        return [one for one in below if one.name().startswith("python")]

    def drop_connections(self) -> None:
        for child in psutil.Process(self._process.pid).children():
            child.kill()

    def stop(self) -> None:
        below = psutil.Process(self._process.pid).children(recursive=True)
        for process in below:
            process.kill()
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("ssh"))
    yield running
    running.stop()


@pytest.fixture
def worker(server: Server) -> Iterator[ChildWorker]:
    opened = open_child(server.remote())
    yield opened
    opened.close()


def test_a_child_behind_ssh_measures_and_tells_of_its_machine(worker: ChildWorker) -> None:
    assert measurement_key(worker.host)["machine"]
    for _ in range(2):
        assert min(worker.visit(TINY, QUICK)["runs_ns"]) > 0
    assert worker.doctor_facts()["machine_cpus"] >= 1


def test_a_dropped_connection_is_told_from_a_child_that_died(
    server: Server, worker: ChildWorker
) -> None:
    children = server.workers()
    assert len(children) == 1
    server.drop_connections()
    with pytest.raises(ConnectionLostError, match=r"connection to device lost: .+"):
        worker.visit(TINY, QUICK)
    assert wait_for(lambda: not children[0].is_running())  # nothing is left behind there
    again = open_child(server.remote())
    [child] = server.workers()
    child.kill()
    with pytest.raises(WorkerLostError, match=r"process ended .killed by signal 9.") as caught:
        again.visit(TINY, QUICK)
    assert type(caught.value) is WorkerLostError
    again.close()


def test_a_child_in_a_visit_without_end_goes_when_it_is_no_longer_wanted(server: Server) -> None:
    remote = server.remote()
    worker = ChildWorker(ssh_command(remote), remote=remote, visit_timeout_s=1)
    [child] = server.workers()
    with pytest.raises(WorkerLostError, match="no answer within 1 s"):
        worker.visit(HUGE, ENDLESS)
    assert child.is_running()
    worker.close()
    assert wait_for(lambda: not child.is_running())


def test_the_doctor_examines_the_machine_behind_ssh(server: Server) -> None:
    data = examine_machine(server.remote(), None).data
    assert data["ssh"] == "device"
    assert {"other load", "re-test"} <= {finding["what"] for finding in data["findings"]}
    assert wait_for(lambda: not server.workers())


@pytest.mark.parametrize(
    ("key", "known", "message"),
    [
        ("user_key", "unknown", "accept it by hand once, with `ssh device`"),
        ("stranger_key", "known", "Permission denied .*a key that asks for nothing"),
    ],
)
def test_what_keeps_us_out_is_named_with_what_to_do(
    server: Server, key: str, known: str, message: str
) -> None:
    with pytest.raises(WorkError, match=message):
        open_child(server.remote(key=key, known=known))


def test_a_python_that_is_not_there_and_a_server_that_is_gone_are_told_apart(
    server: Server,
) -> None:
    remote = server.remote()
    absent = RemoteHost(host="device", python="/no/python", config=remote.config)
    with pytest.raises(WorkError, match="name its Python with --ssh-python"):
        open_child(absent)
    server.stop()
    with pytest.raises(ConnectionLostError, match="Connection refused"):
        open_child(remote)
    server.start()
    open_child(remote).close()
