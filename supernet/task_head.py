"""Heads in torch: trained with an encoder, and sliced with it by the width of their input.

Shape letters: B batch size, S sequence length, d hidden size of the slice, n number of labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.elastic import linear
from supernet.heads import SPAN_LABELS, Head, HeadKind, head_shapes

# What stands between a classifier's two linear layers: tanh in BERT and RoBERTa, the others in
# ELECTRA and DistilBERT. Ours is always tanh.
HeadActivation = Literal["tanh", "gelu", "relu"]
_ACTIVATIONS: dict[HeadActivation, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "relu": F.relu,
}


class TaskHead(nn.Module):
    """A head on the last hidden state; how wide the slice is follows from its input.

    Args:
        kind: what it answers.
        hidden_size: of the widest encoder that it stands on.
        labels: the name of each output.
        activation: between a classifier's two layers.
    """

    def __init__(
        self,
        kind: HeadKind,
        hidden_size: int,
        labels: tuple[str, ...],
        activation: HeadActivation = "tanh",
    ) -> None:
        super().__init__()
        self.kind, self.labels, self.activation = kind, labels, activation
        if kind == "span":
            self.qa_outputs = nn.Linear(hidden_size, len(labels))
        else:
            self.pooler = nn.ModuleDict({"dense": nn.Linear(hidden_size, hidden_size)})
            self.classifier = nn.Linear(hidden_size, len(labels))

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits `[B, n]` of a last hidden state `[B, S, d]`; of a span head `[B, S, 2]`."""
        if self.kind == "span":
            return linear(hidden, self.qa_outputs, len(SPAN_LABELS))
        dense = self.pooler["dense"]
        assert isinstance(dense, nn.Linear)
        pooled = _ACTIVATIONS[self.activation](linear(hidden[:, 0], dense, hidden.shape[-1]))
        return linear(pooled, self.classifier, len(self.labels))

    def initialise(self, generator: torch.Generator, deviation: float = 0.02) -> None:
        """Draws BERT's initial weights: normal weights, biases zero."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
                else:
                    parameter.normal_(0.0, deviation, generator=generator)

    def slice(self, hidden_size: int) -> TaskHead:
        """The head of a slice, with weights of its own."""
        return TaskHead.from_head(self.extract(hidden_size))

    def extract(self, hidden_size: int) -> Head:
        """The head of a slice, as arrays of its own."""
        shapes = head_shapes(self.kind, hidden_size, len(self.labels))
        state = {name: value.detach().cpu() for name, value in self.named_parameters()}
        weights = {
            name: np.array(state[name][tuple(map(slice, shape))].numpy(), dtype=np.float32)
            for name, shape in shapes.items()
        }
        return Head(self.kind, self.labels, weights)

    @classmethod
    def from_head(cls, head: Head) -> TaskHead:
        """A head of arrays, to run or to train further."""
        found = cls(head.kind, head.hidden_size, head.labels)
        found.load_state_dict({name: torch.tensor(value) for name, value in head.weights.items()})
        return found
