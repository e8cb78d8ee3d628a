"""The model file that is copied into model folders, imported as a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification

from supernet.architecture import Architecture
from supernet.encoder import Encoder
from supernet.modeling_autotinybert import (
    AutoTinyBertConfig,
    AutoTinyBertForQuestionAnswering,
    AutoTinyBertForSequenceClassification,
    AutoTinyBertModel,
)
from supernet.weights import weight_shapes

Run = Callable[..., npt.NDArray[np.float32]]
Inputs = Callable[..., dict[str, npt.NDArray[np.int64]]]
Make = Callable[..., Encoder]

SHAPE = "2-36-50-3-51"


def model_of(architecture: Architecture, *, dropout: float = 0.0) -> AutoTinyBertModel:
    torch.manual_seed(0)
    return AutoTinyBertModel(
        AutoTinyBertConfig(
            vocab_size=97,
            hidden_size=architecture.hidden_size,
            num_hidden_layers=architecture.num_layers,
            num_attention_heads=architecture.num_heads,
            qkv_size=architecture.qkv_size,
            intermediate_size=architecture.ffn_size,
            max_position_embeddings=40,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def loaded(encoder: Encoder, *, dropout: float = 0.0) -> AutoTinyBertModel:
    model = model_of(encoder.architecture, dropout=dropout)
    weights = {name: torch.from_numpy(value) for name, value in encoder.weights.items()}
    model.load_state_dict(weights)
    model.train(False)
    return model


def tensors_of(inputs: dict[str, npt.NDArray[np.int64]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in inputs.items()}


@pytest.mark.parametrize("shape", [SHAPE, "1-36-50-3-24", "3-28-20-4-8"])
def test_output_equals_the_equations(
    shape: str, random_encoder: Make, random_inputs: Inputs, torch_encoder: Run
) -> None:
    encoder, inputs = random_encoder(shape), random_inputs(2)
    with torch.no_grad():
        output = loaded(encoder)(**tensors_of(inputs)).last_hidden_state.numpy()
    expected = torch_encoder(encoder.architecture, encoder.weights, inputs)
    np.testing.assert_allclose(output, expected, atol=1e-5, rtol=0)


def test_parameters_are_those_of_weight_shapes() -> None:
    architecture = Architecture.parse(SHAPE)
    found = {name: tuple(value.shape) for name, value in model_of(architecture).named_parameters()}
    assert found == weight_shapes(architecture, vocab_size=97, max_positions=40)


def test_mask_and_segments_have_defaults_and_embeddings_may_be_given(
    random_encoder: Make, random_inputs: Inputs
) -> None:
    model, ids = loaded(random_encoder(SHAPE)), tensors_of(random_inputs(2))["input_ids"]
    with torch.no_grad():
        output = model(ids).last_hidden_state
        full = model(ids, torch.ones_like(ids), torch.zeros_like(ids)).last_hidden_state
        words = model.get_input_embeddings()(ids)
        embedded = model(inputs_embeds=words).last_hidden_state
    torch.testing.assert_close(full, output, atol=1e-6, rtol=0)
    torch.testing.assert_close(embedded, output, atol=0, rtol=0)


def test_hidden_states_and_tuples_are_given_when_asked_for(
    random_encoder: Make, random_inputs: Inputs
) -> None:
    model, inputs = loaded(random_encoder(SHAPE)), tensors_of(random_inputs(2))
    output = model(**inputs, output_hidden_states=True)
    assert [state.shape for state in output.hidden_states] == [(3, 17, 36)] * 3
    assert output.hidden_states[-1] is output.last_hidden_state
    assert model(**inputs).hidden_states is None
    (alone,) = model(**inputs, return_dict=False)
    assert torch.equal(alone, output.last_hidden_state)


def test_a_sequence_of_padding_alone_is_finite(random_encoder: Make, random_inputs: Inputs) -> None:
    inputs = tensors_of(random_inputs(2))
    inputs["attention_mask"][1] = 0
    assert loaded(random_encoder(SHAPE))(**inputs).last_hidden_state.isfinite().all()


def test_every_parameter_is_trained_and_dropout_is_for_training_alone(
    random_encoder: Make, random_inputs: Inputs
) -> None:
    model, inputs = loaded(random_encoder(SHAPE), dropout=0.1), tensors_of(random_inputs(2))
    assert torch.equal(model(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    model.train()
    outputs = [model(**inputs).last_hidden_state for _ in range(2)]
    assert not torch.equal(*outputs)
    outputs[0][..., 0].square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # A key's bias adds the same to all scores of a row, which softmax does not see.
        assert parameter.grad.any() or name.endswith("key.bias"), name


def test_what_cannot_be_run_is_refused(random_encoder: Make) -> None:
    model, ids = loaded(random_encoder(SHAPE)), torch.zeros(1, 41, dtype=torch.long)
    with pytest.raises(ValueError, match="41 tokens are more than the 40 positions"):
        model(ids)
    with pytest.raises(ValueError, match="exactly one of"):
        model()
    with pytest.raises(ValueError, match="17 is not divisible"):
        AutoTinyBertConfig(qkv_size=17)


# The fields that both configurations have; of QKV size the hidden size, ours is a stock model.
STOCK: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"num_labels": 3}, torch.tensor([2, 0, 1])),
        ({"num_labels": 1}, torch.tensor([0.5, -1.0, 2.0])),
        (
            {"num_labels": 2, "problem_type": "regression"},
            torch.tensor([[0.5, 1.0], [-1.0, 0.0], [2.0, 3.0]]),
        ),
        (
            {"num_labels": 2, "problem_type": "multi_label_classification"},
            torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]),
        ),
    ],
    ids=["classes", "number", "numbers", "labels"],
)
def test_a_classifier_and_its_loss_equal_stock_ones(
    random_inputs: Inputs, options: dict[str, Any], labels: torch.Tensor
) -> None:
    torch.manual_seed(0)
    stock = BertForSequenceClassification(BertConfig(**STOCK, **options))
    ours = AutoTinyBertForSequenceClassification(
        AutoTinyBertConfig(qkv_size=24, **STOCK, **options)
    )
    ours.load_state_dict(stock.state_dict())  # the same names
    inputs = tensors_of(random_inputs(2))
    found, expected = (model.train(False)(**inputs, labels=labels) for model in (ours, stock))
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-6, rtol=0)
    assert ours(**inputs).loss is None
    (alone,) = ours(**inputs, return_dict=False)
    torch.testing.assert_close(alone, expected.logits, atol=1e-6, rtol=0)


def test_question_answering_and_its_loss_equal_stock_ones(random_inputs: Inputs) -> None:
    torch.manual_seed(0)
    stock = BertForQuestionAnswering(BertConfig(**STOCK))
    ours = AutoTinyBertForQuestionAnswering(AutoTinyBertConfig(qkv_size=24, **STOCK))
    ours.load_state_dict(stock.state_dict())
    inputs = tensors_of(random_inputs(2))
    places = {  # the second is beyond the sequence, and left out
        "start_positions": torch.tensor([2, 40, 0]),
        "end_positions": torch.tensor([5, 41, 0]),
    }
    found, expected = (model.train(False)(**inputs, **places) for model in (ours, stock))
    for name in ("start_logits", "end_logits", "loss"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=0)
    assert ours(**inputs).loss is None
    assert len(ours(**inputs, return_dict=False)) == 2
