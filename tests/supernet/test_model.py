from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.elastic import layers_of_depth
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.weights import weight_shapes

LARGEST = Architecture(6, 24, 40, 4, 32)

MakeSuperPLM = Callable[..., SuperPLM]


def hugging_face_bert(architecture: Architecture) -> Any:
    from transformers import BertConfig, BertModel

    peer: Any = BertModel(
        BertConfig(
            vocab_size=100,
            hidden_size=architecture.hidden_size,
            num_hidden_layers=architecture.num_layers,
            num_attention_heads=architecture.num_heads,
            intermediate_size=architecture.ffn_size,
            max_position_embeddings=32,
        ),
        add_pooling_layer=False,
    )
    return peer.eval()


def test_parameters_are_named_and_shaped_as_those_of_hugging_face_bert(
    make_superplm: MakeSuperPLM,
) -> None:
    model = make_superplm()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == weight_shapes(LARGEST, vocab_size=100, max_positions=32)


def test_the_whole_superplm_equals_hugging_face_bert(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    square = Architecture(6, 24, 40, 4, 24)  # a stock BERT has QKV size equal to hidden size
    model = make_superplm(square)
    peer = hugging_face_bert(square)
    peer.load_state_dict(model.state_dict(), strict=False)
    input_ids, mask, _ = batch
    segments = torch.zeros_like(input_ids)
    segments[:, 5:] = 1
    with torch.no_grad():
        ours = model(input_ids, mask, segments).last_hidden_state
        theirs = peer(
            input_ids=input_ids, attention_mask=mask, token_type_ids=segments
        ).last_hidden_state
    kept = mask.bool()
    torch.testing.assert_close(ours[kept], theirs[kept], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", ["evenly-spaced", "first"])
@pytest.mark.parametrize("hidden_size", [24, 20, 12, 4])
def test_a_slice_equals_a_hugging_face_bert_that_holds_its_weights(
    make_superplm: MakeSuperPLM, batch: Batch, rule: str, hidden_size: int
) -> None:
    small = Architecture(4, hidden_size, 28, 4, hidden_size)
    model = make_superplm(depth_rule=rule)
    peer = hugging_face_bert(small)
    state = dict(model.state_dict())
    layers = layers_of_depth(4, 6, model.config.depth_rule)
    size = small.head_size
    rows = [head * 8 + place for head in range(4) for place in range(size)]
    cut = {}
    for name, value in peer.state_dict().items():
        if name.endswith("position_ids"):
            continue
        source = name
        if name.startswith("encoder.layer."):
            index = int(name.split(".")[2])
            source = name.replace(f".{index}.", f".{layers[index]}.", 1)
        large = state[source]
        if ".self." in name:
            large = large[rows]
        elif name.endswith("attention.output.dense.weight"):
            large = large[:, rows]
        cut[name] = large[tuple(slice(extent) for extent in value.shape)]
    peer.load_state_dict(cut, strict=False)
    input_ids, mask, _ = batch
    with torch.no_grad():
        ours = model(input_ids, mask, architecture=small).last_hidden_state
        theirs = peer(input_ids=input_ids, attention_mask=mask).last_hidden_state
    kept = mask.bool()
    torch.testing.assert_close(ours[kept], theirs[kept], rtol=0, atol=1e-5)


def test_scores_come_from_the_last_layer_and_change_nothing_else(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    model = make_superplm()
    small = Architecture(3, 16, 20, 2, 10)
    with torch.no_grad():
        plain = model(*batch, architecture=small)
        scored = model(*batch, architecture=small, with_scores=True)
    assert plain.scores is None
    assert scored.scores is not None
    assert tuple(scored.scores.shape) == (3, 2, 11, 11)
    torch.testing.assert_close(plain.last_hidden_state, scored.last_hidden_state)


def test_padding_does_not_change_what_tokens_become(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    model = make_superplm()
    input_ids, mask, _ = batch
    with torch.no_grad():
        padded = model(input_ids, mask).last_hidden_state[2, :3]
        alone = model(input_ids[2:, :3], mask[2:, :3]).last_hidden_state[0]
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)


def test_gathered_rows_give_the_same_output_and_the_same_gradient(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    model = make_superplm()
    shapes = [LARGEST, Architecture(3, 16, 20, 2, 10)]
    for architecture in shapes:
        model(*batch, architecture=architecture).last_hidden_state.square().sum().backward()
    expected = {name: value.grad.clone() for name, value in model.named_parameters()}  # type: ignore[union-attr]
    model.zero_grad(set_to_none=True)
    words = model.gather_words(batch[0])
    for architecture in shapes:
        output = model(*batch, architecture=architecture, words=words)
        output.last_hidden_state.square().sum().backward()
    words.push_gradient(model.embeddings.word_embeddings)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.grad, expected[name])
    assert words.rows.grad is None, "a gradient is pushed once"


def test_width_is_an_argument_and_leaves_no_trace(
    make_superplm: MakeSuperPLM, batch: Batch
) -> None:
    model = make_superplm()
    with torch.no_grad():
        before = model(*batch).last_hidden_state
        model(*batch, architecture=Architecture(1, 4, 8, 1, 1))
        after = model(*batch).last_hidden_state
    assert torch.equal(before, after)


@pytest.mark.parametrize(
    "larger",
    ["7-24-40-4-32", "6-25-40-4-32", "6-24-41-4-32", "6-24-40-5-20", "6-24-40-2-18"],
)
def test_what_is_no_slice_is_refused(
    make_superplm: MakeSuperPLM, batch: Batch, larger: str
) -> None:
    with pytest.raises(InputError, match=f"{larger} is no slice of the SuperPLM"):
        make_superplm()(*batch, architecture=Architecture.parse(larger))


def test_initial_weights_follow_the_generator_alone() -> None:
    config = SuperPLMConfig(largest=Architecture(1, 8, 8, 2, 8), vocab_size=20, max_positions=8)
    first, second = SuperPLM(config), SuperPLM(config)
    for model in (first, second):
        model.initialise(torch.Generator().manual_seed(3))
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    norm = first.embeddings.LayerNorm
    assert torch.equal(norm.weight.detach(), torch.ones(8))
    assert torch.equal(norm.bias.detach(), torch.zeros(8))
