from __future__ import annotations

import numpy as np

from device_profiles.target import Configuration, Target, Workload
from profiler.runtime import session_options
from profiler.session import WeightPool, open_session, random_inputs
from supernet.architecture import Architecture
from supernet.graph_author import WeightSpec


def test_a_session_of_any_shape_runs_under_its_workload() -> None:
    rng = np.random.default_rng(0)
    pool = WeightPool(rng)
    for architecture, variant, precision in (
        (Architecture(1, 24, 40, 3, 27), "plain", "fp32"),
        (Architecture(2, 64, 128, 4, 32), "attention", "fp32"),
        (Architecture(2, 64, 128, 4, 32), "folded", "fp32"),
        (Architecture(2, 64, 128, 4, 32), "plain", "int8"),
        (Architecture(1, 24, 40, 3, 27), "folded", "int8"),
    ):
        configuration = Configuration(
            architecture,
            Workload(2, 16),
            Target(graph_variant=variant, precision=precision),  # type: ignore[arg-type]
        )
        output = np.array(open_session(configuration, pool, rng)())
        assert output.shape == (1, 2, 16, architecture.hidden_size)
        assert np.isfinite(output).all()


def test_no_two_weights_share_memory_and_none_is_denormal() -> None:
    pool = WeightPool(np.random.default_rng(0))
    specs = {
        "a": WeightSpec((300, 4000), np.dtype(np.float32)),
        "b": WeightSpec((7,), np.dtype(np.float32), is_scale=True),
        "c": WeightSpec((2000, 1000), np.dtype(np.float32)),
        "d": WeightSpec((1100, 1000), np.dtype(np.int8)),
        "e": WeightSpec((10, 1000), np.dtype(np.int8)),
        "f": WeightSpec((10, 10), np.dtype(np.float16)),
    }
    taken = pool.take(specs)
    for name, spec in specs.items():
        assert (taken[name].shape, taken[name].dtype) == (spec.shape, spec.dtype)
    values = list(taken.values())
    for index, first in enumerate(values):
        assert not any(np.shares_memory(first, second) for second in values[index + 1 :])
        if first.dtype != np.int8:
            assert np.abs(first[first != 0]).min() > np.finfo(first.dtype).tiny


def test_int8_weights_and_their_scales_stand_for_weights_as_large_as_float_ones() -> None:
    taken = WeightPool(np.random.default_rng(0)).take(
        {
            "kernel": WeightSpec((200, 300), np.dtype(np.int8)),
            "scale": WeightSpec((300,), np.dtype(np.float32), is_scale=True),
            "float": WeightSpec((200, 300), np.dtype(np.float32)),
        }
    )
    np.testing.assert_allclose(
        (taken["kernel"] * taken["scale"]).std(), taken["float"].std(), rtol=0.05
    )


def test_inputs_are_whole_sequences_of_known_tokens() -> None:
    inputs = random_inputs(Workload(3, 5), np.random.default_rng(0), vocab_size=11)
    assert {value.shape for value in inputs.values()} == {(3, 5)}
    assert inputs["input_ids"].max() < 11
    assert inputs["attention_mask"].all()


def test_options_ask_for_the_threads_of_the_target() -> None:
    assert session_options(Target(threads=2)).intra_op_num_threads == 2
