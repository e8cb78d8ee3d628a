from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.distillation import (
    Distillation,
    Teacher,
    attention_loss_for,
    check_attention_loss,
    measured_spec,
    relation_heads_for,
    relations,
)
from supernet.learner import Learner
from supernet.model import SuperPLM
from supernet.objectives import ObjectiveName, ObjectiveSpec
from supernet.space import kd_space, mlm_space
from supernet.task_head import TaskHead

MakeSuperPLM = Callable[..., SuperPLM]
UNIT = ObjectiveSpec(name="kd", attention="scores", units={"scores": 1.0, "hidden": 1.0})
SMALL = Architecture(3, 16, 20, 4, 12)


def means(
    objective: Distillation, learner: Learner, batch: Batch, shape: Architecture | None = None
) -> dict[str, float]:
    lesson = objective.lesson(batch)
    with torch.no_grad():
        sums, _ = learner(objective, lesson, shape)
    return dict(zip(objective.term_names, (sums / lesson.counts).tolist(), strict=True))


def identity(size: int) -> nn.Linear:
    layer = nn.Linear(size, size)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(size))
        layer.bias.zero_()
    return layer


@pytest.mark.parametrize("attention", ["scores", "relations"])
def test_the_teacher_itself_has_no_loss(
    make_superplm: MakeSuperPLM, batch: Batch, attention: str
) -> None:
    teacher = make_superplm()
    spec = ObjectiveSpec(name="kd", attention=attention, relation_heads=2)  # type: ignore[arg-type]
    objective = Distillation(Teacher(teacher), spec)
    found = means(objective, Learner(teacher, projection=identity(24)), batch)
    assert found == pytest.approx({attention: 0.0, "hidden": 0.0}, abs=1e-6)


