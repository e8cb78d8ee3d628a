"""Every family is read into our BERT and computes what transformers computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from autotinybert.errors import InputError
from supernet.architecture import Architecture
from supernet.batch import Batch
from supernet.elastic import layer_norm
from supernet.huggingface import INDEX_FILE, WEIGHTS_FILE, BertFolder, read_bert_folder
from supernet.masked_language import MaskedLanguageHead
from supernet.model import EncoderOutput
from supernet.teacher_config import CONFIG_FILE

SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "initializer_range": 0.4,  # attention far from uniform
}
DISTILBERT: dict[str, Any] = {
    "vocab_size": 100,
    "dim": 24,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": 40,
    "initializer_range": 0.4,
}
# Class of the configuration, its settings, and the prefix of the classes that run it.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", SIZES),
    "bert, one segment": ("Bert", {**SIZES, "type_vocab_size": 1}),
    "bert, three segments": ("Bert", {**SIZES, "type_vocab_size": 3}),
    "roberta": ("Roberta", {**SIZES, "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "roberta, pad 3": ("Roberta", {**SIZES, "pad_token_id": 3}),
    "xlm-roberta": ("XLMRoberta", {**SIZES, "type_vocab_size": 1}),
    "camembert": ("Camembert", {**SIZES, "type_vocab_size": 1}),
    "electra": ("Electra", {**SIZES, "embedding_size": 24}),
    "electra, narrow": ("Electra", {**SIZES, "embedding_size": 12}),
    "distilbert": ("DistilBert", DISTILBERT),
    "distilbert, sines": ("DistilBert", {**DISTILBERT, "sinusoidal_pos_embds": True}),
}


def saved(folder: Path, family: str, kind: str = "Model", **changes: Any) -> Any:
    """Saves a small random model of a family and returns it."""
    prefix, settings = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{prefix}Config")(**{**settings, **changes})
    model: Any = getattr(transformers, f"{prefix}{kind}")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases are 0 and LayerNorms 1 at first
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture
def padded(batch: Batch) -> Callable[[Any], Batch]:
    """Makes a batch whose padding is a model's own; no other token is that."""

    def make(config: Any) -> Batch:
        pad = config.pad_token_id or 0
        input_ids = batch.input_ids.clone()
        input_ids[input_ids == pad] = 50
        input_ids[batch.mask == 0] = pad
        return Batch(input_ids, batch.mask, batch.token_types)

    return make


def run(model: Any, batch: Batch) -> Any:
    with torch.no_grad():
        return model(input_ids=batch.input_ids, attention_mask=batch.mask)


