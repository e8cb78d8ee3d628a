from __future__ import annotations

import pytest

from device_profiles.target import Target, Workload
from profiler.plan import make_plan, sample_architectures
from supernet.architecture import Architecture
from supernet.published import BERT_BASE, MINILM_L6, PUBLISHED_SHAPES, REFERENCE_SHAPES
from supernet.space import Space, kd_space

SPACE = kd_space()


def test_references_come_first_and_every_workload_and_target_is_there() -> None:
    plan = make_plan(
        sample_architectures(SPACE, 3, seed=0),
        workloads=[Workload(1, 64), Workload(1, 128)],
        targets=[Target(threads=1), Target(threads=2)],
        rivals=False,
        seed=0,
    )
    assert len(plan.configurations) == (3 + 2) * 4
    assert plan.num_required == 2 * 4
    first = {c.architecture for c in plan.configurations[: plan.num_required]}
    assert first == {shape.architecture for shape in REFERENCE_SHAPES}


def test_what_is_asked_for_twice_is_measured_once() -> None:
    plan = make_plan(
        sample_architectures(SPACE, 3, seed=0) * 2,
        workloads=[Workload(), Workload()],
        targets=[Target(), Target()],
        rivals=False,
        seed=0,
    )
    assert len(plan.configurations) == len(set(plan.configurations)) == 3 + 2
    assert plan.per_architecture == 1


def test_rivals_are_every_published_shape_once() -> None:
    plan = make_plan(
        [PUBLISHED_SHAPES[3].architecture],
        workloads=[Workload()],
        targets=[Target()],
        rivals=True,
        seed=0,
    )
    measured = [c.architecture for c in plan.configurations]
    assert len(measured) == len(set(measured)) == plan.num_required
    assert set(measured) == {shape.architecture for shape in PUBLISHED_SHAPES}


@pytest.mark.parametrize("count", [1, 2, 5, 60])
def test_a_sample_has_its_size_and_starts_with_the_corners(count: int) -> None:
    sample = sample_architectures(SPACE, count, seed=3)
    assert len(set(sample)) == len(sample) == count
    assert sample[:2] == SPACE.corners()[:count]
    assert sample == sample_architectures(SPACE, count, seed=3)


def test_a_whole_small_space_can_be_planned() -> None:
    space = Space("tiny", (1, 2), (8,), (8, 16), (1, 2), "hidden")
    assert len(set(sample_architectures(space, space.size, seed=0))) == space.size == 8


def test_order_depends_on_seed_and_round_alone() -> None:
    plan = make_plan(
        sample_architectures(SPACE, 30, 0),
        workloads=[Workload()],
        targets=[Target()],
        rivals=False,
        seed=5,
    )
    due = list(range(20))
    assert plan.shuffled(2, due) == plan.shuffled(2, due)
    assert plan.shuffled(2, due) != plan.shuffled(3, due)
    assert sorted(plan.shuffled(2, due)) == due


def test_further_references_are_required_and_measured_once() -> None:
    teacher = Architecture(4, 256, 1024, 4, 256)
    plan = make_plan(
        [teacher, *sample_architectures(SPACE, 3, seed=0)],
        workloads=[Workload(1, 64), Workload(1, 128)],
        targets=[Target()],
        rivals=False,
        seed=0,
        references=[teacher, BERT_BASE.architecture, teacher],
    )
    measured = list(dict.fromkeys(c.architecture for c in plan.configurations))
    assert measured[:3] == [BERT_BASE.architecture, MINILM_L6.architecture, teacher]
    assert len(measured) == 3 + 3
    assert plan.num_required == 3 * 2
    assert plan.shortened(0) == 3 * 2


def test_rivals_are_only_those_that_fit_within_and_references_all_the_same() -> None:
    within = MINILM_L6.architecture
    plan = make_plan(
        [], workloads=[Workload()], targets=[Target()], rivals=True, seed=0, within=within
    )
    measured = {c.architecture for c in plan.configurations}
    held = {shape.architecture for shape in PUBLISHED_SHAPES if within.holds(shape.architecture)}
    assert measured == held | {BERT_BASE.architecture}
    assert Architecture(4, 312, 1200, 12, 312) in measured
    assert Architecture(4, 512, 2048, 8, 512) not in measured
    assert plan.num_required == len(measured)
