"""Takes a slice out of a SuperPLM: an encoder on its own that computes what the slice computes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from supernet.architecture import Architecture
from supernet.elastic import head_columns, head_rows, layers_of_depth
from supernet.encoder import Encoder
from supernet.heads import Head
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.weights import FloatArray, weight_shapes


@torch.no_grad()
def extract(model: SuperPLM, architecture: Architecture, *, head: Head | None = None) -> Encoder:
    """The encoder that a slice is, with a head of its own size on it.

    Raises:
        InputError: if the architecture is no slice.
    """
    config = model.config
    config.check_holds(architecture)
    state = {name: value.detach().cpu() for name, value in model.named_parameters()}
    layers = layers_of_depth(architecture.num_layers, config.largest.num_layers, config.depth_rule)
    shapes = weight_shapes(
        architecture, vocab_size=config.vocab_size, max_positions=config.max_positions
    )
    weights: dict[str, FloatArray] = {}
    for name, shape in shapes.items():
        source = name
        if name.startswith("encoder.layer."):
            index = name.split(".")[2]
            source = name.replace(f".{index}.", f".{layers[int(index)]}.", 1)
        weights[name] = _slice(state[source], name, shape, architecture, config.largest.num_heads)
    return Encoder(architecture, weights, config.layer_norm_epsilon, head)


def _slice(
    value: Tensor, name: str, shape: tuple[int, ...], architecture: Architecture, of: int
) -> FloatArray:
    """The part of one parameter that belongs to a slice, as an array of its own."""
    if ".attention.self." in name:
        value = head_rows(value, architecture, of)
    elif name.endswith("attention.output.dense.weight"):
        value = head_columns(value, architecture, of)
    cut = value[tuple(slice(size) for size in shape)].contiguous().numpy()
    return np.array(cut, dtype=np.float32)


def extract_projection(projection: nn.Linear, hidden_size: int) -> nn.Linear:
    """The part of a SuperPLM's projection that a slice uses, as a layer of its own."""
    part = nn.Linear(hidden_size, projection.out_features)
    with torch.no_grad():
        part.weight.copy_(projection.weight[:, :hidden_size])
        part.bias.copy_(projection.bias)
    return part


def as_model(encoder: Encoder) -> SuperPLM:
    """An encoder on its own as a SuperPLM that holds it whole, to run or to train further."""
    config = SuperPLMConfig(
        largest=encoder.architecture,
        depth_rule="first",
        vocab_size=encoder.vocab_size,
        max_positions=encoder.max_positions,
        layer_norm_epsilon=encoder.layer_norm_epsilon,
    )
    weights = {name: torch.from_numpy(value) for name, value in encoder.weights.items()}
    return SuperPLM.from_weights(config, weights)
