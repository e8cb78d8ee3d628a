"""How long 60 shapes and the references take, and how well they predict.

    python -m benchmarks.profiling_speed [--passes 3] [--keep FOLDER]

Claims: under 2 minutes; held-out error at most 2 % on a quiet machine. Every pass samples other
shapes; between passes, a predictor fitted on one is tried on the rows of the others, which were
measured minutes later by other processes.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from device_profiles.profile import DeviceProfile
from predictor.fitting import fit_slices
from predictor.metrics import accuracy


def main() -> None:
    """Profiles this machine several times and prints times and errors."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="cpu-x86")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--keep", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        profiles = []
        for seed in range(arguments.passes):
            out = folder / f"pass-{seed}"
            subprocess.run(
                [
                    *(sys.executable, "-m", "profiler.cli", "--target", arguments.target),
                    *("--configs", "60", "--seed", str(seed), "--out", str(out)),
                ],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            profiles.append(DeviceProfile.load(out))
            (fit,) = fit_slices(profiles[-1].measurements)
            found = fit.predictor.accuracies[fit.predictor.chosen]
            document = profiles[-1].document
            print(
                f"pass {seed}: {document['elapsed_s']:.0f} s, rows {document['rows']}, "
                f"{sum(block['slow'] for block in profiles[-1].blocks)} slow blocks; held out "
                f"MAPE {found.mape:.2%}, within 5 % {found.within_5_percent:.1%}, "
                f"worst {found.worst:.1%}"
            )
        for first, second in itertools.permutations(range(arguments.passes), 2):
            (fit,) = fit_slices(profiles[first].measurements)
            rows = profiles[second].measurements
            usable = np.array([verdict == "ok" for verdict in rows.verdicts])
            usable[fit.predictor.out_of_range(rows.architectures)] = False
            measured = rows.statistics["latency_ms"][usable]
            predicted = fit.predictor.predict(rows.architectures[usable])
            found = accuracy(measured, predicted.latency_ms)
            inside = (measured >= predicted.low_ms) & (measured <= predicted.high_ms)
            print(
                f"fitted on pass {first}, tried on pass {second}: MAPE {found.mape:.2%}, "
                f"within 5 % {found.within_5_percent:.1%}, bounds hold {inside.mean():.0%}"
            )


if __name__ == "__main__":
    main()
