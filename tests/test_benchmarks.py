"""What benchmarks compare with must be what it claims to be."""

from __future__ import annotations

import torch

from benchmarks.published_loop import PublishedForward
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.model import SuperPLM, SuperPLMConfig


def test_the_published_loop_computes_what_our_slice_computes() -> None:
    largest = Architecture(4, 24, 40, 4, 32)
    config = SuperPLMConfig(largest=largest, depth_rule="first", vocab_size=50, max_positions=16)
    model = SuperPLM(config)
    model.initialise(torch.Generator().manual_seed(0), 0.3)
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[1, 4:] = 0
    batch = Batch(torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(1)), mask)
    for shape in (largest, Architecture(2, 16, 20, 4, 12), Architecture(1, 8, 8, 2, 6)):
        with torch.no_grad():
            ours = model(*batch, architecture=shape, with_scores=True)
            theirs = PublishedForward(model)(batch, shape)
        kept = mask.bool()
        torch.testing.assert_close(
            theirs.last_hidden_state[kept], ours.last_hidden_state[kept], rtol=0, atol=1e-5
        )
        torch.testing.assert_close(theirs.scores, ours.scores, rtol=1e-4, atol=1e-4)