def test_the_loss_is_the_mean_square_over_tokens_and_pairs_of_tokens(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    teacher, student = make_superplm(seed=0), make_superplm(seed=1)
    projection = nn.Linear(24, 24)
    objective = Distillation(Teacher(teacher), UNIT)
    loss = means(objective, Learner(student, projection=projection), batch, SMALL)
    with torch.no_grad():
        told = teacher(*batch, with_scores=True)
        output = student(*batch, architecture=SMALL, with_scores=True)
        score_errors, hidden_errors = [], []
        for index, length in enumerate(batch.mask.sum(1).tolist()):
            scores = output.scores[index, :, :length, :length]
            score_errors.append((scores - told.scores[index, :, :length, :length]).square())
            hidden = output.last_hidden_state[index, :length]
            projected = hidden @ projection.weight[:, :16].T + projection.bias
            hidden_errors.append((projected - told.last_hidden_state[index, :length]).square())
    expected = {
        name: float(torch.cat([error.flatten() for error in errors]).mean())
        for name, errors in (("scores", score_errors), ("hidden", hidden_errors))
    }
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("attention", ["scores", "relations"])
def test_padding_queries_and_keys_do_not_matter(
    make_superplm: MakeSuperPLM, batch: Batch, attention: str
) -> None:
    spec = ObjectiveSpec(name="kd", attention=attention, relation_heads=4)  # type: ignore[arg-type]
    objective = Distillation(Teacher(make_superplm(seed=0)), spec)
    learner = Learner(make_superplm(seed=1), projection=identity(24))
    losses = []
    for padding in (0, 99):
        ids = torch.where(batch.mask.bool(), batch.input_ids, padding)
        losses.append(means(objective, learner, batch._replace(input_ids=ids)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def spec_of(teacher: Teacher, batches: list[Batch], name: ObjectiveName = "kd") -> ObjectiveSpec:
    return measured_spec(teacher, batches, name=name, attention="scores", relation_heads=None)


def test_a_constant_prediction_scores_about_one_in_units_of_the_teachers_variance(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    teacher = make_superplm()
    objective = Distillation(Teacher(teacher), spec_of(Teacher(teacher), [batch]))
    constant = nn.Linear(24, 24)
    with torch.no_grad():
        constant.weight.zero_()
        hidden = teacher(*batch).last_hidden_state
        constant.bias.copy_(hidden[batch.mask.bool()].mean(0))
    found = means(objective, Learner(teacher, projection=constant), batch)
    assert found["hidden"] == pytest.approx(1.0, rel=1e-3)


def test_uniform_attention_scores_one_in_units_of_the_teachers_relations(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    model = make_superplm()
    with torch.no_grad():
        for part in ("query", "key", "value"):  # so that relations are far from uniform
            model.get_parameter(f"encoder.layer.5.attention.self.{part}.weight").mul_(100)
    teacher = Teacher(model)
    spec = measured_spec(teacher, [batch], name="kd", attention="relations", relation_heads=4)
    assert spec.units["relations"] > 0.01
    objective, student = Distillation(teacher, spec), make_superplm(seed=1)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if ".attention.self." in name:
                parameter.zero_()
    found = means(objective, Learner(student, projection=identity(24)), batch)
    assert found["relations"] == pytest.approx(1.0, rel=1e-4)


def test_relations_are_distributions_over_tokens_and_do_not_depend_on_the_number_of_heads(
    batch: Batch,
) -> None:
    mask = batch.mask.bool()
    rows = torch.randn(3, *mask.shape, 24)
    as_four, as_six = (
        tuple(part.view(*mask.shape, heads, -1).transpose(1, 2) for part in rows)
        for heads in (4, 6)
    )
    found = relations(as_four, mask, 2)
    torch.testing.assert_close(found, relations(as_six, mask, 2))
    kept = found.exp() * mask[None, :, None, None, :]
    torch.testing.assert_close(kept.sum(-1), torch.ones(found.shape[:-1]))


def test_a_task_is_learnt_by_its_logits_in_units_of_their_variance(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    head = TaskHead("classification", 24, ("a", "b", "c"))
    head.initialise(torch.Generator().manual_seed(0), 0.5)
    teacher = Teacher(make_superplm(), head)
    objective = Distillation(teacher, spec_of(teacher, [batch], "task"))
    own = Learner(teacher.model, projection=identity(24), task_head=head)
    assert means(objective, own, batch)["logits"] == pytest.approx(0.0, abs=1e-6)
    constant = TaskHead("classification", 24, ("a", "b", "c"))
    with torch.no_grad():
        logits = head(teacher.model(*batch).last_hidden_state)
        constant.classifier.weight.zero_()
        constant.classifier.bias.copy_(logits.mean(0))
    other = Learner(teacher.model, projection=identity(24), task_head=constant)
    assert means(objective, other, batch)["logits"] == pytest.approx(1.0, rel=1e-3)


def test_units_over_batches_are_those_of_all_texts_together(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    teacher = Teacher(make_superplm())
    whole = spec_of(teacher, [batch])
    rows = zip(batch.input_ids, batch.mask, strict=True)
    parts = spec_of(teacher, [Batch(ids[None], mask[None]) for ids, mask in rows])
    assert parts.units == pytest.approx(whole.units, rel=1e-3)


def test_in_place_targets_are_the_largest_slices_own_answer(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    objective = Distillation(Teacher(make_superplm(seed=0)), UNIT)
    learner = Learner(make_superplm(seed=1), projection=nn.Linear(24, 24))
    lesson = objective.lesson(batch)
    with torch.no_grad():
        _, taught = learner(objective, lesson, teaching=True)
        own, _ = learner(objective, taught)
        smaller, _ = learner(objective, taught, SMALL)
    assert own.tolist() == pytest.approx([0.0, 0.0], abs=1e-9)
    assert float(smaller.min()) > 0.01


MINILM = Architecture(6, 384, 1536, 12, 384)


def test_scores_are_compared_where_heads_are_equal_in_number_and_relations_elsewhere() -> None:
    assert attention_loss_for(kd_space().num_heads, MINILM) == "scores"
    assert attention_loss_for(mlm_space().num_heads, MINILM) == "relations"
    check_attention_loss("relations", kd_space().num_heads, MINILM)
    with pytest.raises(InputError, match=r"slices have 1, 2, .* heads, the teacher 12: .*relation"):
        check_attention_loss("scores", mlm_space().num_heads, MINILM)


@pytest.mark.parametrize(
    ("sizes", "heads"), [([384], 12), ([192, 128], 8), ([180, 384], 12), ([7], 1), ([100, 200], 4)]
)
def test_relation_heads_divide_the_widths_of_teacher_and_slices(
    sizes: list[int], heads: int
) -> None:
    assert relation_heads_for(sizes, MINILM) == heads
