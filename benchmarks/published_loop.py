"""AutoTinyBERT's training loop, written anew from its description, to compare with.

One shape a step; every weight of the slice gathered by `index_select`; attention without a fused
kernel, in every layer; the teacher run for every shape; first layers; AdamW as PyTorch's default
has it. The loss is the same as ours, so that both can be judged by the same held-out text.

Shape letters: B batch size, S sequence length, d hidden size of the slice, q its QKV size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.learner import Learner
from supernet.model import EncoderOutput, SuperPLM
from supernet.objectives import Objective


def _gathered(parameter: Tensor, *indices: Tensor) -> Tensor:
    for dimension, index in enumerate(indices):
        parameter = parameter.index_select(dimension, index)
    return parameter


class PublishedForward:
    """Runs a slice of a SuperPLM the published way; the same numbers, another path to them."""

    def __init__(self, student: SuperPLM) -> None:
        self._weights = dict(student.named_parameters())
        self._largest = student.config.largest
        self._epsilon = student.config.layer_norm_epsilon

    def __call__(self, batch: Batch, shape: Architecture) -> EncoderOutput:
        """Last hidden state and scores of a slice, with its first layers."""
        d = torch.arange(shape.hidden_size)
        hidden = self._embed(batch.input_ids, d)
        bias = (1.0 - batch.mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        scores = None
        for index in range(shape.num_layers):
            hidden, scores = self._layer(f"encoder.layer.{index}", hidden, bias, shape)
        return EncoderOutput(hidden, scores)

    def _embed(self, input_ids: Tensor, d: Tensor) -> Tensor:
        prefix = "embeddings."
        rows = torch.arange(input_ids.shape[1])
        words = self._weights[f"{prefix}word_embeddings.weight"].index_select(1, d)
        positions = self._weights[f"{prefix}position_embeddings.weight"].index_select(1, d)
        types = self._weights[f"{prefix}token_type_embeddings.weight"].index_select(1, d)
        embedded = F.embedding(input_ids, words) + F.embedding(rows, positions) + types[0]
        return self._norm(embedded, "embeddings")

    def _linear(self, value: Tensor, name: str, rows: Tensor, columns: Tensor) -> Tensor:
        weight = _gathered(self._weights[f"{name}.weight"], rows, columns)
        return F.linear(value, weight, _gathered(self._weights[f"{name}.bias"], rows))

    def _norm(self, value: Tensor, name: str) -> Tensor:
        index = torch.arange(value.shape[-1])
        weight, bias = (
            _gathered(self._weights[f"{name}.LayerNorm.{kind}"], index)
            for kind in ("weight", "bias")
        )
        return F.layer_norm(value, value.shape[-1:], weight, bias, self._epsilon)

    def _layer(
        self, name: str, hidden: Tensor, bias: Tensor, shape: Architecture
    ) -> tuple[Tensor, Tensor]:
        d, f = torch.arange(shape.hidden_size), torch.arange(shape.ffn_size)
        heads = torch.arange(self._largest.qkv_size).view(self._largest.num_heads, -1)
        q = heads[: shape.num_heads, : shape.head_size].flatten()

        def split(part: str) -> Tensor:
            found = self._linear(hidden, f"{name}.attention.self.{part}", q, d)
            by_head = found.view(*hidden.shape[:2], shape.num_heads, shape.head_size)
            return by_head.permute(0, 2, 1, 3)

        query, key, value = split("query"), split("key"), split("value")
        scores = query @ key.transpose(-1, -2) / shape.head_size**0.5
        context = (scores + bias).softmax(dim=-1) @ value
        merged = context.permute(0, 2, 1, 3).reshape(*hidden.shape[:2], shape.qkv_size)
        attended = self._linear(merged, f"{name}.attention.output.dense", d, q)
        middle = self._norm(attended + hidden, f"{name}.attention.output")
        inner = F.gelu(self._linear(middle, f"{name}.intermediate.dense", f, d))
        outer = self._linear(inner, f"{name}.output.dense", d, f)
        return self._norm(outer + middle, f"{name}.output"), scores


class PublishedLoop:
    """Trains a learner the published way.

    Args:
        learner: its student is sliced.
        objective: with the teacher.
        learning_rate: constant, unless it is set from outside.
    """

    def __init__(self, learner: Learner, objective: Objective, learning_rate: float) -> None:
        self.learner, self._objective = learner, objective
        self._forward = PublishedForward(learner.student)
        self.optimizer = torch.optim.AdamW(
            learner.parameters(), lr=learning_rate, weight_decay=0.01
        )

    def step(self, batch: Batch, shapes: list[Architecture]) -> None:
        """One optimiser step; each shape is a batch of its own through the teacher."""
        self.optimizer.zero_grad()
        for shape in shapes:
            lesson = self._objective.lesson(batch, 0)
            found = self._objective.sums(self._forward(batch, shape), self.learner, lesson)
            sums = torch.stack([found[name] for name in self._objective.term_names])
            loss = (sums / lesson.counts).sum() / len(shapes)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.learner.parameters(), 1.0)
        self.optimizer.step()
