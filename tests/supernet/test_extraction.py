from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.elastic import DepthRule
from supernet.extraction import as_model, extract, extract_projection
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.onnx_graph import build_encoder
from supernet.variants import GRAPH_VARIANTS, GraphVariant

Batch = tuple[Tensor, Tensor]
LARGEST = Architecture(6, 24, 40, 4, 32)


@st.composite
def slices(draw: st.DrawFn) -> Architecture:
    heads = draw(st.integers(1, LARGEST.num_heads))
    head_size = draw(st.integers(1, LARGEST.head_size))
    return Architecture(
        draw(st.integers(1, LARGEST.num_layers)),
        draw(st.integers(1, LARGEST.hidden_size)),
        draw(st.integers(1, LARGEST.ffn_size)),
        heads,
        heads * head_size,
    )


def superplm(depth_rule: DepthRule) -> SuperPLM:
    config = SuperPLMConfig(
        largest=LARGEST, depth_rule=depth_rule, vocab_size=100, max_positions=32
    )
    model = SuperPLM(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    return model


MODELS = {rule: superplm(rule) for rule in get_args(DepthRule)}


def tokens() -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(0)
    mask = torch.ones(3, 11, dtype=torch.long)
    mask[1, 7:] = 0
    mask[2, 3:] = 0
    ids = torch.from_numpy(rng.integers(0, 100, (3, 11)))
    return ids, mask, torch.from_numpy(rng.integers(0, 2, (3, 11)))


@settings(max_examples=60, deadline=None)
@given(
    architecture=slices(),
    rule=st.sampled_from(get_args(DepthRule)),
    variant=st.sampled_from(GRAPH_VARIANTS),
)
def test_slice_equals_extracted_equals_onnx(
    architecture: Architecture, rule: DepthRule, variant: GraphVariant
) -> None:
    model = MODELS[rule]
    encoder = extract(model, architecture)
    input_ids, mask, segments = tokens()
    with torch.no_grad():
        slice_ = model(input_ids, mask, segments, architecture=architecture).last_hidden_state
        extracted = as_model(encoder)(input_ids, mask, segments).last_hidden_state
    graph = build_encoder(architecture, variant=variant, weights=encoder.weights)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {
        "input_ids": input_ids.numpy(),
        "attention_mask": mask.numpy(),
        "token_type_ids": segments.numpy(),
    }
    (exported,) = session.run(["last_hidden_state"], feeds)
    kept = mask.bool().numpy()
    scale = max(1.0, float(slice_.abs().max()))
    np.testing.assert_allclose(extracted.numpy()[kept], slice_.numpy()[kept], atol=1e-5 * scale)
    np.testing.assert_allclose(exported[kept], slice_.numpy()[kept], atol=1e-5 * scale)


def test_the_projection_of_a_slice_is_the_part_that_it_uses() -> None:
    projection = nn.Linear(24, 30)
    part = extract_projection(projection, 10)
    hidden = torch.randn(2, 10)
    padded = torch.cat([hidden, torch.zeros(2, 14)], dim=1)
    torch.testing.assert_close(part(hidden), projection(padded))


def test_an_extracted_encoder_shares_no_memory_with_the_superplm() -> None:
    model = superplm("first")
    encoder = extract(model, LARGEST)
    before = {name: value.copy() for name, value in encoder.weights.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(np.array_equal(encoder.weights[name], before[name]) for name in before)


def test_training_what_was_extracted_leaves_the_encoder_as_it_was() -> None:
    encoder = extract(superplm("first"), LARGEST)
    before = {name: value.copy() for name, value in encoder.weights.items()}
    model = as_model(encoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(np.array_equal(encoder.weights[name], before[name]) for name in before)


def test_what_is_no_slice_is_not_extracted(make_superplm: Callable[..., SuperPLM]) -> None:
    with pytest.raises(InputError, match="8-24-40-4-32 is no slice"):
        extract(make_superplm(), Architecture(8, 24, 40, 4, 32))
