"""How fast a predictor is: in memory, over a whole space, and as a command with its files.

    python -m benchmarks.prediction_speed PREDICTOR [--passes 5]

Claims: at least 3,000,000 predictions a second and core, with bounds; all of the `kd` space in
under 30 s and 2 GiB with two processes; loading in under 100 ms; `predict-latency` for a million
rows of CSV in under 5 s. Threads of numpy are limited to one.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from predictor.model import SlicePredictor
from predictor.store import load_predictor
from supernet.architecture import ARCHITECTURE_FIELDS, IntMatrix
from supernet.space import kd_space

ROWS = 1_000_000


def random_shapes(part: SlicePredictor) -> IntMatrix:
    """Shapes within a predictor's range, int64 `[ROWS, 5]`."""
    rng = np.random.default_rng(0)
    shapes = rng.integers(part.lowest, part.highest + 1, (ROWS, len(ARCHITECTURE_FIELDS)))
    heads = shapes[:, 3]
    fewest, most = -(-part.lowest[4] // heads), part.highest[4] // heads
    shapes[:, 4] = heads * rng.integers(fewest, most + 1)
    return shapes


def scan(path: Path, first: int, step: int) -> tuple[int, int, float]:
    """Predicts every `step`-th block of the `kd` space.

    Returns:
        How many were predicted, how many of these are within 10 ms, and the peak memory in MiB.
    """
    part = load_predictor(path).slices[0]
    count = within = 0
    for number, block in enumerate(kd_space().blocks(1 << 16)):
        if number % step == first:
            known = np.ones(len(block), dtype=bool)
            known[part.out_of_range(block)] = False
            found = part.predict(block[known])
            count += len(found.latency_ms)
            within += int((found.safe_ms <= 10).sum())
    return count, within, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_memory(path: Path, passes: int) -> None:
    """Prints the rate of predictions, the time of a whole space, and of loading."""
    part = load_predictor(path).slices[0]
    shapes = random_shapes(part)
    rates = []
    for _ in range(passes):
        start_s = time.perf_counter()
        part.predict(shapes)
        rates.append(ROWS / (time.perf_counter() - start_s) / 1e6)
    print(
        f"{part.chosen}, with bounds: median {np.median(rates):.2f} million predictions a second "
        f"and core, {min(rates):.2f} to {max(rates):.2f} over {passes} passes"
    )
    start_s = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        parts = list(pool.map(scan, [path] * 2, range(2), [2] * 2))
    elapsed_s = time.perf_counter() - start_s
    count, within = (sum(each[place] for each in parts) for place in range(2))
    print(
        f"{count} of {kd_space().size} architectures of kd, {within} within 10 ms: "
        f"{elapsed_s:.1f} s with two processes; peak memory "
        f"{sum(each[2] for each in parts):.0f} MiB together"
    )
    code = (
        "import time, pathlib, sys; from predictor.store import load_predictor; "
        "start = time.perf_counter(); load_predictor(pathlib.Path(sys.argv[1])); "
        "print(time.perf_counter() - start)"
    )
    loads_ms = [
        1e3 * float(subprocess.check_output([sys.executable, "-c", code, str(path)]))
        for _ in range(passes)
    ]
    print(f"loading: median {np.median(loads_ms):.1f} ms, most {max(loads_ms):.1f} ms")


def main() -> None:
    """Times predictions in memory, then the command on a file of random shapes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("predictor", type=Path)
    parser.add_argument("--passes", type=int, default=5)
    arguments = parser.parse_args()
    in_memory(arguments.predictor, arguments.passes)
    shapes = random_shapes(load_predictor(arguments.predictor).slices[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shapes.csv"
        np.savetxt(
            path, shapes, fmt="%d", delimiter=",", header=",".join(ARCHITECTURE_FIELDS), comments=""
        )
        code = "from predictor.predict_cli import predict_latency_main; predict_latency_main()"
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
