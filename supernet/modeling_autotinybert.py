"""A BERT encoder whose attention has a width of its own, for Hugging Face transformers.

A stock `BertModel` ties the width of queries, keys and values to the hidden size. This one does
not; everything else, parameter names included, is as there, except that there is a pooler only
where a classifier stands on it. The file stands alone: autotinybert (Apache-2.0) copies it into
model folders whose shape no stock `BertModel` can hold, where
`AutoModel.from_pretrained(folder, trust_remote_code=True)` loads it, and
`AutoModelForSequenceClassification` or `AutoModelForQuestionAnswering` an encoder with a head.

Shape letters: B batch size, S sequence length, d hidden size, f FFN size, h heads, q QKV size,
a head size (q / h), n number of labels.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
)


class AutoTinyBertConfig(PretrainedConfig):
    """`BertConfig` with `qkv_size`, the width of queries, of keys and of values."""

    model_type = "autotinybert"

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        qkv_size: int = 768,
        intermediate_size: int = 3072,
        hidden_act: str = "gelu",
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-12,
        pad_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        if qkv_size % num_attention_heads:
            raise ValueError(
                f"qkv_size {qkv_size} is not divisible by num_attention_heads "
                f"{num_attention_heads}: each head takes an equal share"
            )
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.qkv_size = qkv_size
        self.intermediate_size = intermediate_size
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        super().__init__(**kwargs)
        self.pad_token_id = pad_token_id


class _Embeddings(nn.Module):
    """Word + segment + position embeddings and their LayerNorm."""

    def __init__(self, config: AutoTinyBertConfig) -> None:
        super().__init__()
        d = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, d, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, d)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, d)
        self.LayerNorm = nn.LayerNorm(d, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, words: torch.Tensor, token_type_ids: torch.Tensor | None) -> torch.Tensor:
        """Word embeddings `[B, S, d]` to embeddings `[B, S, d]`."""
        length, most = words.shape[1], self.position_embeddings.num_embeddings
        if length > most:
            raise ValueError(f"{length} tokens are more than the {most} positions: truncate them")
        if token_type_ids is None:
            types = self.token_type_embeddings.weight[0]
        else:
            types = self.token_type_embeddings(token_type_ids)
        total = words + types + self.position_embeddings.weight[:length]
        embedded: torch.Tensor = self.dropout(self.LayerNorm(total))
        return embedded


class _SelfAttention(nn.Module):
    """Attention of width q over a stream of width d."""

    def __init__(self, config: AutoTinyBertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.head_size = config.qkv_size // config.num_attention_heads
        self.dropout_rate = config.attention_probs_dropout_prob
        self.query = nn.Linear(config.hidden_size, config.qkv_size)
        self.key = nn.Linear(config.hidden_size, config.qkv_size)
        self.value = nn.Linear(config.hidden_size, config.qkv_size)

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Hidden states `[B, S, d]` to contexts `[B, S, q]`; scores are scaled by 1/sqrt(a)."""
        context = nn.functional.scaled_dot_product_attention(
            self._heads(self.query(hidden)),
            self._heads(self.key(hidden)),
            self._heads(self.value(hidden)),
            attn_mask=bias,
            dropout_p=self.dropout_rate if self.training else 0.0,
        )
        return context.transpose(1, 2).flatten(2)

    def _heads(self, projected: torch.Tensor) -> torch.Tensor:
        """`[B, S, q]` to `[B, h, S, a]`."""
        batch_size, length, _ = projected.shape
        heads = projected.reshape(batch_size, length, self.num_heads, self.head_size)
        return heads.transpose(1, 2)


