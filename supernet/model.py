"""The SuperPLM: one encoder whose slices are all the encoders of a space.

This file is the whole model; the slicing rule is in `elastic.py`. Sources: BERT (Devlin et al.,
2019) for the encoder, AutoTinyBERT (Yin et al., ACL 2021, section 3.2) for slices by width and
depth. Parameters are named as `BertModel.state_dict()` names them; there is no pooler.

Shape letters: B batch size, S sequence length, U different tokens of a batch, d hidden size of the
slice, h its heads; `d_full` and `H` are the SuperPLM's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.cost import MAX_POSITIONS, TYPE_VOCAB_SIZE, VOCAB_SIZE
from supernet.elastic import (
    DepthRule,
    attention,
    layer_norm,
    layers_of_depth,
    linear,
    merge_heads,
    scored_attention,
    split_heads,
)

# Told the name of an activation and its value; see `SuperPLM.forward`.
Observer = Callable[[str, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class SuperPLMConfig:
    """What decides a SuperPLM's parameters and how it is sliced.

    Attributes:
        largest: its own shape, the largest of its slices.
        depth_rule: which layers a shallower slice takes.
        vocab_size: rows of the word embedding.
        max_positions: rows of the position embedding.
        layer_norm_epsilon: added to variances.
        embedding_size: width of the embeddings, where a linear layer widens them to the hidden
            size (small ELECTRAs); such a model runs whole. None: they have the hidden size.
    """

    largest: Architecture
    depth_rule: DepthRule = "evenly-spaced"
    vocab_size: int = VOCAB_SIZE
    max_positions: int = MAX_POSITIONS
    layer_norm_epsilon: float = 1e-12  # BERT's
    embedding_size: int | None = None

    def check_holds(self, architecture: Architecture) -> None:
        """Refuses an architecture that is no slice.

        Raises:
            InputError: naming both.
        """
        if not self.largest.holds(architecture):
            raise InputError(
                f"{architecture} is no slice of the SuperPLM, which is {self.largest} with heads "
                f"of {self.largest.head_size}: name a shape within it"
            )
        if self.embedding_size is not None and architecture != self.largest:
            raise InputError(
                f"{architecture} is no slice of {self.largest}, whose embeddings are "
                f"{self.embedding_size} wide: it runs whole"
            )


@dataclass(frozen=True)
class EncoderOutput:
    """What a forward pass gives.

    Attributes:
        last_hidden_state: `[B, S, d]`.
        scores: the last layer's attention scores before masking and softmax, `[B, h, S, S]`;
            None if they were not asked for.
        parts: the last layer's queries, keys and values, `[B, h, S, a]` each; likewise.
    """

    last_hidden_state: Tensor
    scores: Tensor | None
    parts: tuple[Tensor, Tensor, Tensor] | None = None


@dataclass(frozen=True)
class WordRows:
    """The rows of the word embedding that a batch needs, gathered once for all its slices.

    The gradient of a whole embedding is tens of megabytes for every slice; that of its rows in
    the batch is a hundredth of it. `push_gradient` adds it to the embedding once a step.

    Attributes:
        rows: `[U, d_full]`, a leaf of its own.
        row_of_token: `[B, S]`, the row of each token.
        indices: `[U]`, where the rows stand in the embedding.
    """

    rows: Tensor
    row_of_token: Tensor
    indices: Tensor

    def push_gradient(self, embedding: nn.Embedding) -> None:
        """Adds what the rows have gathered to the gradient of the embedding."""
        if self.rows.grad is None:
            return
        if embedding.weight.grad is None:
            embedding.weight.grad = torch.zeros_like(embedding.weight)
        embedding.weight.grad.index_add_(0, self.indices, self.rows.grad)
        self.rows.grad = None


class SuperPLM(nn.Module):
    """An encoder that runs as any of its slices; which one is an argument of `forward`."""

    def __init__(self, config: SuperPLMConfig) -> None:
        super().__init__()
        self.config = config
        largest = config.largest
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(largest, config.layer_norm_epsilon)

    @classmethod
    def from_weights(cls, config: SuperPLMConfig, weights: Mapping[str, Tensor]) -> Self:
        """A SuperPLM with given weights, named and shaped as its own.

        Raises:
            RuntimeError: if one is missing, left over or of another shape.
        """
        with torch.device("meta"):  # no time is spent on values that are replaced at once
            model = cls(config)
        model.load_state_dict({n: value.clone() for n, value in weights.items()}, assign=True)
        for parameter in model.parameters():
            parameter.requires_grad_()
        return model

    def initialise(self, generator: torch.Generator, deviation: float = 0.02) -> None:
        """Draws BERT's initial weights: normal weights, biases zero, LayerNorm the identity."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
                elif "LayerNorm" in name:
                    parameter.fill_(1.0)
                else:
                    parameter.normal_(0.0, deviation, generator=generator)

    def gather_words(self, input_ids: Tensor) -> WordRows:
        """The rows of the word embedding that `input_ids` `[B, S]` need, as a leaf."""
        indices, row_of_token = torch.unique(input_ids, return_inverse=True)
        rows = self.embeddings.word_embeddings.weight.detach()[indices].requires_grad_()
        return WordRows(rows, row_of_token, indices)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        *,
        architecture: Architecture | None = None,
        with_scores: bool = False,
        with_parts: bool = False,
        words: WordRows | None = None,
        observe: Observer | None = None,
    ) -> EncoderOutput:
        """Runs a slice.

        Args:
            input_ids: int64 `[B, S]`.
            attention_mask: `[B, S]`, 1 for tokens, 0 for padding.
            token_type_ids: int64 `[B, S]`; None is one segment.
            architecture: the slice; None is the whole SuperPLM.
            with_scores: return the last layer's attention scores.
            with_parts: return the last layer's queries, keys and values.
            words: rows of the word embedding gathered before, instead of the embedding itself.
            observe: told every layer's `query`, `key` and `value` `[B, h, S, a]`, `ffn` (after the
                activation, `[B, S, f]`) and `hidden` (after each LayerNorm, `[B, S, d]`), under
                names that begin with the layer's index.

        Raises:
            InputError: if the architecture is no slice.
        """
        largest = self.config.largest
        architecture = largest if architecture is None else architecture
        self.config.check_holds(architecture)
        hidden = self.embeddings(input_ids, token_type_ids, architecture.hidden_size, words)
        if observe is not None:
            observe("embeddings.hidden", hidden)
        mask = attention_mask[:, None, None, :].to(torch.bool)
        chosen = layers_of_depth(
            architecture.num_layers, largest.num_layers, self.config.depth_rule
        )
        scores = parts = None
        for index in chosen:
            layer = self.encoder.layer[index]
            assert isinstance(layer, _Layer)
            hidden, scores, parts = layer(
                hidden,
                mask,
                architecture,
                largest.num_heads,
                with_scores=with_scores and index == chosen[-1],
                observe=_prefixed(observe, index),
            )
        return EncoderOutput(hidden, scores, parts if with_parts else None)


