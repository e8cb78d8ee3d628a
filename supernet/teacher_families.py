"""How the families of BERT-like encoders name what they store.

They compute the same: post-norm layers, learnt positions, an erf GELU. Names differ, and a few
tables: RoBERTa's positions begin after its padding, DistilBERT has no segments, small ELECTRAs
have narrow embeddings. MiniLM's models are of the family that they were distilled from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from supernet.task_head import HeadActivation


@dataclass(frozen=True, kw_only=True)
class MaskedNames:
    """Where a family stores its head for masked words.

    Attributes:
        dense: its linear layer.
        norm: its LayerNorm.
        bias: of every word.
        decoder: the layer that is tied to the word embedding.
    """

    dense: str
    norm: str
    bias: str
    decoder: str


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of encoders.

    Attributes:
        name: the `model_type` in `config.json`.
        prefix: before the encoder's names where a head stands on it.
        config_keys: where `config.json` has another key than BERT's, by BERT's.
        layer_names: parts of names that are others than BERT's, in the order of replacement.
        has_segments: whether there is an embedding of segments.
        skips_padding: whether positions are counted from `pad_token_id` + 1 on.
        has_narrow_embeddings: whether they may have an `embedding_size` of their own.
        epsilon: of every LayerNorm, where `config.json` does not say it.
        pooled: the first linear layer of a classifier, without the prefix.
        classifier: the second.
        activation: between the two.
        masked: the head for masked words; None if the family has none.
    """

    name: str
    prefix: str
    config_keys: Mapping[str, str] = field(default_factory=dict)
    layer_names: tuple[tuple[str, str], ...] = ()
    has_segments: bool = True
    skips_padding: bool = False
    has_narrow_embeddings: bool = False
    epsilon: float | None = None
    pooled: str
    classifier: str
    activation: HeadActivation
    masked: MaskedNames | None

    def stored_name(self, name: str) -> str:
        """Under which name, without the prefix, a weight of `weight_shapes` is stored."""
        for ours, theirs in self.layer_names:
            name = name.replace(ours, theirs)
        return name

    def key(self, name: str) -> str:
        """The key in `config.json` of what BERT's has under `name`."""
        return self.config_keys.get(name, name)


BERT = Family(
    name="bert",
    prefix="bert.",
    pooled="pooler.dense",
    classifier="classifier",
    activation="tanh",
    masked=MaskedNames(
        dense="cls.predictions.transform.dense",
        norm="cls.predictions.transform.LayerNorm",
        bias="cls.predictions.bias",
        decoder="cls.predictions.decoder",
    ),
)


def _roberta(name: str) -> Family:
    return Family(
        name=name,
        prefix="roberta.",
        skips_padding=True,
        pooled="classifier.dense",
        classifier="classifier.out_proj",
        activation="tanh",
        masked=MaskedNames(
            dense="lm_head.dense",
            norm="lm_head.layer_norm",
            bias="lm_head.bias",
            decoder="lm_head.decoder",
        ),
    )


ELECTRA = Family(
    name="electra",
    prefix="electra.",
    has_narrow_embeddings=True,
    pooled="classifier.dense",
    classifier="classifier.out_proj",
    activation="gelu",
    masked=None,
)

DISTILBERT = Family(
    name="distilbert",
    prefix="distilbert.",
    config_keys={
        "num_hidden_layers": "n_layers",
        "hidden_size": "dim",
        "intermediate_size": "hidden_dim",
        "num_attention_heads": "n_heads",
        "hidden_act": "activation",
    },
    layer_names=(
        ("encoder.layer.", "transformer.layer."),
        ("attention.self.query", "attention.q_lin"),
        ("attention.self.key", "attention.k_lin"),
        ("attention.self.value", "attention.v_lin"),
        ("attention.output.dense", "attention.out_lin"),
        ("attention.output.LayerNorm", "sa_layer_norm"),
        ("intermediate.dense", "ffn.lin1"),
        ("output.dense", "ffn.lin2"),
        ("output.LayerNorm", "output_layer_norm"),
    ),
    has_segments=False,
    epsilon=1e-12,
    pooled="pre_classifier",
    classifier="classifier",
    activation="relu",
    masked=MaskedNames(
        dense="vocab_transform",
        norm="vocab_layer_norm",
        bias="vocab_projector.bias",
        decoder="vocab_projector",
    ),
)

FAMILIES: Mapping[object, Family] = {
    family.name: family
    for family in (
        BERT,
        _roberta("roberta"),
        _roberta("xlm-roberta"),
        _roberta("camembert"),
        ELECTRA,
        DISTILBERT,
    )
}
