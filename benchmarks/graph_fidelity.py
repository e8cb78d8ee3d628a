"""Does a graph on the random pool run as fast as the same graph from a file, and with real weights?

    python -m benchmarks.graph_fidelity

Claims: pool and file within 1 %, random and trained weights within 2 %, so that what is profiled is
what ships. The trained weights are those of the demo's teacher (`make demo` installs it); without
it that part is left out. All sessions live in one process and are timed in turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autotinybert.errors import InputError
from benchmarks.interleaved import interleaved_ms, ratio_summary
from device_profiles.target import Configuration, Target
from profiler.model_file import ModelFile
from profiler.session import WeightPool, open_session
from supernet.architecture import Architecture
from supernet.demo_teacher import DEMO_TEACHER, teacher_folder
from supernet.huggingface import read_bert_folder
from supernet.onnx_graph import build_encoder
from supernet.variants import GraphVariant, Precision
from supernet.weights import LAYER_NORM_EPSILON, weight_shapes

SHAPES = ("3-320-608-12-180", "4-312-1200-12-312", "5-564-1024-12-528", "8-528-2112-12-528")
FORMS: tuple[tuple[GraphVariant, Precision], ...] = (
    ("plain", "fp32"),
    ("folded", "fp32"),
    ("folded", "int8"),
)

Weights = Mapping[str, npt.NDArray[np.float32]]


def _random_weights(architecture: Architecture, rng: np.random.Generator) -> Weights:
    return {
        name: rng.normal(0, 0.02, shape).astype(np.float32)
        for name, shape in weight_shapes(architecture).items()
    }


def _file_run(
    configuration: Configuration, weights: Weights, epsilon: float, rng: np.random.Generator
) -> Callable[[], object]:
    """A run of the graph as it ships: from a file with these weights."""
    target = configuration.target
    model = build_encoder(
        configuration.architecture,
        variant=target.graph_variant,
        precision=target.precision,
        weights=weights,
        layer_norm_epsilon=epsilon,
    ).model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return ModelFile.read(path).open(configuration, rng)


def main() -> None:
    """Prints the ratios for each shape and form."""
    rng = np.random.default_rng(0)
    pool = WeightPool(rng)
    for name in SHAPES:
        for variant, precision in FORMS:
            target = Target(graph_variant=variant, precision=precision)
            configuration = Configuration(Architecture.parse(name), target=target)
            weights = _random_weights(configuration.architecture, rng)
            run_file = _file_run(configuration, weights, LAYER_NORM_EPSILON, rng)
            run_pool = open_session(configuration, pool, rng)
            times_ms = interleaved_ms([run_pool, run_file], rounds=40, runs=5)
            ratio = ratio_summary(times_ms[:, 0], times_ms[:, 1])
            print(f"{name:<20} {variant}, {precision}: pool / file {ratio}", flush=True)
    try:
        teacher = read_bert_folder(teacher_folder(DEMO_TEACHER))
    except InputError as error:
        print(f"trained weights: {error}")
        return
    architecture = teacher.config.largest
    trained_weights = {name: value.numpy() for name, value in teacher.weights.items()}
    for variant, precision in FORMS:
        target = Target(graph_variant=variant, precision=precision)
        configuration = Configuration(architecture, target=target)
        epsilon = teacher.config.layer_norm_epsilon
        trained = _file_run(configuration, trained_weights, epsilon, rng)
        run_pool = open_session(configuration, pool, rng)
        times_ms = interleaved_ms([run_pool, trained], rounds=40, runs=5)
        ratio = ratio_summary(times_ms[:, 0], times_ms[:, 1])
        print(f"{architecture!s:<20} {variant}, {precision}: random / trained {ratio}")


if __name__ == "__main__":
    main()
