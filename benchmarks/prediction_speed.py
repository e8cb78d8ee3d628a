"""How long `predict-latency` takes for a million rows, CSV reading and writing included.

    python -m benchmarks.prediction_speed PREDICTOR [--passes 5]

Claim: under 5 s. Whole processes are timed, with their peak memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from predictor.store import load_predictor
from supernet.architecture import ARCHITECTURE_FIELDS

ROWS = 1_000_000


def main() -> None:
    """Writes a file of random shapes within the predictor's range and times the command on it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("predictor", type=Path)
    parser.add_argument("--passes", type=int, default=5)
    arguments = parser.parse_args()
    part = load_predictor(arguments.predictor).slices[0]
    rng = np.random.default_rng(0)
    shapes = rng.integers(part.lowest, part.highest + 1, (ROWS, len(ARCHITECTURE_FIELDS)))
    heads = shapes[:, 3]
    fewest, most = -(-part.lowest[4] // heads), part.highest[4] // heads
    shapes[:, 4] = heads * rng.integers(fewest, most + 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shapes.csv"
        np.savetxt(
            path, shapes, fmt="%d", delimiter=",", header=",".join(ARCHITECTURE_FIELDS), comments=""
        )
        code = "from predictor.cli import predict_latency_main; predict_latency_main()"
        command = [sys.executable, "-c", code, "--predictor", str(arguments.predictor)]
        command += ["--csv", str(path)]
        elapsed_s = []
        for _ in range(arguments.passes):
            with (Path(folder) / "out.csv").open("wb") as out:
                start_s = time.perf_counter()
                process = os.posix_spawn(
                    sys.executable,
                    command,
                    os.environ,
                    file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)],
                )
                _, status, usage = os.wait4(process, 0)
                elapsed_s.append(time.perf_counter() - start_s)
            assert status == 0
        with (Path(folder) / "out.csv").open() as written:
            assert sum(1 for _ in written) == ROWS + 1
    low, median, high = np.percentile(elapsed_s, [0, 50, 100])
    print(
        f"{ROWS} rows: median {median:.2f} s, {low:.2f}..{high:.2f} over {arguments.passes} "
        f"processes; peak memory {usage.ru_maxrss / 1024:.0f} MiB"
    )


if __name__ == "__main__":
    main()