def _prefixed(observe: Observer | None, index: int) -> Observer | None:
    if observe is None:
        return None
    return lambda name, value: observe(f"{index}.{name}", value)


class _Embeddings(nn.Module):
    def __init__(self, config: SuperPLMConfig) -> None:
        super().__init__()
        d, e = config.largest.hidden_size, config.embedding_size
        width = d if e is None else e
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.max_positions, width)
        self.token_type_embeddings = nn.Embedding(TYPE_VOCAB_SIZE, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_epsilon)
        self.embeddings_project = None if e is None else nn.Linear(e, d)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None,
        hidden_size: int,
        words: WordRows | None,
    ) -> Tensor:
        """Word + segment + position embeddings and their LayerNorm, `[B, S, d]`."""
        project = self.embeddings_project
        if project is not None:
            hidden_size = project.in_features
        if words is None:
            # Gathered whole and cut afterwards: a cut table would be copied whole.
            embedded = F.embedding(input_ids, self.word_embeddings.weight)[..., :hidden_size]
        else:
            embedded = F.embedding(words.row_of_token, words.rows[:, :hidden_size])
        positions = self.position_embeddings.weight[: input_ids.shape[1], :hidden_size]
        segments = self.token_type_embeddings.weight[:, :hidden_size]
        segment = segments[0] if token_type_ids is None else F.embedding(token_type_ids, segments)
        normal = layer_norm(embedded + positions + segment, self.LayerNorm)
        return normal if project is None else project(normal)


class _SelfAttention(nn.Module):
    def __init__(self, hidden_size: int, qkv_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, qkv_size)
        self.key = nn.Linear(hidden_size, qkv_size)
        self.value = nn.Linear(hidden_size, qkv_size)


class _DenseAndNorm(nn.Module):
    def __init__(self, in_size: int, out_size: int, epsilon: float) -> None:
        super().__init__()
        self.dense = nn.Linear(in_size, out_size)
        self.LayerNorm = nn.LayerNorm(out_size, eps=epsilon)


class _Attention(nn.Module):
    def __init__(self, architecture: Architecture, epsilon: float) -> None:
        super().__init__()
        d, q = architecture.hidden_size, architecture.qkv_size
        self.self = _SelfAttention(d, q)
        self.output = _DenseAndNorm(q, d, epsilon)


class _Intermediate(nn.Module):
    def __init__(self, hidden_size: int, ffn_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, ffn_size)


class _Layer(nn.Module):
    def __init__(self, architecture: Architecture, epsilon: float) -> None:
        super().__init__()
        d, f = architecture.hidden_size, architecture.ffn_size
        self.attention = _Attention(architecture, epsilon)
        self.intermediate = _Intermediate(d, f)
        self.output = _DenseAndNorm(f, d, epsilon)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        architecture: Architecture,
        of_heads: int,
        *,
        with_scores: bool,
        observe: Observer | None,
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor, Tensor]]:
        """One post-norm layer: hidden states `[B, S, d]`, scores if asked for, and the parts."""
        d, f = architecture.hidden_size, architecture.ffn_size
        own = self.attention.self
        query = split_heads(hidden, own.query, architecture, of_heads)
        key = split_heads(hidden, own.key, architecture, of_heads)
        value = split_heads(hidden, own.value, architecture, of_heads)
        scores = None
        if with_scores:
            context, scores = scored_attention(query, key, value, mask)
        else:
            context = attention(query, key, value, mask)
        attended = merge_heads(context, self.attention.output.dense, architecture, of_heads)
        middle = layer_norm(attended + hidden, self.attention.output.LayerNorm)
        inner = F.gelu(linear(middle, self.intermediate.dense, f))
        outer = linear(inner, self.output.dense, d)
        out = layer_norm(outer + middle, self.output.LayerNorm)
        if observe is not None:
            for name, activation in (
                ("query", query),
                ("key", key),
                ("value", value),
                ("attended.hidden", middle),
                ("ffn", inner),
                ("hidden", out),
            ):
                observe(name, activation)
        return out, scores, (query, key, value)


class _Encoder(nn.Module):
    def __init__(self, largest: Architecture, epsilon: float) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(largest, epsilon) for _ in range(largest.num_layers))
