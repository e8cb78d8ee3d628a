"""Padded encoders against the real `BertModel`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import BertConfig, BertModel

from supernet.architecture import Architecture
from supernet.encoder import Encoder
from supernet.published import AUTOTINYBERT_SHAPES
from supernet.space import Space, axis_values, kd_space, mlm_space
from supernet.stock_form import stock_architecture, to_stock_form
from supernet.weights import weight_shapes

Run = Callable[..., npt.NDArray[np.float32]]
Inputs = Callable[..., dict[str, npt.NDArray[np.int64]]]

SMALL = Space(
    name="small",
    num_layers=(1, 2),
    hidden_sizes=axis_values(24, 96, 4),
    ffn_sizes=(16, 50),
    num_heads=(1, 3, 5, 12),
    qkv_rule="free",
    qkv_sizes=axis_values(12, 60, 1),
)
FITTING = [a for a in SMALL.sample(np.random.default_rng(3), 40) if stock_architecture(a)]


def bert(stock: Architecture, weights: Mapping[str, npt.NDArray[np.float32]]) -> BertModel:
    """A stock model that holds these weights."""
    model = BertModel(
        BertConfig(
            vocab_size=97,
            hidden_size=stock.hidden_size,
            num_hidden_layers=stock.num_layers,
            num_attention_heads=stock.num_heads,
            intermediate_size=stock.ffn_size,
            max_position_embeddings=40,
        ),
        add_pooling_layer=False,
    )
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    model.train(False)
    return model


@pytest.mark.parametrize(
    ("shape", "heads"),
    [
        ("1-36-8-3-36", 3),  # as it is
        ("1-36-8-3-24", 3),  # wider heads
        ("1-36-8-5-25", 6),  # more heads, and wider ones
        ("4-256-480-12-192", 16),
        ("1-36-8-3-39", None),  # QKV above hidden
        ("1-36-8-5-30", 6),  # no room within the heads, but for one more
        ("1-36-8-7-35", None),  # 9 heads of 4, 6 of 6: both too few
        ("1-37-8-2-2", 37),
        ("1-37-8-2-4", None),
    ],
)
def test_the_smallest_number_of_heads_that_fits_is_taken(shape: str, heads: int | None) -> None:
    architecture = Architecture.parse(shape)
    stock = stock_architecture(architecture)
    if heads is None:
        assert stock is None
    else:
        layers, hidden_size, ffn_size, _, _ = architecture.row
        assert stock == Architecture(layers, hidden_size, ffn_size, heads, hidden_size)


def test_six_of_the_eight_published_shapes_have_a_stock_form() -> None:
    without = [p.name for p in AUTOTINYBERT_SHAPES if stock_architecture(p.architecture) is None]
    assert without == ["AutoTinyBERT-S1", "AutoTinyBERT-KD-S3"]


@pytest.mark.parametrize("space", [kd_space(), mlm_space()], ids=lambda space: space.name)
def test_the_rule_decides_for_every_width_of_a_space(space: Space) -> None:
    for hidden_size, heads, qkv_size in space.widths.tolist():
        possible = [
            count
            for count in range(heads, hidden_size + 1)
            if hidden_size % count == 0 and hidden_size * heads >= qkv_size * count
        ]
        stock = stock_architecture(Architecture(1, hidden_size, 8, heads, qkv_size))
        assert (stock.num_heads if stock else None) == min(possible, default=None)


@pytest.mark.parametrize("architecture", FITTING, ids=str)
def test_a_stock_model_puts_out_the_same(
    architecture: Architecture,
    random_encoder: Callable[..., Encoder],
    random_inputs: Inputs,
    torch_encoder: Run,
) -> None:
    encoder, inputs = random_encoder(architecture), random_inputs(2)
    stock = stock_architecture(architecture)
    assert stock is not None
    padded = to_stock_form(encoder.weights, architecture, stock)
    shapes = weight_shapes(stock, vocab_size=97, max_positions=40)
    assert {name: value.shape for name, value in padded.items()} == shapes
    assert {value.dtype for value in padded.values()} == {np.dtype(np.float32)}
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    with torch.no_grad():
        output = bert(stock, padded)(**tensors).last_hidden_state.numpy()
    expected = torch_encoder(architecture, encoder.weights, inputs)
    np.testing.assert_allclose(output, expected, atol=1e-5, rtol=0)


def test_a_shape_that_is_stock_already_keeps_its_weights(
    random_encoder: Callable[..., Encoder],
) -> None:
    encoder = random_encoder("2-36-50-3-36")
    stock = stock_architecture(encoder.architecture)
    assert stock == encoder.architecture
    padded = to_stock_form(encoder.weights, encoder.architecture, stock)
    for name, value in encoder.weights.items():
        np.testing.assert_array_equal(padded[name], value)


@pytest.mark.parametrize("shape", ["2-36-50-3-24", "2-36-50-5-25"])
def test_padding_stays_zero_while_a_stock_model_is_trained(
    shape: str, random_encoder: Callable[..., Encoder], random_inputs: Inputs
) -> None:
    encoder = random_encoder(shape)
    stock = stock_architecture(encoder.architecture)
    assert stock is not None
    model = bert(stock, to_stock_form(encoder.weights, encoder.architecture, stock)).train()
    ones = {name: np.ones_like(value) for name, value in encoder.weights.items()}
    true_places = to_stock_form(ones, encoder.architecture, stock)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    tensors = {name: torch.from_numpy(value) for name, value in random_inputs(2).items()}
    for _ in range(3):
        loss = model(**tensors).last_hidden_state[..., 0].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        padding = torch.from_numpy(true_places[name] == 0)
        assert parameter.grad is not None
        assert not parameter.grad[padding].any(), name
        assert not parameter[padding].any(), name
        changed = parameter.detach() != torch.from_numpy(
            to_stock_form(encoder.weights, encoder.architecture, stock)[name]
        )
        assert changed.any(), name
