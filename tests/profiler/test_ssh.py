"""The child on another machine, through a program that behaves as ssh does and drops at will."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotinybert.errors import InputError, WorkError
from device_profiles.journal import Journal, read_journal
from device_profiles.profile import JOURNAL_FILE, PROFILE_FILE, DeviceProfile
from device_profiles.protocol import WIRE_VERSION, Protocol
from device_profiles.rows import rows_of
from device_profiles.target import Configuration, Target, Workload
from device_profiles.visits import CampaignRecord
from profiler.campaign import ConnectionLostError, WorkerLostError, run_campaign
from profiler.child import ChildWorker, open_child
from profiler.plan import make_plan, sample_architectures
from profiler.ssh import RemoteHost, ssh_command
from supernet.architecture import Architecture
from supernet.space import kd_space

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGURATION = Configuration(Architecture(1, 24, 40, 3, 27))
PROTOCOL = Protocol(block_size=8)

# Runs the command here, and ends as ssh does when the connection breaks: after the lines, counted
# over all its runs, whose numbers stand in `drops.json`.
FAKE_SSH = """#!{python} -SE
import json, pathlib, subprocess, sys
folder = pathlib.Path(__file__).parent
seen, drops = folder / "seen", json.loads((folder / "drops.json").read_text())
script = sys.argv[sys.argv.index("--") + 2]
print("Authorised use only.", file=sys.stderr)
child = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
for line in child.stdout:
    number = int(seen.read_text()) + 1 if seen.exists() else 1
    seen.write_text(str(number))
    if number in drops:
        child.kill()
        print("client_loop: send disconnect: Broken pipe", file=sys.stderr)
        sys.exit(255)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
