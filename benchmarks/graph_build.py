"""How long authoring a graph takes, without and with its session.

    python -m benchmarks.graph_build

Claim: below 5 ms without the session.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.interleaved import interleaved_ms
from device_profiles.target import Configuration
from profiler.session import WeightPool, open_session
from supernet.architecture import Architecture
from supernet.onnx_graph import build_encoder
from supernet.variants import GRAPH_VARIANTS, GraphVariant

SHAPES = ("4-312-1200-12-312", "8-528-2112-12-528", "12-768-3072-12-768")


def main() -> None:
    """Prints the median over rounds for each shape."""
    rng = np.random.default_rng(0)
    pool = WeightPool(rng)
    for name in SHAPES:
        architecture = Architecture.parse(name)
        for variant in GRAPH_VARIANTS:

            def build(a: Architecture = architecture, v: GraphVariant = variant) -> bytes:
                serialised: bytes = build_encoder(a, variant=v).model.SerializeToString()
                return serialised

            _report(f"{name:<20} {variant:<10} graph", interleaved_ms([build], rounds=30, runs=1))

        def start(a: Architecture = architecture) -> object:
            return open_session(Configuration(a), pool, rng)

        _report(
            f"{name:<20} {'plain':<10} graph and session",
            interleaved_ms([start], rounds=8, runs=1),
        )


def _report(what: str, elapsed_ms: npt.NDArray[np.float64]) -> None:
    print(f"{what}: median {np.median(elapsed_ms):.2f} ms, worst {elapsed_ms.max():.2f}")


if __name__ == "__main__":
    main()
