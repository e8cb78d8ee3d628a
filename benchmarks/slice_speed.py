"""Forward and backward of a slice against a plain torch BERT of its shape, interleaved.

    python -m benchmarks.slice_speed [paper]

Claim: at most 1.10 times. The SuperPLM has MiniLM's shape, or with `paper` that of the paper,
8-768-3072-12-768, and a full vocabulary; a batch is 32 sequences of 64 tokens, with `paper` 8 of
128; every gradient is computed, the word embedding's included. The plain model is Hugging Face's
`BertModel` (fused attention) where a stock one has the shape, and in any case the extracted slice
on its own. A slice is run as training runs it, with its word rows gathered and their gradient
pushed; training does those two once for several slices, here they count in full. The optimiser's
step over the whole SuperPLM, which training takes once for several slices, is timed apart.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.interleaved import interleaved_ms, ratio_summary
from supernet.architecture import Architecture
from supernet.extraction import as_model, extract
from supernet.model import SuperPLM, SuperPLMConfig

SHAPES = (
    "6-384-1536-12-384",
    "4-312-1200-12-312",
    "5-324-600-12-324",
    "5-280-512-12-276",
    "4-256-480-12-192",
    "2-192-768-12-192",
)
PAPER_SHAPES = (
    "8-768-3072-12-768",
    "5-564-1024-12-528",
    "4-312-1200-12-312",
    "6-384-1536-12-384",
)


def stock_bert(architecture: Architecture) -> nn.Module | None:
    """Hugging Face's BERT of a shape, where it has one."""
    if architecture.hidden_size != architecture.qkv_size:
        return None
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.num_heads,
        intermediate_size=architecture.ffn_size,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model: Any = BertModel(config, add_pooling_layer=False)
    return model.train()  # type: ignore[no-any-return]


def forward_and_backward(
    model: nn.Module, run: Callable[[], Tensor], push: Callable[[], None] = lambda: None
) -> Callable[[], None]:
    """One training step of a model, less the optimiser's."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        run().square().mean().backward()  # type: ignore[no-untyped-call]
        push()

    return step


def main() -> None:
    """Prints the ratios for each shape."""
    torch.manual_seed(0)
    paper = sys.argv[1:2] == ["paper"]
    shapes = PAPER_SHAPES if paper else SHAPES
    superplm = SuperPLM(SuperPLMConfig(largest=Architecture.parse(shapes[0])))
    superplm.initialise(torch.Generator().manual_seed(0))
    input_ids = torch.randint(0, 30522, (8, 128) if paper else (32, 64))
    mask = torch.ones_like(input_ids)
    for name in shapes:
        architecture = Architecture.parse(name)
        gathered: list[Any] = []

        def run_slice(
            architecture: Architecture = architecture, gathered: list[Any] = gathered
        ) -> Tensor:
            gathered[:] = [superplm.gather_words(input_ids)]
            output = superplm(input_ids, mask, architecture=architecture, words=gathered[0])
            return output.last_hidden_state  # type: ignore[no-any-return]

        def push(gathered: list[Any] = gathered) -> None:
            gathered[0].push_gradient(superplm.embeddings.word_embeddings)

        extracted = as_model(extract(superplm, architecture))
        steps = [
            forward_and_backward(superplm, run_slice, push),
            forward_and_backward(
                extracted,
                lambda model=extracted: model(input_ids, mask).last_hidden_state,  # type: ignore[misc]
            ),
        ]
        stock = stock_bert(architecture)
        if stock is not None:
            steps.append(
                forward_and_backward(
                    stock,
                    lambda model=stock: (
                        model(  # type: ignore[misc]
                            input_ids=input_ids, attention_mask=mask
                        ).last_hidden_state
                    ),
                )
            )
        times_ms = interleaved_ms(steps, rounds=12, runs=1 if paper else 3)
        print(f"{name:<20} {times_ms[:, 0].min():6.1f} ms")
        print(f"  slice / extracted  {ratio_summary(times_ms[:, 0], times_ms[:, 1])}")
        if stock is not None:
            print(f"  slice / BertModel  {ratio_summary(times_ms[:, 0], times_ms[:, 2])}")
    optimizer = torch.optim.AdamW(superplm.parameters(), fused=True)
    for parameter in superplm.parameters():
        parameter.grad = torch.zeros_like(parameter)
    times_ms = interleaved_ms([optimizer.step], rounds=12, runs=1)
    print(f"optimiser step     {np.median(times_ms):6.1f} ms, apart")


if __name__ == "__main__":
    main()
