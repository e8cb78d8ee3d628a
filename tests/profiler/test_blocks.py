from __future__ import annotations

import numpy as np

from device_profiles.target import Target, Workload
from profiler.blocks import LAYERS, block_plan
from profiler.plan import Plan, sample_architectures
from supernet.architecture import Architecture
from supernet.space import Space, kd_space, mlm_space
from supernet.space_file import load_space

REFERENCE = Architecture(12, 768, 3072, 12, 768)
SMALL = Architecture(4, 312, 1200, 12, 312)


def plan_of(space: Space, targets: tuple[Target, ...] = (Target(),)) -> Plan:
    sampled = sample_architectures(space, 60, 0)
    return block_plan(
        sampled,
        [REFERENCE, SMALL, *sampled],
        workloads=[Workload()],
        targets=targets,
        seed=0,
    )


def sizes(plan: Plan, part: str, *fields: str) -> set[tuple[int, ...]]:
    return {
        tuple(getattr(found.architecture, field) for field in fields)
        for found in plan.configurations
        if found.part == part
    }


def test_a_plan_is_a_grid_over_the_whole_range_of_the_campaign() -> None:
    plan = plan_of(kd_space())
    hidden = sizes(plan, "embeddings", "hidden_size")
    assert len(hidden) == 5
    assert (min(hidden), max(hidden)) == ((128,), (768,))
    ffn = sizes(plan, "ffn", "hidden_size", "ffn_size")
    assert len(ffn) == 25
    assert {(128, 128), (768, 3072)} <= ffn
    attention = sizes(plan, "attention", "hidden_size", "num_heads", "qkv_size")
    assert len(attention) == 25
    assert {heads for _, heads, _ in attention} == {12}
    assert {(128, 12, 180), (768, 12, 768)} <= attention
    assert len(plan.configurations) == plan.num_required == 55
    layers = {found.architecture.num_layers for found in plan.configurations}
    assert layers == {1, LAYERS}


def test_heads_that_go_with_the_qkv_size_go_with_it_in_the_plan() -> None:
    attention = sizes(plan_of(mlm_space()), "attention", "num_heads", "qkv_size")
    assert len(attention) == 5
    assert all(size == 64 * heads for heads, size in attention)


def test_heads_that_vary_on_their_own_are_measured_at_several_numbers() -> None:
    attention = sizes(
        plan_of(load_space("hf-native")), "attention", "hidden_size", "num_heads", "qkv_size"
    )
    at_smallest = {(heads, size) for hidden, heads, size in attention if hidden == 768}
    assert len(at_smallest) > 5
    most = max(size for _, size in at_smallest)
    assert len({heads for heads, size in at_smallest if size == most}) >= 2


def test_every_target_has_its_own_blocks() -> None:
    targets = (Target(), Target(graph_variant="folded"))
    plan = plan_of(kd_space(), targets)
    assert len(plan.configurations) == 110
    assert {found.target for found in plan.configurations} == set(targets)


def test_one_architecture_has_one_block_of_each_kind() -> None:
    plan = block_plan([SMALL], [SMALL], workloads=[Workload()], targets=[Target()], seed=0)
    assert [(found.part, found.architecture) for found in plan.configurations] == [
        ("embeddings", Architecture(1, 312, 1, 1, 1)),
        ("attention", Architecture(3, 312, 1, 12, 312)),
        ("ffn", Architecture(3, 312, 1200, 1, 1)),
    ]
    assert np.array_equal(plan.shuffled(1, [0, 1, 2]), plan.shuffled(1, [0, 1, 2]))
