"""Reads the folders of Hugging Face's encoders: `config.json`, safetensors and a tokenizer.

BERT, RoBERTa (and XLM-RoBERTa, CamemBERT), ELECTRA, DistilBERT, and what was distilled from them
into the same classes, as MiniLM was. Each becomes our BERT and computes the same. So does an
encoder folder of ours: what was trained or brought in before is a teacher, too.

Only files are read, no code of a folder is run, and weights that are a pickle are refused.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from autotinybert.errors import InputError
from autotinybert.files import canonical_json, sha256_file, sha256_text
from autotinybert.values import mapping, text
from supernet.cost import TYPE_VOCAB_SIZE
from supernet.encoder import ENCODER_FILE, load_encoder
from supernet.encoder import WEIGHTS_FILE as ENCODER_WEIGHTS_FILE
from supernet.model import SuperPLM, SuperPLMConfig
from supernet.task_head import TaskHead
from supernet.teacher_config import CONFIG_FILE, StoredConfig, config_from, read_document
from supernet.teacher_heads import checked, masked_language_head, task_head
from supernet.weights import weight_shapes

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_PROJECT = "embeddings_project"


@dataclass(frozen=True, eq=False)
class BertFolder:
    """An encoder read from a folder, with the heads that stand on it.

    Attributes:
        path: the folder.
        family: how its files name it, such as `roberta`; `encoder` for an encoder folder.
        config: its shape and sizes.
        weights: float32, under the names of `weight_shapes`; with `embeddings_project` in
            `embeddings` where the config has an embedding size.
        sha256: of what decides its outputs: the files of weights, `config`, and a head's labels.
        head: what answers its task, frozen; None where it has none that is supported.
        head_problem: what is wrong with one that is there; None where there is none at all.
        mlm_head: its head for masked words, named as that of `MaskedLanguageHead`.
    """

    path: Path
    family: str
    config: SuperPLMConfig
    weights: Mapping[str, Tensor]
    sha256: str
    head: TaskHead | None = None
    head_problem: InputError | None = None
    mlm_head: Mapping[str, Tensor] | None = None

    @property
    def cannot_start(self) -> str | None:
        """Why no SuperPLM can begin as this encoder; None if one can."""
        size = self.config.embedding_size
        if size is None:
            return None
        return (
            f"its embeddings are {size} wide and its layers {self.config.largest.hidden_size}, so "
            "no slice can be taken of it: it can teach, but not be started from"
        )

    def task_head(self) -> TaskHead:
        """A copy of its head, frozen.

        Raises:
            InputError: if it has none, or one that is not supported.
        """
        if self.head is None:
            raise self.head_problem or InputError(
                f"{self.path} has no classifier on it: name a model saved by "
                "AutoModelForSequenceClassification"
            )
        return copy.deepcopy(self.head)

    def model(self) -> SuperPLM:
        """The encoder, for inference only."""
        model = SuperPLM.from_weights(self.config, self.weights)
        return model.requires_grad_(False).eval()  # noqa: FBT003 (torch's own signature)


def read_bert_folder(path: Path) -> BertFolder:
    """Reads a folder that holds an encoder, with or without a head on it.

    Raises:
        InputError: if a file is missing or broken, or the model is of another kind.
        DamagedFileError: if an encoder folder was torn, truncated or edited.
    """
    if not path.is_dir():
        raise InputError(f"no teacher folder {path}: name a Hugging Face BERT folder")
    if (path / ENCODER_FILE).is_file() and not (path / CONFIG_FILE).exists():
        return _from_encoder_folder(path)
    config_path = path / CONFIG_FILE
    config = config_from(read_document(config_path), config_path)
    stored, sha256 = _stored(path)
    return bert_of(path, config, stored, weights_sha256=sha256)


def bert_of(
    path: Path, config: StoredConfig, stored: Mapping[str, Tensor], *, weights_sha256: str
) -> BertFolder:
    """The encoder that stored weights are, whatever head stands on it.

    Args:
        path: the folder, or the file of weights.
        config: what it says of itself.
        stored: the weights under the family's names.
        weights_sha256: of the file or files they come from.

    Raises:
        InputError: if a weight is missing or not as the config says.
    """
    family = config.family
    # Models with a head prefix the encoder's names; the first checkpoints named LayerNorm's
    # weights gamma and beta.
    found = {
        name.removeprefix(family.prefix).replace(".gamma", ".weight").replace(".beta", ".bias"): v
        for name, v in stored.items()
    }
    weights = _encoder_weights(found, config, path)
    head, problem = None, None
    try:
        head = task_head(found, config, path)
    except InputError as error:  # whoever needs the encoder alone can have it
        problem = error
    words = weights["embeddings.word_embeddings.weight"]
    return BertFolder(
        path=path,
        family=family.name,
        config=config.config,
        weights=weights,
        sha256=_identity(config.config, weights_sha256, head, family=family.name),
        head=head,
        head_problem=problem,
        mlm_head=masked_language_head(found, words, config, path),
    )


def _identity(
    config: SuperPLMConfig, weights_sha256: str, head: TaskHead | None, *, family: str
) -> str:
    """The hash of what decides an encoder's outputs."""
    # The number of heads, the epsilon and the labels stand in no weight.
    facts: dict[str, Any] = {**dataclasses.asdict(config), "weights": weights_sha256}
    if config.embedding_size is None:
        del facts["embedding_size"]
    if family != "bert":
        facts["family"] = family
    if head is not None:
        facts["head"] = {"kind": head.kind, "labels": head.labels}
    return sha256_text(canonical_json(facts))


