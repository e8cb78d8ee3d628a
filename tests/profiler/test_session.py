from __future__ import annotations

import numpy as np

from device_profiles.target import Configuration, Target, Workload
from profiler.runtime import session_options
from profiler.session import WeightPool, open_session, random_inputs
from supernet.architecture import Architecture


def test_a_session_of_any_shape_runs_under_its_workload() -> None:
    rng = np.random.default_rng(0)
    pool = WeightPool(rng)
    for architecture, variant in (
        (Architecture(1, 24, 40, 3, 27), "plain"),
        (Architecture(2, 64, 128, 4, 32), "attention"),
    ):
        configuration = Configuration(
            architecture,
            Workload(2, 16),
            Target(graph_variant=variant),  # type: ignore[arg-type]
        )
        output = np.array(open_session(configuration, pool, rng)())
        assert output.shape == (1, 2, 16, architecture.hidden_size)
        assert np.isfinite(output).all()


def test_no_two_weights_share_memory_and_none_is_denormal() -> None:
    pool = WeightPool(np.random.default_rng(0))
    shapes = {"a": (300, 4000), "b": (7,), "c": (2000, 1000)}
    taken = list(pool.take(shapes).values())
    assert [value.shape for value in taken] == list(shapes.values())
    for index, first in enumerate(taken):
        assert not any(np.shares_memory(first, second) for second in taken[index + 1 :])
        magnitudes = np.abs(first[first != 0])
        assert magnitudes.min() > np.finfo(np.float32).tiny


def test_inputs_are_whole_sequences_of_known_tokens() -> None:
    inputs = random_inputs(Workload(3, 5), np.random.default_rng(0), vocab_size=11)
    assert {value.shape for value in inputs.values()} == {(3, 5)}
    assert inputs["input_ids"].max() < 11
    assert inputs["attention_mask"].all()


def test_options_ask_for_the_threads_of_the_target() -> None:
    assert session_options(Target(threads=2)).intra_op_num_threads == 2