class _Output(nn.Module):
    """The end of a block: a projection to d, dropout, the residual and its LayerNorm."""

    def __init__(self, config: AutoTinyBertConfig, in_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(in_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, inner: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """`[B, S, in_size]` and `[B, S, d]` to `[B, S, d]`."""
        normed: torch.Tensor = self.LayerNorm(self.dropout(self.dense(inner)) + residual)
        return normed


class _Attention(nn.Module):
    def __init__(self, config: AutoTinyBertConfig) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _Output(config, config.qkv_size)

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """`[B, S, d]` to `[B, S, d]`."""
        attended: torch.Tensor = self.output(self.self(hidden, bias), hidden)
        return attended


class _Intermediate(nn.Module):
    def __init__(self, config: AutoTinyBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[B, S, d]` to `[B, S, f]`."""
        active: torch.Tensor = self.activation(self.dense(hidden))
        return active


class _Layer(nn.Module):
    """One post-norm transformer layer."""

    def __init__(self, config: AutoTinyBertConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.intermediate = _Intermediate(config)
        self.output = _Output(config, config.intermediate_size)

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """`[B, S, d]` to `[B, S, d]`."""
        middle = self.attention(hidden, bias)
        outer: torch.Tensor = self.output(self.intermediate(middle), middle)
        return outer


class _Encoder(nn.Module):
    def __init__(self, config: AutoTinyBertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList([_Layer(config) for _ in range(config.num_hidden_layers)])


class _Pooler(nn.Module):
    """What a classifier reads: a linear layer and tanh on the first token."""

    def __init__(self, config: AutoTinyBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[B, S, d]` to `[B, d]`."""
        return torch.tanh(self.dense(hidden[:, 0]))


class _PreTrained(PreTrainedModel):
    """What all models here have in common."""

    config_class = AutoTinyBertConfig
    base_model_prefix = "bert"
    _supports_sdpa = True


class AutoTinyBertModel(_PreTrained):
    """The encoder, without a head, and without a pooler unless it is asked for."""

    def __init__(self, config: AutoTinyBertConfig, *, add_pooling_layer: bool = False) -> None:
        super().__init__(config)
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        self.pooler = _Pooler(config) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The word embedding."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the word embedding."""
        assert isinstance(value, nn.Embedding)
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        *,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPooling | tuple[Any, ...]:
        """Runs the encoder.

        Args:
            input_ids: token ids `[B, S]`.
            attention_mask: 1 for tokens, 0 for padding, `[B, S]`; all ones by default.
            token_type_ids: segment ids `[B, S]`; all zeros by default.
            inputs_embeds: word embeddings `[B, S, d]`, in place of `input_ids`.
            output_hidden_states: also return the embeddings and every layer's output.
            return_dict: return a `BaseModelOutputWithPooling` instead of a tuple.

        Raises:
            ValueError: if not exactly one of `input_ids` and `inputs_embeds` is given, or a
                sequence is longer than the position embedding.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.embeddings.word_embeddings(input_ids)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if return_dict is None:
            return_dict = self.config.return_dict
        hidden = self.embeddings(inputs_embeds, token_type_ids)
        bias = None
        if attention_mask is not None:
            # The lowest number instead of -inf: a row of padding alone must not become NaN.
            padded = 1 - attention_mask[:, None, None, :].to(hidden.dtype)  # [B, 1, 1, S]
            bias = padded * torch.finfo(hidden.dtype).min
        states = [hidden]
        for layer in self.encoder.layer:
            hidden = layer(hidden, bias)
            states.append(hidden)
        output = BaseModelOutputWithPooling(
            last_hidden_state=hidden,
            pooler_output=self.pooler(hidden) if self.pooler else None,
            hidden_states=tuple(states) if output_hidden_states else None,
        )
        return output if return_dict else output.to_tuple()


class AutoTinyBertForSequenceClassification(_PreTrained):
    """A classifier of texts or of pairs of texts, or a regression: `BertForSequenceClassification`.

    What kind it is, `config.problem_type` says; without it, one label is a regression.
    """

    def __init__(self, config: AutoTinyBertConfig) -> None:
        super().__init__(config)
        self.num_labels = len(config.id2label or ())
        self.bert = AutoTinyBertModel(config, add_pooling_layer=True)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        *,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Runs the classifier.

        Args:
            input_ids: token ids `[B, S]`.
            attention_mask: 1 for tokens, 0 for padding, `[B, S]`; all ones by default.
            token_type_ids: segment ids `[B, S]`; all zeros by default.
            inputs_embeds: word embeddings `[B, S, d]`, in place of `input_ids`.
            labels: label indices `[B]`, of a regression its values; then there is a loss, too.
            output_hidden_states: also return the embeddings and every layer's output.
            return_dict: return a `SequenceClassifierOutput` instead of a tuple.
        """
        found = self.bert(
            input_ids,
            attention_mask,
            token_type_ids,
            inputs_embeds,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        logits = self.classifier(self.dropout(found.pooler_output))  # [B, n]
        output = SequenceClassifierOutput(
            loss=None if labels is None else self._loss(logits, labels),
            logits=logits,
            hidden_states=found.hidden_states,
        )
        if return_dict is None:
            return_dict = self.config.return_dict
        return output if return_dict else output.to_tuple()

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        kind = self.config.problem_type
        if kind is None:
            kind = "regression" if self.num_labels == 1 else "single_label_classification"
        if kind == "regression":
            return nn.functional.mse_loss(logits, labels.to(logits.dtype).view_as(logits))
        if kind == "multi_label_classification":
            return nn.functional.binary_cross_entropy_with_logits(logits, labels)
        return nn.functional.cross_entropy(logits, labels.view(-1))


class AutoTinyBertForQuestionAnswering(_PreTrained):
    """Where in a text the answer to a question starts and ends: `BertForQuestionAnswering`."""

    def __init__(self, config: AutoTinyBertConfig) -> None:
        super().__init__(config)
        self.bert = AutoTinyBertModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        *,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> QuestionAnsweringModelOutput | tuple[Any, ...]:
        """Finds the answer.

        Args:
            input_ids: token ids `[B, S]`, the question first.
            attention_mask: 1 for tokens, 0 for padding, `[B, S]`; all ones by default.
            token_type_ids: segment ids `[B, S]`; all zeros by default.
            inputs_embeds: word embeddings `[B, S, d]`, in place of `input_ids`.
            start_positions: first token of each answer, `[B]`; with the next, there is a loss, too.
            end_positions: last token of each answer, `[B]`. Positions beyond S are left out.
            output_hidden_states: also return the embeddings and every layer's output.
            return_dict: return a `QuestionAnsweringModelOutput` instead of a tuple.
        """
        found = self.bert(
            input_ids,
            attention_mask,
            token_type_ids,
            inputs_embeds,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        start_logits, end_logits = self.qa_outputs(found.last_hidden_state).unbind(-1)  # [B, S]
        loss = None
        if start_positions is not None and end_positions is not None:
            places = (start_positions.view(-1), end_positions.view(-1))
            length = start_logits.shape[1]
            losses = [
                nn.functional.cross_entropy(logits, place.clamp(0, length), ignore_index=length)
                for logits, place in zip((start_logits, end_logits), places, strict=True)
            ]
            loss = (losses[0] + losses[1]) / 2
        output = QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=found.hidden_states,
        )
        if return_dict is None:
            return_dict = self.config.return_dict
        return output if return_dict else output.to_tuple()


# So that `save_pretrained` copies this file, too, and writes the whole `auto_map`.
AutoTinyBertConfig.register_for_auto_class("AutoConfig")
AutoTinyBertModel.register_for_auto_class("AutoModel")
AutoTinyBertForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
AutoTinyBertForQuestionAnswering.register_for_auto_class("AutoModelForQuestionAnswering")
