"""The measuring child on another machine: how `ssh` starts it, and what its end means.

The child is the same program and speaks the same lines. What the distance adds is that the way
there can fail: that is never the fault of what was being measured, so it has an error of its own.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autotinybert.errors import InputError, WorkError
from profiler.campaign import ConnectionLostError, WorkerLostError

# A name, an alias of the ssh config, user@host, an IPv6 address, or ssh://user@host:port.
_HOST = re.compile(r"(ssh://)?[A-Za-z0-9_.@:%+\[\]-]{1,255}")

# A connection that is silent for a minute is gone. Each question costs the device microseconds.
_ALIVE_INTERVAL_S = 15
_ALIVE_COUNT = 4
_CONNECT_TIMEOUT_S = 20

# What a personal ssh config may hold that would break a conversation over stdin and stdout.
_OPTIONS = (
    "BatchMode=yes",  # a question would have nobody to answer it
    f"ServerAliveInterval={_ALIVE_INTERVAL_S}",
    f"ServerAliveCountMax={_ALIVE_COUNT}",
    f"ConnectTimeout={_CONNECT_TIMEOUT_S}",
    "LogLevel=INFO",  # QUIET would hide why it failed
    "ControlMaster=no",  # a shared connection has another's keep-alive and end
    "ControlPath=none",
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",  # a port that is in use would end the connection
)

# ssh's own exit status; what it runs there may end with any other.
_SSH_FAILED = 255

# What no further attempt would mend, by ssh's last line.
_REFUSALS = (
    (
        "Host key verification failed",
        "check the key of the host and accept it by hand once, with `ssh {host}`",
    ),
    (
        "Permission denied",
        "let it in with a key that asks for nothing (ssh-agent, or IdentityFile in the ssh "
        "config); `ssh -o BatchMode=yes {host} true` must work",
    ),
    ("Too many authentication failures", "name the key with IdentityFile in the ssh config"),
    ("Bad configuration option", "mend the ssh config, or name another with --ssh-config"),
    ("terminating, ", "mend the ssh config, or name another with --ssh-config"),
    ("Bad owner or permissions", "mend the ssh config, or name another with --ssh-config"),
)


@dataclass(frozen=True, kw_only=True)
class RemoteHost:
    """Another machine, and how a measuring child is started on it.

    Attributes:
        host: as `ssh` takes it.
        python: the Python there that autotinybert is installed for: a name, or a path that is
            absolute or begins at the home folder there.
        config: an ssh config file to use instead of the personal one.
        program: the ssh client here.

    Raises:
        InputError: if the host is no name that `ssh` takes, the Python is empty, or the config
            is no file.
    """

    host: str
    python: str = "python3"
    config: Path | None = None
    program: str = "ssh"

    def __post_init__(self) -> None:
        # What begins with a dash would be an option to ssh, and could run any command here.
        named = self.host.rpartition("@")[2]
        if not _HOST.fullmatch(self.host) or self.host.startswith("-") or named.startswith("-"):
            raise InputError(
                f"--ssh {self.host!r} is no host: give a name, user@name or ssh://user@name:port"
            )
        if not self.python.strip() or not self.python.isprintable():
            raise InputError("--ssh-python names no Python: give a path on the host")
        if self.config is not None and not self.config.is_file():
            raise InputError(f"--ssh-config {self.config} is no file: name an ssh config")

    def explain(self, status: int, last_line: str) -> Exception:
        """What the end of the ssh client means.

        Args:
            status: its exit status, or the signal that ended it, negated.
            last_line: the last line that it, or the child through it, wrote to stderr.

        Returns:
            `WorkError` where another attempt would not help, `ConnectionLostError` where it may,
            `WorkerLostError` if the child itself ended.
        """
        if status == _SSH_FAILED or status < 0:
            for mark, remedy in _REFUSALS:
                if mark in last_line:
                    mend = remedy.format(host=self.host)
                    return WorkError(f"ssh to {self.host} failed ({last_line}): {mend}")
            why = f": {last_line}" if last_line else ""
            return ConnectionLostError(f"connection to {self.host} lost{why}")
        installing = f"install autotinybert on {self.host} (base package) and name its Python"
        if status in (126, 127) or "No module named" in last_line:
            return WorkError(f"{last_line or f'no {self.python}'}: {installing} with --ssh-python")
        if "nknown option" in last_line and "-P" in last_line:
            return WorkError(
                f"{self.python} on {self.host} is older than Python 3.11: {installing}, 3.11 or "
                "newer, with --ssh-python"
            )
        # The shell there tells of a signal as 128 and its number.
        died = f"killed by signal {status - 128}" if status > 128 else f"exit status {status}"
        last = f": {last_line}" if last_line else ""
        # Without the host: it is journalled as what a configuration failed with.
        return WorkerLostError(f"the measuring process ended ({died}){last}")


def ssh_command(remote: RemoteHost, arguments: Sequence[str] = ()) -> list[str]:
    """The command that starts a measuring child on another machine.

    Args:
        remote: the machine.
        arguments: further ones of the child.
    """
    # A session begins in the home folder there; a quoted tilde would mean nothing to its shell.
    python = remote.python.removeprefix("~/")
    # -P: a file in the home folder there must not be taken for one of our packages.
    child = shlex.join([python, "-P", "-m", "profiler.worker", "--end-with-input", *arguments])
    # Without a shell that stays, a child killed by a signal (by the kernel, when memory runs out)
    # would look like a lost connection: ssh ends with 255 for both. What `sh` runs is quoted for
    # the login shell, which may be of any kind.
    script = shlex.quote(f"{child}; exit $?")
    options = [word for option in _OPTIONS for word in ("-o", option)]
    config = [] if remote.config is None else ["-F", str(remote.config.resolve())]
    # -T, -a, -x: no terminal, no agent, no display, whatever the config asks for.
    return [
        *(remote.program, "-T", "-a", "-x", *config, *options),
        *("--", remote.host, f"exec sh -c {script}"),
    ]
