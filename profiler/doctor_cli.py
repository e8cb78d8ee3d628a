"""`profile-device --doctor`: is this machine, or the one behind --ssh, fit to measure on?"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from autotinybert.command import Answer
from autotinybert.errors import WorkError
from profiler.campaign import ConnectionLostError, VisitFailedError, WorkerLostError
from profiler.child import ChildWorker, open_child
from profiler.doctor import examine, is_fit, judge_probe, probe
from profiler.doctor_state import disk
from profiler.finding import Finding, MachineFacts
from profiler.ssh import RemoteHost


def examine_machine(remote: RemoteHost | None, out: Path | None) -> Answer:
    """Gathers the facts, probes, and says what was found; writes nothing.

    Args:
        remote: the machine to examine; this one if None.
        out: where the profile would be written, on this machine.

    Raises:
        WorkError: if the machine cannot be reached or asked.
    """
    try:
        worker = open_child(remote)
    except ConnectionLostError as error:
        raise unreachable(error, remote) from error
    try:
        findings = [*_examined(worker), disk(*_free_space(out))]
        host = dict(worker.host)
    except WorkerLostError as error:
        raise WorkError(f"the machine was lost while it was examined: {error}") from error
    finally:
        worker.close()
    return answer_of(findings, host, None if remote is None else remote.host)


def unreachable(error: ConnectionLostError, remote: RemoteHost | None) -> WorkError:
    """What to say when the first connection to a machine was not made."""
    host = remote.host if remote else ""
    return WorkError(f"{error}: check that `ssh {host} true` works, then run this again")


def _examined(worker: ChildWorker) -> list[Finding]:
    # The facts come first: a probe would be seen as load.
    try:
        facts = MachineFacts.from_json(worker.host, worker.doctor_facts())
    except (VisitFailedError, ValueError) as error:
        raise WorkError(f"the machine gave no facts: {error}") from error
    try:
        tested = judge_probe(probe(worker))
    except VisitFailedError as error:
        mend = "make `profile-device` measure one shape first"
        tested = Finding("bad", "re-test", f"a small shape could not be measured: {error}", mend)
    return [*examine(facts), tested]


def _free_space(out: Path | None) -> tuple[int | None, str]:
    """Free bytes where the profile would be written, and the folder that was asked."""
    folder = Path.cwd() if out is None else out.resolve()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        return shutil.disk_usage(existing).free, str(existing)
    except OSError:
        return None, str(existing)


def answer_of(findings: list[Finding], host: dict[str, Any], ssh: str | None) -> Answer:
    """What the command says about the findings."""
    fit = is_fit(findings)
    lines = [f"{ssh or 'this machine'}: {host.get('cpu_model')}"]
    for finding in findings:
        lines.append(f"{finding.level:9}{finding.what}: {finding.why}")
        if finding.mend:
            lines.append(f"{'':11}mend: {finding.mend}")
    counts = {level: sum(f.level == level for f in findings) for level in ("bad", "warn")}
    doubts = f"{counts['bad']} bad, {counts['warn']} to know of"
    lines.append(f"fit to measure on ({doubts})" if fit else f"not fit to measure on ({doubts})")
    data = {
        "fit": fit,
        "findings": [finding.to_json() for finding in findings],
        "ssh": ssh,
        "host": host,
    }
    return Answer(data, "\n".join(lines), exit_code=0 if fit else 1)
