"""Does a graph on the random pool run as fast as the same graph from a file?

    python -m benchmarks.graph_fidelity

Claim: within 1 %, so that what is profiled is what ships. Both sessions live in one process and
are timed in turn.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks.interleaved import interleaved_ms, ratio_summary
from device_profiles.target import Configuration
from profiler.runtime import session_options
from profiler.session import WeightPool, open_session, random_inputs
from supernet.architecture import Architecture
from supernet.onnx_graph import build_encoder
from supernet.weights import weight_shapes

SHAPES = ("3-320-608-12-180", "4-312-1200-12-312", "5-564-1024-12-528", "8-528-2112-12-528")


def main() -> None:
    """Prints the ratio pool / file for each shape."""
    rng = np.random.default_rng(0)
    pool = WeightPool(rng)
    for name in SHAPES:
        configuration = Configuration(Architecture.parse(name))
        shapes = weight_shapes(configuration.architecture)
        weights = {
            key: rng.normal(0, 0.02, shape).astype(np.float32) for key, shape in shapes.items()
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            model = build_encoder(configuration.architecture, weights=weights).model
            path.write_bytes(model.SerializeToString())
            session = onnxruntime.InferenceSession(
                path, session_options(configuration.target), providers=["CPUExecutionProvider"]
            )
        inputs = random_inputs(configuration.workload, rng)

        def run_file(
            session: onnxruntime.InferenceSession = session,
            inputs: dict[str, npt.NDArray[np.int64]] = inputs,
        ) -> object:
            return session.run(None, inputs)

        run_pool = open_session(configuration, pool, rng)
        times_ms = interleaved_ms([run_pool, run_file], rounds=40, runs=5)
        print(f"{name:<20} pool / file {ratio_summary(times_ms[:, 0], times_ms[:, 1])}")


if __name__ == "__main__":
    main()
