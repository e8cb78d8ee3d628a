from __future__ import annotations

from collections.abc import Callable

import torch

from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.importance import channel_order, reorder
from supernet.model import SuperPLM


def test_an_ordered_encoder_computes_what_it_computed_in_another_order(
    make_superplm: Callable[..., SuperPLM], batch: Batch
) -> None:
    model = make_superplm()
    order = channel_order(model, [batch])
    ordered = SuperPLM.from_weights(model.config, reorder(dict(model.state_dict()), order))
    with torch.no_grad():
        before = model(*batch, with_scores=True)
        after = ordered(*batch, with_scores=True)
    assert order.hidden.tolist() != sorted(order.hidden.tolist()), "something was permuted"
    torch.testing.assert_close(
        after.last_hidden_state, before.last_hidden_state[..., order.hidden], rtol=0, atol=2e-5
    )
    torch.testing.assert_close(after.scores, before.scores, rtol=1e-4, atol=2e-4)


def test_dimensions_stay_within_their_heads(
    make_superplm: Callable[..., SuperPLM], batch: Batch
) -> None:
    model = make_superplm()
    order = channel_order(model, [batch])
    for dimensions in (*order.query_key, *order.value):
        heads = dimensions.view(4, 8) // 8
        assert torch.equal(heads, torch.arange(4)[:, None].expand(4, 8))


def test_channels_that_nothing_reads_come_last(
    make_superplm: Callable[..., SuperPLM], batch: Batch
) -> None:
    model = make_superplm(Architecture(2, 8, 12, 2, 8))
    with torch.no_grad():
        for layer in model.encoder.layer:
            for reader in ("attention.self.query", "attention.self.key", "attention.self.value"):
                layer.get_submodule(reader).weight[:, 3] = 0  # type: ignore[operator]
            layer.get_submodule("intermediate.dense").weight[:, 3] = 0  # type: ignore[operator]
            layer.get_submodule("output.dense").weight[:, 5] = 0  # type: ignore[operator]
    order = channel_order(model, [batch])
    assert int(order.hidden[-1]) == 3
    assert [int(neurons[-1]) for neurons in order.ffn] == [5, 5]


def test_padding_does_not_count(make_superplm: Callable[..., SuperPLM], batch: Batch) -> None:
    model = make_superplm()
    other = batch._replace(input_ids=torch.where(batch.mask.bool(), batch.input_ids, 7))
    first, second = channel_order(model, [batch]), channel_order(model, [other])
    assert torch.equal(first.hidden, second.hidden)
