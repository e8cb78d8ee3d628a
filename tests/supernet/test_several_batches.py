"""Steps of several batches: one after another, or in several processes at once."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.distillation import Distillation, Teacher
from supernet.distributed import joined
from supernet.learner import Learner
from supernet.masked_language import MaskedLanguage, MaskedLanguageHead
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.objectives import Objective, ObjectiveName, ObjectiveSpec
from supernet.space import Space
from supernet.training import TrainingSettings, TrainingState, shapes_of_batch, train

LARGEST = Architecture(6, 24, 40, 4, 32)
SPACE = Space(
    name="small",
    num_layers=(1, 2, 3, 6),
    hidden_sizes=(8, 16, 24),
    ffn_sizes=(16, 40),
    num_heads=(4,),
    qkv_rule="free",
    qkv_sizes=(8, 16, 32),
)


def superplm(seed: int) -> SuperPLM:
    model = SuperPLM(SuperPLMConfig(largest=LARGEST, vocab_size=100, max_positions=32))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    # AdamW takes a full step along a gradient that is rounding alone, such as a key bias's.
    return model.double()


def batch_of(number: int) -> Batch:
    """Another number of tokens in each, so that a mean of means would be another mean."""
    rng = np.random.default_rng(number)
    count = 4 + 3 * (number % 2)
    lengths = torch.from_numpy(rng.integers(2, 10, count))
    mask = (torch.arange(9) < lengths[:, None]).long()
    return Batch(torch.from_numpy(rng.integers(5, 100, (count, 9))), mask)


def learning(name: ObjectiveName) -> tuple[Learner, Objective]:
    generator = torch.Generator().manual_seed(7)
    if name == "mlm":
        head = MaskedLanguageHead(24, 100)
        head.initialise(generator, 0.2)
        ids = (0, 1, 2, 3, 4)
        objective = MaskedLanguage(special_ids=ids, mask_id=4, vocab_size=100, seed=0)
        return Learner(superplm(1), mlm_head=head.double()), objective
    projection = nn.Linear(24, 24)
    with torch.no_grad():
        projection.weight.normal_(0.0, 0.2, generator=generator)
        projection.bias.zero_()
    spec = ObjectiveSpec(name="kd", attention="scores", units={"scores": 1.0, "hidden": 1.0})
    learner = Learner(superplm(1), projection=projection.double())
    return learner, Distillation(Teacher(superplm(0)), spec)


def trained(name: ObjectiveName, settings: TrainingSettings, device: str = "cpu") -> TrainingState:
    with joined(device) as group:
        learner, objective = learning(name)
        state = TrainingState(learner, group)
        train(
            state,
            objective,
            batch_of,
            lambda number: shapes_of_batch(SPACE, LARGEST, settings, number),
            settings,
            clock_s=itertools.count(0.0, 1.0).__next__,
        )
    return state


def _process(rank: int, port: int, name: ObjectiveName, in_place: bool, path: str) -> None:  # noqa: FBT001
    os.environ.update(
        RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    settings = TrainingSettings(steps=3, in_place=in_place, seed=5)
    state = trained(name, settings)
    found = {key: value.clone() for key, value in state.learner.state_dict().items()}
    save_file(found, f"{path}-{rank}.safetensors")


@pytest.fixture
def in_two_processes(tmp_path: Path, free_port: int) -> Callable[..., list[Mapping[str, Tensor]]]:
    def run(name: ObjectiveName, *, in_place: bool) -> list[Mapping[str, Tensor]]:
        arguments = (free_port, name, in_place, str(tmp_path / "weights"))
        spawn(_process, arguments, nprocs=2)  # type: ignore[no-untyped-call]
        return [load_file(tmp_path / f"weights-{rank}.safetensors") for rank in (0, 1)]

    return run


@pytest.mark.parametrize(
    ("name", "in_place"), [("kd", False), ("mlm", False), ("kd", True)], ids=str
)
def test_two_processes_equal_one_with_both_batches(
    in_two_processes: Callable[..., list[Mapping[str, Tensor]]],
    name: ObjectiveName,
    *,
    in_place: bool,
) -> None:
    """Each draws its own slices of its own batches."""
    first, second = in_two_processes(name, in_place=in_place)
    settings = TrainingSettings(steps=3, batches_per_step=2, in_place=in_place, seed=5)
    alone = trained(name, settings).learner.state_dict()
    for key, value in alone.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, rtol=0, atol=1e-6, msg=key)


def test_a_step_of_two_batches_is_not_that_of_one(tmp_path: Path) -> None:
    one, two = (
        trained("kd", TrainingSettings(steps=2, batches_per_step=each)).learner.state_dict()
        for each in (1, 2)
    )
    assert any(not torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("name", ["kd", "mlm"])
def test_a_gradient_is_that_of_the_mean_over_all_tokens_of_a_step(name: ObjectiveName) -> None:
    """Two batches of a step weigh as their tokens do, not half each."""
    largest_only = TrainingSettings(steps=1, shapes_per_batch=1, batches_per_step=2)
    state = trained(name, largest_only)
    learner, objective = learning(name)
    lessons = [objective.lesson(batch_of(number), number) for number in (0, 1)]
    counts = lessons[0].counts + lessons[1].counts
    assert lessons[0].counts.tolist() != lessons[1].counts.tolist()
    total = torch.stack([(learner(objective, one, LARGEST)[0] / counts).sum() for one in lessons])
    total.sum().backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(learner.parameters(), largest_only.clip_norm)
    for (key, parameter), same in zip(
        learner.named_parameters(), state.learner.parameters(), strict=True
    ):
        if parameter.grad is None or same.grad is None:
            assert parameter.grad is same.grad, key
            continue
        torch.testing.assert_close(same.grad, parameter.grad, rtol=1e-4, atol=1e-7, msg=key)


class TestShapes:
    def test_processes_draw_their_own_slices(self) -> None:
        settings = TrainingSettings(steps=1, seed=1)
        drawn = {tuple(shapes_of_batch(SPACE, LARGEST, settings, number)) for number in range(20)}
        assert len(drawn) > 15

    def test_the_sandwich_is_the_largest_the_smallest_and_others(self) -> None:
        settings = TrainingSettings(steps=1, always="sandwich", shapes_per_batch=4)
        shapes = shapes_of_batch(SPACE, LARGEST, settings, 3)
        assert shapes[:2] == [LARGEST, SPACE.corners()[0]]
        assert len(shapes) == 4

    def test_with_none_always_there_all_are_drawn(self) -> None:
        settings = TrainingSettings(steps=1, always="none", shapes_per_batch=1)
        drawn = {shapes_of_batch(SPACE, LARGEST, settings, number)[0] for number in range(300)}
        assert len(drawn) > 0.9 * SPACE.size
