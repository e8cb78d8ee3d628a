"""Do two campaigns over the same shapes agree, and does a busy process change the labels?

    python -m benchmarks.repeatability [--passes 3] [--configs 60] [--core 1] [--keep FOLDER]

Claims: quiet campaigns of at most 2 minutes agree with a median difference of at most 1.5 % and a
p90 of at most 4 %; with a busy process on the measured core for half of the time, 0.5 to 15 s at
once, at least 90 % of rows end `ok` in at most twice the time, and those are within 3 % of the
quiet labels. Quiet and busy campaigns take turns, all pinned to the same core.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device_profiles.profile import DeviceProfile
from device_profiles.rows import rows_of
from supernet.cost import embedding_parameters, parameters

_SPIN = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


@contextmanager
def busy_process(core: int, seed: int) -> Iterator[None]:
    """A process that spins on a core for half of the time, in random intervals."""
    over = threading.Event()
    rng = random.Random(seed)

    def switch() -> None:
        while not over.wait(rng.uniform(0.5, 15)):
            spinning = subprocess.Popen([sys.executable, "-c", _SPIN, str(core)])
            over.wait(rng.uniform(0.5, 15))
            spinning.kill()
            spinning.wait()

    thread = threading.Thread(target=switch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def campaign(out: Path, arguments: argparse.Namespace) -> DeviceProfile:
    """Profiles this machine, pinned to one core."""
    command = [
        *(sys.executable, "-m", "profiler.cli", "--target", arguments.target),
        *("--configs", str(arguments.configs), "--seed", "0", "--out", str(out)),
    ]
    pinned = f"import os, sys; os.sched_setaffinity(0, {{{arguments.core}}}); "
    pinned += "os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", pinned, *command], check=False, stdout=subprocess.DEVNULL
    )
    if done.returncode not in (0, 1):  # 1: no row is ok
        raise SystemExit(f"profile-device ended with exit code {done.returncode}")
    return DeviceProfile.load(out)


def uncorrected(profile: DeviceProfile) -> npt.NDArray[np.float64]:
    """The labels as they would be without the correction for the clock rate, `[N]`."""
    record = profile.campaign()
    record.visits = [
        dataclasses.replace(visit, facts={**visit.facts, "probe_ns": None})
        for visit in record.visits
    ]
    rows = rows_of(record, profile.protocol)
    return np.array([row.latency_ms if row.verdict == "ok" else np.nan for row in rows], float)


def labels_of(profile: DeviceProfile) -> npt.NDArray[np.float64]:
    """The labels of rows that are `ok`; NaN for the others, `[N]`."""
    ok = np.array([verdict == "ok" for verdict in profile.measurements.verdicts])
    return np.where(ok, profile.measurements.statistics["latency_ms"], np.nan)


def differences(first: DeviceProfile, second: DeviceProfile) -> npt.NDArray[np.float64]:
    """How far the labels of rows that are `ok` in both differ, relatively."""
    found = np.abs(labels_of(second) / labels_of(first) - 1)
    return found[~np.isnan(found)]


def distribution(found: npt.NDArray[np.float64]) -> str:
    """The differences in words."""
    if not len(found):
        return "no row is ok in both"
    median, p90, worst = np.quantile(found, [0.5, 0.9, 1.0])
    return (
        f"median {median:.2%}, p90 {p90:.2%}, worst {worst:.2%}, within 3 % "
        f"{(found <= 0.03).mean():.1%} of {len(found)} rows"
    )


def described(profile: DeviceProfile) -> str:
    """A campaign in words."""
    record = profile.campaign()
    disturbed = sum(visit.disturbed is not None for visit in record.visits)
    return (
        f"{record.elapsed_s:.0f} s ({record.lost_s:.0f} s lost), {len(record.visits)} visits "
        f"({disturbed} disturbed), rows {profile.document['rows']}"
    )


def factor_between(first: DeviceProfile, second: DeviceProfile) -> str:
    """The factor that all rows share, and what is left without it."""
    logs = np.log(labels_of(second) / labels_of(first))
    logs = logs[~np.isnan(logs)]
    left = np.abs(np.expm1(logs - np.median(logs)))
    probes = [profile.document["quiet_probe_ns"] for profile in (first, second)]
    clock = f", the clock probe by {probes[1] / probes[0] - 1:+.1%}" if all(probes) else ""
    return (
        f"all rows moved by {np.expm1(np.median(logs)):+.1%}{clock}; without that factor "
        f"{distribution(left)}"
    )


def moved_by_weights(first: DeviceProfile, second: DeviceProfile) -> str:
    """How far rows moved by the size of their layers' weights: caches show in that."""
    shapes = first.measurements.architectures
    mib = (parameters(shapes) - embedding_parameters(shapes)) * 4 / 2**20
    logs = np.log(labels_of(second) / labels_of(first))
    order = np.argsort(mib, kind="stable")
    groups = [rows[~np.isnan(logs[rows])] for rows in np.array_split(order, 8)]
    return ", ".join(
        f"{mib[rows].min():.0f} to {mib[rows].max():.0f} MiB {np.expm1(np.median(logs[rows])):+.1%}"
        for rows in groups
        if len(rows)
    )


def main() -> None:
    """Measures quiet and busy in turn, and prints how far they agree."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="cpu-x86")
    parser.add_argument("--configs", type=int, default=60)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--quiet-only", action="store_true", help="leave the busy ones out")
    parser.add_argument("--keep", type=Path, default=None)
    arguments = parser.parse_args()
    quiet: list[DeviceProfile] = []
    busy: list[DeviceProfile] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        for number in range(arguments.passes):
            quiet.append(campaign(folder / f"quiet-{number}", arguments))
            print(f"quiet {number}: {described(quiet[-1])}", flush=True)
            if arguments.quiet_only:
                continue
            with busy_process(arguments.core, number):
                busy.append(campaign(folder / f"busy-{number}", arguments))
            print(f"busy  {number}: {described(busy[-1])}", flush=True)
        pairs = list(itertools.combinations(range(len(quiet)), 2))
        for first, second in pairs:
            found = distribution(differences(quiet[first], quiet[second]))
            print(f"quiet {first} and quiet {second}: {found}")
            raw = np.abs(uncorrected(quiet[second]) / uncorrected(quiet[first]) - 1)
            print(f"  without the correction for the clock: {distribution(raw[~np.isnan(raw)])}")
            print(f"  {factor_between(quiet[first], quiet[second])}")
            print(f"  by weights of the layers: {moved_by_weights(quiet[first], quiet[second])}")
        if len(pairs) > 1:
            pooled = np.concatenate([differences(quiet[a], quiet[b]) for a, b in pairs])
            print(f"quiet pairs pooled: {distribution(pooled)}")
        for number, (calm, loaded) in enumerate(zip(quiet, busy, strict=False)):
            share = loaded.document["rows"]["ok"] / len(loaded.measurements)
            ratio = loaded.campaign().elapsed_s / calm.campaign().elapsed_s
            print(
                f"busy {number} beside quiet {number}: {share:.1%} of rows ok in {ratio:.2f} times "
                f"the time; labels differ {distribution(differences(calm, loaded))}"
            )


if __name__ == "__main__":
    main()