sys.exit(child.wait())
"""

# In place of the Python there: answers with times that follow from the configuration alone.
FAKE_PYTHON = """#!{python} -SE
import json, sys
print("Welcome to the device!")
print("You have mail. ", end="")
ready = {{"type": "ready", "wire_version": {wire_version}, "host": {host}, "model_sha256": None}}
print(json.dumps(ready), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    shape = [int(size) for size in request["configuration"]["model_id"].split("-")]
    fastest_ns = shape[0] * shape[1] * shape[2]
    reply = {{"type": "visit", "id": request["id"], "facts": {{}}}}
    reply["runs_ns"] = [fastest_ns + step for step in range(12)]
    print(json.dumps(reply), flush=True)
"""

DYING_PYTHON = """#!{python} -SE
import json, os, sys
print(json.dumps({{"type": "ready", "wire_version": {wire_version}, "host": {{}}}}), flush=True)
sys.stdin.readline()
os.kill(os.getpid(), 9)
"""

Remote = Callable[..., RemoteHost]


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def remote(tmp_path: Path, fake_device: Callable[..., Any]) -> Remote:
    """Makes a host behind the fake ssh; its connection drops at the lines that are named."""
    host: dict[str, Any] = {**fake_device().host, "machine": "aarch64"}

    def make(*drops: int, python: str | None = None) -> RemoteHost:
        folder = tmp_path / f"bin-{len(drops)}"
        folder.mkdir()
        (folder / "drops.json").write_text(json.dumps(drops))
        fake = FAKE_PYTHON.format(python=sys.executable, wire_version=WIRE_VERSION, host=host)
        return RemoteHost(
            host="pi",
            python=script(folder / "fake python", fake) if python is None else python,
            program=script(folder / "ssh", FAKE_SSH.format(python=sys.executable)),
        )

    return make


def campaign_over(remote: RemoteHost, journal: Path) -> CampaignRecord:
    plan = make_plan(
        sample_architectures(kd_space(), 9, 0),
        workloads=[Workload()],
        targets=[Target()],
        rivals=False,
        seed=0,
    )
    first = open_child(remote)
    first.close()
    now_s = iter(range(1_000_000))
    with Journal(journal) as records:
        return run_campaign(
            plan,
            PROTOCOL,
            records,
            lambda: open_child(remote),
            host=first.host,
            clock_s=lambda: float(next(now_s)),
            sleep_s=lambda _: None,
        )


def test_a_campaign_over_a_dropping_connection_ends_as_an_undisturbed_one(
    tmp_path: Path, remote: Remote
) -> None:
    undisturbed = campaign_over(remote(), tmp_path / "undisturbed")
    # Two lines greet each time, and the first two are those of a first look. Drops before anything
    # was measured, at a first visit, between visits, and three times in a row.
    record = campaign_over(remote(3, 6, 12, 13, 14, 31, 34, 60), tmp_path / "dropping")
    visits = [(visit.round, visit.configuration) for visit in record.visits]
    assert visits == [(visit.round, visit.configuration) for visit in undisturbed.visits]
    assert rows_of(record, PROTOCOL) == rows_of(undisturbed, PROTOCOL)
    assert {row.verdict for row in rows_of(record, PROTOCOL)} == {"ok"}
    assert record.failures == {}
    assert record.reconnections > 3
    resumed = CampaignRecord.from_journal(read_journal(tmp_path / "dropping"))
    assert resumed.reconnections == record.reconnections


def test_profile_device_measures_an_arm_machine_from_any_other_and_says_so(
    tmp_path: Path, remote: Remote
) -> None:
    device = remote(8)
    shapes = tmp_path / "shapes.csv"
    shapes.write_text("num_layers,hidden_size,ffn_size,num_heads,qkv_size\n1,16,32,2,24\n")
    out = tmp_path / "profile"
    options = ("--target", "cpu-arm", "--architectures", str(shapes), "--out", str(out), "--json")
    command = [sys.executable, "-m", "profiler.cli", *options, "--ssh", "pi"]
    path = f"{Path(device.program).parent}{os.pathsep}{os.environ['PATH']}"

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more],
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("--ssh-python", device.python)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["ok"] >= 3
    profile = DeviceProfile.load(out)
    assert profile.host["machine"] == "aarch64"
    assert not [word for word in profile.document["arguments"] if word.startswith("--ssh")]
    assert device.python not in (out / PROFILE_FILE).read_text()
    back = [
        record for record in read_journal(out / JOURNAL_FILE) if record["kind"] == "reconnected"
    ]
    assert [record["reason"] for record in back] == ["connection lost: Broken pipe"]
    other = run("--ssh-python", device.python, "--ssh", "pi2")
    assert other.returncode == 2
    assert 'ssh was "pi"' in other.stderr


def test_the_command_takes_nothing_from_the_config_that_would_break_the_conversation(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config"
    config.write_text("")
    command = ssh_command(RemoteHost(host="me@pi", python="~/my venv/bin/python", config=config))
    assert command[:6] == ["ssh", "-T", "-a", "-x", "-F", str(config)]
    for option in ("BatchMode=yes", "RemoteCommand=none", "ControlPath=none"):
        assert command[command.index(option) - 1] == "-o"
    assert [option for option in command if option.startswith(("ServerAlive", "ConnectTimeout"))]
    assert command[-3:-1] == ["--", "me@pi"]
    # What the login shell there and the `sh` in it make of the last word.
    shell = "sh() { printf '%s' \"$2\"; }; " + command[-1].removeprefix("exec ")
    inner = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert inner == "'my venv/bin/python' -P -m profiler.worker --end-with-input; exit $?"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "-oProxyCommand=sh",
        "pi; reboot",
        "a b",
        "$(reboot)",
        "me@-oProxyCommand=sh",
        "pi\n",
        "Ä",
    ],
)
def test_a_host_that_could_be_anything_else_is_refused(host: str) -> None:
    with pytest.raises(InputError, match="is no host: give a name"):
        RemoteHost(host=host)


@pytest.mark.parametrize(
    "host", ["pi", "me@10.0.0.7", "ssh://me@pi.local:2222", "::1", "fe80::1%e"]
)
def test_every_form_of_a_host_is_taken(host: str) -> None:
    assert host in ssh_command(RemoteHost(host=host))


def test_a_config_that_is_not_there_and_an_empty_python_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no file"):
        RemoteHost(host="pi", config=tmp_path / "absent")
    with pytest.raises(InputError, match="names no Python"):
        RemoteHost(host="pi", python=" ")


PI = RemoteHost(host="pi")


@pytest.mark.parametrize(
    ("status", "last_line", "kind", "message"),
    [
        (255, "Host key verification failed.", WorkError, "accept it by hand once, with `ssh pi`"),
        (255, "me@pi: Permission denied (publickey).", WorkError, "a key that asks for nothing"),
        (255, "x: line 3: Bad configuration option: foo", WorkError, "mend the ssh config"),
        (255, "connect to host pi port 22: Connection refused", ConnectionLostError, "refused"),
        (255, "Timeout, server pi not responding.", ConnectionLostError, "connection to pi lost"),
        (255, "", ConnectionLostError, "connection to pi lost"),
        (-15, "", ConnectionLostError, "connection to pi lost"),
        (127, "sh: 1: python3: not found", WorkError, "install autotinybert on pi"),
        (1, "No module named 'profiler'", WorkError, "name its Python with --ssh-python"),
        (2, "Unknown option: -P", WorkError, "older than Python 3.11"),
        (137, "Killed", WorkerLostError, r"process ended \(killed by signal 9\): Killed"),
        (1, "MemoryError", WorkerLostError, r"process ended \(exit status 1\): MemoryError"),
    ],
)
def test_the_end_of_ssh_says_whose_fault_it_was(
    status: int, last_line: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        raise PI.explain(status, last_line)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("/no/such/python", "not found.*install autotinybert on pi .base package. and name its"),
        ("false", "process on pi did not start: the measuring process ended .exit status 1."),
    ],
)
def test_a_child_that_does_not_start_there_says_why(
    remote: Remote, python: str, message: str
) -> None:
    with pytest.raises(WorkError, match=message):
        open_child(remote(python=python))


def test_a_python_without_the_package_is_told_where_to_get_it(remote: Remote) -> None:
    bare = RemoteHost(host="pi", python=sys.executable, program=remote().program)
    command = ssh_command(bare)
    # -I: as on a machine on which nothing is installed.
    command[-1] = command[-1].replace(" -P -m profiler", " -I -S -m profiler")
    with pytest.raises(WorkError, match=r"No module named.*install autotinybert on pi"):
        ChildWorker(command, remote=bare)


def test_a_missing_ssh_client_is_named() -> None:
    with pytest.raises(WorkError, match=r"cannot start /no/ssh: No such file.*openssh-client"):
        open_child(RemoteHost(host="pi", program="/no/ssh"))


def test_a_shell_that_never_stops_greeting_is_left(tmp_path: Path, remote: Remote) -> None:
    babbling = script(tmp_path / "babbling", "#!/bin/sh\nexec yes\n")
    with pytest.raises(WorkError, match="100 lines before it: silence what it prints"):
        open_child(remote(python=babbling))


def test_a_child_killed_there_costs_its_row_and_a_lost_connection_does_not(
    tmp_path: Path, remote: Remote
) -> None:
    dying = DYING_PYTHON.format(python=sys.executable, wire_version=WIRE_VERSION)
    worker = open_child(remote(python=script(tmp_path / "dying", dying)))
    with pytest.raises(WorkerLostError, match="killed by signal 9") as caught:
        worker.visit(CONFIGURATION, PROTOCOL)
    assert type(caught.value) is WorkerLostError
    worker.close()
    worker = open_child(remote(3))
    with pytest.raises(ConnectionLostError, match="connection to pi lost: client_loop"):
        worker.visit(CONFIGURATION, PROTOCOL)
    worker.close()
