from __future__ import annotations

import pytest
import torch
from torch import nn

from supernet.architecture import Architecture
from supernet.elastic import (
    DEPTH_RULES,
    DepthRule,
    head_columns,
    head_rows,
    layer_norm,
    layers_of_depth,
    linear,
    scored_attention,
)
from supernet.elastic import attention as fused_attention


@pytest.mark.parametrize(
    ("num_layers", "of", "rule", "expected"),
    [
        (1, 6, "evenly-spaced", (5,)),
        (2, 6, "evenly-spaced", (2, 5)),
        (3, 6, "evenly-spaced", (1, 3, 5)),
        (6, 6, "evenly-spaced", (0, 1, 2, 3, 4, 5)),
        (5, 12, "evenly-spaced", (1, 4, 6, 9, 11)),
        (1, 6, "first", (0,)),
        (4, 6, "first", (0, 1, 2, 3)),
    ],
)
def test_layers_of_a_depth(
    num_layers: int, of: int, rule: DepthRule, expected: tuple[int, ...]
) -> None:
    assert layers_of_depth(num_layers, of, rule) == expected


@pytest.mark.parametrize("rule", DEPTH_RULES)
def test_every_depth_takes_as_many_different_layers_in_order(rule: DepthRule) -> None:
    for of in range(1, 25):
        for num_layers in range(1, of + 1):
            layers = layers_of_depth(num_layers, of, rule)
            assert len(layers) == num_layers
            assert list(layers) == sorted(set(layers))
            assert 0 <= layers[0] <= layers[-1] < of
            if rule == "evenly-spaced":
                assert layers[-1] == of - 1, "the teacher's last layer always ends the slice"


def test_more_layers_than_there_are_cannot_be_taken() -> None:
    with pytest.raises(ValueError, match="7 of 6 layers"):
        layers_of_depth(7, 6, "first")


def test_a_sliced_linear_equals_a_small_linear_with_the_same_weights() -> None:
    torch.manual_seed(0)
    large, small = nn.Linear(12, 20), nn.Linear(5, 7)
    with torch.no_grad():
        small.weight.copy_(large.weight[:7, :5])
        small.bias.copy_(large.bias[:7])
    hidden = torch.randn(3, 4, 5)
    torch.testing.assert_close(linear(hidden, large, 7), small(hidden))


def test_a_sliced_layer_norm_equals_a_small_layer_norm_with_the_same_weights() -> None:
    large, small = nn.LayerNorm(12, eps=1e-6), nn.LayerNorm(5, eps=1e-6)
    with torch.no_grad():
        large.weight.copy_(torch.randn(12))
        small.weight.copy_(large.weight[:5])
    hidden = torch.randn(3, 4, 5)
    torch.testing.assert_close(layer_norm(hidden, large), small(hidden))


def test_a_slice_takes_the_first_heads_and_the_first_dimensions_of_each() -> None:
    # Four heads of three dimensions; the slice has two heads of two.
    architecture = Architecture(1, 4, 4, 2, 4)
    rows = torch.arange(12)
    assert head_rows(rows, architecture, 4).tolist() == [0, 1, 3, 4]
    matrix = torch.arange(12).expand(2, 12).contiguous()
    assert head_columns(matrix, architecture, 4).tolist() == [[0, 1, 3, 4]] * 2


def test_whole_heads_are_sliced_without_a_copy() -> None:
    weight = torch.randn(12, 6)
    sliced = head_rows(weight[:, :5], Architecture(1, 5, 4, 2, 6), 4)
    assert sliced.data_ptr() == weight.data_ptr()


def test_scored_attention_is_fused_attention_with_its_scores() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4) for _ in range(3))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.bool)[:, None, None]
    context, scores = scored_attention(query, key, value, mask)
    torch.testing.assert_close(context, fused_attention(query, key, value, mask))
    torch.testing.assert_close(scores, query @ key.transpose(2, 3) / 2)