def hidden_of(found: BertFolder, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        output: EncoderOutput = found.model()(batch.input_ids, batch.mask)
    return output.last_hidden_state


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_family_gives_what_transformers_gives_with_and_without_a_head(
    tmp_path: Path, family: str, padded: Callable[[Any], Batch]
) -> None:
    for kind in ("Model", "ForSequenceClassification"):
        peer = saved(tmp_path / kind, family, kind)
        found = read_bert_folder(tmp_path / kind)
        assert found.family == family.split(",")[0]
        assert found.config.largest == Architecture(3, 24, 48, 4, 24)
        batch = padded(peer.config)
        theirs = run(getattr(peer, peer.base_model_prefix, peer), batch).last_hidden_state
        kept = batch.mask.bool()
        ours = hidden_of(found, batch)
        torch.testing.assert_close(ours[kept], theirs[kept], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_classifier_gives_the_logits_that_transformers_gives(
    tmp_path: Path, family: str, padded: Callable[[Any], Batch]
) -> None:
    names = {0: "no", 1: "yes", 2: "not said"}
    peer = saved(tmp_path, family, "ForSequenceClassification", id2label=names)
    found = read_bert_folder(tmp_path)
    head = found.task_head()
    assert (head.kind, head.labels) == ("classification", ("no", "yes", "not said"))
    batch = padded(peer.config)
    with torch.no_grad():
        logits = head(hidden_of(found, batch))
    torch.testing.assert_close(logits, run(peer, batch).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_a_finder_of_answers_gives_the_logits_that_transformers_gives(
    tmp_path: Path, family: str, padded: Callable[[Any], Batch]
) -> None:
    peer = saved(tmp_path, family, "ForQuestionAnswering")
    found = read_bert_folder(tmp_path)
    head = found.task_head()
    assert head.kind == "span"
    batch = padded(peer.config)
    with torch.no_grad():
        start, end = head(hidden_of(found, batch)).unbind(-1)
    theirs, kept = run(peer, batch), batch.mask.bool()
    torch.testing.assert_close(start[kept], theirs.start_logits[kept], rtol=0, atol=1e-5)
    torch.testing.assert_close(end[kept], theirs.end_logits[kept], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "distilbert"])
def test_a_head_for_masked_words_gives_the_logits_that_transformers_gives(
    tmp_path: Path, family: str, padded: Callable[[Any], Batch]
) -> None:
    peer = saved(tmp_path, family, "ForMaskedLM")
    found = read_bert_folder(tmp_path)
    assert found.mlm_head is not None
    assert found.head is None
    own = MaskedLanguageHead(24, 100, found.config.layer_norm_epsilon)
    own.load_state_dict(dict(found.mlm_head))
    batch = padded(peer.config)
    kept = batch.mask.bool()
    with torch.no_grad():
        hidden = hidden_of(found, batch)[kept]
        logits = own(hidden, found.weights["embeddings.word_embeddings.weight"])
    torch.testing.assert_close(logits, run(peer, batch).logits[kept], rtol=0, atol=1e-4)


def test_a_masked_words_head_with_a_decoder_of_its_own_is_left_out(tmp_path: Path) -> None:
    saved(tmp_path, "bert", "ForMaskedLM", tie_word_embeddings=False)
    assert read_bert_folder(tmp_path).mlm_head is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", ["roberta", "electra, narrow", "distilbert"])
def test_a_family_saved_in_half_precision_is_read(
    tmp_path: Path, family: str, dtype: torch.dtype, padded: Callable[[Any], Batch]
) -> None:
    peer = saved(tmp_path, family, "ForSequenceClassification")
    peer.to(dtype).save_pretrained(tmp_path)
    found = read_bert_folder(tmp_path)
    batch = padded(peer.config)
    with torch.no_grad():
        logits = found.task_head()(hidden_of(found, batch))
    torch.testing.assert_close(logits, run(peer.float(), batch).logits, rtol=0, atol=1e-5)


def test_an_encoder_with_narrow_embeddings_runs_whole_and_starts_nothing(tmp_path: Path) -> None:
    saved(tmp_path, "electra, narrow")
    found = read_bert_folder(tmp_path)
    assert "its embeddings are 12 wide and its layers 24" in str(found.cannot_start)
    tokens = torch.zeros(1, 3, dtype=torch.long)
    with pytest.raises(InputError, match="2-24-48-4-24 is no slice of 3-24-48-4-24, whose embed"):
        found.model()(tokens, tokens + 1, architecture=Architecture(2, 24, 48, 4, 24))
    saved(tmp_path, "electra")
    assert read_bert_folder(tmp_path).cannot_start is None


def test_the_first_positions_of_a_roberta_are_not_counted(tmp_path: Path) -> None:
    saved(tmp_path, "roberta")
    assert read_bert_folder(tmp_path).config.max_positions == 38
    saved(tmp_path, "roberta, pad 3")
    assert read_bert_folder(tmp_path).config.max_positions == 36


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("roberta", {"pad_token_id": None}, "pad_token_id must be an integer from 0 on, not None"),
        ("roberta", {"pad_token_id": 39}, "max_position_embeddings 40 leaves no position after"),
        ("roberta", {"position_embedding_type": "relative_key"}, "type 'relative_key' is not supp"),
        ("electra", {"embedding_size": 0}, "embedding_size must be a positive integer, not 0"),
        ("electra", {"embedding_size": 12}, "has shape [100, 24], but its config.json says [100"),
        ("electra, narrow", {"embedding_size": 24}, "has shape [100, 12], but its config.json"),
        ("electra", {"hidden_act": "gelu_new"}, "hidden_act 'gelu_new' is not supported"),
        ("distilbert", {"activation": "relu"}, "activation 'relu' is not supported: it must be"),
        ("distilbert", {"dim": "24"}, "dim must be a positive integer, not '24'"),
        ("distilbert", {"n_heads": 5}, "dim 24 is not divisible by n_heads 5"),
        ("distilbert", {"n_layers": 4}, "lacks transformer.layer.3.attention.q_lin.weight"),
        ("distilbert", {"model_type": "mpnet"}, "model_type 'mpnet' is not supported: use one of"),
    ],
)
def test_a_config_of_another_model_is_one_line_in_the_words_of_the_family(
    tmp_path: Path, family: str, changes: dict[str, Any], message: str
) -> None:
    saved(tmp_path, family)
    change_config(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        read_bert_folder(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class TestShards:
    def test_weights_in_several_files_are_read_as_if_in_one(
        self, tmp_path: Path, padded: Callable[[Any], Batch]
    ) -> None:
        peer = saved(tmp_path, "roberta", "ForSequenceClassification")
        batch = padded(peer.config)
        whole = read_bert_folder(tmp_path)
        (tmp_path / WEIGHTS_FILE).unlink()
        peer.save_pretrained(tmp_path, max_shard_size="5KB")
        assert (tmp_path / INDEX_FILE).exists()
        found = read_bert_folder(tmp_path)
        assert torch.equal(hidden_of(found, batch), hidden_of(whole, batch))
        assert found.head is not None
        first = min(tmp_path.glob("model-0*.safetensors"))
        weights = load_file(first)
        save_file({name: value + 1 for name, value in weights.items()}, first)
        assert read_bert_folder(tmp_path).sha256 != found.sha256

    @pytest.mark.parametrize("name", ["absent.safetensors", "../model.safetensors", ""])
    def test_an_index_names_files_beside_it_only(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / "model"
        saved(folder, "bert")
        (folder / WEIGHTS_FILE).rename(tmp_path / WEIGHTS_FILE)
        (folder / INDEX_FILE).write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(InputError, match="which is no file beside it"):
            read_bert_folder(folder)


def test_layer_norm_of_distilbert_has_the_epsilon_of_its_class(tmp_path: Path) -> None:
    peer = saved(tmp_path, "distilbert")
    found = read_bert_folder(tmp_path)
    norm = found.model().embeddings.LayerNorm
    assert norm.eps == peer.embeddings.LayerNorm.eps
    rows = torch.randn(2, 24)
    assert torch.equal(layer_norm(rows, norm), peer.embeddings.LayerNorm(rows).detach())
