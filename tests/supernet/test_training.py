from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from autotinybert.errors import DamagedFileError, InputError, WorkError
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.checkpoint import restore_checkpoint, save_checkpoint
from supernet.distillation import Distillation, Teacher
from supernet.learner import Learner
from supernet.model import SuperPLM
from supernet.objectives import ObjectiveSpec
from supernet.space import Space
from supernet.training import (
    StepReport,
    TrainingSettings,
    TrainingState,
    shapes_of_batch,
    train,
)

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
UNIT = ObjectiveSpec(name="kd", attention="scores", units={"scores": 1.0, "hidden": 1.0})
MakeSuperPLM = Callable[..., SuperPLM]


def batch_of(step: int) -> Batch:
    rng = np.random.default_rng(step % 4)
    mask = torch.ones(4, 9, dtype=torch.long)
    mask[1, 5:] = 0
    return Batch(torch.from_numpy(rng.integers(0, 100, (4, 9))), mask)


def fresh_state(make: MakeSuperPLM, seed: int = 1) -> TrainingState:
    projection = nn.Linear(24, 24)
    with torch.no_grad():
        projection.weight.copy_(torch.eye(24))
        projection.bias.zero_()
    return TrainingState(Learner(make(seed=seed), projection=projection))


def run(
    state: TrainingState,
    teacher: SuperPLM,
    settings: TrainingSettings,
    *,
    clock: Iterator[float] | None = None,
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> None:
    ticks = clock or itertools.count(0.0, 0.25)
    train(
        state,
        Distillation(Teacher(teacher), UNIT),
        batch_of,
        lambda step: shapes_of_batch(SPACE, LARGEST, settings, step),
        settings,
        clock_s=lambda: next(ticks),
        on_step=on_step,
    )


def test_training_lowers_the_loss_of_slices(make_superplm: MakeSuperPLM) -> None:
    state = fresh_state(make_superplm)
    reports: list[StepReport] = []
    run(state, make_superplm(seed=0), TrainingSettings(steps=60), on_step=reports.append)
    assert [report.step for report in reports] == list(range(1, 61))
    first = np.mean([report.largest_loss for report in reports[:10]])
    last = np.mean([report.largest_loss for report in reports[-10:]])
    assert last < 0.8 * first
    sampled = [report.sampled_loss for report in reports if report.sampled_loss is not None]
    assert np.mean(sampled[-10:]) < 0.8 * np.mean(sampled[:10])


def test_a_training_that_was_stopped_and_resumed_equals_an_unbroken_one(
    make_superplm: MakeSuperPLM, tmp_path: Path
) -> None:
    teacher, settings = make_superplm(seed=0), TrainingSettings(steps=8, seed=3)
    unbroken = fresh_state(make_superplm)
    run(unbroken, teacher, settings)

    broken = fresh_state(make_superplm)

    class StoppedError(Exception):
        pass

    def stop(report: StepReport) -> None:
        if report.step == 3:
            save_checkpoint(tmp_path / "checkpoint.safetensors", broken)
            raise StoppedError

    with pytest.raises(StoppedError):
        run(broken, teacher, settings, on_step=stop)
    resumed = fresh_state(make_superplm, seed=9)  # nothing of it may matter
    restore_checkpoint(tmp_path / "checkpoint.safetensors", resumed)
    assert resumed.step == 3
    run(resumed, teacher, settings)
    expected = unbroken.tensors()
    assert expected.keys() == resumed.tensors().keys()
    for name, value in resumed.tensors().items():
        assert torch.equal(value, expected[name]), name


def test_minutes_end_by_the_clock_and_pauses_do_not_count(make_superplm: MakeSuperPLM) -> None:
    state = fresh_state(make_superplm)
    state.elapsed_s = 30.0  # half of it was trained in an earlier session
    reports: list[StepReport] = []
    clock = itertools.count(1000.0, 1.0)
    run(
        state,
        make_superplm(seed=0),
        TrainingSettings(minutes=1.0),
        clock=clock,
        on_step=reports.append,
    )
    assert 60 <= state.elapsed_s < 65
    assert 5 < len(reports) < 30
    remaining = [report.remaining_s for report in reports]
    assert remaining[-1] == 0.0
    assert remaining[1] > remaining[-2]
    assert all(report.tokens_per_s > 0 for report in reports)


def test_the_learning_rate_rises_and_falls(make_superplm: MakeSuperPLM) -> None:
    settings = TrainingSettings(steps=100, learning_rate=1.0, warmup_share=0.2)
    rates = [settings.learning_rate_at(settings.progress(step, 0.0)) for step in range(101)]
    assert rates[0] == 0.0
    assert rates[20] == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert rates[100] == 0.0
    assert max(rates) == 1.0


def test_every_step_trains_the_largest_and_as_many_others_as_asked() -> None:
    settings = TrainingSettings(steps=10, shapes_per_batch=5, seed=1)
    drawn = set()
    for step in range(50):
        shapes = shapes_of_batch(SPACE, LARGEST, settings, step)
        assert shapes[0] == LARGEST
        assert len(shapes) == 5
        assert shapes == shapes_of_batch(SPACE, LARGEST, settings, step)
        drawn.update(shapes[1:])
    assert len(drawn) > 0.9 * SPACE.size, "all of the space is reached"


def test_a_loss_that_is_no_number_ends_the_training(make_superplm: MakeSuperPLM) -> None:
    state = fresh_state(make_superplm)
    with torch.no_grad():
        state.learner.get_parameter("projection.bias").fill_(float("inf"))
    with pytest.raises(WorkError, match=r"at step 1: try a lower --learning-rate"):
        run(state, make_superplm(seed=0), TrainingSettings(steps=5))


def test_slices_do_not_touch_what_they_do_not_hold(make_superplm: MakeSuperPLM) -> None:
    teacher, state = make_superplm(seed=0), fresh_state(make_superplm)
    small = Architecture(1, 8, 16, 4, 8)
    before = {name: value.clone() for name, value in state.learner.student.state_dict().items()}
    settings = TrainingSettings(steps=3, weight_decay=0.0)
    train(
        state,
        Distillation(Teacher(teacher), UNIT),
        batch_of,
        lambda _: [small],
        settings,
        clock_s=iter(np.arange(100.0)).__next__,
    )
    name = "encoder.layer.5.intermediate.dense.weight"
    after = state.learner.student.state_dict()[name]
    assert not torch.equal(after[:16, :8], before[name][:16, :8])
    assert torch.equal(after[16:], before[name][16:])
    assert torch.equal(after[:, 8:], before[name][:, 8:])
    untouched = "encoder.layer.0.output.dense.weight"
    assert torch.equal(state.learner.student.state_dict()[untouched], before[untouched])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either how many steps or how many minutes"),
        ({"steps": 5, "minutes": 1.0}, "either how many steps or how many minutes"),
        ({"minutes": float("nan")}, "minutes must be above 0"),
        ({"steps": 5, "learning_rate": 0.0}, "learning rate must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingSettings(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["torn", "of another model", "no checkpoint"])
def test_a_damaged_checkpoint_is_refused(
    make_superplm: MakeSuperPLM, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    if damage == "of another model":
        other = make_superplm(Architecture(2, 8, 8, 2, 8))
        save_checkpoint(path, TrainingState(Learner(other, projection=nn.Linear(8, 24))))
    elif damage == "torn":
        save_checkpoint(path, fresh_state(make_superplm))
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.write_bytes(b"{}")
    with pytest.raises(DamagedFileError, match="is no checkpoint of this training"):
        restore_checkpoint(path, fresh_state(make_superplm))
