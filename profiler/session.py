"""An ONNX Runtime session of any shape as a callable that does one run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from device_profiles.target import Configuration, Workload
from profiler.affinity import Cpus
from profiler.runtime import Runs, runs_of, session_options, start_session
from supernet.cost import VOCAB_SIZE
from supernet.graph_author import WeightSpec
from supernet.onnx_graph import INPUT_NAMES, OUTPUT_NAME, build_encoder

# BERT's initialisation; the speed of fp32 products does not depend on the values.
_WEIGHT_DEVIATION = 0.02
# What a normally distributed row has when its largest value is 127.
_INT8_DEVIATION = 40
_SCALE = _WEIGHT_DEVIATION / _INT8_DEVIATION
_TILE_SIZE = 1 << 20


class WeightPool:
    """Random weights for any graph, drawn once and handed out in pieces.

    Every tensor of a graph gets a region of its own: weights that share memory would share
    cache lines, and the graph would run 2 % faster than it does from a file.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        normal = rng.normal(0, 1, _TILE_SIZE)
        self._tiles: dict[str, npt.NDArray[Any]] = {
            "float32": (normal * _WEIGHT_DEVIATION).astype(np.float32),
            "float16": (normal * _WEIGHT_DEVIATION).astype(np.float16),
            "int8": np.clip(np.rint(normal * _INT8_DEVIATION), -127, 127).astype(np.int8),
        }
        self._values = dict(self._tiles)

    def take(self, weights: Mapping[str, WeightSpec]) -> dict[str, npt.NDArray[Any]]:
        """Weights as they are specified, by name, in regions that do not overlap."""
        needed: dict[str, int] = {}
        for spec in weights.values():
            needed[spec.dtype.name] = needed.get(spec.dtype.name, 0) + math.prod(spec.shape)
        for dtype, size in needed.items():
            if size > self._values[dtype].size:
                # Repeating one tile costs a tenth of drawing anew; the regions stay apart.
                tile = self._tiles[dtype]
                self._values[dtype] = np.tile(tile, -(-size // tile.size))
        taken: dict[str, npt.NDArray[Any]] = {}
        starts = dict.fromkeys(needed, 0)
        for name, spec in weights.items():
            start, dtype = starts[spec.dtype.name], spec.dtype.name
            starts[dtype] = start + math.prod(spec.shape)
            region = self._values[dtype][start : starts[dtype]]
            # Scales of int8 weights bring them back to the deviation that float weights have.
            taken[name] = (np.full_like(region, _SCALE) if spec.is_scale else region).reshape(
                spec.shape
            )
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
    graph = build_encoder(
        configuration.architecture,
        variant=target.graph_variant,
        precision=target.precision,
        part=configuration.part,
    )
    weights = pool.take(graph.weights)
    options = session_options(target, cpus)
    options.add_external_initializers(
        list(weights),
        [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()],
    )
    session = start_session(graph.model.SerializeToString(), target, options, cpus)
    return runs_of(session, [OUTPUT_NAME], random_inputs(configuration.workload, rng), target)
