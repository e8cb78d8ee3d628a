"""An ONNX Runtime session of any shape as a callable that does one run."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnxruntime

from device_profiles.target import Configuration, Workload
from profiler.affinity import Cpus
from profiler.runtime import Runs, runs_of, session_options, start_session
from supernet.cost import VOCAB_SIZE
from supernet.onnx_graph import INPUT_NAMES, OUTPUT_NAME, build_encoder

# BERT's initialisation; the speed of fp32 products does not depend on the values.
_WEIGHT_DEVIATION = 0.02
_TILE_SIZE = 1 << 20


class WeightPool:
    """Random weights for any graph, drawn once and handed out in pieces.

    Every tensor of a graph gets a region of its own: weights that share memory would share
    cache lines, and the graph would run 2 % faster than it does from a file.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._tile = rng.normal(0, _WEIGHT_DEVIATION, _TILE_SIZE).astype(np.float32)
        self._values = self._tile

    def take(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, npt.NDArray[np.float32]]:
        """Weights of these shapes, by name, in regions that do not overlap."""
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        needed = sum(sizes.values())
        if needed > self._values.size:
            # Repeating one tile costs a tenth of drawing anew; the regions stay apart.
            self._values = np.tile(self._tile, -(-needed // self._tile.size))
        taken: dict[str, npt.NDArray[np.float32]] = {}
        start = 0
        for name, size in sizes.items():
            taken[name] = self._values[start : start + size].reshape(shapes[name])
            start += size
        return taken


def random_inputs(
    workload: Workload, rng: np.random.Generator, *, vocab_size: int = VOCAB_SIZE
) -> dict[str, npt.NDArray[np.int64]]:
    """Inputs of a workload, int64 `[B, S]` each: random tokens, no padding, one segment."""
    shape = (workload.batch_size, workload.sequence_length)
    values = (
        rng.integers(0, vocab_size, shape, dtype=np.int64),
        np.ones(shape, dtype=np.int64),
        np.zeros(shape, dtype=np.int64),
    )
    return dict(zip(INPUT_NAMES, values, strict=True))


def open_session(
    configuration: Configuration, pool: WeightPool, rng: np.random.Generator, cpus: Cpus = ()
) -> Runs:
    """Builds the graph of a configuration and opens a session on it.

    Returns:
        What runs it once.

    Raises:
        WorkError: if the session is not what was asked for.
    """
    target = configuration.target
    graph = build_encoder(configuration.architecture, variant=target.graph_variant)
    weights = pool.take(graph.weight_shapes)
    options = session_options(target, cpus)
    options.add_external_initializers(
        list(weights),
        [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()],
    )
    session = start_session(graph.model.SerializeToString(), target, options, cpus)
    return runs_of(session, [OUTPUT_NAME], random_inputs(configuration.workload, rng), target)
