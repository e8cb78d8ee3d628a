"""The body of `profile-device --recheck`."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from autotinybert.command import Answer
from autotinybert.errors import InputError
from autotinybert.files import OutputFolder, check_apart, read_signed_json, write_signed_json
from autotinybert.text_table import text_table
from device_profiles.journal import Journal
from device_profiles.machine import key_hash, measurement_key
from device_profiles.profile import JOURNAL_FILE, DeviceProfile
from device_profiles.target import check_target, provider_of
from profiler.affinity import parse_cpus
from profiler.campaign import Progress, Worker
from profiler.child import open_child
from profiler.profiling import machine_facts
from profiler.recheck import (
    DEFAULT_RECHECK_CONFIGS,
    MOST_RECHECK_CONFIGS,
    choose_rows,
    describe,
    recheck,
)
from profiler.ssh import RemoteHost

SCHEMA_VERSION = 1

RECHECK_FILE = "recheck.json"
RECHECK_FILES = (RECHECK_FILE, JOURNAL_FILE)

_COMMAND = "profile-device --recheck"


def recheck_machine(
    path: Path,
    remote: RemoteHost | None,
    *,
    configs: int | None,
    out: Path | None,
    seed: int,
    overwrite: bool,
    on_progress: Callable[[Progress], None],
) -> Answer:
    """Checks a profile against a machine, pinned as the profile was.

    Args:
        path: the profile's folder.
        remote: the machine; None for this one.
        configs: how many shapes.
        out: where `recheck.json` and its journal go; nowhere if None.
        seed: decides the order of the visits.
        overwrite: replace what another check left in `out`.
        on_progress: told after every visit.

    Raises:
        InputError: if there is no such profile, or the machine cannot be checked against it.
    """
    profile = DeviceProfile.load(path)
    provider = provider_of(profile.target)
    cpus = parse_cpus(str(profile.key.get("pinned_cpus", "")))
    open_worker = partial(open_child, remote, cpus=cpus, provider=provider)
    return recheck_profile(
        profile,
        open_worker=open_worker,
        host_facts=partial(machine_facts, open_worker, remote),
        configs=configs,
        out=out,
        seed=seed,
        overwrite=overwrite,
        on_progress=on_progress,
    )


def recheck_profile(
    profile: DeviceProfile,
    *,
    open_worker: Callable[[], Worker],
    host_facts: Callable[[], Mapping[str, Any]],
    clock_s: Callable[[], float] = time.monotonic,
    configs: int | None = None,
    out: Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Answer:
    """Measures a few shapes of a profile again and says whether it still holds.

    Args:
        profile: what is checked.
        open_worker: starts a fresh worker.
        host_facts: tells the facts of the machine that the workers measure.
        clock_s: reads seconds.
        configs: how many shapes.
        out: where `recheck.json` and its journal go; nowhere if None.
        seed: decides the order of the visits.
        overwrite: replace what another check left in `out`.
        on_progress: told after every visit.

    Raises:
        InputError: if this machine cannot be checked against the profile.
    """
    if out is not None:
        check_apart(out, {"the profile that is checked": profile.folder})
    count = DEFAULT_RECHECK_CONFIGS if configs is None else configs
    if not 3 <= count <= MOST_RECHECK_CONFIGS:
        raise InputError(f"--recheck measures 3 to {MOST_RECHECK_CONFIGS} --configs, not {count}")
    chosen = choose_rows(profile, count)
    host = host_facts()
    check_target(profile.target, host)
    threads = max(configuration.target.threads for configuration, _ in chosen)
    if threads > host["cpu_count"]:
        raise InputError(
            f"{profile.folder} was measured with {threads} threads, this machine has "
            f"{host['cpu_count']} cores: it says nothing about this machine"
        )
    request = {
        "profile": profile.document["checksums"],
        "measurement_key_hash": key_hash(measurement_key(host)),
        "configurations": [configuration.to_json() for configuration, _ in chosen],
        "seed": seed,
    }
    with _folder(out, request, overwrite=overwrite) as folder:
        if folder.state == "finished":
            document = read_signed_json(
                folder.path / RECHECK_FILE,
                kind="recheck",
                schema_version=SCHEMA_VERSION,
                remedy="check again with --overwrite",
            )
            return _answer(document, f"{out} was finished before; nothing was measured")
        folder.create()
        fresh = folder.state == "new"
        # Locked and emptied first: an old journal must never stand beside the new request.
        with Journal(folder.path / JOURNAL_FILE, fresh=fresh) as journal:
            folder.begin([RECHECK_FILE])
            found = recheck(
                profile,
                chosen,
                journal,
                open_worker,
                host=host,
                clock_s=clock_s,
                seed=seed,
                on_progress=on_progress,
            )
        document = {
            "schema_version": SCHEMA_VERSION,
            "kind": "recheck",
            "profile": str(profile.folder),
            "measured_utc": profile.document["created_utc"],
            **found.to_json(),
            "names": [describe(row.configuration) for row in found.rows],
        }
        write_signed_json(folder.path / RECHECK_FILE, document)
        folder.finish()
    return _answer(document, "" if out is None else f"wrote {out}")


@contextlib.contextmanager
def _folder(
    out: Path | None, request: Mapping[str, Any], *, overwrite: bool
) -> Iterator[OutputFolder]:
    """The folder asked for, or one that is gone afterwards."""
    with contextlib.ExitStack() as stack:
        path = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recheck-")))
        yield OutputFolder.claim(path, _COMMAND, request, files=RECHECK_FILES, overwrite=overwrite)


def _answer(document: Mapping[str, Any], last_line: str) -> Answer:
    """What the command says; exit code 0 where the profile holds."""
    differences = document["key_differences"]
    lines = [f"profile of {document['measured_utc']}, checked in {document['elapsed_s']:.0f} s"]
    if differences:
        lines.append("since then changed (profile / now):")
        lines += [f"  {difference}" for difference in differences]
    else:
        lines.append("the same kind of machine and build: the measurement key is equal")
    rows = [
        (
            name,
            f"{row['old_ms']:.2f}",
            "" if row["new_ms"] is None else f"{row['new_ms']:.2f}",
            row["verdict"] if row["ratio"] is None else f"{row['ratio']:.3f}",
        )
        for name, row in zip(document["names"], document["rows"], strict=True)
    ]
    lines.append(text_table(("shape", "profile ms", "now ms", "now / profile"), rows))
    lines += [f"{row['verdict']}: {row['reason']}" for row in document["rows"] if not row["ratio"]]
    lines.append(document["sentence"])
    lines += [last_line] if last_line else []
    return Answer(dict(document), "\n".join(lines), exit_code=int(document["verdict"] != "holds"))
