"""Orders a trained encoder's channels by importance, so that its first ones make good slices.

A slice takes the first channels of everything. In a trained model no channel is first by merit,
so before it becomes a SuperPLM its channels are permuted: hidden channels everywhere alike, FFN
neurons layer by layer, the dimensions of each head within the head. The encoder computes what it
computed before; its slices lose less.

Importance of a channel is what it carries times how strongly it is read:

- hidden: variance of the activation, mean over all LayerNorms, times the squared weights of the
  queries, keys, values and FFNs that read it
- FFN neuron: mean squared activation times the squared norm of its output column
- query and key dimension: mean squared query times mean squared key (a score is their product)
- value dimension: mean squared value times the squared norm of its output column
- head, where slices have fewer of them: the sum over its value dimensions
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.model import SuperPLM


@dataclass(frozen=True)
class ChannelOrder:
    """New position to old: index i of the ordered encoder is index `order[i]` of the old one.

    Attributes:
        hidden: `[d]`.
        ffn: `[f]` for each layer.
        query_key: `[q]` for each layer; a dimension stays within its head, and heads stay together.
        value: `[q]` for each layer, with the same heads in the same places.
    """

    hidden: Tensor
    ffn: tuple[Tensor, ...]
    query_key: tuple[Tensor, ...]
    value: tuple[Tensor, ...]


class _Moments:
    """First and second moments of every observed activation's channels, over tokens."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}
        self._tokens = 0

    def start_batch(self, mask: Tensor) -> None:
        self._mask = mask.to(torch.bool)
        self._tokens += int(self._mask.sum())

    def observe(self, name: str, activation: Tensor) -> None:
        """Takes in `[B, S, c]`, or `[B, h, S, a]` as h * a channels."""
        if activation.dim() == 4:
            activation = activation.transpose(1, 2).flatten(2)
        tokens = activation[self._mask].double()
        self._sums[name] = self._sums.get(name, 0) + tokens.sum(0)
        self._squares[name] = self._squares.get(name, 0) + tokens.square().sum(0)

    def mean_square(self, name: str) -> Tensor:
        return self._squares[name] / self._tokens

    def variance(self, name: str) -> Tensor:
        return self.mean_square(name) - (self._sums[name] / self._tokens).square()

    def names(self, suffix: str) -> list[str]:
        return [name for name in self._sums if name.endswith(suffix)]


@torch.no_grad()
def channel_order(
    model: SuperPLM, batches: Iterable[Batch], *, order_heads: bool = False
) -> ChannelOrder:
    """The order of a trained encoder's channels by importance, most important first.

    Args:
        model: the encoder.
        batches: a few hundred sequences.
        order_heads: order the heads of each layer, too. Scores cannot be compared with the
            encoder's head by head any more then.
    """
    moments = _Moments()
    for batch in batches:
        moments.start_batch(batch.mask)
        model(*batch, observe=moments.observe)
    weights = {name: value.double() for name, value in model.named_parameters()}
    largest = model.config.largest
    carried = torch.stack([moments.variance(name) for name in moments.names("hidden")]).mean(0)
    read = torch.zeros_like(carried)
    ffn, query_key, value = [], [], []
    for index in range(largest.num_layers):
        prefix = f"encoder.layer.{index}."
        for reader in ("query", "key", "value"):
            read += weights[f"{prefix}attention.self.{reader}.weight"].square().sum(0)
        read += weights[f"{prefix}intermediate.dense.weight"].square().sum(0)
        neurons = moments.mean_square(f"{index}.ffn")
        neurons = neurons * weights[f"{prefix}output.dense.weight"].square().sum(0)
        ffn.append(neurons.argsort(descending=True, stable=True))
        products = moments.mean_square(f"{index}.query") * moments.mean_square(f"{index}.key")
        values = moments.mean_square(f"{index}.value")
        values = values * weights[f"{prefix}attention.output.dense.weight"].square().sum(0)
        heads = torch.arange(largest.num_heads)
        if order_heads:
            by_head = values.view(largest.num_heads, largest.head_size).sum(1)
            heads = by_head.argsort(descending=True, stable=True)
        query_key.append(_order_within_heads(products, largest, heads))
        value.append(_order_within_heads(values, largest, heads))
    hidden = (carried * read).argsort(descending=True, stable=True)
    return ChannelOrder(hidden, tuple(ffn), tuple(query_key), tuple(value))


def _order_within_heads(importance: Tensor, largest: Architecture, heads: Tensor) -> Tensor:
    by_head = importance.view(largest.num_heads, largest.head_size)
    order = by_head.argsort(dim=1, descending=True, stable=True)
    starts = torch.arange(largest.num_heads)[:, None] * largest.head_size
    return (order + starts)[heads].flatten()


def reorder(weights: Mapping[str, Tensor], order: ChannelOrder) -> dict[str, Tensor]:
    """An encoder's weights with its channels in a new order; it computes the same, permuted.

    The last hidden state comes out in the new order as well.
    """
    ordered: dict[str, Tensor] = {}
    for name, weight in weights.items():
        parts = name.split(".")
        if parts[0] == "embeddings" or "LayerNorm" in parts:
            ordered[name] = weight[..., order.hidden]
            continue
        layer, block = int(parts[2]), ".".join(parts[3:-1])
        rows, columns = {
            "attention.self.query": (order.query_key[layer], order.hidden),
            "attention.self.key": (order.query_key[layer], order.hidden),
            "attention.self.value": (order.value[layer], order.hidden),
            "attention.output.dense": (order.hidden, order.value[layer]),
            "intermediate.dense": (order.ffn[layer], order.hidden),
            "output.dense": (order.hidden, order.ffn[layer]),
        }[block]
        ordered[name] = weight[rows][:, columns] if parts[-1] == "weight" else weight[rows]
    return ordered