def _stored(path: Path) -> tuple[dict[str, Tensor], str]:
    """All weights of a folder, and the hash of their files."""
    if (path / WEIGHTS_FILE).is_file():
        return _load(path / WEIGHTS_FILE), sha256_file(path / WEIGHTS_FILE)
    if (path / INDEX_FILE).is_file():
        names = _shards(path / INDEX_FILE)
        stored: dict[str, Tensor] = {}
        for name in names:
            stored.update(_load(path / name))
        return stored, sha256_text(canonical_json([sha256_file(path / name) for name in names]))
    others = sorted(
        entry.name
        for entry in path.iterdir()
        if entry.suffix in (".bin", ".pt", ".h5", ".msgpack") or "index" in entry.name
    )
    found = f" ({others[0]} is not read)" if others else ""
    raise InputError(
        f"{path} has no {WEIGHTS_FILE}{found}: save the model with "
        "save_pretrained(..., safe_serialization=True), or bring a pytorch_model.bin in with "
        "import-model"
    )


def _shards(index: Path) -> list[str]:
    """The files that an index names, in order; they stand beside it."""
    try:
        document = mapping(json.loads(index.read_text(encoding="utf-8")))
        names = sorted({text(name) for name in mapping(document["weight_map"]).values()})
    except (OSError, LookupError, ValueError, RecursionError) as error:
        raise InputError(
            f"{index} is no index of weights ({error}): fetch or save it again"
        ) from error
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise InputError(f"{index} names {name!r}, which is no file beside it: fetch it again")
    return names


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise InputError(
            f"{path} is no whole safetensors file ({error}): fetch or save it again"
        ) from error


def _encoder_weights(
    stored: Mapping[str, Tensor], config: StoredConfig, path: Path
) -> dict[str, Tensor]:
    """The encoder's own weights, in float32 and in our shapes, whatever head stands on it."""
    own = config.config
    d, e = own.largest.hidden_size, own.embedding_size
    width = d if e is None else e
    shapes = weight_shapes(own.largest, vocab_size=own.vocab_size, max_positions=own.max_positions)
    positions, segments = (
        f"embeddings.{table}_embeddings.weight" for table in ("position", "token_type")
    )
    for name in shapes:
        if name.startswith("embeddings."):
            shapes[name] = (*shapes[name][:-1], width)
    shapes[positions] = (own.max_positions + config.skipped_positions, width)
    shapes[segments] = (config.segments, width)
    weights = {
        name: checked(stored, config.family.stored_name(name), shape, path)
        for name, shape in shapes.items()
        if name != segments or config.segments
    }
    weights[positions] = weights[positions][config.skipped_positions :]
    weights[segments] = _two_segments(weights.get(segments), width)
    if e is not None:
        for part, shape in (("weight", (d, e)), ("bias", (d,))):
            name = f"{_PROJECT}.{part}"
            weights[f"embeddings.{name}"] = checked(stored, name, shape, path)
    return weights


def _two_segments(rows: Tensor | None, width: int) -> Tensor:
    """A table of two segments `[2, e]`: one for both, or no difference, where there were fewer."""
    if rows is None:
        return torch.zeros(TYPE_VOCAB_SIZE, width)
    if len(rows) < TYPE_VOCAB_SIZE:
        return rows.expand(TYPE_VOCAB_SIZE, -1)
    return rows[:TYPE_VOCAB_SIZE]  # no tokenizer of these families makes more


def _from_encoder_folder(path: Path) -> BertFolder:
    encoder, _ = load_encoder(path)
    config = SuperPLMConfig(
        largest=encoder.architecture,
        vocab_size=encoder.vocab_size,
        max_positions=encoder.max_positions,
        layer_norm_epsilon=encoder.layer_norm_epsilon,
    )
    head = None
    if encoder.head is not None:
        head = TaskHead.from_head(encoder.head)
        head.requires_grad_(False).eval()  # noqa: FBT003
    weights_sha256 = sha256_file(path / ENCODER_WEIGHTS_FILE)
    return BertFolder(
        path=path,
        family="encoder",
        config=config,
        weights={name: torch.from_numpy(value) for name, value in encoder.weights.items()},
        sha256=_identity(config, weights_sha256, head, family="encoder"),
        head=head,
    )
